/**
 * A rule's selector as nft asks for it: which packets begin its conversations, and which of their senders it
 * refuses. Whether the rule is on, and in its time, is the caller's to know. Pure.
 */

import { type Family, family, type IpAddress } from '../../net/address.ts';
import type { PortRange } from '../../net/port-range.ts';
import { portRanges } from '../../net/port-set.ts';
import type { TransportProtocol } from '../../net/protocol.ts';
import { portsOf } from '../decide.ts';
import type { Access, AddressPattern, Rule } from '../rule.ts';
import {
  complement,
  EVERYWHERE,
  isEverything,
  NOWHERE,
  type Ranges,
  rangesOfAccess,
  rangesOfPatterns,
  union,
} from './address-ranges.ts';
import {
  addressElements,
  interfaceName,
  isInterfaceName,
  macAddress,
  oneOf,
  portElements,
} from './syntax.ts';

export interface Match {
  readonly protocol: TransportProtocol;
  /** Undefined: both. */
  readonly family: Family | undefined;
  /** Destination ports, in order. */
  readonly ports: readonly PortRange[];
  /** What is asked beside family, protocol and destination port, as nft says it; '' where nothing is. */
  readonly conditions: string;
  /** The one address that was named, where it was one; it is not among the conditions. */
  readonly destination: IpAddress | undefined;
  /**
   * No address was named: the destination is this host's own for `in`, another's for `out`. Whoever writes the rule
   * asks for that; it is not among the conditions.
   */
  readonly isOwnDestination: boolean;
}

/** Senders, as nft asks for them; '' is everybody of the family, which is undefined where it is both. */
export interface SenderCondition {
  readonly family: Family | undefined;
  readonly condition: string;
}

const FAMILIES: readonly Family[] = [4, 6];

/** A packet begins a conversation of the rule where one of them holds. None: the rule matches nothing just now. */
export function matchesOf(
  rule: Rule,
  around: { readonly addressesOf: (name: string) => readonly IpAddress[] },
): readonly Match[] {
  const { direction, protocols, to, from, macs } = rule;
  // What this host sends comes from no neighbour.
  if (direction === 'out' && macs.length > 0) return [];
  const adapters = rule.adapters.filter(isInterfaceName);
  // Other systems have longer names.
  if (rule.adapters.length > 0 && adapters.length === 0) return [];

  if (to.addresses.length === 0 && from.clients === undefined && adapters.length + macs.length === 0) {
    // Most rules ask for ports alone.
    return protocols.map((protocol) => ({
      protocol,
      family: undefined,
      ports: portsOf(rule),
      conditions: sourcePortCondition(protocol, portRanges(from.ports)),
      destination: undefined,
      isOwnDestination: true,
    }));
  }
  const destination = onlyAddress(to.addresses);
  if (destination !== undefined && from.clients === undefined && adapters.length + macs.length === 0) {
    // Most others ask for one address as well.
    return protocols.map((protocol) => ({
      protocol,
      family: family(destination),
      ports: portsOf(rule),
      conditions: sourcePortCondition(protocol, portRanges(from.ports)),
      destination,
      isOwnDestination: false,
    }));
  }
  const senders = from.clients === undefined ? EVERYWHERE : rangesOfAccess(from.clients);
  const destinations =
    to.addresses.length === 0 ? EVERYWHERE : rangesOfPatterns(to.addresses, around.addressesOf);
  const addresses = byFamily((of) => [
    addressCondition(of, 'saddr', senders[of]),
    destination !== undefined && family(destination) === of
      ? ''
      : addressCondition(of, 'daddr', destinations[of]),
  ]);

  const sourcePorts = portRanges(from.ports);

  return protocols.flatMap((protocol) =>
    addresses.map(
      ({ family: of, condition }): Match => ({
        protocol,
        family: of,
        ports: portsOf(rule),
        conditions: joined([
          adapters.length === 0
            ? ''
            : `${direction === 'in' ? 'iifname' : 'oifname'} ${oneOf(adapters.map(interfaceName))}`,
          macs.length === 0 ? '' : `ether saddr ${oneOf(macs.map(macAddress))}`,
          condition,
          sourcePortCondition(protocol, sourcePorts),
        ]),
        destination,
        isOwnDestination: to.addresses.length === 0,
      }),
    ),
  );
}

function onlyAddress(patterns: readonly AddressPattern[]): IpAddress | undefined {
  const one = patterns[0];
  if (patterns.length !== 1 || one?.kind !== 'network' || one.address.includes('%')) return undefined;
  return one.prefixLength === (family(one.address) === 4 ? 32 : 128) ? one.address : undefined;
}

/** Of those that the rule matches: who is denied, or is not allowed where only some are. Each is enough. */
export function refusedBy({ allow, deny }: Pick<Access, 'allow' | 'deny'>): readonly SenderCondition[] {
  const allowed = allow === undefined ? EVERYWHERE : rangesOfAccess(allow);
  const denied = deny === undefined ? NOWHERE : rangesOfAccess(deny);
  return byFamily((of) => [addressCondition(of, 'saddr', union(denied[of], complement(of, allowed[of])))]);
}

/** All parts of a family have to hold; undefined is what never does. */
function byFamily(partsOf: (of: Family) => readonly (string | undefined)[]): readonly SenderCondition[] {
  const conditions = FAMILIES.flatMap((of): SenderCondition[] => {
    const parts = partsOf(of);
    const possible = parts.filter((part) => part !== undefined);
    return possible.length < parts.length ? [] : [{ family: of, condition: joined(possible) }];
  });
  const isAlways = conditions.length === FAMILIES.length && conditions.every((one) => one.condition === '');
  return isAlways ? [{ family: undefined, condition: '' }] : conditions;
}

/** '' holds always, undefined never. */
function addressCondition(of: Family, field: 'saddr' | 'daddr', ranges: Ranges): string | undefined {
  if (ranges.length === 0) return undefined;
  if (isEverything(of, ranges)) return '';
  const asked = `${of === 4 ? 'ip' : 'ip6'} ${field}`;
  const others = complement(of, ranges);
  return others.length < ranges.length
    ? `${asked} != ${addressElements(of, others)}`
    : `${asked} ${addressElements(of, ranges)}`;
}

function sourcePortCondition(protocol: TransportProtocol, ranges: readonly PortRange[]): string {
  const isAny = ranges[0]?.first === 1 && ranges[0].last === 65_535;
  return isAny ? '' : `${protocol} sport ${portElements(ranges)}`;
}

function joined(parts: readonly string[]): string {
  return parts.filter((part) => part !== '').join(' ');
}
