import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type AddressRange, matchesAccess, parseAccessList } from '../../../src/forwarder/access.ts';
import {
  complement,
  EVERYWHERE,
  intersection,
  isEverything,
  NOWHERE,
  type Ranges,
  rangesOfAccess,
  rangesOfPatterns,
  type RangesByFamily,
  union,
} from '../../../src/forwarder/nftables/address-ranges.ts';
import { addressElements } from '../../../src/forwarder/nftables/syntax.ts';
import { matchesPattern, parsePatterns } from '../../../src/forwarder/pattern.ts';
import {
  addressBytes,
  addressFromBytes,
  family,
  type Family,
  type IpAddress,
} from '../../../src/net/address.ts';
import { addressPattern } from '../arbitraries.ts';

const BITS = { 4: 32, 6: 128 } as const;

function numberOf(address: IpAddress): bigint {
  return addressBytes(address).reduce((value, byte) => value * 256n + BigInt(byte), 0n);
}

function addressOf(of: Family, value: bigint): IpAddress {
  const digits = value.toString(16).padStart(BITS[of] / 4, '0');
  return addressFromBytes(Buffer.from(digits, 'hex'));
}

function has(ranges: RangesByFamily, address: IpAddress): boolean {
  const value = numberOf(address);
  return ranges[family(address)].some(({ first, last }) => first <= value && value <= last);
}

/** Both ends of each range, and what lies next to them; `more` as well. */
function probes(ranges: RangesByFamily, more: readonly IpAddress[]): IpAddress[] {
  const edges = ([4, 6] as const).flatMap((of) =>
    ranges[of]
      .flatMap(({ first, last }) => [first - 1n, first, last, last + 1n])
      .filter((value) => value >= 0n && value < 1n << BigInt(BITS[of]))
      .map((value) => addressOf(of, value))
      // An IPv4-mapped address is an IPv4 one to all that reads addresses.
      .filter((address) => family(address) === of),
  );
  return [...edges, ...more];
}

function expectInOrder(ranges: RangesByFamily): void {
  for (const of of [4, 6] as const) {
    let end = -2n;
    for (const { first, last } of ranges[of]) {
      expect(first > end + 1n && last >= first && last < 1n << BigInt(BITS[of])).toBe(true);
      end = last;
    }
  }
}

function text(list: string): Record<Family, string> {
  const ranges = rangesOfAccess(parseAccessList(list));
  const of = (one: Family): string => (ranges[one].length === 0 ? '' : addressElements(one, ranges[one]));
  return { 4: of(4), 6: of(6) };
}

const word = fc.oneof(
  fc.constantFrom(
    'ALL',
    'LOCAL',
    '10.',
    '10.0.',
    '10.0.0.0/15',
    '10.1.0.0/16',
    '127.0.0.1',
    '0.0.0.0/0',
    '::/0',
  ),
  fc.constantFrom(
    '0.0.0.0/1',
    '128.0.0.0/1',
    '255.255.255.255',
    '::1',
    '::',
    '2001:db8::/32',
    '2001:db8::/33',
  ),
  fc.constantFrom('2001:db8:8000::/33', 'ffff::/16', '::fffe:0:0/96', '10.0.0.8/29', '10.0.0.16/28'),
  fc.integer({ min: 0, max: 31 }).map((last) => `10.0.0.${last}`),
  fc.ipV4(),
);
const listText = fc
  .array(fc.array(word, { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 4 })
  .map((lists) => lists.map((words) => words.join(', ')).join(' EXCEPT '));
const someAddress = fc.oneof(
  fc.integer({ min: 0, max: 31 }).map((last) => `10.0.0.${last}`),
  fc.constantFrom('127.9.9.9', '10.1.2.3', '2001:db8:8000::1', '::1', 'fe80::1%eth0', '0.0.0.0'),
  fc.ipV4(),
  fc.uint8Array({ minLength: 16, maxLength: 16 }).map(addressFromBytes),
);
const someRanges: fc.Arbitrary<Ranges> = fc
  .array(fc.tuple(fc.nat(60), fc.nat(8)), { maxLength: 6 })
  .map((pairs) =>
    pairs.map(([first, more]): AddressRange => ({ first: BigInt(first), last: BigInt(first + more) })),
  )
  .map((ranges) => union(ranges, []));

describe('a client list', () => {
  test('EXCEPT takes away, and a further EXCEPT gives back', () => {
    expect(text('10.0.0.0/8 EXCEPT 10.0.0.0/9')).toEqual({ 4: '10.128.0.0/9', 6: '' });
    expect(text('10.0.0.0/8 EXCEPT 10.0.0.0/9 EXCEPT 10.0.0.4')).toEqual({
      4: '{ 10.0.0.4, 10.128.0.0/9 }',
      6: '',
    });
    expect(text('192.168.1.0/29 EXCEPT 192.168.1.0/30, 192.168.1.7')[4]).toBe('192.168.1.4-192.168.1.6');
  });

  test('networks that touch become one', () => {
    expect(text('10.0.0.0/9, 10.128.0.0/9, 10.3.0.1')[4]).toBe('10.0.0.0/8');
  });

  test('LOCAL is the loopback addresses', () => {
    expect(text('LOCAL')).toEqual({ 4: '127.0.0.0/8', 6: '::1' });
  });

  test('a name beside ALL changes nothing; one that would is a mistake of the caller', () => {
    expect(rangesOfAccess(parseAccessList('ALL, nas.example.org'))).toEqual(EVERYWHERE);
    expect(() => rangesOfAccess(parseAccessList('nas.example.org'))).toThrow('name');
    expect(() => rangesOfAccess(parseAccessList('ALL EXCEPT .example.org'))).toThrow('domain');
  });

  test('all of one family is not all of the other', () => {
    expect(rangesOfAccess(parseAccessList('0.0.0.0/0'))).toEqual({ 4: EVERYWHERE[4], 6: [] });
    expect(rangesOfAccess(parseAccessList('ALL EXCEPT ALL'))).toEqual(NOWHERE);
  });

  test('has the addresses that it has by its words', () => {
    fc.assert(
      fc.property(listText, fc.array(someAddress, { maxLength: 8 }), (line, addresses) => {
        const list = parseAccessList(line);
        const ranges = rangesOfAccess(list);
        expectInOrder(ranges);
        for (const address of probes(ranges, addresses)) {
          expect(has(ranges, address), address).toBe(matchesAccess(list, { address }));
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('patterns', () => {
  const addressesOf = (name: string): readonly IpAddress[] =>
    name.includes('a') ? ['10.0.0.1', '10.0.0.2', '2001:db8::9'] : [];

  test('a network may be written by any address in it, and a name stands for all of its addresses', () => {
    const ranges = rangesOfPatterns(parsePatterns('192.168.1.77/24,nas.lan'), addressesOf);
    expect(addressElements(4, ranges[4])).toBe('{ 10.0.0.1-10.0.0.2, 192.168.1.0/24 }');
    expect(addressElements(6, ranges[6])).toBe('2001:db8::9');
  });

  test('a name that stands for nothing is nowhere', () => {
    expect(rangesOfPatterns(parsePatterns('nobody.test'), addressesOf)).toEqual(NOWHERE);
  });

  test('take the addresses that they take by their words', () => {
    fc.assert(
      fc.property(
        fc.array(addressPattern, { maxLength: 4 }),
        fc.array(someAddress, { maxLength: 8 }),
        (patterns, addresses) => {
          const ranges = rangesOfPatterns(patterns, addressesOf);
          expectInOrder(ranges);
          for (const address of probes(ranges, addresses)) {
            const expected = patterns.some((pattern) => matchesPattern(pattern, address, addressesOf));
            expect(has(ranges, address), address).toBe(expected);
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('arithmetic', () => {
  const within = (ranges: Ranges, value: bigint): boolean =>
    ranges.some(({ first, last }) => first <= value && value <= last);

  test('union, intersection and complement say of each number what logic says', () => {
    fc.assert(
      fc.property(someRanges, someRanges, (a, b) => {
        const results = [union(a, b), intersection(a, b), complement(4, a)];
        for (const ranges of results) expectInOrder({ 4: ranges, 6: [] });
        for (let value = 0n; value <= 70n; value++) {
          const [inA, inB] = [within(a, value), within(b, value)];
          expect(results.map((ranges) => within(ranges, value))).toEqual([inA || inB, inA && inB, !inA]);
        }
        expect(complement(4, complement(4, a))).toEqual(a);
      }),
    );
  });

  test.each([4, 6] as const)('of everything and nothing of IPv%d', (of) => {
    expect(complement(of, EVERYWHERE[of])).toEqual([]);
    expect(complement(of, [])).toEqual(EVERYWHERE[of]);
    expect(isEverything(of, EVERYWHERE[of])).toBe(true);
    expect(isEverything(of, [])).toBe(false);
    const most = [{ first: 0n, last: (1n << BigInt(BITS[of])) - 2n }];
    expect(isEverything(of, most)).toBe(false);
    expect(addressElements(of, complement(of, most))).toBe(
      of === 4 ? '255.255.255.255' : addressOf(6, (1n << 128n) - 1n),
    );
  });
});
