/**
 * Which routes carry everything that has no better one: the rule that every platform's table goes through.
 * Knows prefixes and next hops, and leaves reading the table to the platform's own file. A VPN seldom touches
 * the default route that it finds: it lays two or more halves over it, which win by their longer prefix. Such a
 * set, complete on one interface, is a default route here and stands before the one it hides.
 */

import { type Family, family, type IpAddress, kindOf, parseAddress, withoutZone } from '../../net/address.ts';

/** A way out of this machine. The order of a list of these says which wins; `metric` is what the system says. */
export interface DefaultRoute {
  readonly family: Family;
  readonly interface: string;
  /** Next hop; undefined on a point-to-point link (wg, tun). */
  readonly gateway: IpAddress | undefined;
  readonly metric: number;
}

/** One line of a table. */
export interface RouteEntry {
  /** In its short form: `0.0.0.0/0`, `8000::/1`. */
  readonly destination: string;
  readonly interface: string;
  readonly gateway: IpAddress | undefined;
  readonly metric: number;
}

interface Cover {
  readonly family: Family;
  readonly prefixLength: number;
  readonly parts: readonly string[];
}

/** Sets of networks that together take all traffic to the internet. */
const COVERS: readonly Cover[] = [
  { family: 4, prefixLength: 0, parts: ['0.0.0.0/0'] },
  // OpenVPN `redirect-gateway def1`; wg-quick on macOS and the BSDs
  { family: 4, prefixLength: 1, parts: ['0.0.0.0/1', '128.0.0.0/1'] },
  { family: 6, prefixLength: 0, parts: ['::/0'] },
  // wg-quick on macOS and the BSDs
  { family: 6, prefixLength: 1, parts: ['::/1', '8000::/1'] },
  // All global unicast there is (RFC 4291, section 2.4), as tunnel brokers' instructions route it
  { family: 6, prefixLength: 3, parts: ['2000::/3'] },
  // OpenVPN `redirect-gateway ipv6`, next to ::/3 and fc00::/7
  { family: 6, prefixLength: 4, parts: ['2000::/4', '3000::/4'] },
];

/** What a platform's file looks for in its table; the rest of a table is of no interest. */
export const DESTINATIONS: readonly string[] = COVERS.flatMap((cover) => cover.parts);

/** The default routes among `entries`, the one that traffic takes first; IPv4 before IPv6 at a tie. */
export function defaultRoutes(entries: readonly RouteEntry[]): DefaultRoute[] {
  const found: { readonly cover: Cover; readonly route: DefaultRoute }[] = [];
  for (const cover of COVERS) {
    const [first, ...others] = cover.parts;
    const seen = new Set<string>();
    for (const entry of entries) {
      const isWhole =
        entry.destination === first &&
        others.every((part) =>
          entries.some((other) => other.destination === part && other.interface === entry.interface),
        );
      // One way out can stand in several tables, or once for each source prefix (OpenWrt, IPv6).
      const way = `${entry.interface} ${entry.gateway ?? ''} ${entry.metric}`;
      if (!isWhole || seen.has(way)) continue;
      seen.add(way);
      const { gateway, metric } = entry;
      found.push({ cover, route: { family: cover.family, interface: entry.interface, gateway, metric } });
    }
  }
  return found
    .sort(
      (a, b) =>
        b.cover.prefixLength - a.cover.prefixLength ||
        a.route.metric - b.route.metric ||
        a.route.family - b.route.family,
    )
    .map(({ route }) => route);
}

/** `address` with `zone` where it means nothing without one: IPv6 link-local (RFC 4007, section 6). */
export function zoned(address: IpAddress, zone: string): IpAddress {
  return family(address) === 6 && kindOf(address) === 'linklocal' ? `${address}%${zone}` : address;
}

/** The address that a table names as next hop, with its own zone or else `zone`; undefined where it is none. */
export function nextHop(text: string, zone: string): IpAddress | undefined {
  // The zone is taken off first: interface names hold more characters (br-lan, eth0.100) than the parser lets.
  const bare = withoutZone(text);
  const address = parseAddress(bare);
  return address === undefined ? undefined : zoned(address, text.slice(bare.length + 1) || zone);
}
