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
const LEVELS = Array.from({ length: 17 }, (_, level) => level);

/** What holds a port, of things that each hold a range: a range is kept as at most 30 blocks of a power of two. */
export class PortIndex<T> {
  readonly #blocks: Map<number, T[]> = new Map();

  add({ first, last }: PortRange, item: T): void {
    for (let at = first; at <= last; ) {
      let level = 0;
      while (at % (2 << level) === 0 && at + (2 << level) - 1 <= last) level++;
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
    return this.#around(port).reduce((sum, items) => sum + items.length, 0);
  }

  #around(port: number): readonly (readonly T[])[] {
    return LEVELS.flatMap((level) => {
      const items = this.#blocks.get(blockOf(level, port));
      return items === undefined ? [] : [items];
    });
  }
}

export class RuleIndex<T extends Placed> {
  readonly #ports: Map<string, PortIndex<T>> = new Map();
  readonly #addresses: NetworkIndex<T> = new NetworkIndex();
  readonly #clients: NetworkIndex<T> = new NetworkIndex();
  readonly #addressesOf: (name: string) => readonly IpAddress[];

  constructor(addressesOf: (name: string) => readonly IpAddress[]) {
    this.#addressesOf = addressesOf;
  }

  add(item: T): void {
    const { direction, protocols, to, from } = item.rule;
    for (const protocol of protocols) {
      const scope = `${direction} ${protocol}`;
      let ports = this.#ports.get(scope);
      if (ports === undefined) this.#ports.set(scope, (ports = new PortIndex()));
      for (const range of portsOf(item.rule)) ports.add(range, item);
      if (to.addresses.length === 0) this.#addresses.addKey(`${scope} ${ANY}`, item);
      for (const pattern of to.addresses) this.#addAddress(scope, pattern, item);
      this.#addClients(scope, from.clients, item);
    }
  }

  /** All that take every one of the ports, and others. */
  withPort(direction: Direction, protocol: TransportProtocol, wanted: readonly number[]): readonly T[] {
    const ports = this.#ports.get(`${direction} ${protocol}`);
    if (ports === undefined) return [];
    return ports.at(wanted.reduce((a, b) => (ports.countAt(b) < ports.countAt(a) ? b : a)));
  }

  /** All whose addresses take the whole of the pattern, undefined being any address; few others. */
  withAddress(
    direction: Direction,
    protocol: TransportProtocol,
    pattern: AddressPattern | undefined,
  ): readonly T[] {
    const scope = `${direction} ${protocol}`;
    const any = this.#addresses.atKey(`${scope} ${ANY}`);
    if (pattern === undefined) return any;
    const others =
      pattern.kind === 'name'
        ? this.#addresses.atKey(`${scope} name ${pattern.name}`)
        : this.#addresses.around(scope, pattern.address, pattern.prefixLength);
    return [...any, ...others];
  }

  /** All that take the whole of the list by its words, undefined being any client; few others. */
  withClients(direction: Direction, protocol: TransportProtocol, list: AccessList | undefined): readonly T[] {
    const scope = `${direction} ${protocol}`;
    const any = this.#clients.atKey(`${scope} ${ANY}`);
    const [first] = list?.lists[0] ?? [];
    if (list === undefined || first === undefined) return any;
    const others =
      first.kind === 'network'
        ? this.#clients.around(scope, first.address, first.prefixLength)
        : this.#clients.atKey(`${scope} ${clientKey(first)}`);
    const same = list.lists.length > 1 ? this.#clients.atKey(`${scope} ${formatAccessList(list)}`) : [];
    return [...any, ...others, ...same];
  }

  #addAddress(scope: string, pattern: AddressPattern, item: T): void {
    if (pattern.kind === 'network') {
      this.#addresses.add(scope, pattern.address, pattern.prefixLength, item);
      return;
    }
    this.#addresses.addKey(`${scope} name ${pattern.name}`, item);
    for (const address of this.#addressesOf(pattern.name)) {
      this.#addresses.add(scope, address, family(address) === 4 ? 32 : 128, item);
    }
  }

  #addClients(scope: string, list: AccessList | undefined, item: T): void {
    if (list === undefined) {
      this.#clients.addKey(`${scope} ${ANY}`, item);
    } else if (list.lists.length > 1) {
      this.#clients.addKey(`${scope} ${formatAccessList(list)}`, item);
    } else {
      for (const one of list.lists[0] ?? []) {
        if (one.kind === 'network') this.#clients.add(scope, one.address, one.prefixLength, item);
        else this.#clients.addKey(`${scope} ${one.kind === 'all' ? ANY : clientKey(one)}`, item);
      }
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
    return this.#items.get(key) ?? [];
  }

  add(scope: string, address: IpAddress, prefixLength: number, item: T): void {
    this.#lengths[family(address)].add(prefixLength);
    this.addKey(`${scope} ${networkKey(address, prefixLength)}`, item);
  }

  /** Those that hold the whole network. */
  around(scope: string, address: IpAddress, prefixLength: number): readonly T[] {
    return [...this.#lengths[family(address)]]
      .filter((length) => length <= prefixLength)
      .flatMap((length) => this.atKey(`${scope} ${networkKey(address, length)}`));
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
