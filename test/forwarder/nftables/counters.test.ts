import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Count,
  countsOf,
  elementsOf,
  forgotten,
  reasonOf,
  recordsOf,
  restored,
} from '../../../src/forwarder/nftables/counters.ts';
import { MAIN_TABLE } from '../../../src/forwarder/nftables/ruleset.ts';
import { NftModel } from './nft-model.ts';

function listing(...elem: readonly unknown[]): string {
  return JSON.stringify({ nftables: [{ metainfo: { version: '1.0.6' } }, { set: { name: 's', elem } }] });
}

function counted(mark: number, second: string | number, packets: number, bytes: number): unknown {
  return { elem: { val: { concat: [mark * 0x1_0000, second] }, counter: { packets, bytes } } };
}

describe('a listing of nft', () => {
  test('becomes keys in parts, comments, and counts', () => {
    expect(
      elementsOf(
        listing(counted(1, 'original', 3, 400), { elem: { val: 0x20000, comment: 'web' } }, 0x30000),
      ),
    ).toEqual([
      { parts: [0x10000, 'original'], comment: undefined, packets: 3, bytes: 400 },
      { parts: [0x20000], comment: 'web', packets: 0, bytes: 0 },
      { parts: [0x30000], comment: undefined, packets: 0, bytes: 0 },
    ]);
  });

  test('of a set without elements has none', () => {
    expect(elementsOf('{"nftables":[{"set":{"name":"s"}}]}')).toEqual([]);
  });

  test.each([
    '',
    'Error: no such file',
    '{',
    'null',
    '7',
    '[]',
    '{}',
    '{"nftables":{}}',
    '{"nftables":[null,7,"x",[],{"set":null},{"set":[]},{"set":{"elem":{}}}]}',
  ])('%s tells of nothing', (text) => {
    expect(elementsOf(text)).toEqual([]);
    expect(recordsOf(text).size).toBe(0);
  });

  test('of whatever is JSON throws nothing', () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue()), (elements) => {
        const read = elementsOf(listing(...elements));
        expect(read).toHaveLength(elements.length);
        countsOf(read, read);
        recordsOf(listing(...elements));
      }),
    );
  });
});

test('counts are told by mark, both ways, with what began and what was refused', () => {
  const counts = elementsOf(
    listing(counted(1, 'original', 3, 400), counted(1, 'reply', 2, 300), counted(9, 'reply', 1, 1)),
  );
  const tallies = elementsOf(listing(counted(1, 1, 5, 0), counted(1, 3, 2, 0), counted(1, 'odd', 2, 0)));
  expect([...countsOf(counts, tallies)]).toEqual([
    [1, { packetsIn: 3, bytesIn: 400, packetsOut: 2, bytesOut: 300, begun: 5, refused: new Map([[3, 2]]) }],
    [9, { packetsIn: 0, bytesIn: 0, packetsOut: 1, bytesOut: 1, begun: 0, refused: new Map() }],
  ]);
});

test('records are told by name', () => {
  const comment = (text: string, at: number) => ({ elem: { val: at, comment: text } });
  const records = ['net.ipv4.ip_forward=0>1', 'a=b=c', 'no record', '=x'].map(comment);
  expect([...recordsOf(listing(...records))]).toEqual([
    ['net.ipv4.ip_forward', '0>1'],
    ['a', 'b=c'],
  ]);
});

test('refusals have words, unknown ones as well', () => {
  expect([2, 3, 7, 99].map(reasonOf)).toEqual([
    'its rule refuses',
    'it is not among those who may',
    'the quota is used up',
    'it was refused',
  ]);
});

describe('what is written for nft', () => {
  const count: Count = {
    packetsIn: 3,
    bytesIn: 400,
    packetsOut: 0,
    bytesOut: 0,
    begun: 5,
    refused: new Map([[3, 2]]),
  };

  test('lets counting go on where it was', () => {
    expect(restored('inet t', new Map([[1, count]]))).toBe(
      [
        'add element inet t counts { 0x00010000 . original counter packets 3 bytes 400 }',
        'add element inet t tallies { 0x00010000 . 1 counter packets 5 bytes 0, 0x00010000 . 3 counter packets 2 bytes 0 }',
        '',
      ].join('\n'),
    );
    expect(restored('inet t', new Map())).toBe('');
  });

  test('forgets marks, whether or not anything was counted of them', () => {
    const nft = new NftModel();
    nft.load(`table ${MAIN_TABLE} {\nset counts {\nflags dynamic\n}\nset tallies {\nflags dynamic\n}\n}\n`);
    const before = nft.listing;
    nft.load(forgotten(MAIN_TABLE, [1, 2]));
    expect(nft.listing).toEqual(before);
    expect(forgotten(MAIN_TABLE, [])).toBe('');
  });
});
