/**
 * The routing table of macOS and the BSDs, as `netstat -rn` prints it. Every system has its own columns, so they
 * are found by the heading; macOS shortens IPv4 networks (`128.0/1`). The flags are netstat(1)'s letters. On
 * macOS a route with `I` is scoped: only sockets bound to its interface take it, so it stands behind the others.
 */

import { type Family, parseAddress } from '../../net/address.ts';
import { DESTINATIONS, nextHop, type RouteEntry } from './default.ts';

/** macOS lists every host of the local network it has met; a table beyond this is none that natward is for. */
const MOST_LINES = 10_000;

/** What runs over these has one far end, whatever stands in the gateway column (utun: `fe80::%utun0`). */
const POINT_TO_POINT = /^(?:utun|tun|wg|ppp|pppoe|ipsec|gif)\d+$/;

/** macOS and FreeBSD; OpenBSD; NetBSD and illumos; AIX. */
const INTERFACE_HEADINGS: ReadonlySet<string> = new Set(['Netif', 'Iface', 'Interface', 'If']);

export function netstatArguments(family: Family): string[] {
  return ['-rn', '-f', family === 4 ? 'inet' : 'inet6'];
}

/** The entries that a default route is made of, in a table of `family`. Skips what it cannot read. */
export function parseNetstat(text: string, family: Family): RouteEntry[] {
  const entries: RouteEntry[] = [];
  let columns: { readonly interface: number; readonly priority: number } | undefined;
  for (const line of text.split('\n', MOST_LINES)) {
    const words = line.trim().split(/\s+/);
    if (words[0] === 'Destination' && words[1] === 'Gateway' && words[2] === 'Flags') {
      const column = words.findIndex((word) => INTERFACE_HEADINGS.has(word));
      columns = column < 0 ? undefined : { interface: column, priority: words.indexOf('Prio') };
    } else if (columns !== undefined) {
      const entry = entryOf(words, columns, family);
      if (entry !== undefined) entries.push(entry);
    }
  }
  return entries;
}

function entryOf(
  words: readonly string[],
  columns: { readonly interface: number; readonly priority: number },
  family: Family,
): RouteEntry | undefined {
  const [target, hop, flags] = words;
  const name = words[columns.interface];
  if (target === undefined || hop === undefined || flags === undefined || name === undefined)
    return undefined;
  const destination = destinationOf(target, family);
  if (destination === undefined || !/^[A-Za-z0-9]+$/.test(flags)) return undefined;
  if (!flags.includes('U') || flags.includes('R') || flags.includes('B')) return undefined; // reject, blackhole
  const isScoped = flags.includes('I');
  const hasGateway = flags.includes('G') && !POINT_TO_POINT.test(name);
  // Such a route stands on every utun of macOS's own services and on shared bridges: it leads nowhere.
  if (isScoped && !hasGateway) return undefined;
  const gateway = hasGateway ? nextHop(hop, name) : undefined;
  if (hasGateway && gateway === undefined) return undefined;
  // Only OpenBSD shows a priority (1 to 63, the least wins).
  const priority = Number(words[columns.priority] ?? 0);
  if (!Number.isInteger(priority)) return undefined;
  return { destination, interface: name, gateway, metric: isScoped ? 1 : priority };
}

/** `default` or a network, in the short form of RouteEntry; undefined for those of no interest. */
function destinationOf(target: string, family: Family): string | undefined {
  if (target === 'default') return family === 4 ? '0.0.0.0/0' : '::/0';
  const [network = '', prefixLength = ''] = target.split('/', 2);
  const full = family === 4 ? [...network.split('.'), '0', '0', '0'].slice(0, 4).join('.') : network;
  const destination = `${parseAddress(full)}/${prefixLength}`;
  return DESTINATIONS.includes(destination) ? destination : undefined;
}
