import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { momentOf, type RenewalWindow, renewalWindow } from '../../src/mapping/schedule.ts';

const GRANTED_AT_MS = Date.UTC(2026, 0, 1);
const MAX_LIFETIME_SECONDS = 2 ** 32 - 1;

/** All windows of one grant, in seconds after it. */
function windowsOf(lifetimeSeconds: number, grantedAtMs = 0): RenewalWindow[] {
  const windows: RenewalWindow[] = [];
  for (;;) {
    const window = renewalWindow(windows.length, grantedAtMs, lifetimeSeconds);
    if (window === undefined) return windows;
    windows.push(window);
  }
}

function inSeconds(windows: readonly RenewalWindow[]): [number, number][] {
  return windows.map(({ fromMs, untilMs }) => [fromMs / 1000, untilMs / 1000]);
}

const lifetimes = fc.oneof(
  fc.integer({ min: 1, max: 300 }),
  fc.integer({ min: 1, max: 604_800 }),
  fc.integer({ min: 1, max: MAX_LIFETIME_SECONDS }),
);

describe('renewalWindow', () => {
  test('RFC 6887, section 11.2.1: 1/2 to 5/8, then 3/4 and a sixteenth more, then 7/8 and a thirty-second', () => {
    expect(inSeconds(windowsOf(7200).slice(0, 3))).toEqual([
      [3600, 4500],
      [5400, 5850],
      [6300, 6525],
    ]);
  });

  test.each([60, 120, 3600, 86_400, 604_800])(
    'RFC 6886, section 3.3: of %i s the first try may be at half, and none is sooner',
    (lifetimeSeconds) => {
      expect(windowsOf(lifetimeSeconds)[0]?.fromMs).toBe(lifetimeSeconds * 500);
    },
  );

  test('counts from when it was granted', () => {
    const first = { fromMs: GRANTED_AT_MS + 3_600_000, untilMs: GRANTED_AT_MS + 4_500_000 };
    expect(renewalWindow(0, GRANTED_AT_MS, 7200)).toEqual(first);
  });

  test('a minute, as VPN providers grant it, is renewed three times at the most, the first time at half', () => {
    const windows = inSeconds(windowsOf(60));
    expect(windows).toHaveLength(3);
    expect(windows[0]).toEqual([30, 37.5]);
    expect(windows[1]).toEqual([45, 48.75]);
    // 4 s after the end of the window before, not 7/8 of the lifetime.
    expect(windows[2]).toEqual([52.75, 54.375]);
  });

  test('what has no end is asked for again every hour or so: some routers forget even those', () => {
    expect(inSeconds(windowsOf(0))[0]).toEqual([3600, 4500]);
    expect(windowsOf(0).length).toBeGreaterThan(3);
  });

  test.each([
    [8, [4, 5]],
    [6, [4, 4]],
    [4, [4, 4]],
    [1, [4, 4]],
  ] as const)(
    'a grant of %i s is renewed no sooner than four seconds after it, however short it is',
    (lifetimeSeconds, window) => {
      expect(inSeconds(windowsOf(lifetimeSeconds))).toEqual([window]);
    },
  );

  test('tries come to an end, whatever the lifetime', () => {
    fc.assert(
      fc.property(lifetimes, (lifetimeSeconds) => {
        expect(windowsOf(lifetimeSeconds).length).toBeLessThan(32);
      }),
    );
  });

  test('windows are in order, do not meet, and are within the lifetime', () => {
    fc.assert(
      fc.property(lifetimes, fc.integer({ min: 0, max: 2 ** 42 }), (lifetimeSeconds, grantedAtMs) => {
        let endMs = grantedAtMs;
        // Of what ends sooner than it may be asked for again the first try is after its end.
        const lastMs = grantedAtMs + Math.max(4000, lifetimeSeconds * 1000);
        for (const { fromMs, untilMs } of windowsOf(lifetimeSeconds, grantedAtMs)) {
          expect(fromMs).toBeGreaterThan(endMs);
          expect(untilMs).toBeGreaterThanOrEqual(fromMs);
          expect(untilMs).toBeLessThanOrEqual(lastMs);
          endMs = untilMs;
        }
      }),
    );
  });

  test('RFC 6887, section 11.2.1: at whatever moments of their windows, no two tries are less than four seconds apart', () => {
    fc.assert(
      fc.property(
        lifetimes,
        fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
        (seconds, random) => {
          let lastMs = 0;
          for (const window of windowsOf(seconds)) {
            const moment = momentOf(window, random.next().value as number);
            expect(moment - lastMs).toBeGreaterThanOrEqual(4000 - 0.01);
            lastMs = moment;
          }
        },
      ),
    );
  });

  test('there is always a first try', () => {
    fc.assert(fc.property(fc.nat(MAX_LIFETIME_SECONDS), (seconds) => windowsOf(seconds).length > 0));
  });
});

describe('momentOf', () => {
  test('is in its window, at its beginning for 0 and at its end for 1', () => {
    const window = { fromMs: 1000, untilMs: 1500 };
    expect(momentOf(window, 0)).toBe(1000);
    expect(momentOf(window, 1)).toBe(1500);
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1, noNaN: true }), (random) => {
        expect(momentOf(window, random)).toBeGreaterThanOrEqual(1000);
        expect(momentOf(window, random)).toBeLessThanOrEqual(1500);
      }),
    );
  });

  test('what was granted together is not renewed together', () => {
    const window = renewalWindow(0, 0, 7200) as RenewalWindow;
    const moments = Array.from({ length: 100 }, (_, at) => momentOf(window, at / 100));
    expect(new Set(moments).size).toBe(100);
  });
});
