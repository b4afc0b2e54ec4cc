/**
 * Values as nft writes them; nothing else turns a value into nft text. What is not of the narrow shape that it has
 * to be is a mistake of the program and throws a plain Error: what people write freely (descriptions, names of hosts)
 * has no way through here.
 */

import ipaddr from 'ipaddr.js';
import { type Family, type IpAddress, parseAddress } from '../../net/address.ts';
import { formatPortRange, type PortRange } from '../../net/port-range.ts';
import type { AddressRange } from '../access.ts';

const ADDRESS_BYTES = { 4: 4, 6: 16 } as const;

/** Reports whether an interface of Linux can have this name, of those that a rule may say. */
export function isInterfaceName(name: string): boolean {
  return /^[\w.@-]{1,15}$/.test(name) && !/^\.{1,2}$/.test(name);
}

export function interfaceName(name: string): string {
  if (!isInterfaceName(name)) throw notNft('interface name', name);
  return `"${name}"`;
}

/** Without a zone, which nft does not have. */
export function address(value: IpAddress): string {
  if (value.includes('%') || parseAddress(value) !== value) throw notNft('address', value);
  return value;
}

/** Of the form `aa:bb:cc:dd:ee:ff`. */
export function macAddress(mac: string): string {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac)) throw notNft('MAC address', mac);
  return mac;
}

/** `80`, or `{ 80, 2000-2010 }`. At least one range. */
export function portElements(ranges: readonly PortRange[]): string {
  return oneOf(
    ranges.map((range) => {
      const { first, last } = range;
      if (!isWhole(first, 1, last) || !isWhole(last, first, 65_535)) throw notNft('range of ports', range);
      return formatPortRange(range);
    }),
  );
}

/** `10.0.0.0/8`, or `{ 10.0.0.0/8, 192.168.1.5-192.168.1.9 }`. At least one range, none overlapping another. */
export function addressElements(of: Family, ranges: readonly AddressRange[]): string {
  return oneOf(ranges.map((range) => addressElement(of, range)));
}

/** The mark of a conversation or a packet that is rule or path number `n`: `0x00010000` is the first. */
export function markLiteral(n: number): string {
  if (!isWhole(n, 1, 0xffff)) throw notNft('number of a mark', n);
  return (LITERALS[n] ??= `0x${n.toString(16).padStart(4, '0')}0000`);
}

/** Each is wanted many times, in tables of thousands of rules. As long as it can be, or V8 makes a dictionary of it. */
const LITERALS: (string | undefined)[] = Array.from({ length: 0x1_0000 });

/** Longer ones nft does not take. */
export const MAX_COMMENT = 128;

/** The text of a comment, in quotes: ids, with blanks between. At least one. */
export function comment(ids: readonly string[]): string {
  const text = ids.join(' ');
  const isFine = ids.every((id) => /^[\w.-]{1,64}$/.test(id));
  if (!isFine || text === '' || text.length > MAX_COMMENT) throw notNft('comment', ids);
  return `"${text}"`;
}

/** The values as an anonymous set; a single one without the braces. At least one. */
export function oneOf(values: readonly string[]): string {
  const [first, ...others] = new Set(values);
  if (first === undefined) throw new Error('a set of nft has at least one element');
  return others.length === 0 ? first : `{ ${[first, ...others].join(', ')} }`;
}

function addressElement(of: Family, { first, last }: AddressRange): string {
  const size = last - first + 1n;
  const isNetwork = (size & (size - 1n)) === 0n && first % size === 0n;
  if (!isNetwork) return `${addressText(of, first)}-${addressText(of, last)}`;
  const hostBits = size.toString(2).length - 1;
  return hostBits === 0
    ? addressText(of, first)
    : `${addressText(of, first)}/${ADDRESS_BYTES[of] * 8 - hostBits}`;
}

/** Not by way of an IpAddress: one end of a range of IPv6 may be an IPv4-mapped address, and stays IPv6. */
function addressText(of: Family, value: bigint): string {
  const digits = value.toString(16).padStart(ADDRESS_BYTES[of] * 2, '0');
  return ipaddr.fromByteArray([...Buffer.from(digits, 'hex')]).toString();
}

function isWhole(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most;
}

function notNft(what: string, value: unknown): Error {
  return new Error(`no ${what} that nft may be given: ${JSON.stringify(value)}`);
}
