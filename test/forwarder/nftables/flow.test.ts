/** Lines of conntrack, as the program wrote them, and garbled. */

import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  deleteCommand,
  eventsCommand,
  listCommand,
  parseFlow,
} from '../../../src/forwarder/nftables/flow.ts';
import { parseAddress } from '../../../src/net/address.ts';

function linesOf(name: string): string[] {
  const url = new URL(`../../../fixtures/nftables/conntrack/${name}.txt`, import.meta.url);
  return readFileSync(url, 'utf8').trimEnd().split('\n');
}

const ALL = ['list', 'events', 'deleted'].flatMap(linesOf);
const ESTABLISHED =
  'ipv4     2 tcp      6 431999 ESTABLISHED src=192.0.2.2 dst=192.0.2.1 sport=40001 dport=80 packets=2 bytes=112 src=10.0.0.2 dst=192.0.2.2 sport=8080 dport=40001 packets=1 bytes=60 [ASSURED] mark=65536 delta-time=1 use=1 id=154893474';

describe('parseFlow()', () => {
  test('reads a TCP flow of a listing', () => {
    expect(linesOf('list')).toContain(ESTABLISHED);
    expect(parseFlow(ESTABLISHED)).toEqual({
      event: undefined,
      id: 154893474,
      protocol: 'tcp',
      state: 'ESTABLISHED',
      client: { address: '192.0.2.2', port: 40001 },
      local: { address: '192.0.2.1', port: 80 },
      replySource: { address: '10.0.0.2', port: 8080 },
      replyDestination: { address: '192.0.2.2', port: 40001 },
      packetsIn: 2,
      bytesIn: 112,
      packetsOut: 1,
      bytesOut: 60,
      isAnswered: true,
      mark: 65536,
      timeoutSeconds: 431999,
      ageSeconds: 1,
      heardAtMs: undefined,
    });
  });

  test('reads the beginning and the end of a UDP flow over IPv6', () => {
    const [begun, ended] = linesOf('events')
      .map(parseFlow)
      .filter((flow) => flow?.client.port === 48836);
    const ends = {
      protocol: 'udp',
      state: undefined,
      client: { address: '2001:db8:1::2', port: 48836 },
      local: { address: '2001:db8:1::1', port: 53 },
      replySource: { address: '2001:db8:2::2', port: 5353 },
      replyDestination: { address: '2001:db8:1::2', port: 48836 },
      id: 349386918,
      mark: 0x20000,
    };
    const counts = { packetsIn: 0, bytesIn: 0, packetsOut: 0, bytesOut: 0 };
    expect(begun).toEqual({
      ...ends,
      ...counts,
      event: 'new',
      isAnswered: false,
      timeoutSeconds: 30,
      ageSeconds: undefined,
      heardAtMs: 1795260237219,
    });
    expect(ended).toEqual({
      ...ends,
      event: 'destroy',
      packetsIn: 1,
      bytesIn: 54,
      packetsOut: 1,
      bytesOut: 54,
      isAnswered: true,
      timeoutSeconds: undefined,
      ageSeconds: 30,
      heardAtMs: 1795260269373,
    });
  });

  test('reads every line that conntrack wrote, but those of other protocols', () => {
    const unread = ALL.filter((line) => parseFlow(line) === undefined);
    expect(unread).toEqual(ALL.filter((line) => line.includes(' icmp ')));
    expect(unread).toHaveLength(3);
  });

  test.each([
    ['a mark with the highest bit', ['mark=65536', 'mark=4294967295'], { mark: 0xffff_ffff }],
    ['no mark', [' mark=65536', ''], { mark: 0 }],
    ['a zone of one direction', ['dport=80 ', 'dport=80 zone-orig=3 '], { bytesIn: 112 }],
    ['a zone of the other', ['dport=40001 ', 'dport=40001 zone-reply=3 '], { bytesOut: 60 }],
    ['a zone of both', ['mark=65536', 'mark=65536 zone=4'], { mark: 65536, ageSeconds: 1 }],
    [
      'no state and no time, as of one that the hardware carries',
      ['431999 ESTABLISHED ', ''],
      { state: undefined },
    ],
    ['no counts', ['packets=2 bytes=112 ', ''], { packetsIn: 0, bytesIn: 0, packetsOut: 1 }],
    [
      'an IPv4 address within IPv6',
      ['src=192.0.2.2', 'src=::ffff:192.0.2.2'],
      { client: { address: '192.0.2.2', port: 40001 } },
    ],
  ] as const)('reads a line with %s', (_, [from, to], expected) => {
    expect(parseFlow(ESTABLISHED.replace(from, to))).toMatchObject(expected);
  });

  test.each([
    ['nothing', '', ''],
    ['no id', ' id=154893474', ''],
    ['a process’s id alone', ' id=154893474', ' portid=154893474'],
    ['an id of more than 32 bits', 'id=154893474', 'id=4294967296'],
    ['a mark of more than 32 bits', 'mark=65536', 'mark=4294967296'],
    ['a mark that is no number', 'mark=65536', 'mark=-1'],
    ['port 0', 'sport=40001', 'sport=0'],
    ['a port too high', 'dport=80 ', 'dport=65536 '],
    ['no address', 'src=192.0.2.2', 'src=192.0.2.256'],
    ['another protocol', 'tcp      6', 'sctp     132'],
    ['words before it', 'ipv4 ', 'it says ipv4 '],
    ['another event', 'ipv4 ', '[OTHER] ipv4 '],
  ])('passes over a line with %s', (_, from, to) => {
    expect(parseFlow(from === '' ? '' : ESTABLISHED.replace(from, to))).toBeUndefined();
  });

  test('never takes a line that was cut for another flow', () => {
    fc.assert(
      fc.property(fc.constantFrom(...ALL), fc.nat(400), (line, length) => {
        const [whole, cut] = [parseFlow(line), parseFlow(line.slice(0, length))];
        if (cut === undefined || whole === undefined) return;
        expect({ ...cut, id: whole.id }).toEqual(whole);
        expect(String(whole.id).startsWith(String(cut.id))).toBe(true);
      }),
    );
  });

  test('does not stumble over any text', () => {
    const mangled = fc
      .tuple(fc.constantFrom(...ALL), fc.nat(400), fc.nat(20), fc.string())
      .map(([line, at, gone, text]) => line.slice(0, at) + text + line.slice(at + gone));
    fc.assert(
      fc.property(fc.oneof(fc.string(), mangled), (line) => {
        const flow = parseFlow(line);
        if (flow === undefined) return;
        for (const { address, port } of [flow.client, flow.local, flow.replySource, flow.replyDestination]) {
          expect(parseAddress(address)).toBe(address);
          expect(port >= 1 && port <= 65535).toBe(true);
        }
        for (const count of [
          flow.packetsIn,
          flow.bytesIn,
          flow.packetsOut,
          flow.bytesOut,
          flow.mark,
          flow.id,
        ]) {
          expect(Number.isInteger(count) && count >= 0).toBe(true);
        }
      }),
      { numRuns: 1000 },
    );
  });

  test('writes each address in its short form, whatever form it comes in', () => {
    const group = fc.oneof(
      fc.constantFrom('0', '0', 'ffff', '00'),
      fc.nat(0xffff).map((value) => value.toString(16)),
    );
    const side = (max: number) => fc.array(group, { maxLength: max }).map((groups) => groups.join(':'));
    const text = fc.oneof(
      fc.array(group, { minLength: 7, maxLength: 9 }).map((groups) => groups.join(':')),
      fc.tuple(side(6), side(6)).map((sides) => sides.join('::')),
      fc.ipV6(),
      fc.ipV4(),
    );
    fc.assert(
      fc.property(text, (address) => {
        const flow = parseFlow(ESTABLISHED.replace('src=192.0.2.2', `src=${address}`));
        expect(flow?.client.address).toBe(address.length > 45 ? undefined : parseAddress(address));
      }),
      { numRuns: 1000 },
    );
  });
});

test('the commands ask for what is read here', () => {
  expect(listCommand().join(' ')).toBe('conntrack -L -o extended,id');
  expect(listCommand({ mark: 0x8000_0000, mask: 0x8000_0000 }).join(' ')).toBe(
    'conntrack -L -m 0x80000000/0x80000000 -o extended,id',
  );
  expect(eventsCommand().join(' ')).toBe('conntrack -E -b 8388608 -e NEW,DESTROY -o extended,id,timestamp');
  expect(deleteCommand(0xfff0_0000, 0xffff_0000).join(' ')).toBe(
    'conntrack -D -m 0xfff00000/0xffff0000 -o extended,id',
  );
});
