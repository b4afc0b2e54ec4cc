import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isNatwardError } from '../../src/errors.ts';
import { formatPortRange, parsePort, parsePortRange, portCount } from '../../src/net/port-range.ts';

const port = fc.integer({ min: 1, max: 65535 });

/** The message of the USAGE error that `act` ends in. */
function complaint(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (isNatwardError(error, 'USAGE')) return error.message;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('parsePort()', () => {
  test('reads every port from 1 to 65535', () => {
    fc.assert(
      fc.property(port, (number) => {
        expect(parsePort(String(number))).toBe(number);
      }),
    );
  });

  test.each(['0', '65536', '99999', '999999999', '00000'])('names %s as out of range', (token) => {
    expect(complaint(() => parsePort(token))).toContain(`port ${token} is out of range`);
  });

  test.each(['', ' ', 'http', '-1', '+1', '1.5', '1e3', '0x50', ' 80', '80\n', '٨٠', '9999999999'])(
    'says that "%s" is no port number',
    (token) => {
      expect(complaint(() => parsePort(token))).toBe(`"${token}" is not a port number`);
    },
  );
});

describe('parsePortRange()', () => {
  test('reads a single port as a range of one', () => {
    expect(parsePortRange('8080')).toEqual({ first: 8080, last: 8080 });
  });

  test('reads a range with both ends', () => {
    expect(parsePortRange('6000-6010')).toEqual({ first: 6000, last: 6010 });
  });

  test('names a range that runs backwards', () => {
    expect(complaint(() => parsePortRange('6010-6000'))).toBe('the range 6010-6000 runs backwards');
  });

  test.each([
    ['0-10', 'port 0 is out of range'],
    ['1-65536', 'port 65536 is out of range'],
    ['-80', '"" is not'],
    ['80-', '"" is not'],
    ['1-2-3', '"2-3" is not'],
    ['a-b', '"a" is not'],
    ['1 - 2', '"1 " is not'],
  ])('names the token at fault in %s', (token, message) => {
    expect(complaint(() => parsePortRange(token))).toContain(message);
  });

  test('throws nothing but USAGE, whatever it reads', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9-]{0,12}$/)), (token) => {
        try {
          const range = parsePortRange(token);
          expect(range.first).toBeGreaterThanOrEqual(1);
          expect(range.last).toBeGreaterThanOrEqual(range.first);
          expect(range.last).toBeLessThanOrEqual(65535);
        } catch (error) {
          if (!isNatwardError(error, 'USAGE')) throw error;
        }
      }),
    );
  });

  test('reads what formatPortRange() writes', () => {
    fc.assert(
      fc.property(port, port, (a, b) => {
        const range = { first: Math.min(a, b), last: Math.max(a, b) };
        expect(parsePortRange(formatPortRange(range))).toEqual(range);
        expect(portCount(range)).toBe(Math.abs(a - b) + 1);
      }),
    );
  });
});

test('portCount() counts both ends', () => {
  expect(portCount({ first: 1, last: 65535 })).toBe(65535);
});
