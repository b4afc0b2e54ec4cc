import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  formatSource,
  formatTarget,
  isOwnHost,
  parseHost,
  parseHostName,
  parseSource,
  parseTarget,
  splitEndpoint,
  targetPortOf,
  targetTrouble,
} from '../../src/forwarder/target.ts';
import { portCount } from '../../src/net/port-range.ts';
import { parsePortSet, portRanges } from '../../src/net/port-set.ts';
import { portSet } from './arbitraries.ts';

describe('parseTarget()', () => {
  test.each([
    [':8080', { host: undefined, port: { kind: 'one', port: 8080 } }, ':8080'],
    ['10.0.0.5', { host: '10.0.0.5', port: { kind: 'same' } }, '10.0.0.5'],
    ['10.0.0.5:', { host: '10.0.0.5', port: { kind: 'same' } }, '10.0.0.5'],
    ['10.0.0.5:+0', { host: '10.0.0.5', port: { kind: 'shift', by: 0 } }, '10.0.0.5:+0'],
    ['10.0.0.5:-0', { host: '10.0.0.5', port: { kind: 'shift', by: 0 } }, '10.0.0.5:+0'],
    [':-1000', { host: undefined, port: { kind: 'shift', by: -1000 } }, ':-1000'],
    [':+8000', { host: undefined, port: { kind: 'shift', by: 8000 } }, ':+8000'],
    [
      'nas:6000-6010',
      { host: 'nas', port: { kind: 'range', range: { first: 6000, last: 6010 } } },
      'nas:6000-6010',
    ],
    [':80-80', { host: undefined, port: { kind: 'one', port: 80 } }, ':80'],
    ['[2001:DB8::8]:80', { host: '2001:db8::8', port: { kind: 'one', port: 80 } }, '[2001:db8::8]:80'],
    ['[fe80::1%eth0]', { host: 'fe80::1%eth0', port: { kind: 'same' } }, '[fe80::1%eth0]'],
    ['Example.ORG.:80', { host: 'example.org', port: { kind: 'one', port: 80 } }, 'example.org:80'],
  ])('reads %s', (text, expected, written) => {
    expect(parseTarget(text)).toEqual(expected);
    expect(formatTarget(parseTarget(text))).toBe(written);
  });

  test.each([
    ['', '"" names no host and no port'],
    [':', '":" names no host and no port'],
    [':http', '"http" is not a port number'],
    [':0', 'port 0 is out of range'],
    [':70000', 'port 70000 is out of range'],
    [':20-10', 'the range 20-10 runs backwards'],
    [':+100000', '"+100000" is not a port number'],
    [':*', '"*" is not a port number'],
    ['10.0.0:80', '"10.0.0" is neither an address nor a host name'],
    ['a b:80', 'is neither an address nor a host name'],
    ['2001:db8::8', '"2001:db8::8" is not HOST:PORT: an IPv6 address stands in brackets'],
    ['[::1', 'is not HOST:PORT'],
    ['::1]', 'is not HOST:PORT'],
    ['[nas]:80', '"[nas]" is neither'],
    ['10.0.0.0/8:80', 'is neither'],
    ['10.0.0.1,10.0.0.2:80', 'is neither'],
  ])('names what is wrong in "%s"', (text, message) => {
    expect(() => parseTarget(text)).toThrow(
      expect.objectContaining({ code: 'USAGE', message: expect.stringContaining(message) }),
    );
  });
});

test.each([
  ['192.168.1.2', { address: '192.168.1.2', port: undefined }, '192.168.1.2'],
  ['192.168.1.2:5000', { address: '192.168.1.2', port: 5000 }, '192.168.1.2:5000'],
  ['client', { address: 'client', port: undefined }, 'client'],
  ['client:same', { address: 'client', port: 'same' }, 'client:same'],
  [':same', { address: undefined, port: 'same' }, ':same'],
  [':5000', { address: undefined, port: 5000 }, ':5000'],
  ['[2001:DB8::1]:same', { address: '2001:db8::1', port: 'same' }, '[2001:db8::1]:same'],
])('parseSource() reads %s', (text, expected, written) => {
  expect(parseSource(text)).toEqual(expected);
  expect(formatSource(parseSource(text))).toBe(written);
});

test.each([
  ['', '"" says no address and no port'],
  [':', 'says no address and no port'],
  ['10.0.0.1:', 'says no address and no port'],
  ['nas:80', '"nas" is no address of this host, nor "client"'],
  ['10.0.0.1:any', '"any" is not a port number'],
  ['10.0.0.1:1-2', '"1-2" is not a port number'],
])('parseSource() names what is wrong in "%s"', (text, message) => {
  expect(() => parseSource(text)).toThrow(
    expect.objectContaining({ code: 'USAGE', message: expect.stringContaining(message) }),
  );
});

test.each([`${','.repeat(8000)}]`, `${'[]/111'.repeat(1300)}]`, '['.repeat(8000), ':'.repeat(8000)])(
  'a hostile endpoint is refused at once',
  (text) => {
    const start = performance.now();
    expect(() => splitEndpoint(text)).toThrow('is not HOST:PORT');
    expect(performance.now() - start).toBeLessThan(500);
  },
);

test.each([
  ['Example.org', 'example.org'],
  ['example.org.', 'example.org'],
  ['_srv.a-b.c', '_srv.a-b.c'],
  ['a', 'a'],
  ['1and1.com', '1and1.com'],
  ['a'.repeat(63), 'a'.repeat(63)],
  ['a'.repeat(64), undefined],
  ['10.0.0', undefined],
  ['a.', 'a'],
  ['a..', undefined],
  ['.a', undefined],
  ['a-', undefined],
  ['ü.de', undefined],
  ['', undefined],
  [Array.from({ length: 127 }, () => 'aa').join('.'), undefined],
])('the host name %s is %s', (text, expected) => {
  expect(parseHostName(text)).toBe(expected);
});

test('parseHost() takes IPv6 with and without brackets', () => {
  expect(parseHost('[2001:db8::0]')).toBe('2001:db8::');
  expect(parseHost('2001:db8::0')).toBe('2001:db8::');
});

describe('targetPortOf()', () => {
  const becomes = (selector: string, target: string, port: number) =>
    targetPortOf(parseTarget(`nas${target}`).port, portRanges(parsePortSet(selector)), port);

  test.each([
    ['80', '', 80, 80],
    ['80', ':8080', 80, 8080],
    ['1000-1010', ':8080', 1007, 8080],
    ['1000-1010', ':+500', 1007, 1507],
    ['1000-1010', ':-999', 1000, 1],
    ['1000-1010', ':2000-2010', 1000, 2000],
    ['1000-1010', ':2000-2010', 1010, 2010],
    ['2000-5000,~3000-3010', ':7000-9989', 2999, 7999],
    ['2000-5000,~3000-3010', ':7000-9989', 3011, 8000],
    ['443,80', ':1-2', 80, 1],
    ['443,80', ':1-2', 443, 2],
  ])('of %s to "%s", %i becomes %i', (selector, target, port, expected) => {
    expect(becomes(selector, target, port)).toBe(expected);
  });

  test('a range as long is taken one to one, in order', () => {
    fc.assert(
      fc.property(portSet, (set) => {
        const ranges = portRanges(set);
        const count = ranges.reduce((sum, range) => sum + portCount(range), 0);
        const target = { kind: 'range', range: { first: 65_536 - count, last: 65_535 } } as const;
        let expected = target.range.first;
        for (const { first, last } of ranges) {
          expect(targetPortOf(target, ranges, first)).toBe(expected);
          expect(targetPortOf(target, ranges, last)).toBe(expected + last - first);
          expected += last - first + 1;
        }
      }),
    );
  });
});

describe('targetTrouble()', () => {
  const trouble = (selector: string, target: string) =>
    targetTrouble({ to: { addresses: [], ports: parsePortSet(selector) } }, parseTarget(target));

  test.each([
    ['*', ':80'],
    ['1000-1010', ':2000-2010'],
    ['1000-1010,~1005', ':2000-2009'],
    ['1-65534', ':+1'],
    ['80', 'nas'],
  ])('%s can become %s', (selector, target) => {
    expect(trouble(selector, target)).toBeUndefined();
  });

  test.each([
    ['1000-1010', ':2000-2011', '11 ports cannot become the 12 of 2000-2011, one each'],
    ['80', ':8000-8001', '1 ports cannot become the 2 of 8000-8001, one each'],
    ['80,65530-65535', ':+1', 'port 65530-65535 moved by 1 is out of range: ports run from 1 to 65535'],
    ['80', ':-80', 'port 80 moved by -80 is out of range: ports run from 1 to 65535'],
  ])('%s cannot become %s', (selector, target, expected) => {
    expect(trouble(selector, target)).toBe(expected);
  });
});

test.each([
  [undefined, true],
  ['localhost', true],
  ['127.9.9.9', true],
  ['::1', true],
  ['192.168.1.2', true],
  ['192.168.1.3', false],
  ['example.org', false],
])('whether %s is this host: %s', (host, expected) => {
  expect(isOwnHost(host, ['192.168.1.2'])).toBe(expected);
});
