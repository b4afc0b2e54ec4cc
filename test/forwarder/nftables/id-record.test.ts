import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { elementsOf } from '../../../src/forwarder/nftables/counters.ts';
import { readIds, writtenIds } from '../../../src/forwarder/nftables/id-record.ts';
import { KernelRule } from '../../../src/forwarder/nftables/kernel-rule.ts';
import { rule } from '../arbitraries.ts';

const marked = (ids: ReadonlyMap<number, string>) =>
  [...ids].map(([mark, id]) => new KernelRule(rule('in tcp 80 -> :8080', id), mark));

/** As `nft -j list set` tells of them. */
function listing(elements: ReadonlyMap<string, string>): string {
  const elem = [...elements].map(([key, what]) => {
    const [, comment] = /^ comment "(.+)"$/.exec(what) ?? [];
    return { elem: { val: Number(key), comment } };
  });
  return JSON.stringify({ nftables: [{ set: { elem } }] });
}

test('what was written is read again, whatever the marks and the ids', () => {
  const ids = fc.uniqueArray(
    fc.tuple(fc.integer({ min: 1, max: 0xffff }), fc.stringMatching(/^[\w.-]{1,64}$/)),
    { selector: ([mark]) => mark, maxLength: 100 },
  );
  const near = fc.uniqueArray(
    fc.tuple(fc.integer({ min: 0x8000, max: 0x8030 }), fc.stringMatching(/^[\w.-]{1,20}$/)),
    { selector: ([mark]) => mark },
  );
  fc.assert(
    fc.property(fc.oneof(ids, near), (pairs) => {
      const wanted = new Map(pairs);
      expect(readIds(elementsOf(listing(writtenIds(marked(wanted)))))).toEqual(wanted);
    }),
  );
});

test('sixteen ids as natward gives them share an element', () => {
  const ids = new Map(Array.from({ length: 64 }, (_, at) => [0x8000 + at, `r${100_000 + at}`] as const));
  expect(writtenIds(marked(ids)).size).toBe(4);
});

test('an element of an earlier natward has one id, and one without a comment has none', () => {
  const elements = elementsOf(
    JSON.stringify({
      nftables: [{ set: { elem: [{ elem: { val: 0x8001_0000, comment: 'web' } }, 0x8002_0000] } }],
    }),
  );
  expect(readIds(elements)).toEqual(
    new Map([
      [0x8001, 'web'],
      [0x8002, undefined],
    ]),
  );
});
