/**
 * Which rule has which mark, as the kernel remembers it in a set that no packet looks at: an element is the mark of one
 * rule, and its comment the ids of that rule and of those with the marks behind it. With an element for each rule, nft
 * would be a quarter of its time with them. Pure.
 */

import type { Element } from './counters.ts';
import type { KernelRule } from './kernel-rule.ts';
import { numberOf } from './marks.ts';
import { comment, MAX_COMMENT, markLiteral } from './syntax.ts';

/** Marks that may share an element: what one rule changes, its neighbours have to be told again with it. */
const SHARED = 16;
const BETWEEN = ' ';

/** As the elements of a set. */
export function writtenIds(rules: readonly KernelRule[]): ReadonlyMap<string, string> {
  const groups = new Map<number, (string | undefined)[]>();
  for (const { mark, rule } of rules) {
    if (mark === undefined) continue;
    const first = mark - (mark % SHARED);
    let group = groups.get(first);
    if (group === undefined) groups.set(first, (group = []));
    group[mark - first] = rule.id;
  }
  const elements = new Map<string, string>();
  for (const [first, group] of groups) {
    for (const [at, ids] of runsOf(group)) elements.set(markLiteral(first + at), ` comment ${comment(ids)}`);
  }
  return elements;
}

/** The ids that go into one comment, with the place of the first. */
function runsOf(group: readonly (string | undefined)[]): ReadonlyMap<number, readonly string[]> {
  const runs = new Map<number, string[]>();
  let run: string[] | undefined;
  let length = 0;
  for (let at = 0; at < group.length; at++) {
    const id = group[at];
    length += BETWEEN.length + (id?.length ?? 0);
    if (id === undefined) run = undefined;
    else if (run === undefined || length > MAX_COMMENT) {
      runs.set(at, (run = [id]));
      length = id.length;
    } else run.push(id);
  }
  return runs;
}

/** By mark, of what was found in the kernel. */
export function readIds(elements: readonly Element[]): ReadonlyMap<number, string | undefined> {
  const ids = new Map<number, string | undefined>();
  for (const { parts, comment: text } of elements) {
    const [mark] = parts;
    if (typeof mark !== 'number') continue;
    const found = text?.split(BETWEEN) ?? [undefined];
    for (const [at, id] of found.entries()) ids.set(numberOf(mark) + at, id);
  }
  return ids;
}
