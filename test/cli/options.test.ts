import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  askOptions,
  parseDescription,
  parseGateway,
  parseLifetime,
  parseTimeout,
  parseEngine,
  parseVia,
} from '../../src/cli/options.ts';
import { isNatwardError } from '../../src/errors.ts';

const USAGE = expect.objectContaining({ code: 'USAGE' });

describe('--lifetime', () => {
  test.each([
    ['1', 1],
    ['90s', 90],
    ['30m', 1800],
    ['2h', 7200],
    ['7d', 604_800],
    ['604800', 604_800],
  ])('%s is %i seconds', (text, seconds) => {
    expect(parseLifetime(text)).toBe(seconds);
  });

  test.each([
    '',
    '0',
    '-1',
    '0h',
    '8d',
    '604801',
    '1.5h',
    '1w',
    '2 h',
    'h',
    '1e3',
    'Infinity',
    '9'.repeat(30),
  ])('%j is USAGE and is named', (text) => {
    expect(() => parseLifetime(text)).toThrow(USAGE);
    expect(() => parseLifetime(text)).toThrow(`--lifetime ${text}`);
  });

  test('that is any text is a number of seconds within bounds, or USAGE', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(lifetimeOf(text)).toSatisfy(
          (found: unknown) => found === 'USAGE' || (Number(found) >= 1 && Number(found) <= 604_800),
        );
      }),
    );
  });
});

test.each([
  ['5s', 5000],
  ['1m', 60_000],
  ['10m', 600_000],
])('--timeout %s is %i ms', (text, ms) => {
  expect(parseTimeout(text)).toBe(ms);
});

test.each(['', '0', '-5s', '11m', '500ms', 'never'])('--timeout %j is USAGE and is named', (text) => {
  expect(() => parseTimeout(text)).toThrow(USAGE);
  expect(() => parseTimeout(text)).toThrow(`--timeout ${text}`);
});

test.each([
  ['192.168.1.1', '192.168.1.1'],
  ['[fe80::1%eth0]', 'fe80::1%eth0'],
  ['FE80::1', 'fe80::1'],
])('--gateway %s is %s', (text, address) => {
  expect(parseGateway(text)).toBe(address);
});

test.each(['', 'router', '192.168.1', '192.168.1.256', '192.168.1.1:5351', '192.168.1.0/24', '[]'])(
  '--gateway %j is USAGE and is named',
  (text) => {
    expect(() => parseGateway(text)).toThrow(USAGE);
    expect(() => parseGateway(text)).toThrow(`--gateway ${text}`);
  },
);

test.each(['pcp', 'natpmp', 'upnp'])('--via %s is that protocol', (text) => {
  expect(parseVia(text)).toBe(text);
});

test.each(['', 'PCP', 'nat-pmp', 'igd', 'constructor'])('--via %j is USAGE and names the three', (text) => {
  expect(() => parseVia(text)).toThrow(USAGE);
  expect(() => parseVia(text)).toThrow('write pcp, natpmp or upnp');
});

test('--description may be 250 characters long and no longer', () => {
  expect(parseDescription('n'.repeat(250))).toHaveLength(250);
  expect(() => parseDescription('n'.repeat(251))).toThrow(USAGE);
});

test('what is not said on the command line is not handed to the agent', () => {
  const { signal } = new AbortController();
  expect(askOptions({ timeout: 5000 }, signal)).toEqual({ timeoutMs: 5000, signal });
  expect(
    askOptions({ timeout: 1000, gateway: '192.168.1.1', interface: 'eth0', via: 'pcp', json: true }, signal),
  ).toEqual({ timeoutMs: 1000, signal, gateway: '192.168.1.1', interface: 'eth0', via: 'pcp' });
});

/** What is read, or the code of what is thrown. */
function lifetimeOf(text: string): unknown {
  try {
    return parseLifetime(text);
  } catch (error) {
    return isNatwardError(error) ? error.code : error;
  }
}

test.each(['auto', 'relay', 'nftables'])('--engine %s is one', (text) => {
  expect(parseEngine(text)).toBe(text);
});

test.each(['', 'AUTO', 'iptables'])('--engine %j is none', (text) => {
  expect(() => parseEngine(text)).toThrow(USAGE);
  expect(() => parseEngine(text)).toThrow('write auto, relay or nftables');
});
