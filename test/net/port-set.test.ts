import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isNatwardError } from '../../src/errors.ts';
import {
  ANY_PORT,
  coversPorts,
  formatPortSet,
  hasPort,
  isAnyPort,
  parsePortSet,
  portRanges,
} from '../../src/net/port-set.ts';
import { port, portSet } from '../forwarder/arbitraries.ts';

describe('parsePortSet()', () => {
  test.each([
    ['80', [[80, 80]]],
    [
      '80,443',
      [
        [80, 80],
        [443, 443],
      ],
    ],
    [
      '2000-5000,~3000-3010',
      [
        [2000, 2999],
        [3011, 5000],
      ],
    ],
    ['*', [[1, 65_535]]],
    [
      '~22',
      [
        [1, 21],
        [23, 65_535],
      ],
    ],
    [
      '*,~1,~65535,~80-90',
      [
        [2, 79],
        [91, 65_534],
      ],
    ],
    ['10-20,15-30,31', [[10, 31]]],
    [
      '30,10,20',
      [
        [10, 10],
        [20, 20],
        [30, 30],
      ],
    ],
    ['1-10,~5-20', [[1, 4]]],
  ])('%s comes to %j', (text, expected) => {
    expect(portRanges(parsePortSet(text)).map(({ first, last }) => [first, last])).toEqual(expected);
  });

  test.each(['*,80', '80,*', '*,80-90,*'])('%s is every port, as the star says', (text) => {
    expect(isAnyPort(parsePortSet(text))).toBe(true);
    expect(formatPortSet(parsePortSet(text))).toBe('*');
  });

  test.each([
    ['', '"" is not a port number'],
    ['80,', '"" is not a port number'],
    ['80,,90', '"" is not a port number'],
    ['http', '"http" is not a port number'],
    ['80,0', 'port 0 is out of range'],
    ['80-70', 'the range 80-70 runs backwards'],
    ['~', '"" is not a port number'],
    ['~~80', '"~80" is not a port number'],
    ['~*', '"*" is not a port number'],
    ['**', '"**" is not a port number'],
    ['80, 90', '" 90" is not a port number'],
    ['80,~80', '"80,~80" leaves no port over'],
    ['~1-65535', '"~1-65535" leaves no port over'],
    [Array.from({ length: 1001 }, () => '80').join(','), 'more than 1000 ports and ranges'],
  ])('names what is wrong in "%s"', (text, message) => {
    expect(() => parsePortSet(text)).toThrow(
      expect.objectContaining({ code: 'USAGE', message: expect.stringContaining(message) }),
    );
  });

  test('throws nothing but USAGE, whatever it reads', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9,~*-]{0,30}$/)), (text) => {
        try {
          expect(portRanges(parsePortSet(text))).not.toEqual([]);
        } catch (error) {
          if (!isNatwardError(error, 'USAGE')) throw error;
        }
      }),
    );
  });

  test('a thousand holes are no work', () => {
    const text = Array.from({ length: 1000 }, (_, at) => `~${at * 2 + 1}`).join(',');
    const start = performance.now();
    expect(portRanges(parsePortSet(text))).toHaveLength(1000);
    expect(performance.now() - start).toBeLessThan(500);
  });
});

test('what is written reads back the same', () => {
  fc.assert(
    fc.property(portSet, (set) => {
      expect(parsePortSet(formatPortSet(set))).toEqual(set);
    }),
  );
  expect(formatPortSet(ANY_PORT)).toBe('*');
});

describe('portRanges()', () => {
  test('are in order and apart, and hold just the ports that are included and not excluded', () => {
    fc.assert(
      fc.property(portSet, fc.array(port, { minLength: 20 }), (set, ports) => {
        const ranges = portRanges(set);
        for (const [at, { first, last }] of ranges.entries()) {
          expect(first).toBeLessThanOrEqual(last);
          expect(first).toBeGreaterThan((ranges[at - 1]?.last ?? -1) + 1);
        }
        const borders = [...set.included, ...set.excluded].flatMap(({ first, last }) => [
          first - 1,
          first,
          last,
          last + 1,
        ]);
        for (const one of [...ports, ...borders].filter((number) => number >= 1 && number <= 65_535)) {
          const expected =
            (set.included.length === 0 || hasPort(set.included, one)) && !hasPort(set.excluded, one);
          expect(hasPort(ranges, one)).toBe(expected);
        }
      }),
    );
  });
});

describe('coversPorts()', () => {
  test.each([
    ['*', '80', true],
    ['80', '*', false],
    ['2000-5000,~3000-3010', '2000-2999', true],
    ['2000-5000,~3000-3010', '2999-3000', false],
    ['80,443', '443,80', true],
    ['1-10,11-20', '5-15', true],
  ])('whether %s covers %s: %s', (outer, inner, expected) => {
    expect(coversPorts(portRanges(parsePortSet(outer)), portRanges(parsePortSet(inner)))).toBe(expected);
  });

  test('says no only where a port of the inner set is not of the outer', () => {
    fc.assert(
      fc.property(portSet, portSet, (a, b) => {
        const [outer, inner] = [portRanges(a), portRanges(b)];
        const missing = inner.some(({ first, last }) => {
          let at = first;
          for (const range of outer) if (range.first <= at && at <= range.last) at = range.last + 1;
          return at <= last;
        });
        expect(coversPorts(outer, inner)).toBe(!missing);
      }),
    );
  });
});
