/**
 * Rules that can never match, because one above them takes all of their traffic. Several above that only together
 * take all of it are not seen. Names are compared as they are written: what they stand for changes.
 */

import { family, type IpAddress, isLoopback } from '../net/address.ts';
import type { PortRange } from '../net/port-range.ts';
import { coversPorts, hasPort, portRanges } from '../net/port-set.ts';
import { type AccessList, formatAccessList } from './access.ts';
import { portsOf } from './decide.ts';
import { type OwnHost, portMoves } from './own-target.ts';
import { coversPattern } from './pattern.ts';
import type { AddressPattern, Direction, RuleSpec } from './rule.ts';
import { clientKey, type Lists, type Placed, RuleIndex } from './rule-index.ts';
import { isOwnHost } from './target.ts';

const NOTHING: readonly PortRange[] = [];
const LOOPBACK_NETWORKS: readonly AddressPattern[] = [
  { kind: 'network', address: '127.0.0.0', prefixLength: 8 },
  { kind: 'network', address: '::1', prefixLength: 128 },
];

/** A rule with what comparing takes worked out once. */
interface Shape extends Placed {
  readonly to: readonly PortRange[];
  readonly from: readonly PortRange[];
  readonly clients: ClientShape | undefined;
  /** The ports that it leaves to servers on the loopback address. */
  readonly left: readonly PortRange[];
  /** Of the addresses that it names, all are surely what a rule without any is for. */
  readonly isWhereOthersGo: boolean;
}

interface ClientShape {
  readonly text: string;
  /** The first list, item by item. */
  readonly items: readonly string[];
  readonly all: boolean;
  readonly withExceptions: boolean;
}

/** Looks at enabled rules from the top. */
export class Shadows {
  readonly #host: OwnHost;
  readonly #index: RuleIndex<Placed>;
  readonly #shapes: Map<Placed, Shape> = new Map();

  constructor(host: OwnHost) {
    this.#host = host;
    this.#index = new RuleIndex(host.addressesOf);
  }

  /** The first of those before that takes all of this one, which then can never match. */
  next(placed: Placed): Placed | undefined {
    let by: Placed | undefined;
    for (const list of candidates(this.#index, placed)) {
      for (const one of list) {
        const isFirst = by === undefined || one.position < by.position;
        if (isFirst && covers(this.#shapeOf(one), this.#shapeOf(placed))) by = one;
      }
    }
    // What a rule takes that never matches is taken above it; one that has its hours leaves the others to those below.
    if (by === undefined && placed.rule.schedule === undefined) this.#index.add(placed);
    return by;
  }

  #shapeOf(placed: Placed): Shape {
    let shape = this.#shapes.get(placed);
    if (shape === undefined) this.#shapes.set(placed, (shape = newShape(placed, this.#host)));
    return shape;
  }
}

/** Whoever takes all takes the first port and the last, the first address, the first client: the fewest are looked at. */
function candidates(index: RuleIndex<Placed>, { rule }: Placed): Lists<Placed> {
  const { direction, protocols, from } = rule;
  const to = portsOf(rule);
  const protocol = protocols[0];
  const first = to[0]?.first;
  const last = to[to.length - 1]?.last;
  if (protocol === undefined || first === undefined || last === undefined) return [];
  const withPort = index.withPort(direction, protocol, first, last);
  if (withPort.length < 2) return [withPort];
  const withAddress = index.withAddress(direction, protocol, rule.to.addresses[0]);
  const withClients = index.withClients(direction, protocol, from.clients);
  return [withAddress, withClients].reduce((a, b) => (countIn(b) < countIn(a) ? b : a), [withPort]);
}

function countIn(lists: Lists<unknown>): number {
  let count = 0;
  for (const list of lists) count += list.length;
  return count;
}

function covers(outer: Shape, inner: Shape): boolean {
  const [a, b] = [outer.rule, inner.rule];
  return (
    coversPorts(outer.to, inner.to) &&
    hasAll(a.protocols, b.protocols) &&
    coversClients(outer.clients, inner.clients) &&
    (a.adapters.length === 0 || (b.adapters.length > 0 && hasAll(a.adapters, b.adapters))) &&
    (a.macs.length === 0 || (b.macs.length > 0 && hasAll(a.macs, b.macs))) &&
    coversPorts(outer.from, inner.from) &&
    coversAddresses(outer, inner)
  );
}

function hasAll<T>(list: readonly T[], items: readonly T[]): boolean {
  return items.every((item) => list.includes(item));
}

function coversClients(outer: ClientShape | undefined, inner: ClientShape | undefined): boolean {
  if (outer === undefined) return true;
  if (outer.all) return true;
  if (inner === undefined) return false;
  if (outer.text === inner.text) return true;
  return (
    !outer.withExceptions && inner.items.every((item) => outer.items.some((one) => coversItem(one, item)))
  );
}

function coversItem(outer: string, inner: string): boolean {
  return outer === inner || (outer.startsWith('network ') && inner.startsWith(outer));
}

function coversAddresses(outer: Shape, inner: Shape): boolean {
  const [takes, wanted] = [outer.rule.to.addresses, inner.rule.to.addresses];
  if (takes.length > 0) {
    return wanted.length > 0 && wanted.every((one) => takes.some((other) => coversPattern(other, one)));
  }
  if (wanted.length > 0 && !inner.isWhereOthersGo) return false;
  const open = inner.to.filter((range) => outer.left.some((one) => overlaps(one, range)));
  if (open.length === 0) return true;
  // Both leave the loopback address alone, or the inner one is about other addresses.
  return wanted.length === 0 ? coversPorts(inner.left, open) : !wanted.some(mayBeLoopback);
}

function mayBeLoopback(pattern: AddressPattern): boolean {
  if (pattern.kind === 'name' || isLoopback(pattern.address)) return true;
  return LOOPBACK_NETWORKS.some((one) => coversPattern(pattern, one));
}

function overlaps(a: PortRange, b: PortRange): boolean {
  return a.first <= b.last && b.first <= a.last;
}

function newShape(placed: Placed, host: OwnHost): Shape {
  const { rule } = placed;
  const { clients, ports } = rule.from;
  return {
    rule,
    position: placed.position,
    to: portsOf(rule),
    from: portRanges(ports),
    clients: clients === undefined ? undefined : clientShapeOf(clients),
    left: portsLeft(rule, host),
    isWhereOthersGo: rule.to.addresses.every((one) => isWhereOthersGo(rule.direction, one, host)),
  };
}

/** A rule without an address is for what comes to this host, or goes to others. What a name stands for changes. */
function isWhereOthersGo(direction: Direction, pattern: AddressPattern, host: OwnHost): boolean {
  if (pattern.kind === 'name') return false;
  const own = [...LOOPBACK_NETWORKS, ...host.ownAddresses.map(hostPattern)];
  if (direction === 'in') return own.some((one) => coversPattern(one, pattern));
  return !own.some((one) => coversPattern(one, pattern) || coversPattern(pattern, one));
}

function hostPattern(address: IpAddress): AddressPattern {
  return { kind: 'network', address, prefixLength: family(address) === 4 ? 32 : 128 };
}

function clientShapeOf(list: AccessList): ClientShape {
  const [first = [], ...exceptions] = list.lists;
  return {
    text: formatAccessList(list),
    items: first.map(clientKey),
    all: exceptions.length === 0 && first.some(({ kind }) => kind === 'all'),
    withExceptions: exceptions.length > 0,
  };
}

/** The ports for which `leadsBack` holds, as ranges. */
export function portsLeft(rule: RuleSpec, { ownAddresses }: OwnHost): readonly PortRange[] {
  if (rule.direction !== 'in') return NOTHING;
  const ranges = portsOf(rule);
  if (rule.verdict === 'monitor') return ranges;
  if (!rule.targets.some(({ host }) => isOwnHost(host, ownAddresses))) return NOTHING;
  const left = rule.targets
    .filter(({ host }) => isOwnHost(host, ownAddresses))
    .flatMap(({ port }) =>
      portMoves(port, ranges).flatMap(({ from, to }): PortRange[] => {
        if (port.kind === 'one') return hasPort([from], port.port) ? [to] : [];
        return from.first === to.first ? [from] : [];
      }),
    );
  // Nothing included would be every port.
  return left.length === 0 ? [] : portRanges({ included: left, excluded: [] });
}
