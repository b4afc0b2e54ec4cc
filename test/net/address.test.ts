import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isNatwardError } from '../../src/errors.ts';
import {
  addressBytes,
  addressBytes16,
  addressFromBytes,
  bracketed,
  family,
  kindOf,
  parseAddress,
  sameNetwork,
  withoutZone,
} from '../../src/net/address.ts';

const ip = fc.oneof(fc.ipV4(), fc.ipV6());

describe('parseAddress()', () => {
  test.each([
    ['192.0.2.1', '192.0.2.1'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::ffff:c000:201', '192.0.2.1'],
    ['::', '::'],
    ['fe80::1%eth0', 'fe80::1%eth0'],
    ['fe80::1%br-lan', 'fe80::1%br-lan'],
    ['fe80::1%eth0.100', 'fe80::1%eth0.100'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
  ])('reads %s as %s', (text, address) => {
    expect(parseAddress(text)).toBe(address);
  });

  test.each([
    '',
    'localhost',
    '1',
    '1.2.3',
    '0x7f.0.0.1',
    '0177.0.0.1',
    '01.2.3.4',
    '1.2.3.256',
    '1.2.3.4%eth0',
    '1.2.3.4 ',
    ':',
    ':::',
    '1::2::3',
    '12345::',
    'fe80::1%',
    'fe80::1%a%b',
    'fe80::1%\r\n',
    '[::1]',
    '::1/64',
    '1'.repeat(65),
  ])('takes "%s" for no address', (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });

  test('never throws, and what it answers reads as itself', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.stringMatching(/^[0-9a-f:.%]{0,30}$/), ip, fc.ipV4Extended()),
        (text) => {
          const address = parseAddress(text);
          expect(address && parseAddress(address)).toBe(address);
        },
      ),
    );
  });

  test('accepts every address of either family', () => {
    fc.assert(
      fc.property(ip, (text) => {
        expect(parseAddress(text)).toBeDefined();
      }),
    );
  });
});

test('family() tells IPv4 from IPv6', () => {
  expect([family('192.0.2.1'), family('::'), family('fe80::1%eth0')]).toEqual([4, 6, 6]);
});

test('bracketed() puts brackets around IPv6 only', () => {
  expect([bracketed('192.0.2.1'), bracketed('2001:db8::1')]).toEqual(['192.0.2.1', '[2001:db8::1]']);
});

test('withoutZone() takes away the zone and nothing else', () => {
  expect([withoutZone('fe80::1%eth0'), withoutZone('fe80::1')]).toEqual(['fe80::1', 'fe80::1']);
});

test.each([
  ['8.8.8.8', 'public'],
  ['2606:4700::1111', 'public'],
  ['10.255.255.255', 'private'],
  ['172.16.0.1', 'private'],
  ['172.32.0.1', 'public'],
  ['192.168.1.1', 'private'],
  ['fd00::1', 'private'],
  ['100.64.0.1', 'cgnat'],
  ['100.127.255.255', 'cgnat'],
  ['100.128.0.0', 'public'],
  ['127.0.0.1', 'loopback'],
  ['::1', 'loopback'],
  ['169.254.1.1', 'linklocal'],
  ['fe80::1%eth0', 'linklocal'],
  ['0.0.0.0', 'unspecified'],
  ['::', 'unspecified'],
  ['224.0.0.1', 'reserved'],
  ['255.255.255.255', 'reserved'],
  ['192.0.2.1', 'reserved'],
  ['2001:db8::1', 'reserved'],
  ['ff02::c', 'reserved'],
] as const)('kindOf(%s) is %s', (address, kind) => {
  expect(kindOf(address)).toBe(kind);
});

describe('sameNetwork()', () => {
  test.each([
    ['192.168.1.1', '192.168.1.254', 24, true],
    ['192.168.1.1', '192.168.2.1', 24, false],
    ['192.168.1.1', '192.168.2.1', 16, true],
    ['192.168.1.1', '192.168.1.2', 32, false],
    ['192.0.2.1', '203.0.113.9', 0, true],
    ['2001:db8:1::1', '2001:db8:1::ffff', 64, true],
    ['2001:db8:1::1', '2001:db8:2::1', 64, false],
    ['fe80::1%eth0', 'fe80::2%eth1', 64, true],
    ['192.0.2.1', '2001:db8::1', 0, false],
  ])('%s and %s in /%i: %s', (a, b, prefixLength, same) => {
    expect(sameNetwork(a, b, prefixLength)).toBe(same);
    expect(sameNetwork(b, a, prefixLength)).toBe(same);
  });
});

describe('addresses in bytes', () => {
  test('IPv4 takes 4 bytes, or 16 as an IPv4-mapped address (RFC 4291, section 2.5.5.2)', () => {
    expect([...addressBytes('192.0.2.1')]).toEqual([192, 0, 2, 1]);
    expect([...addressBytes16('192.0.2.1')]).toEqual([...new Uint8Array(10), 0xff, 0xff, 192, 0, 2, 1]);
  });

  test('IPv6 takes 16 bytes, without its zone', () => {
    const bytes = [0xfe, 0x80, ...Array.from({ length: 13 }, () => 0), 1];
    expect([...addressBytes('fe80::1%eth0')]).toEqual(bytes);
    expect([...addressBytes16('fe80::1')]).toEqual(bytes);
  });

  test('come back as the address they were', () => {
    fc.assert(
      fc.property(ip, (text) => {
        const address = parseAddress(text) ?? '';
        expect(addressFromBytes(addressBytes(address))).toBe(address);
        expect(addressFromBytes(addressBytes16(address))).toBe(address);
      }),
    );
  });

  test('of any other length are MALFORMED', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 32 }), (bytes) => {
        try {
          expect(parseAddress(addressFromBytes(bytes))).toBeDefined();
          return bytes.length === 4 || bytes.length === 16;
        } catch (error) {
          return isNatwardError(error, 'MALFORMED') && bytes.length !== 4 && bytes.length !== 16;
        }
      }),
    );
  });
});
