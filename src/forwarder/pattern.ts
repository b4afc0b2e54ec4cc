/** Addresses as a selector names them: an address, a network, a host name, several with commas between. */

import { NatwardError } from '../errors.ts';
import {
  addressBytes,
  bracketed,
  family,
  type IpAddress,
  parseAddress,
  sameNetwork,
} from '../net/address.ts';
import type { AddressPattern } from './rule.ts';
import { parseHostName } from './target.ts';

const MAX_PATTERNS = 1000;

/** Throws USAGE and names the item. IPv6 stands in brackets: `[2001:db8::]/32`. */
export function parsePatterns(text: string): readonly AddressPattern[] {
  const items = text.split(',');
  if (items.length > MAX_PATTERNS) throw new NatwardError('USAGE', `more than ${MAX_PATTERNS} addresses`);
  return items.map(parsePattern);
}

function parsePattern(text: string): AddressPattern {
  const [, bare, prefix] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const address = parseAddress((bare ?? '').replace(/^\[|\]$/g, ''));
  if (address !== undefined) {
    const bits = family(address) === 4 ? 32 : 128;
    const prefixLength = prefix === undefined ? bits : Number(prefix);
    if (prefixLength <= bits) return { kind: 'network', address, prefixLength };
    throw new NatwardError('USAGE', `"${text}": a prefix has at most ${bits} bits`);
  }
  const name = prefix === undefined ? parseHostName(text) : undefined;
  if (name !== undefined) return { kind: 'name', name };
  throw new NatwardError('USAGE', `"${text}" is no address, network or host name`);
}

export function formatPattern(pattern: AddressPattern): string {
  if (pattern.kind === 'name') return pattern.name;
  const { address, prefixLength } = pattern;
  const isOne = prefixLength === (family(address) === 4 ? 32 : 128);
  return isOne ? bracketed(address) : `${bracketed(address)}/${prefixLength}`;
}

/** `addressesOf` tells what a name stands for just now. */
export function matchesPattern(
  pattern: AddressPattern,
  address: IpAddress,
  addressesOf: (name: string) => readonly IpAddress[],
): boolean {
  if (pattern.kind === 'name') return addressesOf(pattern.name).includes(address);
  return sameNetwork(pattern.address, address, pattern.prefixLength);
}

/** Reports whether `outer` takes all that `inner` takes; of names only where they are the same. */
export function coversPattern(outer: AddressPattern, inner: AddressPattern): boolean {
  if (outer.kind === 'name' || inner.kind === 'name') {
    return outer.kind === 'name' && inner.kind === 'name' && outer.name === inner.name;
  }
  return networkKey(inner.address, inner.prefixLength).startsWith(
    networkKey(outer.address, outer.prefixLength),
  );
}

/** The family and the bits of a network: the key of one that holds another is where the other's begins. */
export function networkKey(address: IpAddress, prefixLength: number): string {
  const isIpv4 = family(address) === 4;
  const bytes = isIpv4 ? address.split('.').map(Number) : addressBytes(address);
  let bits = '';
  for (const byte of bytes) bits += BITS[byte];
  return `${isIpv4 ? 4 : 6}:${bits.slice(0, prefixLength)}`;
}

const BITS: readonly string[] = Array.from({ length: 256 }, (_, byte) => byte.toString(2).padStart(8, '0'));
