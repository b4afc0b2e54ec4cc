import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  compileAccess,
  formatAccessList,
  matchesAccess,
  needsNames,
  parseAccessList,
} from '../../src/forwarder/access.ts';
import { isNatwardError } from '../../src/errors.ts';
import { family, parseAddress } from '../../src/net/address.ts';

/** Few enough labels and addresses that lists and clients meet. */
const label = fc.constantFrom('a', 'b', 'example', 'org', 'x-1', '_dmarc');
const name = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join('.'));
const address = fc.oneof(
  fc.tuple(fc.constantFrom(10, 127, 192), fc.integer({ min: 0, max: 3 })).map(([a, d]) => `${a}.0.0.${d}`),
  fc.integer({ min: 1, max: 9 }).map((last) => `2001:db8::${last}`),
  fc.constantFrom('::1', 'fe80::1', 'fe80::1%eth0'),
  fc.ipV4(),
  fc.ipV6().map((text) => parseAddress(text) ?? text),
);
const network = fc.tuple(address, fc.integer({ min: 0, max: 128 })).map(([text, length]) => {
  const bare = text.replace(/%.*/, '');
  const bits = family(bare) === 4 ? length % 33 : length;
  // Where it has bits below the mask, the network that is meant.
  const message = refusal(() => parseAccessList(`${bare}/${bits}`));
  return message === undefined ? `${bare}/${bits}` : (/write (\S+)$/.exec(message)?.[1] ?? bare);
});
const pattern = fc.oneof(
  { weight: 1, arbitrary: fc.constantFrom('ALL', 'LOCAL', '10.', '127.0.', '192.0.0.') },
  { weight: 2, arbitrary: name },
  { weight: 2, arbitrary: name.map((text) => `.${text}`) },
  { weight: 5, arbitrary: network },
);
const listText = fc
  .array(fc.array(pattern, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 4 })
  .map((lists) => lists.map((patterns) => patterns.join(', ')).join(' EXCEPT '));
const client = fc.record({ address, names: fc.array(name, { maxLength: 2 }) });

function matches(text: string, address: string, ...names: string[]): boolean {
  const list = parseAccessList(text);
  const answer = matchesAccess(list, { address, names });
  expect(compileAccess(list)({ address, names })).toBe(answer);
  return answer;
}

/** Undefined where there is none; rethrows what is no USAGE. */
function refusal(parse: () => unknown): string | undefined {
  try {
    parse();
    return undefined;
  } catch (error) {
    if (isNatwardError(error, 'USAGE')) return error.message;
    throw error;
  }
}

function canonical(text: string): string {
  return formatAccessList(parseAccessList(text));
}

describe('a client is matched', () => {
  test.each([
    ['ALL', '192.0.2.1', true],
    ['192.0.2.1', '192.0.2.1', true],
    ['192.0.2.1', '192.0.2.2', false],
    ['192.0.2.1', '2001:db8::1', false],
    ['2001:DB8:0::1', '2001:db8::1', true],
    ['[2001:db8::1]', '2001:db8::1', true],
    ['[192.0.2.1]', '192.0.2.1', true],
    ['::ffff:192.0.2.1', '192.0.2.1', true],
    ['131.155.', '131.155.72.1', true],
    ['131.155.', '131.156.72.1', false],
    ['13.', '131.155.72.1', false],
    ['131.155.72.0/255.255.254.0', '131.155.73.255', true],
    ['131.155.72.0/255.255.254.0', '131.155.74.0', false],
    ['192.0.2.1/255.255.255.255', '192.0.2.1', true],
    ['10.0.0.0/8', '10.255.255.255', true],
    ['10.0.0.0/8', '11.0.0.0', false],
    ['::ffff:10.0.0.0/104', '10.1.2.3', true],
    ['0.0.0.0/0', '192.0.2.1', true],
    ['0.0.0.0/0', '2001:db8::1', false],
    ['::/0', '2001:db8::1', true],
    ['::/0', '192.0.2.1', false],
    ['2001:db8::/32', '2001:db8:ffff::1', true],
    ['[2001:db8::]/32', '2001:db9::', false],
    ['fe80::/10', 'fe80::1%eth0', true],
    ['fe80::1', 'fe80::1%eth0', true],
    ['LOCAL', '127.8.8.8', true],
    ['LOCAL', '::1', true],
    ['LOCAL', '192.168.1.1', false],
    ['192.0.2.1, 192.0.2.2 192.0.2.3', '192.0.2.3', true],
  ])('%s, %s: %s', (text, address, expected) => {
    expect(matches(text, address)).toBe(expected);
  });

  test.each([
    ['www.example.org', 'www.example.org', true],
    ['WWW.Example.ORG', 'www.example.org', true],
    ['www.example.org', 'example.org', false],
    ['.tue.nl', 'wzv.win.tue.nl', true],
    ['.tue.nl', 'tue.nl', false],
    ['.tue.nl', 'attue.nl', false],
    ['.tue.nl', 'tue.nl.example.org', false],
    ['LOCAL', 'printer', true],
    ['LOCAL', 'printer.lan', false],
  ])('%s, by the name %s: %s', (text, name, expected) => {
    expect(matches(text, '192.0.2.1', name)).toBe(expected);
    expect(matches(text, '192.0.2.1', 'other.test', name)).toBe(expected);
  });

  test('by no name where none is known', () => {
    expect(matches('.example.org, www.example.net', '192.0.2.1')).toBe(false);
    expect(matchesAccess(parseAccessList('.example.org'), { address: '192.0.2.1' })).toBe(false);
    expect(compileAccess(parseAccessList('.example.org'))({ address: '192.0.2.1' })).toBe(false);
    expect(matches('ALL EXCEPT .example.org', '192.0.2.1')).toBe(true);
  });
});

describe('EXCEPT', () => {
  test.each([
    ['10.0.0.1', false],
    ['10.1.0.1', true],
    ['10.1.1.1', false],
    ['10.1.1.9', true],
    ['192.0.2.1', false],
  ])('nests to the right: %s, %s', (address, expected) => {
    const text = '10.0.0.0/8 EXCEPT 10.0.0.0/16, 10.1.1.0/24 EXCEPT 10.1.1.9';
    expect(matches(text, address)).toBe(expected);
  });

  test('takes out of all that stands before it', () => {
    expect(matches('10.0.0.1 10.0.0.2 EXCEPT 10.0.0.2', '10.0.0.1')).toBe(true);
    expect(matches('10.0.0.1 10.0.0.2 EXCEPT 10.0.0.2', '10.0.0.2')).toBe(false);
  });
});

describe('formatAccessList()', () => {
  test.each([
    ['all', 'ALL'],
    ['Local  192.0.2.1,,  Example.ORG', 'LOCAL,192.0.2.1,example.org'],
    ['131.155.', '131.155.0.0/16'],
    ['131.155.72.0/255.255.254.0', '131.155.72.0/23'],
    ['[2001:DB8::]/32', '2001:db8::/32'],
    ['192.0.2.1/32 2001:db8::1/128', '192.0.2.1,2001:db8::1'],
    ['ALL except .Example.org  EXCEPT www.example.org', 'ALL EXCEPT .example.org EXCEPT www.example.org'],
  ])('writes %s as %s', (text, expected) => {
    expect(canonical(text)).toBe(expected);
  });

  test('reads back as an equal list', () => {
    fc.assert(
      fc.property(listText, (text) => {
        const list = parseAccessList(text);
        expect(parseAccessList(formatAccessList(list))).toEqual(list);
      }),
    );
  });
});

describe('needsNames()', () => {
  test.each([
    ['10.0.0.0/8', false],
    ['ALL', false],
    ['.example.org', true],
    ['www.example.org', true],
    ['LOCAL', true],
    ['ALL, .example.org', false],
    ['ALL EXCEPT .example.org', true],
    ['10.0.0.0/8 EXCEPT 10.0.0.1 EXCEPT www.example.org', true],
  ])('%s: %s', (text, expected) => {
    expect(needsNames(parseAccessList(text))).toBe(expected);
  });

  test('where it says no, names change nothing', () => {
    fc.assert(
      fc.property(listText, client, (text, one) => {
        const list = parseAccessList(text);
        fc.pre(!needsNames(list));
        expect(matchesAccess(list, one)).toBe(matchesAccess(list, { address: one.address }));
      }),
    );
  });
});

describe('compileAccess()', () => {
  test('answers as matchesAccess() does', () => {
    fc.assert(
      fc.property(listText, fc.array(client, { minLength: 1, maxLength: 10 }), (text, clients) => {
        const list = parseAccessList(text);
        const compiled = compileAccess(list);
        for (const one of clients) expect(compiled(one)).toBe(matchesAccess(list, one));
      }),
      { numRuns: 1000 },
    );
  });

  test('answers 10,000 questions of 10,000 networks in less than a second', () => {
    const networks = Array.from({ length: 10_000 }, (_, at) =>
      at % 2 === 0 ? `10.${(at >> 8) & 255}.${at & 255}.0/24` : `2001:db8:${at.toString(16)}::/48`,
    );
    const compiled = compileAccess(parseAccessList(networks.join(',')));
    const began = performance.now();
    let matched = 0;
    for (let at = 0; at < 10_000; at++) matched += compiled({ address: `10.0.${at & 255}.7` }) ? 1 : 0;
    expect(performance.now() - began).toBeLessThan(1000);
    expect(matched).toBe(5000);
  });
});

describe('parseAccessList() refuses', () => {
  test.each([
    ['', 'is empty'],
    [' , ', 'is empty'],
    ['EXCEPT 10.0.0.1', 'EXCEPT with nothing before it'],
    ['ALL EXCEPT', 'ends in EXCEPT'],
    ['ALL EXCEPT EXCEPT 10.0.0.1', 'EXCEPT with nothing before it'],
    ['KNOWN', '"KNOWN" cannot be in a client list: it is about how a look-up went'],
    ['unknown', 'how a look-up went'],
    ['PARANOID', 'how a look-up went'],
    ['root@example.org', 'asks no client for its user'],
    ['@trusted', 'reads no netgroups'],
    ['/etc/trusted', 'reads no pattern files'],
    ['*.example.org', 'has no * and ?'],
    ['10.0.0.?', 'has no * and ?'],
    ['fe80::1%eth0', 'a zone'],
    ['10.0.0.5/8', '"10.0.0.5/8" cannot be in a client list: it has bits below its mask; write 10.0.0.0/8'],
    ['2001:db8::1/32', 'write 2001:db8::/32'],
    ['10.0.0.0/33', '"/33" is no mask of it'],
    ['10.0.0.0/', '"/" is no mask of it'],
    ['10.0.0.0/-1', 'is no mask of it'],
    ['10.0.0.0/8/8', 'is no mask of it'],
    ['10.0.0.0/255.0.255.0', '"/255.0.255.0" is no mask of it'],
    ['2001:db8::/129', 'is no mask of it'],
    ['2001:db8::/255.255.0.0', 'is no mask of it'],
    ['::ffff:10.0.0.0/8', 'is no mask of it'],
    ['1.2.3', 'neither an address'],
    ['1.2.3.256', 'neither an address'],
    ['01.2.3.4', 'neither an address'],
    ['1.2.3.4.', 'neither an address'],
    ['300.', 'neither an address'],
    ['10.0.0.1-10.0.0.5', 'neither an address'],
    ['10.0.0.1-5', 'neither an address'],
    ['12345', 'neither an address'],
    ['example.org.', 'neither an address'],
    ['a..b', 'neither an address'],
    ['.', 'neither an address'],
    ['..org', 'neither an address'],
    ['bücher.example', 'neither an address'],
    ['\u212aiosk', 'neither an address'],
    ['[2001:db8::1', 'neither an address'],
    ['2001:db8::1]', 'neither an address'],
    ['[2001:db8::/32]', 'neither an address'],
    [`${'a'.repeat(64)}.org`, 'neither an address'],
    [`${'a.'.repeat(126)}ab`, 'neither an address'],
    ['#', 'neither an address'],
  ])('%j: %s', (text, reason) => {
    expect(() => parseAccessList(text)).toThrow(
      expect.objectContaining({ code: 'USAGE', message: expect.stringContaining(reason) }),
    );
  });

  test('more than 10,000 patterns', () => {
    expect(parseAccessList('ALL '.repeat(10_000)).lists[0]).toHaveLength(10_000);
    expect(() => parseAccessList('ALL '.repeat(10_001))).toThrow('more than 10000 patterns');
  });

  test('with a message of some length only', () => {
    expect(() => parseAccessList('!'.repeat(100_000))).toThrow(/^.{1,250}$/);
  });
});

test('a list EXCEPT a list, 5,000 times, is read, written and answered', () => {
  const text = Array.from({ length: 5000 }, () => 'ALL').join(' EXCEPT ');
  expect(canonical(text)).toBe(text);
  expect(matches(text, '192.0.2.1')).toBe(false);
});

test('any text is a list, or is refused in words', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.string().map((text) => `ALL EXCEPT ${text}`),
        listText,
      ),
      (text) => {
        expect(refusal(() => parseAccessList(text))).not.toBe('');
      },
    ),
  );
});
