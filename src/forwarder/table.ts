/** Rules in their order, as values: finding one, putting one in, what two tables differ in. Pure. */

import { NatwardError } from '../errors.ts';
import type { Rule, RuleSpec } from './rule.ts';
import { formatRule, identify } from './text.ts';

export type Table = readonly Rule[];

/** So many rules, and so many ports in all that an engine may be asked to listen on. */
export const MAX_RULES = 60_000;

/** A rule as somebody asks for it: without an id it may be one that is there already. */
export interface WantedRule {
  readonly id: string | undefined;
  readonly enabled: boolean;
  readonly spec: RuleSpec;
}

const ID = /^[\w.-]{1,64}$/;

/** Throws USAGE for what is no id. */
export function parseRuleId(text: string): string {
  if (ID.test(text)) return text;
  throw new NatwardError('USAGE', `"${text}" is no id of a rule: 1 to 64 letters, digits, and . _ -`);
}

/** The position, from 0, of the rule with this id or at this place (`3` is the third). Throws NOT_FOUND. */
export function placeOf(table: Table, name: string): number {
  const byId = table.findIndex(({ id }) => id === name);
  if (byId >= 0) return byId;
  const position = /^\d{1,6}$/.test(name) ? Number(name) : 0;
  if (position >= 1 && position <= table.length) return position - 1;
  const advice = 'natward rule list shows the rules with their places and ids.';
  throw new NatwardError('NOT_FOUND', `there is no rule ${name}`, { advice });
}

/** With a rule before the one that is at `place` now; at the end where nothing is said. */
export function inserted(table: Table, rule: Rule, place: number = table.length): Table {
  return [...table.slice(0, place), rule, ...table.slice(place)];
}

/** With the rule at `place` replaced, by none where `rule` is undefined. */
export function replaced(table: Table, place: number, rule: Rule | undefined): Table {
  return [...table.slice(0, place), ...(rule === undefined ? [] : [rule]), ...table.slice(place + 1)];
}

/** With the rule at `place` standing at `to`, counted in the table as it will be. */
export function moved(table: Table, place: number, to: number): Table {
  return inserted(replaced(table, place, undefined), table[place] as Rule, to);
}

/**
 * The rules wanted, each with an id: its own; or that of a rule of `table` that says the same, so that asking twice
 * changes nothing; or a new one. Throws CONFLICT where two have one id.
 */
export function identified(wanted: readonly WantedRule[], table: Table, newId: () => string): Table {
  const named = new Set<string>();
  for (const { id } of wanted) if (id !== undefined) named.add(id);
  const alike = new Map<string, string[]>();
  for (const rule of table) {
    if (named.has(rule.id)) continue;
    const text = formatRule(rule);
    const ids = alike.get(text);
    if (ids === undefined) alike.set(text, [rule.id]);
    else ids.push(rule.id);
  }
  const known = new Map(table.map((rule) => [rule.id, rule] as const));
  const seen = new Set<string>();
  return wanted.map(({ id, enabled, spec }) => {
    const own = id ?? (alike.size === 0 ? undefined : alike.get(formatRule(spec))?.shift()) ?? newId();
    if (seen.has(own)) throw new NatwardError('CONFLICT', `two rules have the id ${own}`);
    seen.add(own);
    const before = known.get(own);
    const isKept = before?.enabled === enabled && formatRule(before) === formatRule(spec);
    return before !== undefined && isKept ? before : identify(spec, own, enabled);
  });
}

/** Reports whether both say the same, in whatever place they stand. */
export function isSame(a: Rule, b: Rule): boolean {
  return a === b || (a.id === b.id && a.enabled === b.enabled && formatRule(a) === formatRule(b));
}

export interface Difference {
  readonly added: readonly Rule[];
  readonly removed: readonly Rule[];
  readonly changed: readonly { readonly from: Rule; readonly to: Rule }[];
  /** The fewest that were put elsewhere to come to the new order. */
  readonly moved: readonly Rule[];
  readonly unchanged: readonly Rule[];
}

export function difference(from: Table, to: Table): Difference {
  const [above, below] = commonEnds(from, to);
  const between = differenceOf(from.slice(above, from.length - below), to.slice(above, to.length - below));
  const unchanged = [...to.slice(0, above), ...between.unchanged, ...to.slice(to.length - below)];
  return { ...between, unchanged };
}

/** What one table has and another has not. */
export interface Exchange {
  readonly gone: readonly Rule[];
  readonly come: readonly Rule[];
}

/** The same rule is the same object here. Where the order of those that stay changes, they go and come as well. */
export function exchanged(from: Table, to: Table): Exchange {
  const [above, below] = commonEnds(from, to);
  const before = from.slice(above, from.length - below);
  const after = to.slice(above, to.length - below);
  if (before.length === 0 || after.length === 0) return { gone: before, come: after };
  const [had, has] = [new Set(before), new Set(after)];
  const staying = after.filter((rule) => had.has(rule));
  let at = 0;
  if (!before.every((rule) => !has.has(rule) || rule === staying[at++])) return { gone: before, come: after };
  return { gone: before.filter((rule) => !has.has(rule)), come: after.filter((rule) => !had.has(rule)) };
}

/** How many rules both have alike from the top, and how many of the others from the bottom. */
function commonEnds(from: Table, to: Table): readonly [number, number] {
  const least = Math.min(from.length, to.length);
  let above = 0;
  while (above < least && from[above] === to[above]) above++;
  let below = 0;
  while (below < least - above && from[from.length - 1 - below] === to[to.length - 1 - below]) below++;
  return [above, below];
}

/** Of tables that differ at both ends: what they have in common there needs no looking up. */
function differenceOf(from: Table, to: Table): Difference {
  if (from.length === 0) return { added: to, removed: from, changed: [], moved: [], unchanged: [] };
  const before = new Map(from.map((rule) => [rule.id, rule] as const));
  const after = new Map(to.map((rule) => [rule.id, rule] as const));
  const places = new Map(from.map(({ id }, place) => [id, place] as const));
  const staying = to.filter(({ id }) => before.has(id));
  const inPlace = longestRising(staying.map(({ id }) => places.get(id) as number));
  const changed: { from: Rule; to: Rule }[] = [];
  const moves: Rule[] = [];
  const unchanged: Rule[] = [];
  for (const rule of staying) {
    const old = before.get(rule.id) as Rule;
    if (!isSame(old, rule)) changed.push({ from: old, to: rule });
    else if (!inPlace.has(places.get(rule.id) as number)) moves.push(rule);
    else unchanged.push(rule);
  }
  return {
    added: to.filter(({ id }) => !before.has(id)),
    removed: from.filter(({ id }) => !after.has(id)),
    changed,
    moved: moves,
    unchanged,
  };
}

/** The most of the numbers that already rise from left to right. */
function longestRising(numbers: readonly number[]): ReadonlySet<number> {
  // `ends[n]` is the least number in which a rise of n + 1 numbers can end.
  const ends: number[] = [];
  const previous = new Map<number, number | undefined>();
  for (const number of numbers) {
    let [low, high] = [0, ends.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((ends[middle] as number) < number) low = middle + 1;
      else high = middle;
    }
    previous.set(number, ends[low - 1]);
    ends[low] = number;
  }
  const rising = new Set<number>();
  for (let at = ends.at(-1); at !== undefined; at = previous.get(at)) rising.add(at);
  return rising;
}
