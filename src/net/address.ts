/**
 * IP addresses as text, checked once. An `IpAddress` is IPv4 dotted quad or IPv6 in its short form
 * (RFC 5952), with the zone of a link-local one kept (`fe80::1%eth0`, RFC 6874).
 */

import ipaddr from 'ipaddr.js';
import { NatwardError } from '../errors.ts';

export type IpAddress = string;
export type Family = 4 | 6;

/** What an address is good for, seen from the internet (RFC 6890). */
export type AddressKind =
  | 'public'
  | 'private'
  | 'cgnat'
  | 'loopback'
  | 'linklocal'
  | 'unspecified'
  | 'reserved';

export const ANY_IPV4 = '0.0.0.0';
export const ANY_IPV6 = '::';

/** What `isValidFourPartDecimal` takes, which is slow in tables of thousands. */
const IPV4 = /^(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}$/;

/** The canonical text of an address, or undefined where `text` is none. Never accepts octal or short forms. */
export function parseAddress(text: string): IpAddress | undefined {
  if (text.length > 64) return undefined;
  if (IPV4.test(text) && !/(?:^|\.)0\d/.test(text)) return text;
  const bare = withoutZone(text);
  const zone = text.slice(bare.length);
  // Interface names hold more than the library takes in a zone: `br-lan`, `eth0.100`.
  if (!bare.includes(':') || !ipaddr.IPv6.isValid(bare) || !/^(%[\w.@-]{1,32})?$/.test(zone))
    return undefined;
  const address = ipaddr.IPv6.parse(bare);
  return address.isIPv4MappedAddress() ? address.toIPv4Address().toString() : address.toString() + zone;
}

/** 4 or 6. `address` is an IpAddress. */
export function family(address: IpAddress): Family {
  return address.includes(':') ? 6 : 4;
}

/** An address for the authority of a URL or an endpoint: IPv6 in brackets. */
export function bracketed(address: IpAddress): string {
  return family(address) === 6 ? `[${address}]` : address;
}

/** The address without its zone. */
export function withoutZone(address: IpAddress): IpAddress {
  const zone = address.indexOf('%');
  return zone < 0 ? address : address.slice(0, zone);
}

export function kindOf(address: IpAddress): AddressKind {
  const range = ipaddr.parse(withoutZone(address)).range();
  switch (range) {
    case 'unicast':
      return 'public';
    case 'private':
    case 'uniqueLocal':
      return 'private';
    case 'carrierGradeNat':
      return 'cgnat';
    case 'loopback':
      return 'loopback';
    case 'linkLocal':
      return 'linklocal';
    case 'unspecified':
      return 'unspecified';
    default:
      return 'reserved';
  }
}

/** Reports whether what is sent there never leaves this host: 127.0.0.0/8 and ::1 (RFC 1122, RFC 4291). */
export function isLoopback(address: IpAddress): boolean {
  return address.startsWith('127.') || address === '::1';
}

/** Reports whether both lie in one network of `prefixLength` bits. */
export function sameNetwork(a: IpAddress, b: IpAddress, prefixLength: number): boolean {
  if (a === b) return true;
  if (family(a) !== family(b)) return false;
  const [left, right] = [ipaddr.parse(withoutZone(a)), ipaddr.parse(withoutZone(b))];
  if (left.kind() === 'ipv4') return (left as ipaddr.IPv4).match(right, prefixLength);
  return (left as ipaddr.IPv6).match(right, prefixLength);
}

/** 4 or 16 bytes in network order. */
export function addressBytes(address: IpAddress): Uint8Array {
  return Uint8Array.from(ipaddr.parse(withoutZone(address)).toByteArray());
}

/** 16 bytes in network order; IPv4 as IPv4-mapped IPv6 (RFC 6887, section 5). */
export function addressBytes16(address: IpAddress): Uint8Array {
  const bytes = addressBytes(address);
  if (bytes.length === 16) return bytes;
  const mapped = new Uint8Array(16);
  mapped.set([0xff, 0xff], 10);
  mapped.set(bytes, 12);
  return mapped;
}

/** The address in 4 or 16 bytes; IPv4-mapped IPv6 comes back as IPv4. Throws MALFORMED on any other length. */
export function addressFromBytes(bytes: Uint8Array): IpAddress {
  if (bytes.length !== 4 && bytes.length !== 16) {
    throw new NatwardError('MALFORMED', `an address of ${bytes.length} bytes`);
  }
  const address = ipaddr.fromByteArray([...bytes]);
  if (address.kind() === 'ipv6' && (address as ipaddr.IPv6).isIPv4MappedAddress()) {
    return (address as ipaddr.IPv6).toIPv4Address().toString();
  }
  return address.toString();
}
