/**
 * Which rule decides for the first packet of a conversation: the first that matches, from the top. Pure; what a
 * selector needs to know of the machine is handed in. The engines carry out what this says.
 */

import { formatEndpoint, type Endpoint } from '../net/endpoint.ts';
import { ANY_IPV4, ANY_IPV6, type IpAddress, isLoopback, sameNetwork, withoutZone } from '../net/address.ts';
import { formatPortSet, hasPort, portRanges } from '../net/port-set.ts';
import type { PortRange } from '../net/port-range.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import { type AccessClient, compileAccess, formatAccessList } from './access.ts';
import { formatPattern, matchesPattern } from './pattern.ts';
import type { Direction, Rule, RuleSpec } from './rule.ts';
import { formatSchedule, isWithin } from './schedule.ts';
import { isOwnHost, targetPortOf } from './target.ts';

export interface FirstPacket {
  readonly direction: Direction;
  readonly protocol: TransportProtocol;
  readonly source: Endpoint;
  readonly destination: Endpoint;
  /** Forward-confirmed names of the source; none known: no name matches. */
  readonly names?: readonly string[];
  readonly adapter?: string | undefined;
  readonly mac?: string | undefined;
}

/** What the machine knows. */
export interface Surroundings {
  /** The addresses that a name stands for just now. */
  readonly addressesOf: (name: string) => readonly IpAddress[];
  /** This host's. */
  readonly ownAddresses: readonly IpAddress[];
  /** Packets have come to sockets of this host, whichever addresses they were sent to. */
  readonly hasArrived?: boolean;
  /** Local time: 0 is Sunday, 0..1439. */
  readonly weekday: number;
  readonly minuteOfDay: number;
}

/** A rule with what matching takes worked out once. */
interface Compiled {
  readonly to: readonly PortRange[];
  readonly from: readonly PortRange[];
  readonly clients: ((client: AccessClient) => boolean) | undefined;
}

const MULTICAST_IPV4 = '224.0.0.0';
const MULTICAST_IPV6 = 'ff00::';

const COMPILED = new WeakMap<RuleSpec, Compiled>();

function compiled(rule: RuleSpec): Compiled {
  let found = COMPILED.get(rule);
  if (found === undefined) {
    const { clients } = rule.from;
    found = {
      to: portRanges(rule.to.ports),
      from: portRanges(rule.from.ports),
      clients: clients === undefined ? undefined : compileAccess(clients),
    };
    COMPILED.set(rule, found);
  }
  return found;
}

/** The ports that the rule's traffic goes to, as ranges in order. */
export function portsOf(rule: RuleSpec): readonly PortRange[] {
  const { ports } = rule.to;
  // Nothing to work out, and so nothing to remember.
  if (ports.excluded.length === 0 && ports.included.length < 2) return portRanges(ports);
  return compiled(rule).to;
}

/** Why the rule does not match, in words, or undefined where it does. */
export function mismatch(rule: Rule, packet: FirstPacket, around: Surroundings): string | undefined {
  const { protocol, source, destination } = packet;
  const { to, from, clients } = compiled(rule);
  if (!rule.enabled) return 'it is disabled';
  if (rule.direction !== packet.direction) return `it is for what goes ${rule.direction}`;
  if (!rule.protocols.includes(protocol)) return `it is for ${rule.protocols.join(' and ').toUpperCase()}`;
  if (!hasPort(to, destination.port)) return `it is for port ${formatPortSet(rule.to.ports)}`;
  const { addresses } = rule.to;
  if (addresses.length === 0) {
    if (rule.direction === 'out') {
      if (isOwnAddress(destination.address, around)) return 'it is for what goes to other hosts';
    } else if (around.hasArrived !== true && !comesHere(destination.address, around)) {
      return 'it is for what comes to this host';
    } else if (isLoopback(destination.address) && leadsBack(rule, destination.port, around)) {
      return 'it is for what comes from other hosts: the same port of the loopback address is its target';
    }
  } else if (!addresses.some((one) => matchesPattern(one, destination.address, around.addressesOf))) {
    return `it is for what goes to ${addresses.map(formatPattern).join(', ')}`;
  }
  if (!hasPort(from, source.port)) return `it is for source port ${formatPortSet(rule.from.ports)}`;
  if (clients !== undefined && !clients({ address: source.address, names: packet.names ?? [] })) {
    return `it is for what comes from ${formatAccessList(rule.from.clients as NonNullable<typeof rule.from.clients>)}`;
  }
  if (rule.adapters.length > 0 && !rule.adapters.includes(packet.adapter ?? '')) {
    return `it is for interface ${rule.adapters.join(', ')}`;
  }
  if (rule.macs.length > 0 && !rule.macs.includes(packet.mac ?? '')) {
    return `it is for MAC address ${rule.macs.join(', ')}`;
  }
  if (rule.schedule !== undefined && !isWithin(rule.schedule, around.weekday, around.minuteOfDay)) {
    return `its time is ${formatSchedule(rule.schedule)}`;
  }
  return undefined;
}

/** What is sent there never leaves this host. A socket that listens everywhere says the unspecified address. */
function isOwnAddress(address: IpAddress, { ownAddresses }: Surroundings): boolean {
  if (isLoopback(address) || address === ANY_IPV4 || address === ANY_IPV6) return true;
  const bare = withoutZone(address);
  return ownAddresses.some((one) => withoutZone(one) === bare);
}

function comesHere(address: IpAddress, around: Surroundings): boolean {
  return isOwnAddress(address, around) || isForMany(address);
}

/** Multicast (RFC 1112, RFC 4291) and the limited broadcast (RFC 919). */
function isForMany(address: IpAddress): boolean {
  return (
    address === '255.255.255.255' ||
    sameNetwork(MULTICAST_IPV4, address, 4) ||
    sameNetwork(MULTICAST_IPV6, address, 8)
  );
}

/**
 * Reports whether the rule sends what comes to this port to the same port of this host: to a server on the loopback
 * address, which is then not the rule's to listen on.
 */
export function leadsBack(
  rule: RuleSpec,
  port: number,
  { ownAddresses }: Pick<Surroundings, 'ownAddresses'>,
): boolean {
  if (rule.direction !== 'in') return false;
  if (rule.verdict === 'monitor') return true;
  return rule.targets.some(
    (target) =>
      isOwnHost(target.host, ownAddresses) && targetPortOf(target.port, portsOf(rule), port) === port,
  );
}

export function decide(table: readonly Rule[], packet: FirstPacket, around: Surroundings): Rule | undefined {
  return table.find((rule) => mismatch(rule, packet, around) === undefined);
}

/** Which rule decides, and why none above it did. */
export interface Explanation {
  readonly rule: Rule | undefined;
  /** Of those above it, or of all where none matches; `position` counts from 1. */
  readonly passed: readonly { readonly position: number; readonly rule: Rule; readonly reason: string }[];
}

export function explain(table: readonly Rule[], packet: FirstPacket, around: Surroundings): Explanation {
  const passed: Explanation['passed'][number][] = [];
  for (const [index, rule] of table.entries()) {
    const reason = mismatch(rule, packet, around);
    if (reason === undefined) return { rule, passed };
    passed.push({ position: index + 1, rule, reason });
  }
  return { rule: undefined, passed };
}

export function formatPacket({ direction, protocol, source, destination }: FirstPacket): string {
  return `${direction} ${protocol} ${formatEndpoint(source)} -> ${formatEndpoint(destination)}`;
}
