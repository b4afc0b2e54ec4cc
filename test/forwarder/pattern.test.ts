import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  coversPattern,
  formatPattern,
  matchesPattern,
  networkKey,
  parsePatterns,
} from '../../src/forwarder/pattern.ts';
import type { AddressPattern } from '../../src/forwarder/rule.ts';
import { addressPattern } from './arbitraries.ts';

function pattern(text: string): AddressPattern {
  const [first, ...more] = parsePatterns(text);
  if (first === undefined || more.length > 0) throw new Error(`"${text}" is not one pattern`);
  return first;
}

describe('parsePatterns()', () => {
  test.each([
    ['192.168.1.8', '192.168.1.8'],
    ['192.168.0.0/16', '192.168.0.0/16'],
    ['192.168.1.8/32', '192.168.1.8'],
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['[2001:DB8::0]/32', '[2001:db8::]/32'],
    ['[::1]', '[::1]'],
    ['[::1]/128', '[::1]'],
    ['[fe80::1%eth0]/64', '[fe80::1%eth0]/64'],
    ['Verigio.COM.', 'verigio.com'],
    ['[::ffff:10.0.0.1]', '10.0.0.1'],
  ])('%s is written %s', (text, expected) => {
    expect(formatPattern(pattern(text))).toBe(expected);
  });

  test('several stand with commas between', () => {
    expect(parsePatterns('10.0.0.1,[2001:db8::]/32,nas.local').map(formatPattern)).toEqual([
      '10.0.0.1',
      '[2001:db8::]/32',
      'nas.local',
    ]);
  });

  test.each([
    ['', '"" is no address'],
    ['10.0.0.1,', '"" is no address'],
    ['10.0.0', '"10.0.0" is no address'],
    ['10.0.0.256', '"10.0.0.256" is no address'],
    ['010.0.0.1', '"010.0.0.1" is no address'],
    ['10.0.0.0/33', '"10.0.0.0/33": a prefix has at most 32 bits'],
    ['[::]/129', '"[::]/129": a prefix has at most 128 bits'],
    ['10.0.0.0/', '"10.0.0.0/" is no address'],
    ['10.0.0.0/8/8', 'is no address'],
    ['10.0.0.0/255.0.0.0', 'is no address'],
    ['example.org/24', '"example.org/24" is no address'],
    ['a..b', '"a..b" is no address'],
    ['-a', '"-a" is no address'],
    [Array.from({ length: 1001 }, () => 'a').join(','), 'more than 1000 addresses'],
  ])('names what is wrong in "%s"', (text, message) => {
    expect(() => parsePatterns(text)).toThrow(
      expect.objectContaining({ code: 'USAGE', message: expect.stringContaining(message) }),
    );
  });

  test('reads what is written', () => {
    fc.assert(
      fc.property(fc.array(addressPattern, { minLength: 1, maxLength: 5 }), (patterns) => {
        expect(parsePatterns(patterns.map(formatPattern).join(','))).toEqual(patterns);
      }),
    );
  });
});

test.each([
  ['10.0.0.0/8', '10.255.0.1', true],
  ['10.0.0.0/8', '11.0.0.1', false],
  ['10.0.0.9/8', '10.0.0.1', true],
  ['10.0.0.1', '10.0.0.1', true],
  ['0.0.0.0/0', '2001:db8::1', false],
  ['[2001:db8::]/32', '2001:db8:1::1', true],
  ['[fe80::1%eth0]', 'fe80::1%eth1', true],
  ['nas', '10.0.0.5', true],
  ['nas', '10.0.0.6', false],
  ['unknown', '10.0.0.5', false],
])('whether %s matches %s: %s', (text, address, expected) => {
  const addressesOf = (name: string) => (name === 'nas' ? ['10.0.0.4', '10.0.0.5'] : []);
  expect(matchesPattern(pattern(text), address, addressesOf)).toBe(expected);
});

describe('coversPattern()', () => {
  test.each([
    ['10.0.0.0/8', '10.1.0.0/16', true],
    ['10.1.0.0/16', '10.0.0.0/8', false],
    ['10.0.0.0/8', '10.9.9.9', true],
    ['10.9.9.9/8', '10.0.0.0/8', true],
    ['0.0.0.0/0', '10.0.0.0/8', true],
    ['0.0.0.0/0', '[2001:db8::1]', false],
    ['[::]/0', '[2001:db8::1]', true],
    ['[::]/0', '10.0.0.1', false],
    ['nas', 'nas', true],
    ['nas', 'nas.local', false],
    ['0.0.0.0/0', 'nas', false],
    ['nas', '10.0.0.1', false],
  ])('whether %s covers %s: %s', (outer, inner, expected) => {
    expect(coversPattern(pattern(outer), pattern(inner))).toBe(expected);
  });

  test('what is covered matches wherever the inner one matches', () => {
    fc.assert(
      fc.property(addressPattern, fc.ipV4(), fc.nat(32), fc.nat(32), (any, address, a, b) => {
        const outer: AddressPattern = { kind: 'network', address, prefixLength: Math.min(a, b) };
        const inner: AddressPattern = { kind: 'network', address, prefixLength: Math.max(a, b) };
        expect(coversPattern(outer, inner)).toBe(true);
        expect(coversPattern(any, inner) && !matchesPattern(any, address, () => [])).toBe(false);
      }),
    );
  });
});

test('networkKey() is the family and the bits of the prefix', () => {
  expect(networkKey('10.1.2.3', 8)).toBe('4:00001010');
  expect(networkKey('10.1.2.3', 0)).toBe('4:');
  expect(networkKey('2001:db8::', 16)).toBe('6:0010000000000001');
});
