/** A ruleset as a value, and what nft is to be told to come from one to the other: one batch, all of it or nothing. Pure. */

export interface NftSet {
  /** Its type and flags, in nft's words. */
  readonly head: string;
  /** By key; what follows the key: nothing, where it leads, or a comment. */
  readonly elements: ReadonlyMap<string, string>;
}

export interface NftChain {
  /** Where the kernel calls it; undefined: only other chains do. */
  readonly hook: string | undefined;
  readonly lines: readonly string[];
}

export interface NftTable {
  /** Timeouts, quotas, counters: by kind and name, such as `quota q`, what stands between their braces. */
  readonly objects: ReadonlyMap<string, string>;
  /** Sets and maps by kind and name, such as `map m`. */
  readonly sets: ReadonlyMap<string, NftSet>;
  readonly chains: ReadonlyMap<string, NftChain>;
}

/** Tables by family and name, such as `inet natward`. */
export type Ruleset = ReadonlyMap<string, NftTable>;

/**
 * From so many elements on the kernel is told how many there may be: a hash table that has to grow while it is filled
 * takes twice as long. There is room for all marks, or for twice as many as there are; where that is not enough the
 * kernel refuses the difference.
 */
const MANY = 4096;
const LEAST_SIZE = 65_536;
const NOTHING: NftTable = { objects: new Map(), sets: new Map(), chains: new Map() };

/** All of it, in the place of whatever stands in tables of these names, and of `stale` ones. */
export function replacement(ruleset: Ruleset, stale: Iterable<string> = []): string {
  const text: string[] = [];
  for (const name of new Set([...ruleset.keys(), ...stale])) {
    // A table that is there or not is gone after this.
    text.push(`table ${name} {`, '}', `delete table ${name}`);
  }
  for (const [name, table] of ruleset) writeBlock(text, name, NOTHING, table);
  return joined(text);
}

/** Empty where both are the same. */
export function change(from: Ruleset, to: Ruleset): string {
  const text: string[] = [];
  for (const [name, table] of to) writeChange(text, name, from.get(name), table);
  for (const name of from.keys()) if (!to.has(name)) text.push(`delete table ${name}`);
  return joined(text);
}

function joined(text: readonly string[]): string {
  return text.length === 0 ? '' : `${text.join('\n')}\n`;
}

function writeChange(text: string[], name: string, from: NftTable | undefined, to: NftTable): void {
  if (from === undefined) {
    writeBlock(text, name, NOTHING, to);
    return;
  }
  // Elements may lead to chains, and lines to both: what refers goes before what is referred to, and comes after it.
  const [added, deleted]: [string[], string[]] = [[], []];
  for (const [chain, { lines: old }] of from.chains) {
    const now = to.chains.get(chain);
    if (now !== undefined && isSame(now.lines, old)) continue;
    if (old.length > 0) text.push(`flush chain ${name} ${chain}`);
    if (now === undefined) deleted.push(`delete chain ${name} ${chain}`);
  }
  for (const [set, { elements: old }] of from.sets) {
    const now = to.sets.get(set);
    const [kind, word] = set.split(' ') as [string, string];
    if (now === undefined) {
      if (old.size > 0) text.push(`flush ${kind} ${name} ${word}`);
      deleted.push(`delete ${kind} ${name} ${word}`);
      continue;
    }
    if (now.elements === old) continue;
    const { gone, fresh } = exchanged(old, now.elements);
    if (gone.length > 0) text.push(`delete element ${name} ${word} { ${gone.join(', ')} }`);
    if (fresh.length > 0) added.push(`add element ${name} ${word} { ${fresh.join(', ')} }`);
  }
  for (const object of from.objects.keys()) {
    if (to.objects.has(object)) continue;
    const [, kind, word] = /^(.*) (\S+)$/.exec(object) as RegExpExecArray;
    deleted.push(`delete ${kind} ${name} ${word}`);
  }
  writeBlock(text, name, from, to);
  for (const line of added) text.push(line);
  for (const line of deleted) text.push(line);
}

/** What of `to` is not in `from`, as a table's block, which adds to the table. */
function writeBlock(text: string[], name: string, from: NftTable, to: NftTable): void {
  const start = text.length;
  text.push(`table ${name} {`);
  for (const [object, body] of to.objects) {
    if (!from.objects.has(object)) text.push(` ${object} {`, `  ${body}`, ' }');
  }
  for (const [set, { head, elements }] of to.sets) {
    if (from.sets.has(set)) continue;
    text.push(` ${set} {`, `  ${head}`);
    if (elements.size > MANY && !head.includes('interval')) {
      text.push(`  size ${Math.max(LEAST_SIZE, 2 * elements.size)}`);
    }
    if (elements.size > 0) text.push(`  elements = { ${listed(elements)} }`);
    text.push(' }');
  }
  for (const [chain, { hook, lines: now }] of to.chains) {
    const old = from.chains.get(chain);
    if (old !== undefined && isSame(old.lines, now)) continue;
    text.push(` chain ${chain} {`);
    if (old === undefined && hook !== undefined) text.push(`  ${hook}`);
    for (const line of now) text.push(`  ${line}`);
    text.push(' }');
  }
  if (text.length === start + 1 && from !== NOTHING) text.length = start;
  else text.push('}');
}

/** Keys of elements to be deleted, and elements to be added. */
function exchanged(
  from: ReadonlyMap<string, string>,
  to: ReadonlyMap<string, string>,
): { readonly gone: readonly string[]; readonly fresh: readonly string[] } {
  const [gone, fresh]: [string[], string[]] = [[], []];
  const after = to.entries();
  let next = after.next();
  // Most stand in the same order: they are not looked up.
  for (const [key, what] of from) {
    while (!next.done && next.value[0] !== key && from.get(next.value[0]) !== next.value[1]) {
      fresh.push(next.value[0] + next.value[1]);
      next = after.next();
    }
    if (!next.done && next.value[0] === key && next.value[1] === what) next = after.next();
    else if (to.get(key) !== what) gone.push(key);
  }
  for (; !next.done; next = after.next()) {
    if (from.get(next.value[0]) !== next.value[1]) fresh.push(next.value[0] + next.value[1]);
  }
  return { gone, fresh };
}

function listed(elements: ReadonlyMap<string, string>): string {
  const all: string[] = [];
  for (const [key, what] of elements) all.push(key + what);
  return all.join(', ');
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a === b || (a.length === b.length && a.every((line, at) => line === b[at]));
}
