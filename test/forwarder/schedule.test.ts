import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatSchedule, isWithin, nextChangeMs, parseSchedule } from '../../src/forwarder/schedule.ts';

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const WEEK = 7 * 1440;

interface Window {
  readonly days: readonly number[];
  readonly start: number;
  readonly end: number;
}

const minute = fc.oneof(
  fc.integer({ min: 0, max: 1440 }),
  fc.integer({ min: 0, max: 24 }).map((hours) => hours * 60),
);
const window: fc.Arbitrary<Window> = fc
  .record({
    days: fc.uniqueArray(fc.integer({ min: 0, max: 6 }), { minLength: 1 }),
    start: minute,
    end: minute,
  })
  .filter(({ start, end }) => start !== end && start !== 1440);
const windows = fc.array(window, { minLength: 1, maxLength: 5 });

function clock(minutes: number): string {
  return `${String(Math.floor(minutes / 60)).padStart(2, '0')}:${String(minutes % 60).padStart(2, '0')}`;
}

function textOf(all: readonly Window[]): string {
  return all
    .map(({ days, start, end }) => `${days.map((day) => DAYS[day]).join(',')} ${clock(start)}-${clock(end)}`)
    .join(' and ');
}

/** What the words say, one minute after the other. */
function minutesOf(all: readonly Window[]): Set<number> {
  const minutes = new Set<number>();
  for (const { days, start, end } of all) {
    for (const day of days) {
      const length = end > start ? end - start : end + 1440 - start;
      for (let at = 0; at < length; at++) minutes.add((day * 1440 + start + at) % WEEK);
    }
  }
  return minutes;
}

function within(text: string, day: string, time: string): boolean {
  const [hours = 0, minutes = 0] = time.split(':').map(Number);
  return isWithin(parseSchedule(text), DAYS.indexOf(day), hours * 60 + minutes);
}

describe('isWithin()', () => {
  test.each([
    ['mon-fri 08:00-18:00', 'mon', '07:59', false],
    ['mon-fri 08:00-18:00', 'mon', '08:00', true],
    ['mon-fri 08:00-18:00', 'fri', '17:59', true],
    ['mon-fri 08:00-18:00', 'fri', '18:00', false],
    ['mon-fri 08:00-18:00', 'sat', '12:00', false],
    ['sat,sun 00:00-24:00', 'sun', '23:59', true],
    ['sat,sun 00:00-24:00', 'mon', '00:00', false],
    ['daily 22:00-06:00', 'wed', '23:00', true],
    ['daily 22:00-06:00', 'wed', '05:59', true],
    ['daily 22:00-06:00', 'wed', '06:00', false],
    ['fri-mon 10:00-11:00', 'sun', '10:30', true],
    ['fri-mon 10:00-11:00', 'tue', '10:30', false],
    ['mon-fri 08:00-12:00 and mon-fri 13:00-18:00', 'tue', '12:30', false],
  ])('%s, %s %s: %s', (text, day, time, expected) => {
    expect(within(text, day, time)).toBe(expected);
  });

  test('a window that runs past midnight belongs to the day on which it began', () => {
    expect(within('sat 22:00-06:00', 'sat', '05:00')).toBe(false);
    expect(within('sat 22:00-06:00', 'sat', '22:00')).toBe(true);
    expect(within('sat 22:00-06:00', 'sun', '05:59')).toBe(true);
    expect(within('sat 22:00-06:00', 'sun', '22:00')).toBe(false);
  });

  test('says of every minute of the week what the words say', () => {
    fc.assert(
      fc.property(windows, (all) => {
        const schedule = parseSchedule(textOf(all));
        const expected = minutesOf(all);
        const wrong = Array.from({ length: WEEK }, (_, at) => at).filter(
          (at) => isWithin(schedule, Math.floor(at / 1440), at % 1440) !== expected.has(at),
        );
        expect(wrong).toEqual([]);
      }),
      { numRuns: 40 },
    );
  });
});

describe('formatSchedule()', () => {
  test.each([
    ['mon-fri 08:00-18:00', 'mon-fri 08:00-18:00'],
    ['  MON-Fri   8:00-18:00 ', 'mon-fri 08:00-18:00'],
    ['sat,sun 00:00-24:00', 'sat,sun 00:00-24:00'],
    ['sun,sat 00:00-24:00', 'sat,sun 00:00-24:00'],
    ['daily 22:00-06:00', 'daily 22:00-06:00'],
    ['daily 18:00-00:00', 'daily 18:00-24:00'],
    ['sat 22:00-06:00', 'sat 22:00-06:00'],
    ['sun-sat 10:00-11:00', 'daily 10:00-11:00'],
    ['sun-tue 10:00-11:00', 'mon,tue,sun 10:00-11:00'],
    ['mon,tue,wed,fri 10:00-11:00', 'mon-wed,fri 10:00-11:00'],
    ['mon-fri 13:00-18:00 and mon-fri 08:00-12:00', 'mon-fri 08:00-12:00 and mon-fri 13:00-18:00'],
    ['mon 08:00-12:00 and mon 10:00-18:00', 'mon 08:00-18:00'],
    ['mon-fri 08:00-18:00 and sat 08:00-18:00', 'mon-sat 08:00-18:00'],
    ['fri 18:00-24:00 and sat 00:00-12:00', 'fri 18:00-12:00'],
    [
      'fri 18:00-24:00 and sat,sun 00:00-24:00 and mon 00:00-06:00',
      'mon 00:00-06:00 and fri 18:00-24:00 and sat,sun 00:00-24:00',
    ],
    ['daily 00:00-24:00', 'daily 00:00-24:00'],
    ['daily 06:00-22:00 and daily 22:00-06:00', 'daily 00:00-24:00'],
  ])('writes %s as %s', (text, expected) => {
    expect(formatSchedule(parseSchedule(text))).toBe(expected);
  });

  test('reads back as an equal schedule', () => {
    fc.assert(
      fc.property(windows, (all) => {
        const schedule = parseSchedule(textOf(all));
        const text = formatSchedule(schedule);
        expect(parseSchedule(text)).toEqual(schedule);
        expect(formatSchedule(parseSchedule(text))).toBe(text);
      }),
    );
  });

  test('writes the same hours in the same words, however they were cut', () => {
    fc.assert(
      fc.property(windows, fc.double({ min: 0, max: 0.99, noNaN: true }), (all, place) => {
        const halves = all.toReversed().flatMap(({ days, start, end }): Window[] => {
          const length = end > start ? end - start : end + 1440 - start;
          const middle = (start + Math.floor(place * length)) % 1440;
          if (end < start || middle === start || middle >= end) return [{ days, start, end }];
          return [
            { days, start: middle, end },
            { days, start, end: middle },
          ];
        });
        expect(parseSchedule(textOf(halves))).toEqual(parseSchedule(textOf(all)));
      }),
    );
  });
});

describe('nextChangeMs()', () => {
  // Monday, 1 January 2024. A `Date` of fields is local wherever the test runs.
  const at = (hours: number, minutes: number, seconds = 0, ms = 0) =>
    new Date(2024, 0, 1, hours, minutes, seconds, ms);
  const office = parseSchedule('mon-fri 08:00-18:30');

  test('is the time until the next border', () => {
    expect(nextChangeMs(office, at(7, 30))).toBe(30 * 60_000);
    expect(nextChangeMs(office, at(18, 29, 59, 999))).toBe(1);
    expect(nextChangeMs(office, at(18, 10))).toBe(20 * 60_000);
  });

  test('ends at the next full hour, when clocks may be put forward', () => {
    expect(nextChangeMs(office, at(8, 0))).toBe(60 * 60_000);
    expect(nextChangeMs(office, at(1, 59, 30))).toBe(30_000);
    expect(nextChangeMs(office, at(18, 30))).toBe(30 * 60_000);
  });

  test('is undefined where the rule is always in force', () => {
    expect(nextChangeMs(parseSchedule('daily 00:00-24:00'), at(12, 0))).toBeUndefined();
  });

  test('is more than 0, at most an hour, and no border lies before it', () => {
    const now = fc.record({
      day: fc.integer({ min: 0, max: 6 }),
      minutes: fc.integer({ min: 0, max: 1439 }),
      ms: fc.integer({ min: 0, max: 59_999 }),
    });
    fc.assert(
      fc.property(windows, now, (all, { day, minutes, ms }) => {
        const schedule = parseSchedule(textOf(all));
        const wait = nextChangeMs(schedule, {
          getDay: () => day,
          getHours: () => Math.floor(minutes / 60),
          getMinutes: () => minutes % 60,
          getSeconds: () => Math.floor(ms / 1000),
          getMilliseconds: () => ms % 1000,
        });
        const upTo = wait ?? 24 * 3_600_000;
        expect(upTo > 0 && (wait === undefined || wait <= 3_600_000)).toBe(true);
        const first = day * 1440 + minutes;
        const answers = new Set<boolean>();
        for (let one = first; (one - first) * 60_000 < ms + upTo; one++) {
          answers.add(isWithin(schedule, Math.floor((one % WEEK) / 1440), one % 1440));
        }
        expect(answers.size).toBe(1);
      }),
    );
  });
});

test.each([
  ['', 'is not days and hours'],
  ['daily', 'is not days and hours'],
  ['08:00-18:00', 'is not days and hours'],
  ['always 00:00-24:00', '"always" is no day'],
  ['monday 08:00-18:00', '"monday" is no day'],
  ['mon-tue-wed 08:00-18:00', '"mon-tue-wed" is no day'],
  ['mon, 08:00-18:00', '"" is no day'],
  ['mon 08:00', '"08:00" are no hours'],
  ['mon 8-18', '"8-18" are no hours'],
  ['mon 08:60-18:00', '"08:60-18:00" are no hours'],
  ['mon 08:00-24:01', '"08:00-24:01" are no hours'],
  ['mon 24:00-08:00', '"24:00-08:00" are no hours'],
  ['mon 08:00-08:00', '"08:00-08:00" has no length'],
  ['mon 08:00-18:00 and', 'is not days and hours'],
  ['mon 08:00-18:00, tue 08:00-18:00', 'is not days and hours'],
])('"%s" is refused: %s', (text, reason) => {
  expect(() => parseSchedule(text)).toThrow(
    expect.objectContaining({ code: 'USAGE', message: expect.stringContaining(reason) }),
  );
});
