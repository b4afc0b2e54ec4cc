/**
 * Where a table has the relay listen, and which rules each place has, in their order. Pure. A rule listens on every
 * address of this host where it names none; where it leads to the same port of this host, on every address but the
 * loopback one, which is its target's.
 */

import { NatwardError } from '../../errors.ts';
import { ANY_IPV4, ANY_IPV6, type IpAddress, isLoopback, sameNetwork } from '../../net/address.ts';
import { portCount } from '../../net/port-range.ts';
import type { TransportProtocol } from '../../net/protocol.ts';
import type { InterfaceAddress } from '../../system/routes.ts';
import { leadsBack, portsOf } from '../decide.ts';
import type { Rule } from '../rule.ts';
import type { Table } from '../table.ts';

export interface Place {
  readonly protocol: TransportProtocol;
  /** ANY_IPV6 stands for IPv4 as well. */
  readonly address: IpAddress;
  readonly port: number;
  /** From the top. */
  readonly rules: readonly Rule[];
}

export interface Plan {
  /** By `tcp 192.0.2.1 80`. */
  readonly places: ReadonlyMap<string, Place>;
  readonly waiting: readonly { readonly ruleId: string; readonly reason: string }[];
}

/** Of sockets, and of rules at ports: a table that asks for more is a mistake. */
const MAX_PLACES = 131_072;
const MAX_WORK = 4_000_000;

export function planPlaces(table: Table, own: readonly InterfaceAddress[]): Plan {
  const wild = own.some(({ family }) => family === 6) ? ANY_IPV6 : ANY_IPV4;
  const ownAddresses = own.map(({ address }) => address);
  const waiting: { ruleId: string; reason: string }[] = [];
  /** By protocol and port: the rules with the addresses that they listen on. */
  const ports = new Map<string, { protocol: TransportProtocol; port: number; takers: Taker[] }>();
  let work = 0;
  for (const rule of table) {
    if (!rule.enabled || rule.direction !== 'in') continue;
    const addresses = addressesOf(rule, own, wild);
    if (addresses.length === 0) {
      waiting.push({ ruleId: rule.id, reason: absence(rule) });
      continue;
    }
    const ranges = portsOf(rule);
    let isSomewhere = false;
    work += ranges.reduce((sum, range) => sum + portCount(range), 0) * rule.protocols.length;
    if (work > MAX_WORK)
      throw new NatwardError(
        'NO_RESOURCES',
        `the table names more than ${MAX_WORK} ports, counted for each rule`,
      );
    for (const protocol of rule.protocols) {
      for (const { first, last } of ranges) {
        for (let port = first; port <= last; port++) {
          const isOuter = rule.to.addresses.length === 0 && leadsBack(rule, port, { ownAddresses });
          const taker = { rule, addresses: isOuter ? outer(addresses, ownAddresses, wild) : addresses };
          isSomewhere ||= taker.addresses.length > 0;
          const key = `${protocol} ${port}`;
          const entry = ports.get(key);
          if (entry === undefined) ports.set(key, { protocol, port, takers: [taker] });
          else entry.takers.push(taker);
        }
      }
    }
    if (!isSomewhere)
      waiting.push({ ruleId: rule.id, reason: 'this host has no address but the loopback one' });
  }
  const places = new Map<string, Place>();
  for (const { protocol, port, takers } of ports.values()) {
    for (const place of placesAt(protocol, port, takers, wild)) {
      places.set(`${protocol} ${place.address} ${port}`, place);
    }
    if (places.size > MAX_PLACES)
      throw new NatwardError('NO_RESOURCES', `the table listens in more than ${MAX_PLACES} places`);
  }
  return { places, waiting };
}

interface Taker {
  readonly rule: Rule;
  readonly addresses: readonly IpAddress[];
}

function placesAt(
  protocol: TransportProtocol,
  port: number,
  takers: readonly Taker[],
  wild: IpAddress,
): Place[] {
  const rules = takers.map(({ rule }) => rule);
  const addresses = [...new Set(takers.flatMap((taker) => taker.addresses))];
  const [first] = addresses;
  if (addresses.length === 1 && first !== undefined) return [{ protocol, address: first, port, rules }];
  const wide = addresses.includes(wild) ? wild : addresses.includes(ANY_IPV4) ? ANY_IPV4 : undefined;
  if (wide !== undefined) {
    // A datagram does not tell which address it was sent to; a connection does.
    const isCovered = (address: IpAddress) => wide !== ANY_IPV4 || !address.includes(':');
    if (protocol === 'udp') {
      const single = takers.find((taker) => taker.addresses.some((one) => one !== wide && isCovered(one)));
      const every = takers.find((taker) => taker.addresses.includes(wide));
      if (single !== undefined) {
        throw new NatwardError(
          'CONFLICT',
          `UDP ${port}: rule ${every?.rule.id} listens on every address and rule ${single.rule.id} on single ones`,
          { advice: 'Name the addresses in both rules.' },
        );
      }
    }
    const others = addresses.filter((address) => !isCovered(address));
    return [{ protocol, address: wide, port, rules }, ...placesOf(others, protocol, port, takers)];
  }
  return placesOf(addresses, protocol, port, takers);
}

function placesOf(
  addresses: readonly IpAddress[],
  protocol: TransportProtocol,
  port: number,
  takers: readonly Taker[],
): Place[] {
  return addresses.map((address) => ({
    protocol,
    address,
    port,
    rules: takers.filter((taker) => taker.addresses.includes(address)).map(({ rule }) => rule),
  }));
}

function addressesOf(rule: Rule, own: readonly InterfaceAddress[], wild: IpAddress): readonly IpAddress[] {
  const { addresses } = rule.to;
  if (rule.adapters.length > 0) {
    return own
      .filter((one) => rule.adapters.includes(one.interface))
      .map(({ address }) => address)
      .filter((address) => addresses.length === 0 || isNamed(rule, address));
  }
  if (addresses.length === 0) return [wild];
  // One address is listened on as it is written: the kernel knows all of 127.0.0.0/8, no interface has it.
  if (addresses.some((one) => one.kind === 'network' && one.prefixLength === 0 && one.address === ANY_IPV4)) {
    const ipv6 = own.map(({ address }) => address).filter((address) => address.includes(':'));
    return [ANY_IPV4, ...ipv6.filter((address) => isNamed(rule, address))];
  }
  const single = addresses.flatMap((one) => (one.kind === 'network' && isSingle(one) ? [one.address] : []));
  const inside = own.map(({ address }) => address).filter((address) => isNamed(rule, address));
  return [...new Set([...single, ...inside])];
}

function isSingle({
  address,
  prefixLength,
}: {
  readonly address: IpAddress;
  readonly prefixLength: number;
}): boolean {
  return prefixLength === (address.includes(':') ? 128 : 32);
}

function isNamed({ to }: Rule, address: IpAddress): boolean {
  return to.addresses.some(
    (one) => one.kind === 'network' && sameNetwork(one.address, address, one.prefixLength),
  );
}

function outer(
  addresses: readonly IpAddress[],
  own: readonly IpAddress[],
  wild: IpAddress,
): readonly IpAddress[] {
  return (addresses.includes(wild) ? own : addresses).filter((address) => !isLoopback(address));
}

function absence(rule: Rule): string {
  if (rule.adapters.length > 0) return `there is no interface ${rule.adapters.join(' or ')} with an address`;
  return 'this host has none of its addresses';
}
