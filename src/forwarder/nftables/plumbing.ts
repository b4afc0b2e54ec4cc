/**
 * What the kernel needs beside the nft tables, as values: settings of the network (sysctls), and for each way out of a
 * rule (`via`) a policy rule, a routing table and, where frames go to a MAC address, a neighbour. plumber.ts does it.
 */

import type { Family } from '../../net/address.ts';

/** A way out for marked packets: all of a rule's packets leave by this adapter, whatever the main table says. */
export interface Path {
  /** 1..255. The firewall mark is `number << 16`, under the mask 0xffff0000. */
  readonly number: number;
  readonly adapter: string;
  /** Frames go to this neighbour. Undefined: to the adapter's own gateway, or straight to the destination. */
  readonly targetMac: string | undefined;
  readonly families: readonly Family[];
}

export interface Plumbing {
  /** `net.ipv4.conf.eth0.forwarding` -> `1`, in the order in which they are to be set. */
  readonly sysctls: ReadonlyMap<string, string>;
  readonly paths: readonly Path[];
}

/** By this number `ip` names those who made a rule, a route, a neighbour: natward. */
export const OWN_PROTOCOL = 110;
/**
 * After those of VRFs (1000) and Tailscale (5210), and before those that VPNs put right before the main table (wg-quick:
 * 32764), which would take the packets first.
 */
const FIRST_PREFERENCE = 16_000;
/** Far above what people (1..255), systemd-networkd (1000), and wg-quick (51820) use. */
const FIRST_TABLE = 110_000;
export const MAX_PATHS = 255;
/** The last resort of the routing table: it loses against any other route. */
const LAST_METRIC = 4_294_967_295;

/** What is to be, or is, in one family: lines without `add` and `del`, as `ip -batch` takes them. */
export interface Lines {
  readonly rules: ReadonlySet<string>;
  readonly routes: ReadonlySet<string>;
  readonly neighbours: ReadonlySet<string>;
}

export function tableOf(path: number): number {
  return FIRST_TABLE + path;
}

export function isOwnTable(table: number): boolean {
  return table > FIRST_TABLE && table <= FIRST_TABLE + MAX_PATHS;
}

function ruleLine(path: number): string {
  const mark = `0x${path.toString(16)}0000/0xffff0000`;
  return `pref ${FIRST_PREFERENCE + path} fwmark ${mark} lookup ${tableOf(path)} protocol ${OWN_PROTOCOL}`;
}

/** `gateway` as in `via`: `10.0.0.1`, or `inet6 fe80::1` of an IPv4 route. */
export function routeLine(path: number, adapter: string, gateway: string | undefined): string {
  const by = gateway === undefined ? `dev ${adapter}` : `via ${gateway} dev ${adapter} onlink`;
  return `default ${by} table ${tableOf(path)} proto ${OWN_PROTOCOL}`;
}

/** While the adapter is away its packets are refused, and do not leave by another one. */
export function guardLine(path: number): string {
  return `unreachable default metric ${LAST_METRIC} table ${tableOf(path)} proto ${OWN_PROTOCOL}`;
}

export function neighbourLine(address: string, mac: string, adapter: string): string {
  return `${address} lladdr ${mac} dev ${adapter} nud permanent protocol ${OWN_PROTOCOL}`;
}

/**
 * The address of a neighbour that nobody has, for frames to a MAC address. IPv4: of 240.0.0.0/4, which no host may use;
 * one of 169.254.0.0/16 would make masquerading choose an address of that network where the adapter has one.
 */
function placeholder(path: number, family: Family): string {
  return family === 4 ? `240.110.0.${path}` : `fe80::6e61:7477:6172:${path.toString(16)}`;
}

/** What `paths` need. `gatewayOf` answers for adapters that are up; the others keep their guard alone. */
export function linesOf(
  paths: readonly Path[],
  family: Family,
  waiting: ReadonlyMap<number, string>,
  gatewayOf: (adapter: string) => string | undefined,
): Lines {
  const lines = { rules: new Set<string>(), routes: new Set<string>(), neighbours: new Set<string>() };
  for (const { number, adapter, targetMac, families } of paths) {
    if (!families.includes(family)) continue;
    lines.rules.add(ruleLine(number));
    lines.routes.add(guardLine(number));
    if (waiting.has(number)) continue;
    const next = placeholder(number, family);
    if (targetMac !== undefined) lines.neighbours.add(neighbourLine(next, targetMac.toLowerCase(), adapter));
    lines.routes.add(routeLine(number, adapter, targetMac === undefined ? gatewayOf(adapter) : next));
  }
  return lines;
}

/**
 * From what is there to what is wanted, a line each, in an order that leaves no packet to the main table: routes come
 * before the rule that leads to them, and go after it.
 */
export function batchOf(present: Lines, wanted: Lines): readonly string[] {
  const gone = (kind: keyof Lines) => [...present[kind]].filter((line) => !wanted[kind].has(line));
  const fresh = (kind: keyof Lines) => [...wanted[kind]].filter((line) => !present[kind].has(line));
  return [
    ...fresh('neighbours').map((line) => `neigh replace ${line}`),
    ...gone('rules').map((line) => `rule del ${line}`),
    ...gone('routes').map((line) => `route del ${line}`),
    ...fresh('routes').map((line) => `route add ${line}`),
    ...fresh('rules').map((line) => `rule add ${line}`),
    ...gone('neighbours').map((line) => `neigh del ${neighbourKey(line)}`),
  ].filter((line, _, all) => !line.startsWith('neigh del ') || !all.some((other) => replaces(other, line)));
}

function neighbourKey(line: string): string {
  return line.replace(/ lladdr \S+| nud permanent| protocol \d+/g, '');
}

/** The same neighbour with another MAC address has been replaced: there is nothing left to take away. */
function replaces(line: string, deletion: string): boolean {
  return line.startsWith('neigh replace ') && neighbourKey(line.slice(14)) === deletion.slice(10);
}

/** The paths that cannot be set up now, with the reason. `up`: adapters present, and whether each of them is up. */
export function missingAdapters(
  paths: readonly Path[],
  up: ReadonlyMap<string, boolean>,
): ReadonlyMap<number, string> {
  const missing = new Map<number, string>();
  for (const { number, adapter } of paths) {
    const state = up.get(adapter);
    if (state === undefined) missing.set(number, `there is no adapter ${adapter}`);
    else if (!state) missing.set(number, `${adapter} is down`);
  }
  return missing;
}

/** Answers undefined where there is no such setting. */
export type ReadSysctl = (name: string) => string | undefined;

/**
 * What a path needs. Its answers come in where the main table would not send to their sender, and the strict filter
 * drops those: it becomes the loose one. `src_valid_mark` is no way out, as answers carry no firewall mark.
 */
export function pathSysctls(path: Path, read: ReadSysctl): ReadonlyMap<string, string> {
  const own = `net.ipv4.conf.${path.adapter}.rp_filter`;
  const filters = new Set([read(own), read('net.ipv4.conf.all.rp_filter')]);
  // The kernel takes the larger of both; 2 is the loose one.
  const drops = path.families.includes(4) && filters.has('1') && !filters.has('2');
  return new Map(drops ? [[own, '2']] : []);
}

/**
 * The least that lets packets through which come in by `inAdapters`: those of the clients, those of the answers. The
 * kernel asks the adapter where a packet comes in. Other adapters, and what `ip_forward` resets on its way (every
 * adapter's forwarding, accept_redirects of all), stay as they are. `adapters` are all that are present.
 */
export function forwardingSysctls(
  families: readonly Family[],
  inAdapters: readonly string[],
  adapters: readonly string[],
  read: ReadSysctl,
): ReadonlyMap<string, string> {
  const set = new Map<string, string>();
  if (families.includes(4)) {
    for (const adapter of inAdapters) set.set(`net.ipv4.conf.${adapter}.forwarding`, '1');
  }
  if (families.includes(6) && read('net.ipv6.conf.all.forwarding') !== '1') {
    // Since Linux 6.17; router advertisements go on to be accepted with it.
    if (read('net.ipv6.conf.all.force_forwarding') !== undefined) {
      for (const adapter of inAdapters) set.set(`net.ipv6.conf.${adapter}.force_forwarding`, '1');
    } else {
      for (const [name, value] of oldIpv6Forwarding(adapters, read)) set.set(name, value);
    }
  }
  return set;
}

/**
 * Only of all adapters at once. A router takes no advertisements, and drops its default route at that moment, but where
 * accept_ra is 2 already.
 */
function oldIpv6Forwarding(adapters: readonly string[], read: ReadSysctl): [string, string][] {
  const raised = adapters
    .filter((adapter) => read(`net.ipv6.conf.${adapter}.forwarding`) === '0')
    .map((adapter) => `net.ipv6.conf.${adapter}.accept_ra`)
    .filter((name) => read(name) === '1');
  return [...raised.map((name): [string, string] => [name, '2']), ['net.ipv6.conf.all.forwarding', '1']];
}
