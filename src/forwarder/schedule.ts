/**
 * Days and hours, in the local time of the host, when a rule is in force: `mon-fri 08:00-18:00`, `sat,sun
 * 00:00-24:00`, `daily 22:00-06:00` (past midnight, the window belongs to the day on which it began), several
 * of them joined by `and`. The value is the week itself, as runs of minutes: two texts that mean the same hours
 * are equal, and are written the same. What the clocks say is for the caller.
 */

import { NatwardError } from '../errors.ts';

/** Minutes of a week that begins as Sunday does: 0..10079; `end`, not included, may lie in the next week. */
interface Run {
  readonly start: number;
  readonly end: number;
}

/** In order; none touches another, and at least one. */
export interface Schedule {
  readonly runs: readonly Run[];
}

/** The fields of a `Date` that the local clock shows. */
export type LocalTime = Pick<Date, 'getDay' | 'getHours' | 'getMinutes' | 'getSeconds' | 'getMilliseconds'>;

const DAY = 1440;
const WEEK = 7 * DAY;
const HOUR = 60;
const MINUTE_MS = 60_000;

/** As `Date.getDay()` counts. */
const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;
/** As people write a week. */
const MONDAY_FIRST: readonly number[] = [1, 2, 3, 4, 5, 6, 0];

const EXAMPLE = 'write it like "mon-fri 08:00-18:00"';

/** Throws USAGE and names the word that is off. */
export function parseSchedule(text: string): Schedule {
  const windows = text.trim().toLowerCase().split(/\s+/).join(' ').split(' and ');
  return { runs: joined(windows.flatMap(parseWindow)) };
}

/** Windows by their first day from Monday on, and by their hours; all of the week is `daily 00:00-24:00`. */
export function formatSchedule(schedule: Schedule): string {
  const daysByHours = new Map<string, number[]>();
  const windows = schedule.runs.flatMap(windowsOf);
  windows.sort((a, b) => mondayFirst(a.start) - mondayFirst(b.start));
  for (const { start, end } of windows) {
    const hours = `${formatMinute(start % DAY)}-${formatMinute(end % DAY === 0 ? DAY : end % DAY)}`;
    const days = daysByHours.get(hours) ?? [];
    daysByHours.set(hours, [...days, Math.floor(start / DAY)]);
  }
  return [...daysByHours].map(([hours, days]) => `${formatDays(days)} ${hours}`).join(' and ');
}

/** Reports whether the rule is in force: `weekday` 0..6, 0 is Sunday; `minuteOfDay` 0..1439. */
export function isWithin(schedule: Schedule, weekday: number, minuteOfDay: number): boolean {
  const minute = weekday * DAY + minuteOfDay;
  return schedule.runs.some(({ start, end }) => (start <= minute && minute < end) || minute + WEEK < end);
}

/**
 * How long the answer surely stays what it is, for a timer: until the next border, or until the clock shows the
 * next full hour where that is sooner. Clocks are put forward or back at a full hour, and so a border that comes
 * nearer is seen in time. Undefined where the answer never changes. More than 0.
 */
export function nextChangeMs(schedule: Schedule, now: LocalTime): number | undefined {
  if (schedule.runs.some(({ start, end }) => end - start === WEEK)) return undefined;
  const minute = now.getDay() * DAY + now.getHours() * HOUR + now.getMinutes();
  const untilMinutes = schedule.runs
    .flatMap(({ start, end }) => [start, end])
    .map((border) => (((border - minute) % WEEK) + WEEK) % WEEK || WEEK);
  const minutes = Math.min(HOUR - now.getMinutes(), ...untilMinutes);
  return minutes * MINUTE_MS - now.getSeconds() * 1000 - now.getMilliseconds();
}

function parseWindow(text: string): Run[] {
  const [daysText = '', hoursText = '', ...more] = text.split(' ');
  if (hoursText === '' || more.length > 0) throw usage(`"${text}" is not days and hours; ${EXAMPLE}`);
  const [, startText, endText] = /^([\d:]+)-([\d:]+)$/.exec(hoursText) ?? [];
  const start = parseMinute(startText);
  const end = parseMinute(endText);
  if (start === undefined || end === undefined || start === DAY) {
    throw usage(`"${hoursText}" are no hours; ${EXAMPLE}, from 00:00 to 24:00`);
  }
  if (start === end) throw usage(`"${hoursText}" has no length; all of the day is 00:00-24:00`);
  return parseDays(daysText).map((day) => ({
    start: day * DAY + start,
    end: day * DAY + end + (end < start ? DAY : 0),
  }));
}

/** 0..1440. */
function parseMinute(text = ''): number | undefined {
  const [, hours, minutes] = /^(\d{1,2}):(\d{2})$/.exec(text) ?? [];
  const minute = Number(hours) * HOUR + Number(minutes);
  return Number(minutes) < HOUR && minute <= DAY ? minute : undefined;
}

function parseDays(text: string): number[] {
  if (text === 'daily') return [...MONDAY_FIRST];
  return text.split(',').flatMap((item) => {
    const [first = '', last = first, ...more] = item.split('-');
    const [from, to] = [indexOfDay(first), indexOfDay(last)];
    if (from < 0 || to < 0 || more.length > 0) {
      throw usage(
        `"${item}" is no day; days are ${MONDAY_FIRST.map((day) => DAYS[day]).join(', ')}, or daily`,
      );
    }
    // `fri-mon` runs over the end of the week.
    return Array.from({ length: ((to - from + 7) % 7) + 1 }, (_, at) => (from + at) % 7);
  });
}

function indexOfDay(text: string): number {
  return DAYS.findIndex((name) => name === text);
}

/** The same minutes, in runs that do not touch. */
function joined(runs: readonly Run[]): Run[] {
  // Cut where the week ends, so that order is order.
  const cut = runs.flatMap(({ start, end }) =>
    end > WEEK
      ? [
          { start, end: WEEK },
          { start: 0, end: end - WEEK },
        ]
      : [{ start, end }],
  );
  cut.sort((a, b) => a.start - b.start);
  const merged: Run[] = [];
  for (const run of cut) {
    const before = merged.at(-1);
    if (before === undefined || run.start > before.end) merged.push(run);
    else merged[merged.length - 1] = { start: before.start, end: Math.max(before.end, run.end) };
  }
  const [first, last] = [merged[0], merged.at(-1)];
  if (first === undefined || last === undefined || first === last) return merged;
  if (first.start > 0 || last.end < WEEK) return merged;
  return [...merged.slice(1, -1), { start: last.start, end: WEEK + first.end }];
}

/** A run of less than a day is one window; a longer one is cut at each midnight. */
function windowsOf({ start, end }: Run): Run[] {
  const windows: Run[] = [];
  for (let at = start; at < end; ) {
    const until = end - start < DAY ? end : Math.min(end, (Math.floor(at / DAY) + 1) * DAY);
    windows.push({ start: at % WEEK, end: (at % WEEK) + until - at });
    at = until;
  }
  return windows;
}

function mondayFirst(minute: number): number {
  return (minute - DAY + WEEK) % WEEK;
}

/** `daily`, `mon-fri`, `sat,sun`: three days or more in a row as a range. */
function formatDays(days: readonly number[]): string {
  if (days.length === 7) return 'daily';
  const rows: number[][] = [];
  for (const position of days.map((day) => MONDAY_FIRST.indexOf(day))) {
    const row = rows.at(-1);
    if (row !== undefined && row.at(-1) === position - 1) row.push(position);
    else rows.push([position]);
  }
  const nameAt = (position: number) => DAYS[MONDAY_FIRST[position] as number] as string;
  return rows
    .map((row) =>
      row.length < 3
        ? row.map(nameAt).join(',')
        : `${nameAt(row[0] as number)}-${nameAt(row.at(-1) as number)}`,
    )
    .join(',');
}

function formatMinute(minute: number): string {
  const [hours, minutes] = [Math.floor(minute / HOUR), minute % HOUR];
  return `${String(hours).padStart(2, '0')}:${String(minutes).padStart(2, '0')}`;
}

function usage(what: string): NatwardError {
  return new NatwardError('USAGE', what);
}
