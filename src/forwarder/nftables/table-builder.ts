/** Puts a ruleset together: sets, maps and tables are there only where something is in them. */

import type { Family } from '../../net/address.ts';
import type { NftChain, NftSet, NftTable, Ruleset } from './change.ts';

export type TableFamily = 'inet' | 'ip' | 'ip6' | 'netdev';

/** In nft's words, of an address family. */
export const FAMILY_WORDS: Readonly<Record<Family, 'ip' | 'ip6'>> = { 4: 'ip', 6: 'ip6' };
export const NFPROTO: Readonly<Record<Family, string>> = { 4: 'meta nfproto ipv4', 6: 'meta nfproto ipv6' };

export type SetName =
  | 'map gates'
  | 'map to4'
  | 'map to6'
  | 'map host4'
  | 'map host6'
  | 'map port'
  | 'map moved4'
  | 'map moved6'
  | 'map moved'
  | 'set turned'
  | 'map turned_port'
  | 'set from_host'
  | 'map from_host_port'
  | 'set from_destination'
  | 'map from4'
  | 'map from6'
  | 'map from4_port'
  | 'map from6_port'
  | 'map from_port'
  | 'map ways'
  | 'map police'
  | 'map copies'
  | 'map copied';

/** What sets and maps hold: by mark, or by mark and port, what becomes of the packet. */
const TYPES: Readonly<Record<SetName, string>> = {
  'map gates': 'type mark : verdict',
  'map to4': 'type mark : ipv4_addr . inet_service',
  'map to6': 'type mark : ipv6_addr . inet_service',
  'map host4': 'type mark : ipv4_addr',
  'map host6': 'type mark : ipv6_addr',
  'map port': 'type mark : inet_service',
  'map moved4': 'type mark . inet_service : ipv4_addr . inet_service',
  'map moved6': 'type mark . inet_service : ipv6_addr . inet_service',
  'map moved': 'type mark . inet_service : inet_service',
  'set turned': 'type mark',
  'map turned_port': 'type mark : inet_service',
  'set from_host': 'type mark; flags interval',
  'map from_host_port': 'type mark : inet_service',
  'set from_destination': 'type mark',
  'map from4': 'type mark : ipv4_addr',
  'map from6': 'type mark : ipv6_addr',
  'map from4_port': 'type mark : ipv4_addr . inet_service',
  'map from6_port': 'type mark : ipv6_addr . inet_service',
  'map from_port': 'type mark : inet_service',
  'map ways': 'type mark : verdict',
  'map police': 'type mark : verdict',
  'map copies': 'type mark : verdict',
  'map copied': 'type mark : verdict',
};

/** Something that one rule adds to a table. */
export type Entry =
  | {
      readonly kind: 'element';
      readonly table: TableFamily;
      readonly set: SetName;
      readonly key: string;
      readonly what: string;
    }
  | {
      readonly kind: 'chain';
      readonly table: TableFamily;
      readonly name: string;
      readonly lines: readonly string[];
    }
  | { readonly kind: 'set'; readonly table: TableFamily; readonly name: string; readonly set: NftSet }
  | { readonly kind: 'object'; readonly table: TableFamily; readonly name: string; readonly body: string };

/** What one rule adds. */
export class Entries {
  readonly all: Entry[] = [];

  /** `what` follows the key: nothing, or a colon and where it leads. */
  element(set: SetName, key: string, what = '', table: TableFamily = 'inet'): void {
    this.all.push({ kind: 'element', table, set, key, what: shared(what) });
  }

  chain(name: string, lines: readonly string[], table: TableFamily = 'inet'): void {
    this.all.push({ kind: 'chain', table, name, lines });
  }

  set(name: string, set: NftSet): void {
    this.all.push({ kind: 'set', table: 'inet', name, set });
  }

  object(name: string, body: string): void {
    this.all.push({ kind: 'object', table: 'inet', name, body });
  }
}

/** Thousands of rules may lead to one place: its text is kept once. */
const texts = new Map<string, string>();
const MAX_TEXTS = 4096;

function shared(text: string): string {
  const known = texts.get(text);
  if (known !== undefined) return known;
  if (texts.size >= MAX_TEXTS) texts.clear();
  texts.set(text, text);
  return text;
}

export class TableBuilder {
  readonly #objects = new Map<string, string>();
  readonly #sets = new Map<string, NftSet>();
  readonly #filling = new Map<SetName, Map<string, string>>();
  readonly #chains = new Map<string, NftChain>();

  take(entry: Entry): void {
    switch (entry.kind) {
      case 'element': {
        let elements = this.#filling.get(entry.set);
        if (elements === undefined) this.#filling.set(entry.set, (elements = new Map()));
        elements.set(entry.key, entry.what);
        return;
      }
      case 'chain':
        return this.chain(entry.name, entry.lines);
      case 'set':
        return this.set(entry.name, entry.set);
      case 'object':
        this.#objects.set(entry.name, entry.body);
    }
  }

  has(set: SetName): boolean {
    return this.#filling.has(set);
  }

  /** One whose elements the kernel makes, or that is of a type of its own. */
  set(name: string, set: NftSet): void {
    this.#sets.set(name, set);
  }

  chain(name: string, lines: readonly string[]): void {
    this.#chains.set(name, { hook: undefined, lines });
  }

  /** One that the kernel calls: `hook` is such as `type nat hook prerouting priority -105`. */
  base(name: string, hook: string, lines: readonly string[]): void {
    this.#chains.set(name, { hook: `${hook}; policy accept;`, lines });
  }

  value(): NftTable {
    const filled = [...this.#filling].map(
      ([name, elements]) => [name, { head: TYPES[name], elements }] as const,
    );
    return { objects: this.#objects, sets: new Map([...this.#sets, ...filled]), chains: this.#chains };
  }
}

export class RulesetBuilder {
  readonly #name: string;
  readonly #tables = new Map<TableFamily, TableBuilder>();

  constructor(name: string) {
    this.#name = name;
  }

  table(family: TableFamily): TableBuilder {
    let table = this.#tables.get(family);
    if (table === undefined) this.#tables.set(family, (table = new TableBuilder()));
    return table;
  }

  has(family: TableFamily): boolean {
    return this.#tables.has(family);
  }

  take(entries: readonly Entry[]): void {
    for (const entry of entries) this.table(entry.table).take(entry);
  }

  value(): Ruleset {
    return new Map([...this.#tables].map(([family, table]) => [`${family} ${this.#name}`, table.value()]));
  }
}
