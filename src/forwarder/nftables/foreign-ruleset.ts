/**
 * `nft -j list ruleset` as the evaluator wants it: other programs' tables, their chains with their rules, their sets.
 * The listing may hold anything; what is not understood is left out here or answered with "maybe" later. Pure.
 */

import type { Family } from '../../net/address.ts';
import { FENCE_NAME } from './fence.ts';

/** An object of the listing, whatever it holds. */
export type Json = Readonly<Record<string, unknown>>;

export type Hook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';

export interface ForeignRule {
  readonly expressions: readonly unknown[];
  readonly handle: number | undefined;
  readonly comment: string | undefined;
  /** As nft prints it, where the plain listing was read as well. */
  readonly text: string | undefined;
}

export interface ForeignChain {
  readonly table: ForeignTable;
  readonly name: string;
  readonly rules: ForeignRule[];
}

export interface BaseChain extends ForeignChain {
  readonly hook: string;
  readonly type: string;
  readonly priority: number;
  readonly dropsByPolicy: boolean;
}

export interface ForeignTable {
  /** `inet`, `ip` or `ip6`. */
  readonly family: string;
  readonly name: string;
  readonly chains: Map<string, ForeignChain>;
  /** Elements of sets and of maps. */
  readonly sets: Map<string, readonly unknown[]>;
}

export interface ForeignRuleset {
  /** By priority. */
  readonly baseChains: readonly BaseChain[];
}

/** The fence of the responders drops what is for them alone. */
const OWN_TABLES: ReadonlySet<string> = new Set(['natward', FENCE_NAME]);
const SEEN_BY: Readonly<Record<string, readonly Family[]>> = { inet: [4, 6], ip: [4], ip6: [6] };

export function readRuleset(listing: unknown, plain: string): ForeignRuleset {
  const texts = rulesByHandle(plain);
  const tables = new Map<string, ForeignTable>();
  const baseChains: BaseChain[] = [];
  for (const entry of arrayOf(isObject(listing) ? listing['nftables'] : undefined)) {
    if (!isObject(entry)) continue;
    const [kind, object] = Object.entries(entry)[0] ?? [];
    if (!isObject(object)) continue;
    const family = textOf(object['family']) ?? '';
    const name = textOf(object['name']) ?? '';
    if (kind === 'table') {
      if (OWN_TABLES.has(name) || SEEN_BY[family] === undefined || isDormant(object['flags'])) continue;
      tables.set(`${family} ${name}`, { family, name, chains: new Map(), sets: new Map() });
      continue;
    }
    const table = tables.get(`${family} ${textOf(object['table'])}`);
    if (table === undefined) continue;
    if (kind === 'chain') {
      const chain = readChain(table, name, object);
      table.chains.set(name, chain);
      if ('hook' in chain) baseChains.push(chain);
    } else if (kind === 'rule') {
      const handle = numberOf(object['handle']);
      table.chains.get(textOf(object['chain']) ?? '')?.rules.push({
        expressions: arrayOf(object['expr']),
        handle,
        comment: textOf(object['comment']),
        text: texts.get(`${family} ${table.name} ${handle}`),
      });
    } else if (kind === 'set' || kind === 'map') table.sets.set(name, arrayOf(object['elem']));
  }
  return { baseChains: baseChains.sort((a, b) => a.priority - b.priority) };
}

/** Reports whether the table's chains see packets of the family. */
export function sees({ family }: ForeignTable, packets: Family): boolean {
  return SEEN_BY[family]?.includes(packets) ?? false;
}

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function arrayOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

export function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

export function numberOf(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) ? value : undefined;
}

function readChain(table: ForeignTable, name: string, object: Json): ForeignChain | BaseChain {
  const hook = textOf(object['hook']);
  const chain: ForeignChain = { table, name, rules: [] };
  if (hook === undefined) return chain;
  return {
    ...chain,
    hook,
    type: textOf(object['type']) ?? 'filter',
    priority: numberOf(object['prio']) ?? 0,
    dropsByPolicy: object['policy'] === 'drop',
  };
}

// A dormant table's chains see nothing. nft 1.0.6 prints the first letter alone.
function isDormant(flags: unknown): boolean {
  return flags === 'd' || [flags, ...arrayOf(flags)].includes('dormant');
}

/** The rules of `nft -a list ruleset`; the key is family, table and handle. */
function rulesByHandle(plain: string): Map<string, string> {
  const texts = new Map<string, string>();
  let table = '';
  let begun = '';
  for (const line of plain.split('\n')) {
    const heading = /^table (\w+) (.+?) \{/.exec(line);
    if (heading !== null) table = `${heading[1]} ${heading[2]}`;
    const ended = /^(.*) # handle (\d+)$/.exec(line);
    // Long sets are written on several lines.
    if (ended === null)
      begun = /^\t\t|^ {4}/.test(line) && !line.startsWith('\t\ttype ') ? `${begun} ${line.trim()}` : '';
    else {
      texts.set(`${table} ${ended[2]}`, `${begun} ${ended[1]?.trim()}`.trim());
      begun = '';
    }
  }
  return texts;
}
