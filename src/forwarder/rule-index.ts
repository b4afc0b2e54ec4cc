/**
 * Rules by port, by address and by client, so that in a table of thousands those that may meet are found without
 * comparing each with each.
 */

import { family, type IpAddress } from '../net/address.ts';
import type { PortRange } from '../net/port-range.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import { type AccessList, type AccessPattern, formatAccessList } from './access.ts';
import { portsOf } from './decide.ts';
import { networkKey } from './pattern.ts';
import type { AddressPattern, Direction, Rule } from './rule.ts';

/** A rule and where it stands, counted from 1. */
export interface Placed {
  readonly rule: Rule;
  readonly position: number;
}

const ANY = '*';
const NOTHING: readonly never[] = [];

/** What holds a port, of things that each hold a range: a range is kept as at most 30 blocks of a power of two. */
export class PortIndex<T> {
  readonly #blocks: Map<number, T[]> = new Map();
  /** Of the blocks that there are: where each rule takes one port, there is one size. */
  readonly #levels: Set<number> = new Set();

  add({ first, last }: PortRange, item: T): void {
    for (let at = first; at <= last; ) {
      let level = 0;
      while (at % (2 << level) === 0 && at + (2 << level) - 1 <= last) level++;
      this.#levels.add(level);
      put(this.#blocks, blockOf(level, at), item);
      at += 1 << level;
    }
  }

  /** One that was added with several ranges is there once, if they do not overlap. In no order. */
  at(port: number): readonly T[] {
    const found: T[] = [];
    for (const items of this.#around(port)) for (const item of items) found.push(item);
    return found;
  }

  countAt(port: number): number {
    let count = 0;
    for (const items of this.#around(port)) count += items.length;
    return count;
  }

  #around(port: number): readonly (readonly T[])[] {
    const found: (readonly T[])[] = [];
    for (const level of this.#levels) {
      const items = this.#blocks.get(blockOf(level, port));
      if (items !== undefined) found.push(items);
    }
    return found;
  }
}

/** One after the other: that a list is long is no reason to copy it. */
export type Lists<T> = readonly (readonly T[])[];

/** The rules of one direction and protocol. In most tables nobody asks for more than the ports. */
class Scope<T extends Placed> {
  readonly ports: PortIndex<T> = new PortIndex();
  readonly addresses: LateIndex<T>;
  readonly clients: LateIndex<T>;
  readonly #items: T[] = [];

  constructor(addressesOf: (name: string) => readonly IpAddress[]) {
    const add = (index: NetworkIndex<T>, item: T) => addAddresses(index, item, addressesOf);
    this.addresses = new LateIndex(this.#items, add);
    this.clients = new LateIndex(this.#items, addClients);
  }

  add(item: T): void {
    for (const range of portsOf(item.rule)) this.ports.add(range, item);
    this.#items.push(item);
  }
}

/** What is in the list is put into the index when the index is asked for. */
class LateIndex<T> {
  readonly #items: readonly T[];
  readonly #add: (index: NetworkIndex<T>, item: T) => void;
  readonly #index = new NetworkIndex<T>();
  #count = 0;

  constructor(items: readonly T[], add: (index: NetworkIndex<T>, item: T) => void) {
    this.#items = items;
    this.#add = add;
  }

  get(): NetworkIndex<T> {
    for (; this.#count < this.#items.length; this.#count++) {
      this.#add(this.#index, this.#items[this.#count] as T);
    }
    return this.#index;
  }
}

export class RuleIndex<T extends Placed> {
  readonly #scopes: Readonly<Record<Direction, Readonly<Record<TransportProtocol, Scope<T>>>>>;

  constructor(addressesOf: (name: string) => readonly IpAddress[]) {
    this.#scopes = {
      in: { tcp: new Scope(addressesOf), udp: new Scope(addressesOf) },
      out: { tcp: new Scope(addressesOf), udp: new Scope(addressesOf) },
    };
  }

  add(item: T): void {
    const { direction, protocols } = item.rule;
    for (const protocol of protocols) this.#scopes[direction][protocol].add(item);
  }

  /** All that take both ports, and others. */
  withPort(direction: Direction, protocol: TransportProtocol, first: number, last: number): readonly T[] {
    const { ports } = this.#scopes[direction][protocol];
    return ports.at(first !== last && ports.countAt(last) < ports.countAt(first) ? last : first);
  }

  /** All whose addresses take the whole of the pattern, undefined being any address; few others. */
  withAddress(
    direction: Direction,
    protocol: TransportProtocol,
    pattern: AddressPattern | undefined,
  ): Lists<T> {
    const addresses = this.#scopes[direction][protocol].addresses.get();
    const any = addresses.atKey(ANY);
    if (pattern === undefined) return [any];
    return pattern.kind === 'name'
      ? [any, addresses.atKey(`name ${pattern.name}`)]
      : [any, ...addresses.around(pattern.address, pattern.prefixLength)];
  }

  /** All that take the whole of the list by its words, undefined being any client; few others. */
  withClients(direction: Direction, protocol: TransportProtocol, list: AccessList | undefined): Lists<T> {
    const clients = this.#scopes[direction][protocol].clients.get();
    const any = clients.atKey(ANY);
    const [first] = list?.lists[0] ?? [];
    if (list === undefined || first === undefined) return [any];
    const others =
      first.kind === 'network'
        ? clients.around(first.address, first.prefixLength)
        : [clients.atKey(clientKey(first))];
    const same = list.lists.length > 1 ? [clients.atKey(formatAccessList(list))] : [];
    return [any, ...others, ...same];
  }
}

function addAddresses<T extends Placed>(
  index: NetworkIndex<T>,
  item: T,
  addressesOf: (name: string) => readonly IpAddress[],
): void {
  const { addresses } = item.rule.to;
  if (addresses.length === 0) index.addKey(ANY, item);
  for (const pattern of addresses) {
    if (pattern.kind === 'network') {
      index.add(pattern.address, pattern.prefixLength, item);
      continue;
    }
    index.addKey(`name ${pattern.name}`, item);
    for (const address of addressesOf(pattern.name)) {
      index.add(address, family(address) === 4 ? 32 : 128, item);
    }
  }
}

function addClients<T extends Placed>(index: NetworkIndex<T>, item: T): void {
  const list = item.rule.from.clients;
  if (list === undefined) {
    index.addKey(ANY, item);
  } else if (list.lists.length > 1) {
    index.addKey(formatAccessList(list), item);
  } else {
    for (const one of list.lists[0] ?? []) {
      if (one.kind === 'network') index.add(one.address, one.prefixLength, item);
      else index.addKey(one.kind === 'all' ? ANY : clientKey(one), item);
    }
  }
}

/** Equal where the patterns are. */
export function clientKey(pattern: AccessPattern): string {
  switch (pattern.kind) {
    case 'network':
      return `network ${networkKey(pattern.address, pattern.prefixLength)}`;
    case 'name':
      return `name ${pattern.name}`;
    case 'domain':
      return `domain ${pattern.domain}`;
    default:
      return pattern.kind;
  }
}

/** Things by the networks that they hold, and by other keys. */
class NetworkIndex<T> {
  readonly #items = new Map<string, T[]>();
  /** The prefix lengths in use. */
  readonly #lengths = { 4: new Set<number>(), 6: new Set<number>() };

  addKey(key: string, item: T): void {
    put(this.#items, key, item);
  }

  atKey(key: string): readonly T[] {
    return this.#items.get(key) ?? NOTHING;
  }

  add(address: IpAddress, prefixLength: number, item: T): void {
    this.#lengths[family(address)].add(prefixLength);
    this.addKey(networkKey(address, prefixLength), item);
  }

  /** Those that hold the whole network. */
  around(address: IpAddress, prefixLength: number): Lists<T> {
    return [...this.#lengths[family(address)]]
      .filter((length) => length <= prefixLength)
      .map((length) => this.atKey(networkKey(address, length)));
  }
}

function blockOf(level: number, port: number): number {
  return level * 65_536 + (port >> level);
}

function put<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}
