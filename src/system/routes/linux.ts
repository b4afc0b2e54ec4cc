/**
 * Linux's routing tables as `/proc/net/route` and `/proc/net/ipv6_route` tell them: no program is needed, so
 * that it is quick and works in a container without iproute2. The IPv4 file shows the main table only, so a VPN
 * that lives in a table of its own (wg-quick's 51820) does not appear there; the IPv6 file shows all tables.
 * Next hops of multipath routes beyond the first, and IPv6 next hops of IPv4 routes, are not in the IPv4 file.
 */

import { addressFromBytes, ANY_IPV6, family } from '../../net/address.ts';
import { type RouteEntry, zoned } from './default.ts';

export const IPV4_TABLE = '/proc/net/route';
export const IPV6_TABLE = '/proc/net/ipv6_route';

/** A table of this length belongs to a router of the internet's core; no default route is missed at home. */
const MOST_LINES = 10_000;

// <linux/route.h>
const RTF_UP = 0x0001;
const RTF_GATEWAY = 0x0002;
const RTF_REJECT = 0x0200;

/** `Destination/Mask` as IPv4's file writes them: a 32-bit number of the machine, so the first byte is last. */
const IPV4_DESTINATIONS: ReadonlyMap<string, string> = new Map([
  ['00000000/00000000', '0.0.0.0/0'],
  ['00000000/00000080', '0.0.0.0/1'],
  ['00000080/00000080', '128.0.0.0/1'],
]);

/** Destination and prefix length as IPv6's file writes them: bytes in network order, the length in hex. */
const IPV6_DESTINATIONS: ReadonlyMap<string, string> = new Map([
  [`${'0'.repeat(32)}/00`, '::/0'],
  [`${'0'.repeat(32)}/01`, '::/1'],
  [`8${'0'.repeat(31)}/01`, '8000::/1'],
  [`2${'0'.repeat(31)}/03`, '2000::/3'],
  [`2${'0'.repeat(31)}/04`, '2000::/4'],
  [`3${'0'.repeat(31)}/04`, '3000::/4'],
]);

/** The entries of `/proc/net/route` that a default route is made of. Skips what it cannot read. */
export function parseIpv4Table(text: string): RouteEntry[] {
  const entries: RouteEntry[] = [];
  for (const line of text.split('\n', MOST_LINES)) {
    const [name, destination, hop, flagWord, , , metric, mask] = line.trim().split(/\s+/);
    const found = IPV4_DESTINATIONS.get(`${destination}/${mask}`);
    if (found === undefined || name === undefined || hop === undefined || metric === undefined) continue;
    const flags = flagsOf(flagWord);
    // A blackhole route has no interface, and the file writes `*`; it carries no reject flag (kernel 6.18).
    if (flags === undefined || name === '*') continue;
    if (!/^[0-9A-F]{8}$/i.test(hop) || !/^-?\d+$/.test(metric)) continue;
    const gateway = flags & RTF_GATEWAY ? addressFromBytes(Buffer.from(hop, 'hex').toReversed()) : undefined;
    // The kernel prints this unsigned number with %d.
    entries.push({ destination: found, interface: name, gateway, metric: Number(metric) >>> 0 });
  }
  return entries;
}

/** The entries of `/proc/net/ipv6_route` that a default route is made of. Skips what it cannot read. */
export function parseIpv6Table(text: string): RouteEntry[] {
  const entries: RouteEntry[] = [];
  for (const line of text.split('\n', MOST_LINES)) {
    // The source prefix (columns 3 and 4) may be any: OpenWrt gives each delegated prefix its own default.
    const [destination, length, , , hop, metric, , , flagWord, name] = line.trim().split(/\s+/);
    const found = IPV6_DESTINATIONS.get(`${destination}/${length}`);
    if (found === undefined || name === undefined || hop === undefined || metric === undefined) continue;
    const flags = flagsOf(flagWord);
    // On `lo` stands the kernel's own reject, which ends every table.
    if (flags === undefined || name === 'lo') continue;
    if (!/^[0-9a-f]{32}$/i.test(hop) || !/^[0-9a-f]{8}$/i.test(metric)) continue;
    const address = flags & RTF_GATEWAY ? addressFromBytes(Buffer.from(hop, 'hex')) : ANY_IPV6;
    const gateway = address === ANY_IPV6 || family(address) === 4 ? undefined : zoned(address, name);
    entries.push({ destination: found, interface: name, gateway, metric: Number.parseInt(metric, 16) });
  }
  return entries;
}

/** The flags of a route that carries packets; undefined for any other and for what is no flag word. */
function flagsOf(word: string | undefined): number | undefined {
  if (word === undefined || !/^[0-9A-F]{4,8}$/i.test(word)) return undefined;
  const flags = Number.parseInt(word, 16);
  return flags & RTF_UP && !(flags & RTF_REJECT) ? flags : undefined;
}
