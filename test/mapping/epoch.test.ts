import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Epoch, type EpochRule, keptItsTable } from '../../src/mapping/epoch.ts';

const RULES: readonly EpochRule[] = ['natpmp', 'pcp'];
const START_MS = Date.UTC(2026, 0, 1);

/** The gateway says `epochSeconds`, `afterSeconds` later; the host's clock was set by `setSeconds` meanwhile. */
function heard(epochSeconds: number, afterSeconds: number, setSeconds = 0): Epoch {
  const ms = afterSeconds * 1000;
  return { epochSeconds, heardAtMs: START_MS + ms + setSeconds * 1000, heardSteadyMs: ms };
}

function kept(rule: EpochRule, epochSeconds: number, afterSeconds: number, from = 1000): boolean {
  return keptItsTable(rule, heard(from, 0), heard(epochSeconds, afterSeconds));
}

const epochs = fc.integer({ min: 0, max: 2 ** 31 });
const days = fc.integer({ min: 0, max: 30 * 86_400 });

describe('RFC 6886, section 3.6: a NAT-PMP gateway', () => {
  test.each([
    [1800, 'is right'],
    [1700, 'runs an eighth too slow'],
    [1698, 'is two seconds beyond that, which are forgiven'],
    [1_000_000, 'runs far too fast, which the rule does not mind'],
  ])('that says %i s after 1000 s and 800 s %s: it has its table', (epochSeconds) => {
    expect(kept('natpmp', epochSeconds, 800)).toBe(true);
  });

  test.each([
    [1697, 'is three seconds behind the slowest clock'],
    [800, 'has started again when this host last heard it'],
    [0, 'has just started'],
  ])('that says %i s after 1000 s and 800 s %s: it has lost its table', (epochSeconds) => {
    expect(kept('natpmp', epochSeconds, 800)).toBe(false);
  });

  test('two seconds backwards are forgiven, three are not', () => {
    expect([kept('natpmp', 998, 0), kept('natpmp', 997, 0)]).toEqual([true, false]);
  });
});

describe('RFC 6887, section 8.5: a PCP server', () => {
  test.each([
    [1800, 'is right'],
    // 748 + 2 = 800 - 800/16.
    [1748, 'runs a sixteenth too slow, and two seconds'],
    // 855 - 855/16 = 801.6, and two seconds are forgiven.
    [1855, 'runs a sixteenth too fast, and two seconds'],
  ])('that says %i s after 1000 s and 800 s %s: it has its table', (epochSeconds) => {
    expect(kept('pcp', epochSeconds, 800)).toBe(true);
  });

  test.each([
    [1747, 'is slower than that'],
    [1856, 'is faster than that'],
    [800, 'has started again when this host last heard it'],
    [0, 'has just started'],
    [2 ** 32 - 1, 'says the largest number there is'],
  ])('that says %i s after 1000 s and 800 s %s: it has lost its table', (epochSeconds) => {
    expect(kept('pcp', epochSeconds, 800)).toBe(false);
  });

  test('one second backwards is forgiven, two are not', () => {
    expect([kept('pcp', 999, 0), kept('pcp', 998, 0)]).toEqual([true, false]);
  });
});

describe.each(RULES)('by the rule of %s', (rule) => {
  test('a gateway that says the same twice at one moment has its table', () => {
    fc.assert(fc.property(epochs, (epoch) => kept(rule, epoch, 0, epoch)));
  });

  test('a gateway with a good clock has its table, however long nobody asked', () => {
    fc.assert(fc.property(epochs, days, (epoch, after) => kept(rule, epoch + after, after, epoch)));
  });

  test('a clock that is a twentieth wrong, cut to seconds at either end, is good enough', () => {
    const rate = fc.double({ min: 0.95, max: 1.05, noNaN: true });
    const cut = fc.double({ min: 0, max: 0.999, noNaN: true });
    fc.assert(
      fc.property(epochs, days, rate, cut, cut, (epoch, after, speed, first, second) => {
        const [from, to] = [Math.floor(epoch + first), Math.floor(epoch + first + after * speed + second)];
        return kept(rule, to, after, from);
      }),
    );
  });

  test('a gateway that has started again is found out while its clock says less than before', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 10, max: 2 ** 31 }),
        days,
        fc.double({ min: 0, max: 1, noNaN: true }),
        (epoch, after, part) => {
          const since = Math.min(Math.floor(after * part), epoch - 3);
          return !kept(rule, since, Math.max(after, since), epoch);
        },
      ),
    );
  });

  test('the last second before a clock of 32 bits wraps is like any other, and its wrap like a restart', () => {
    expect(kept(rule, 2 ** 32 - 1, 10, 2 ** 32 - 11)).toBe(true);
    expect(kept(rule, 5, 10, 2 ** 32 - 5)).toBe(false);
  });

  test.each([-86_400, -60, -6, 6, 60, 3600, 86_400 * 365])(
    'this host’s clock was set by %i s: the gateway’s table is not lost for that',
    (setSeconds) => {
      expect(keptItsTable(rule, heard(1000, 0), heard(1010, 10, setSeconds))).toBe(true);
    },
  );

  test('this host has slept: its steady clock stood still, and the gateway has its table', () => {
    const asleep = { epochSeconds: 8200, heardAtMs: START_MS + 7_200_000, heardSteadyMs: 3000 };
    expect(keptItsTable(rule, heard(1000, 0), asleep)).toBe(true);
  });

  test('this host has slept, or its clock was set, and the gateway has started again: it has lost its table', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: -86_400, max: 86_400 }),
        days,
        fc.integer({ min: 0, max: 900 }),
        (setSeconds, after, since) =>
          !keptItsTable(rule, heard(1000, 0), heard(Math.min(since, after), after, setSeconds)),
      ),
    );
  });
});
