import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isNatwardError } from '../../../src/errors.ts';
import { matchesAccess, parseAccessList } from '../../../src/forwarder/access.ts';
import { formatNetworks, intersection, parseGlob } from '../../../src/forwarder/import/address-glob.ts';

function listOf(pattern: string): string {
  return formatNetworks(parseGlob(pattern));
}

describe('patterns that are networks', () => {
  test.each([
    ['*', 'ALL'],
    ['192.168.1.7', '192.168.1.7'],
    ['192.168.1.*', '192.168.1.0/24'],
    ['192.168.*.*', '192.168.0.0/16'],
    ['192.168.*', '192.168.0.0/16'],
    ['10.*', '10.0.0.0/8'],
    ['*.*.*.*', '0.0.0.0/0'],
    ['192.168.2.1?', '192.168.2.10/31,192.168.2.12/30,192.168.2.16/30'],
    ['10.?.*.*', '10.0.0.0/13,10.8.0.0/15'],
    ['192.168.25*', '192.168.25.0/24,192.168.250.0/23,192.168.252.0/22'],
    ['2001:db8::1', '2001:db8::1'],
    ['2001:DB8:*', '2001:db8::/32'],
    ['fe80:*', 'fe80::/16'],
  ])('%s is %s', (pattern, list) => {
    expect(listOf(pattern)).toBe(list);
  });
});

describe('patterns that are not', () => {
  test.each([
    ['192.*.1.1', 'does not stand for all that follows'],
    ['10.1?2.*', 'does not stand for all that follows'],
    ['192.168.1', 'is the pattern of no IPv4 address'],
    ['192.168.1?', 'is the pattern of no IPv4 address'],
    ['10.0.0.3??', 'is the pattern of no IPv4 address'],
    ['10.0.0.256', 'is the pattern of no IPv4 address'],
    ['10.0.00.*', 'is the pattern of no IPv4 address'],
    ['1.2.3.4.5', 'is the pattern of no IPv4 address'],
    ['2001:618:*:e43f', 'does not stand for all that follows'],
    ['2001:db8::*', 'does not stand for all that follows'],
    ['a*', 'does not stand for all that follows'],
    ['host.example', 'is no pattern of addresses'],
    ['10.0.0.0/8', 'is no pattern of addresses'],
  ])('%s %s', (pattern, reason) => {
    expect(() => parseGlob(pattern)).toThrow(reason);
    expect(() => parseGlob(pattern)).toThrow(/; write |: natward takes /);
  });
});

/** As rinetd compares: the text of the address with the pattern. */
function matchesText(pattern: string, address: string): boolean {
  const shape = pattern.replaceAll('.', '\\.').replaceAll('*', '.*').replaceAll('?', '.');
  return new RegExp(`^${shape}$`).test(address);
}

const octet = fc.oneof(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 0, max: 25 }));
const address = fc.array(octet, { minLength: 4, maxLength: 4 }).map((octets) => octets.join('.'));
const part = fc.oneof(
  octet.map(String),
  fc.constantFrom('*', '?', '1*', '1?', '2?*', '*1', '25?', '??', '**'),
);
const pattern = fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('.'));

/** Undefined where it is refused. */
function networksOf(text: string): ReturnType<typeof parseGlob> | undefined {
  try {
    return parseGlob(text);
  } catch (error) {
    if (isNatwardError(error, 'USAGE')) return undefined;
    throw error;
  }
}

test('a pattern that is taken lets the same clients through as in rinetd', () => {
  fc.assert(
    fc.property(pattern, address, fc.boolean(), (glob, random, isNear) => {
      const networks = networksOf(glob);
      fc.pre(networks !== undefined);
      // Random addresses are seldom near a pattern: its own parts, with digits for wildcards, are.
      const near = [...glob.replaceAll('*', '1').replaceAll('?', '1').split('.'), '1', '1', '1']
        .slice(0, 4)
        .join('.');
      const client = isNear && near.split('.').every((one) => Number(one) <= 255) ? near : random;
      const list = parseAccessList(formatNetworks(networks));
      expect(matchesAccess(list, { address: client })).toBe(matchesText(glob, client));
    }),
    { numRuns: 1000 },
  );
});

test('an intersection is who is in both', () => {
  fc.assert(
    fc.property(fc.array(pattern), fc.array(pattern), address, (some, others, client) => {
      const [left, right] = [some, others].map((globs) => globs.flatMap((glob) => networksOf(glob) ?? []));
      const isIn = (networks: ReturnType<typeof parseGlob>) =>
        networks.length > 0 && matchesAccess(parseAccessList(formatNetworks(networks)), { address: client });
      expect(isIn(intersection(left ?? [], right ?? []))).toBe(isIn(left ?? []) && isIn(right ?? []));
    }),
    { numRuns: 1000 },
  );
});
