import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  address,
  addressElements,
  comment,
  interfaceName,
  isInterfaceName,
  macAddress,
  markLiteral,
  oneOf,
  portElements,
} from '../../../src/forwarder/nftables/syntax.ts';
import { parseAddress } from '../../../src/net/address.ts';

/** What could end a word, a string or a line of nft, and what surrounds it. */
const hostile = fc.oneof(
  fc.string({ maxLength: 20 }),
  fc
    .array(
      fc.constantFrom(
        '"',
        '\\',
        '\n',
        '\r',
        '\0',
        ' ',
        ';',
        '{',
        '}',
        '$',
        '#',
        '*',
        '/',
        'eth0',
        '1',
        '.',
        'ü',
      ),
      { minLength: 1, maxLength: 6 },
    )
    .map((parts) => parts.join('')),
);

/** Undefined where it was refused. */
function written(write: () => string): string | undefined {
  try {
    return write();
  } catch {
    return undefined;
  }
}

describe('names', () => {
  test('an interface stands in quotes, so that a name that is a word of nft is a name', () => {
    expect(interfaceName('eth0')).toBe('"eth0"');
    expect(interfaceName('accept')).toBe('"accept"');
    expect(interfaceName('br-lan.100@x')).toBe('"br-lan.100@x"');
  });

  test.each(['', '.', '..', 'eth*', 'a"b', 'a b', 'a\n', 'a\\', 'sixteen-letters-', 'ü', '$x', 'a/b'])(
    '%j is no interface',
    (name) => {
      expect(isInterfaceName(name)).toBe(false);
      expect(() => interfaceName(name)).toThrow('interface name');
    },
  );

  test('a comment is ids', () => {
    expect(comment(['web-1.a_B'])).toBe('"web-1.a_B"');
    expect(comment(['a', 'b'])).toBe('"a b"');
    expect(() => comment([])).toThrow('comment');
    expect(() => comment([''])).toThrow('comment');
    expect(() => comment(['x'.repeat(65)])).toThrow('comment');
    expect(() => comment(['x'.repeat(64), 'y'.repeat(64)])).toThrow('comment');
    expect(() => comment(['a b'])).toThrow('comment');
    expect(() => comment(['a\n'])).toThrow('comment');
  });

  test('no text ends the quotes that it stands in, whatever it is', () => {
    fc.assert(
      fc.property(
        hostile,
        fc.constantFrom(interfaceName, (text: string) => comment([text])),
        (text, write) => {
          expect(written(() => write(text)) ?? '"x"').toMatch(/^"[A-Za-z0-9_.@-]+"$/);
        },
      ),
    );
  });
});

describe('addresses', () => {
  test.each(['192.168.1.8', '::', '2001:db8::1', '0.0.0.0'])('%s is written as it is', (text) => {
    expect(address(text)).toBe(text);
  });

  test.each([
    'fe80::1%eth0',
    '::ffff:10.0.0.1',
    '10.1',
    '010.0.0.1',
    'nas.lan',
    '',
    '10.0.0.1/8',
    '1.2.3.4 ',
  ])('%j is none', (text) => {
    expect(() => address(text)).toThrow('address');
  });

  test('a MAC address is six bytes in lower case', () => {
    expect(macAddress('02:00:00:00:00:0a')).toBe('02:00:00:00:00:0a');
    for (const text of ['02:00:00:00:00:0A', '02:00:00:00:00', '02:00:00:00:00:01:02', 'x', '']) {
      expect(() => macAddress(text)).toThrow('MAC address');
    }
  });

  test('nothing but addresses comes out, whatever goes in', () => {
    fc.assert(
      fc.property(hostile, fc.constantFrom(address, macAddress), (text, write) => {
        expect(written(() => write(text)) ?? '::').toMatch(/^[0-9a-f.:]+$/);
      }),
    );
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
        const value = parseAddress(text) as string;
        expect(address(value)).toBe(value);
      }),
    );
  });
});

describe('ranges of addresses', () => {
  test('one element has no braces, and a range that is a network is written as one', () => {
    expect(addressElements(4, [{ first: 0x0a000000n, last: 0x0affffffn }])).toBe('10.0.0.0/8');
    expect(addressElements(4, [{ first: 0x0a000001n, last: 0x0a000001n }])).toBe('10.0.0.1');
    expect(addressElements(4, [{ first: 0n, last: 0x7fffffffn }])).toBe('0.0.0.0/1');
    expect(addressElements(6, [{ first: 1n, last: 1n }])).toBe('::1');
    expect(addressElements(6, [{ first: 0n, last: (1n << 127n) - 1n }])).toBe('::/1');
  });

  test('several stand in braces', () => {
    const ranges = [
      { first: 0x0a000000n, last: 0x0affffffn },
      { first: 0xc0a80105n, last: 0xc0a80109n },
    ];
    expect(addressElements(4, ranges)).toBe('{ 10.0.0.0/8, 192.168.1.5-192.168.1.9 }');
  });

  test('as many addresses as a network has, but not from where one begins, are a range', () => {
    expect(addressElements(4, [{ first: 0x0a000001n, last: 0x0a000002n }])).toBe('10.0.0.1-10.0.0.2');
  });

  test('an IPv4-mapped address at the end of a range stays IPv6', () => {
    const mapped = 0xffff00000000n;
    expect(addressElements(6, [{ first: mapped, last: mapped + 2n }])).toBe('::ffff:0:0-::ffff:0:2');
  });
});

describe('numbers', () => {
  test('ports', () => {
    expect(portElements([{ first: 80, last: 80 }])).toBe('80');
    expect(portElements([{ first: 2000, last: 2010 }])).toBe('2000-2010');
    const both = [
      { first: 80, last: 80 },
      { first: 2000, last: 2010 },
    ];
    expect(portElements(both)).toBe('{ 80, 2000-2010 }');
  });

  test.each([
    [0, 1],
    [2, 1],
    [1, 65_536],
    [1.5, 2],
    [Number.NaN, Number.NaN],
    [1, Number.POSITIVE_INFINITY],
  ])('%d to %d is no range of ports', (first, last) => {
    expect(() => portElements([{ first, last }])).toThrow('range of ports');
  });

  test('a mark is in the upper half, and unsigned', () => {
    expect(markLiteral(1)).toBe('0x00010000');
    expect(markLiteral(0x8000)).toBe('0x80000000');
    expect(markLiteral(0xffff)).toBe('0xffff0000');
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 0xffff }), (n) => {
        expect(markLiteral(n)).toHaveLength(10);
        expect(Number(markLiteral(n))).toBe(n * 65_536);
      }),
    );
  });

  test.each([0, -1, 65_536, 1.5, Number.NaN])('%d is no number of a mark', (n) => {
    expect(() => markLiteral(n)).toThrow('number of a mark');
  });
});

describe('sets', () => {
  test('what is there twice is written once', () => {
    expect(oneOf(['"eth0"', '"eth0"'])).toBe('"eth0"');
    expect(oneOf(['"eth0"', '"eth1"', '"eth0"'])).toBe('{ "eth0", "eth1" }');
  });

  test('none at all is a mistake: nft has no empty set', () => {
    expect(() => oneOf([])).toThrow('at least one element');
  });
});
