/** Ports as a rule names them: `80`, `80,443`, `2000-5000,~3000-3010`; `*` is every port. */

import { NatwardError } from '../errors.ts';
import { formatPortRange, type PortRange, parsePortRange } from './port-range.ts';

/** As written, so that it reads back the same. Nothing included means every port. */
export interface PortSet {
  readonly included: readonly PortRange[];
  readonly excluded: readonly PortRange[];
}

export const ANY_PORT: PortSet = { included: [], excluded: [] };

const EVERY: PortRange = { first: 1, last: 65_535 };
const EVERY_PORT: readonly PortRange[] = [EVERY];
const MAX_ITEMS = 1000;

/** Throws USAGE and names the token; also where nothing is left of it. */
export function parsePortSet(text: string): PortSet {
  if (text === '*') return ANY_PORT;
  const included: PortRange[] = [];
  const excluded: PortRange[] = [];
  const items = text.split(',');
  if (items.length > MAX_ITEMS) throw new NatwardError('USAGE', `more than ${MAX_ITEMS} ports and ranges`);
  for (const item of items) {
    if (item.startsWith('~')) excluded.push(parsePortRange(item.slice(1)));
    else if (item !== '*') included.push(parsePortRange(item));
  }
  // Beside `*` the others say nothing.
  const set = {
    // A list that has grown keeps room for more, in each of tens of thousands of rules: its copy has none.
    included: items.includes('*') ? ANY_PORT.included : included.slice(),
    excluded: excluded.length === 0 ? ANY_PORT.excluded : excluded,
  };
  if (portRanges(set).length === 0) throw new NatwardError('USAGE', `"${text}" leaves no port over`);
  return set;
}

export function formatPortSet({ included, excluded }: PortSet): string {
  const items = [...included.map(formatPortRange), ...excluded.map((range) => `~${formatPortRange(range)}`)];
  return included.length === 0 ? ['*', ...items].join(',') : items.join(',');
}

export function isAnyPort({ included, excluded }: PortSet): boolean {
  return included.length === 0 && excluded.length === 0;
}

/** What the set comes to: in order, apart from each other. */
export function portRanges({ included, excluded }: PortSet): readonly PortRange[] {
  // What nearly all rules say: one port, one range, any port.
  if (excluded.length === 0 && included.length < 2) return included.length === 0 ? EVERY_PORT : included;
  const holes = merged(excluded);
  return merged(included.length === 0 ? [EVERY] : included).flatMap((range) => {
    const left: PortRange[] = [];
    let first = range.first;
    for (const hole of holes) {
      if (hole.last < first || hole.first > range.last) continue;
      if (hole.first > first) left.push({ first, last: hole.first - 1 });
      first = hole.last + 1;
    }
    return first > range.last ? left : [...left, { first, last: range.last }];
  });
}

/** Reports whether the port lies in one of the ranges. */
export function hasPort(ranges: readonly PortRange[], port: number): boolean {
  return ranges.some(({ first, last }) => first <= port && port <= last);
}

/** Reports whether every port of `inner` is one of `outer`; both as portRanges gives them. */
export function coversPorts(outer: readonly PortRange[], inner: readonly PortRange[]): boolean {
  return inner.every(({ first, last }) => outer.some((range) => range.first <= first && last <= range.last));
}

function merged(ranges: readonly PortRange[]): PortRange[] {
  const result: PortRange[] = [];
  for (const range of [...ranges].sort((a, b) => a.first - b.first)) {
    const last = result.at(-1);
    if (last !== undefined && range.first <= last.last + 1) {
      result[result.length - 1] = { first: last.first, last: Math.max(last.last, range.last) };
    } else result.push(range);
  }
  return result;
}
