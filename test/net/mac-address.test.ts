import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { isLocallyAdministered, parseMacAddress, whyNotAnAdapters } from '../../src/net/mac-address.ts';

const octets = fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 6, maxLength: 6 });

function written(bytes: readonly number[], separator: string): string {
  return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(separator);
}

test('an address is read in either case, with colons or hyphens, and written one way', () => {
  fc.assert(
    fc.property(octets, fc.constantFrom(':', '-'), fc.boolean(), (bytes, separator, isUpper) => {
      const text = written(bytes, separator);
      expect(parseMacAddress(isUpper ? text.toUpperCase() : text)).toBe(written(bytes, ':'));
    }),
  );
});

test.each([
  '',
  'eth0',
  '02aabbccddee',
  '02:aa:bb:cc:dd',
  '02:aa:bb:cc:dd:ee:ff',
  '02:aa:bb-cc:dd:ee',
  '2:aa:bb:cc:dd:ee',
  '02:aa:bb:cc:dd:eg',
  ' 02:aa:bb:cc:dd:ee',
  '02:aa:bb:cc:dd:ee\n',
])('%j is no address', (text) => {
  expect(parseMacAddress(text)).toBeUndefined();
});

test.each([
  ['01:00:5e:00:00:01', 'a multicast address (its first octet is odd)'],
  ['ff:ff:ff:ff:ff:ff', 'a multicast address (its first octet is odd)'],
  ['00:00:00:00:00:00', 'no address at all'],
  ['00:00:00:00:00:01', undefined],
  ['02:aa:bb:cc:dd:ee', undefined],
  ['fe:ff:ff:ff:ff:ff', undefined],
])('whether an adapter may have %s', (address, why) => {
  expect(whyNotAnAdapters(address)).toBe(why);
});

test('the second bit says that software made it up', () => {
  expect(isLocallyAdministered('02:aa:bb:cc:dd:ee')).toBe(true);
  expect(isLocallyAdministered('f6:87:7a:00:cf:3f')).toBe(true);
  expect(isLocallyAdministered('3c:22:fb:12:34:56')).toBe(false);
});
