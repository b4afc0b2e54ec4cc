/**
 * Patterns of addresses as rinetd has them, `192.168.2.*` and `192.168.2.1?`, as the networks that they come to.
 * rinetd compares them with the address as text; taken here is what means whole networks, however they are cut.
 */

import { addressBytes, family, type IpAddress, parseAddress } from '../../net/address.ts';
import { quoted, usage } from './findings.ts';

/** `bits` begins with the family; one network holds another where its bits begin the other's. */
export interface ClientNetwork {
  /** As a client list has it. */
  readonly text: string;
  readonly bits: string;
}

const EVERYBODY: ClientNetwork = { text: 'ALL', bits: '' };
const WRITE = 'write whole parts, such as 192.168.2.* or 2001:db8:*';

/** Throws USAGE with the reason where the pattern is no set of networks, or nobody's. */
export function parseGlob(pattern: string): readonly ClientNetwork[] {
  if (pattern.length > 64 || !/^[\da-f.:*?]+$/i.test(pattern)) {
    throw usage(`${quoted(pattern)} is no pattern of addresses: natward takes digits, . : * and ?; ${WRITE}`);
  }
  if (/^\*+$/.test(pattern)) return [EVERYBODY];
  return pattern.includes(':') ? [parseIpv6(pattern)] : parseIpv4(pattern);
}

/** What both let through. */
export function intersection(
  some: readonly ClientNetwork[],
  others: readonly ClientNetwork[],
): readonly ClientNetwork[] {
  return some.flatMap((one) =>
    others.flatMap((other) => {
      if (one.bits.startsWith(other.bits)) return [one];
      return other.bits.startsWith(one.bits) ? [other] : [];
    }),
  );
}

/** As a client list, each network once. */
export function formatNetworks(networks: readonly ClientNetwork[]): string {
  return [...new Set(networks.map(({ text }) => text))].join(',');
}

function parseIpv4(pattern: string): readonly ClientNetwork[] {
  const parts = pattern.split('.');
  const wild = parts.findIndex((part) => /[*?]/.test(part));
  const literal = wild < 0 ? parts : parts.slice(0, wild);
  const isWhole = parts.length === 4 || (parts.length < 4 && pattern.endsWith('*'));
  const isOctets = literal.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255);
  if (!isWhole || !isOctets) throw usage(`${quoted(pattern)} is the pattern of no IPv4 address; ${WRITE}`);
  const partial = parts[wild];
  if (partial === undefined) return [network(pattern, 32)];
  const isCut = parts.slice(wild + 1).some((part) => !/^\*+$/.test(part));
  // Of fewer than four parts, one is more than it shows: a wildcard then stands for dots as well.
  if (isCut || (parts.length < 4 && !/^\d*\*+$/.test(partial))) {
    throw usage(`${quoted(pattern)} has a wildcard that does not stand for all that follows; ${WRITE}`);
  }
  const octets = new RegExp(`^${partial.replace(/\*+/g, '\\d*').replaceAll('?', '\\d')}$`);
  const isIn = Array.from({ length: 256 }, (_, octet) => octets.test(String(octet)));
  const networks = blocks(isIn).map(({ first, length }) =>
    network([...literal, first, 0, 0, 0].slice(0, 4).join('.'), literal.length * 8 + length),
  );
  if (networks.length === 0) throw usage(`${quoted(pattern)} is the pattern of no IPv4 address; ${WRITE}`);
  return networks;
}

/** The octets that are in, as the fewest runs that are networks. */
function blocks(isIn: readonly boolean[], first = 0, length = 0): { first: number; length: number }[] {
  if (!isIn.includes(true)) return [];
  if (!isIn.includes(false)) return [{ first, length }];
  const half = isIn.length / 2;
  return [
    ...blocks(isIn.slice(0, half), first, length + 1),
    ...blocks(isIn.slice(half), first + half, length + 1),
  ];
}

function parseIpv6(pattern: string): ClientNetwork {
  const address = parseAddress(pattern);
  if (address !== undefined) return network(address, family(address) === 4 ? 32 : 128);
  const groups = /^((?:[\da-f]{1,4}:){1,7})\*+$/i.exec(pattern)?.[1];
  if (groups === undefined) {
    throw usage(`${quoted(pattern)} has a wildcard that does not stand for all that follows; ${WRITE}`);
  }
  return network(parseAddress(`${groups}:`) as IpAddress, (groups.split(':').length - 1) * 16);
}

function network(address: IpAddress, length: number): ClientNetwork {
  const full = family(address) === 4 ? 32 : 128;
  const bits = [...addressBytes(address)].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return {
    text: length === full ? address : `${address}/${length}`,
    bits: `${family(address)}${bits.slice(0, length)}`,
  };
}
