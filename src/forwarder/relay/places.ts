/**
 * Where a rule has the relay listen, and the places that the rules of one port come to. Pure. A rule listens on every
 * address of this host where it names none; where it leads to the same port of this host, on every address but the
 * loopback one, which is its target's.
 */

import { NatwardError } from '../../errors.ts';
import { ANY_IPV4, ANY_IPV6, type IpAddress, isLoopback, sameNetwork } from '../../net/address.ts';
import type { TransportProtocol } from '../../net/protocol.ts';
import type { InterfaceAddress } from '../../system/routes.ts';
import { leadsBack } from '../decide.ts';
import type { Rule } from '../rule.ts';

export interface Place {
  readonly protocol: TransportProtocol;
  /** ANY_IPV6 stands for IPv4 as well. */
  readonly address: IpAddress;
  readonly port: number;
  /** From the top. */
  readonly rules: readonly Rule[];
}

/** `tcp 192.0.2.1 80` */
export function placeKey({ protocol, address, port }: Place): string {
  return `${protocol} ${address} ${port}`;
}

/** What is known of this host. */
export class ListeningHost {
  readonly #own: readonly InterfaceAddress[];
  readonly #ownAddresses: readonly IpAddress[];
  /** The address that stands for all. */
  readonly wild: IpAddress;

  constructor(own: readonly InterfaceAddress[]) {
    this.#own = own;
    this.#ownAddresses = own.map(({ address }) => address);
    this.wild = own.some(({ family }) => family === 6) ? ANY_IPV6 : ANY_IPV4;
  }

  /** None: the host has none of those that the rule is for. */
  addressesOf(rule: Rule): readonly IpAddress[] {
    return addressesOf(rule, this.#own, this.wild);
  }

  /** Of the rule's addresses those where it listens at this port. */
  addressesAt(port: number, rule: Rule, addresses: readonly IpAddress[]): readonly IpAddress[] {
    const isOuter =
      rule.to.addresses.length === 0 && leadsBack(rule, port, { ownAddresses: this.#ownAddresses });
    return isOuter ? outer(addresses, this.#ownAddresses, this.wild) : addresses;
  }
}

/** A rule with the addresses that it listens on. */
export interface Taker {
  readonly rule: Rule;
  readonly addresses: readonly IpAddress[];
}

/** Takers from the top. Throws CONFLICT where their addresses do not go together. */
export function placesAt(
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

/** Why it has no address to listen on. */
export function absence(rule: Rule): string {
  if (rule.adapters.length > 0) return `there is no interface ${rule.adapters.join(' or ')} with an address`;
  return 'this host has none of its addresses';
}
