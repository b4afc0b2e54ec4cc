/**
 * Sets of addresses as ranges of numbers: what client lists and address patterns come to, worked out, since nft has
 * neither EXCEPT nor names. The ranges of a family are in order, and neither overlap nor touch.
 */

import { type Family, family, type IpAddress } from '../../net/address.ts';
import { type AccessList, type AccessPattern, type AddressRange, numberOf } from '../access.ts';
import type { AddressPattern } from '../rule.ts';

export type Ranges = readonly AddressRange[];
export type RangesByFamily = Readonly<Record<Family, Ranges>>;

interface Network {
  readonly address: IpAddress;
  readonly prefixLength: number;
}

const FULL_LENGTH = { 4: 32, 6: 128 } as const;
const LAST = { 4: (1n << 32n) - 1n, 6: (1n << 128n) - 1n } as const;
const LOOPBACK: readonly Network[] = [
  { address: '127.0.0.0', prefixLength: 8 },
  { address: '::1', prefixLength: 128 },
];

export const NOWHERE: RangesByFamily = { 4: [], 6: [] };
export const EVERYWHERE: RangesByFamily = {
  4: [networkRange({ address: '0.0.0.0', prefixLength: 0 })],
  6: [networkRange({ address: '::', prefixLength: 0 })],
};

/**
 * The clients that the list has in it. LOCAL is the loopback addresses, as it is of a client without names. A list
 * that turns on a name or a domain has no addresses: the caller keeps it away from here.
 */
export function rangesOfAccess({ lists }: AccessList): RangesByFamily {
  // `a EXCEPT b EXCEPT c` is `a EXCEPT (b EXCEPT c)`: from the end.
  return lists.map(rangesOfList).reduceRight((excepted, ranges) => ({
    4: without(4, ranges[4], excepted[4]),
    6: without(6, ranges[6], excepted[6]),
  }));
}

/** The addresses that one of the patterns takes. What a name stands for just now is `addressesOf`'s to say. */
export function rangesOfPatterns(
  patterns: readonly AddressPattern[],
  addressesOf: (name: string) => readonly IpAddress[],
): RangesByFamily {
  return rangesOfNetworks(
    patterns.flatMap((pattern) => (pattern.kind === 'name' ? hosts(addressesOf(pattern.name)) : [pattern])),
  );
}

/** What lies in one of both. */
export function union(a: Ranges, b: Ranges): Ranges {
  return merged([...a, ...b]);
}

/** What lies in both. */
export function intersection(a: Ranges, b: Ranges): Ranges {
  const found: AddressRange[] = [];
  let [i, j] = [0, 0];
  for (;;) {
    const [left, right] = [a[i], b[j]];
    if (left === undefined || right === undefined) return found;
    const first = left.first > right.first ? left.first : right.first;
    const last = left.last < right.last ? left.last : right.last;
    if (first <= last) found.push({ first, last });
    if (left.last < right.last) i++;
    else j++;
  }
}

/** What of the family lies in none of the ranges. */
export function complement(of: Family, ranges: Ranges): Ranges {
  const gaps: AddressRange[] = [];
  let first = 0n;
  for (const range of ranges) {
    if (range.first > first) gaps.push({ first, last: range.first - 1n });
    first = range.last + 1n;
  }
  return first > LAST[of] ? gaps : [...gaps, { first, last: LAST[of] }];
}

/** Reports whether every address of the family is in it. None is where there is no range. */
export function isEverything(of: Family, ranges: Ranges): boolean {
  return ranges[0]?.first === 0n && ranges[0].last === LAST[of];
}

function without(of: Family, ranges: Ranges, excepted: Ranges): Ranges {
  return intersection(ranges, complement(of, excepted));
}

function rangesOfList(patterns: readonly AccessPattern[]): RangesByFamily {
  if (patterns.some(({ kind }) => kind === 'all')) return EVERYWHERE;
  return rangesOfNetworks(
    patterns.flatMap((pattern): readonly Network[] => {
      if (pattern.kind === 'network') return [pattern];
      if (pattern.kind === 'local') return LOOPBACK;
      throw new Error(`a client list with a ${pattern.kind} in it is no set of addresses`);
    }),
  );
}

function hosts(addresses: readonly IpAddress[]): Network[] {
  return addresses.map((address) => ({ address, prefixLength: FULL_LENGTH[family(address)] }));
}

function rangesOfNetworks(networks: readonly Network[]): RangesByFamily {
  const rangesOf = (of: Family): Ranges =>
    merged(networks.filter(({ address }) => family(address) === of).map(networkRange));
  return { 4: rangesOf(4), 6: rangesOf(6) };
}

/** The address may have bits below the mask: a rule's patterns are kept as they were written. */
function networkRange({ address, prefixLength }: Network): AddressRange {
  const hostBits = BigInt(FULL_LENGTH[family(address)] - prefixLength);
  const first = (numberOf(address) >> hostBits) << hostBits;
  return { first, last: first + (1n << hostBits) - 1n };
}

function merged(ranges: readonly AddressRange[]): Ranges {
  const result: AddressRange[] = [];
  for (const range of [...ranges].sort((a, b) => Number(a.first - b.first))) {
    const before = result.at(-1);
    if (before === undefined || range.first > before.last + 1n) result.push(range);
    else if (range.last > before.last) result[result.length - 1] = { first: before.first, last: range.last };
  }
  return result;
}
