/**
 * Which rule the first packet of a conversation finds, as chains and maps that take the same time for one rule and for
 * sixty thousand. A port that one rule alone asks for, and nothing more, is an element of a map; any other that a rule
 * names has a chain of its own, with all rules that may want it in their order; wide ranges stand in a last chain. Pure.
 */

import { type Family, family as familyOf, type IpAddress } from '../../net/address.ts';
import { hasPort } from '../../net/port-set.ts';
import { type PortRange, portCount } from '../../net/port-range.ts';
import type { TransportProtocol } from '../../net/protocol.ts';
import { readOnce } from '../read-once.ts';
import type { NftChain, NftSet } from './change.ts';
import { OTHER_BITS } from './marks.ts';
import { address as addressText, markLiteral, portElements } from './syntax.ts';

/** What one rule asks of a packet, and what becomes of that. */
export interface Candidate {
  readonly protocol: TransportProtocol;
  /** Undefined: both. */
  readonly family: Family | undefined;
  readonly ports: readonly PortRange[];
  readonly conditions: string;
  /** The one address that it names, of its family; undefined: none, or several, which are among the conditions. */
  readonly address: IpAddress | undefined;
  /** What it asks of where the packet goes where it names no address: this host, or another. */
  readonly destination: string;
  /** Undefined: it is the relay's, or nobody's; the kernel lets it be. */
  readonly mark: number | undefined;
  /** What it is in a map, where it has one port: in a large table that is worked out once. Filled in here. */
  elements?: readonly MarkElement[] | undefined;
}

/** Of a map to marks. */
export interface MarkElement {
  readonly key: string;
  readonly value: string;
}

export interface Dispatch {
  readonly chains: ReadonlyMap<string, NftChain>;
  readonly sets: ReadonlyMap<string, NftSet>;
}

/** More ports than this are a range, which has no element for each. */
const MAX_PORTS = 64;
/** Ports as numbers of their own: those of UDP come after those of TCP. */
const UDP = 65_536;
/** Lines of wide rules that are copied into the chains of single ports; beyond it all stand in one chain. */
const MAX_COPIES = 300_000;

const FAMILIES: readonly Family[] = [4, 6];
const FAMILY_NAMES = { 4: 'ipv4', 6: 'ipv6' } as const;
/** What keys begin with is the same for thousands: it is written once. */
const PLAIN_KEYS = {
  4: { tcp: 'ipv4 . tcp . ', udp: 'ipv4 . udp . ' },
  6: { tcp: 'ipv6 . tcp . ', udp: 'ipv6 . udp . ' },
} as const;
const EXACT_KEYS = {
  tcp: readOnce((one) => ({ start: `${addressText(one)} . tcp . ` })),
  udp: readOnce((one) => ({ start: `${addressText(one)} . udp . ` })),
} as const;
/** A conversation begins with it; one that was cut does not begin again in its middle (RFC 9293, section 3.5). */
const BEGINS = 'tcp flags & (fin | syn | rst | ack) != syn return';

/**
 * `root` names the chain that packets come to, and begins the names of all else. `keepsMarks`: others mark connections
 * too; a map sets the whole of a mark, and is not used then.
 */
export function dispatchOf(root: string, candidates: readonly Candidate[], keepsMarks: boolean): Dispatch {
  let [named, wide]: [readonly Candidate[], readonly Candidate[]] = byWidth(candidates);
  let keys = keyed(named);
  if (keys.size * wide.length > MAX_COPIES) [named, wide, keys] = [[], candidates, new Map()];
  const places =
    wide.length === 0 ? undefined : new Map(candidates.map((one, place) => [one, place] as const));
  const chains = new Map<string, NftChain>();
  const [plain, exact, byPort] = [elements(), { 4: elements(), 6: elements() }, elements()];
  const put = (one: Candidate, protocol: TransportProtocol, port: number) => {
    const into = one.address === undefined ? plain : exact[familyOf(one.address)];
    for (const { key, value } of elementsOf(one, protocol, port)) into.set(key, value);
  };
  for (const [number, own] of keys) {
    const [protocol, port] = [number < UDP ? 'tcp' : 'udp', number % UDP] as const;
    if (!keepsMarks && wide.length === 0 && !Array.isArray(own) && isElement(own)) {
      put(own, protocol, port);
      continue;
    }
    const all = merged(Array.isArray(own) ? own : [own], wide, places, protocol, port);
    if (all.length === 0) continue;
    if (!keepsMarks && areElements(all)) {
      // The first in the order counts: it is put over the others.
      for (const one of all.toReversed()) put(one, protocol, port);
      continue;
    }
    const chain = `${root}_${protocol}_${port}`;
    chains.set(chain, { hook: undefined, lines: all.map((one) => line(one, '')) });
    byPort.set(`${protocol} . ${port}`, ` : goto ${chain}`);
  }
  const sets = new Map<string, NftSet>();
  const lines: string[] = [];
  if (byPort.size > 0) {
    sets.set(`map ${root}_chains`, { head: 'type inet_proto . inet_service : verdict', elements: byPort });
    lines.push(`meta l4proto . th dport vmap @${root}_chains`);
  }
  for (const family of FAMILIES) {
    if (exact[family].size === 0) continue;
    const [name, words] = [`${root}_exact${family}`, family === 4 ? 'ip' : 'ip6'];
    const head = `type ipv${family}_addr . inet_proto . inet_service : mark`;
    sets.set(`map ${name}`, { head, elements: exact[family] });
    lines.push(`ct mark set ${words} daddr . meta l4proto . th dport map @${name} goto decided`);
  }
  if (plain.size > 0) {
    const head = 'type nf_proto . inet_proto . inet_service : mark';
    sets.set(`map ${root}_plain`, { head, elements: plain });
    const key = 'meta nfproto . meta l4proto . th dport';
    for (const one of destinationsOf(candidates)) {
      lines.push(`${one} ct mark set ${key} map @${root}_plain goto decided`);
    }
  }
  for (const one of upToLastMarked(wide)) lines.push(line(one, portsAsked(one)));
  if (lines.length > 0) chains.set(root, { hook: undefined, lines: [BEGINS, ...lines] });
  return { chains, sets };
}

/** Of one root all that name no address ask the same of it. */
function destinationsOf(candidates: readonly Candidate[]): ReadonlySet<string> {
  const all = new Set<string>();
  for (const { destination } of candidates) if (destination !== '') all.add(destination);
  return all;
}

/** Those of few ports, and those of many. */
function byWidth(candidates: readonly Candidate[]): [narrow: Candidate[], wide: Candidate[]] {
  const [narrow, wide]: [Candidate[], Candidate[]] = [[], []];
  for (const one of candidates) {
    let count = 0;
    for (const range of one.ports) count += portCount(range);
    (count <= MAX_PORTS ? narrow : wide).push(one);
  }
  return [narrow, wide];
}

/** By protocol and port, in their order; most ports have one alone. */
function keyed(named: readonly Candidate[]): Map<number, Candidate | Candidate[]> {
  const keys = new Map<number, Candidate | Candidate[]>();
  for (const one of named) {
    const base = one.protocol === 'tcp' ? 0 : UDP;
    for (const { first, last } of one.ports) {
      for (let port = first; port <= last; port++) {
        const key = base + port;
        const found = keys.get(key);
        if (found === undefined) keys.set(key, one);
        else if (Array.isArray(found)) found.push(one);
        else keys.set(key, [found, one]);
      }
    }
  }
  return keys;
}

/** Those of the port and the wide ones that hold it, in their order. What the kernel lets be ends it only if more follows. */
function merged(
  own: readonly Candidate[],
  wide: readonly Candidate[],
  places: ReadonlyMap<Candidate, number> | undefined,
  protocol: TransportProtocol,
  port: number,
): readonly Candidate[] {
  const holding =
    wide.length === 0 ? wide : wide.filter((one) => one.protocol === protocol && hasPort(one.ports, port));
  if (holding.length === 0) return upToLastMarked(own);
  const placeOf = (one: Candidate) => places?.get(one) ?? 0;
  const all = [...own, ...holding].sort((a, b) => placeOf(a) - placeOf(b));
  return all.every(({ mark }) => mark === undefined) ? [] : all;
}

/** Nothing is told apart behind the last that the kernel does. */
function upToLastMarked(candidates: readonly Candidate[]): readonly Candidate[] {
  const last = candidates.findLastIndex(({ mark }) => mark !== undefined);
  return last + 1 === candidates.length ? candidates : candidates.slice(0, last + 1);
}

/**
 * Reports whether maps say it all: each asks for the port and no more than an address, and none with an address stands
 * beneath one without, since the addresses are looked up first.
 */
function areElements(candidates: readonly Candidate[]): boolean {
  const anywhere = { 4: false, 6: false };
  return candidates.every((one) => {
    if (!isElement(one)) return false;
    if (one.address !== undefined) return !anywhere[familyOf(one.address)];
    for (const family of one.family === undefined ? FAMILIES : [one.family]) anywhere[family] = true;
    return true;
  });
}

/** It asks for the port and where the packet goes, and no more. */
function isElement({ mark, conditions, address, destination }: Candidate): boolean {
  return mark !== undefined && conditions === '' && (address !== undefined || destination !== '');
}

function elementsOf(one: Candidate, protocol: TransportProtocol, port: number): readonly MarkElement[] {
  const isAlone = one.ports.length === 1 && one.ports[0]?.first === one.ports[0]?.last;
  if (isAlone && one.elements !== undefined) return one.elements;
  const { address, family, mark } = one;
  const value = ` : ${markLiteral(mark as number)}`;
  const written =
    address === undefined
      ? (family === undefined ? FAMILIES : [family]).map((of) => {
          return { key: PLAIN_KEYS[of][protocol] + port, value };
        })
      : [{ key: EXACT_KEYS[protocol](address).start + port, value }];
  if (isAlone) one.elements = written;
  return written;
}

function elements(): Map<string, string> {
  return new Map();
}

function portsAsked({ protocol, ports }: Candidate): string {
  const [first] = ports;
  return first?.first === 1 && first.last === 65_535
    ? `meta l4proto ${protocol}`
    : `${protocol} dport ${portElements(ports)}`;
}

function line({ family, address, conditions, destination, mark }: Candidate, ports: string): string {
  const outcome =
    mark === undefined ? 'accept' : `ct mark set ct mark & ${OTHER_BITS} | ${markLiteral(mark)} goto decided`;
  // An address says its family by itself.
  const asked =
    family === undefined || address !== undefined || /\bip6? /.test(conditions)
      ? ''
      : `meta nfproto ${FAMILY_NAMES[family]}`;
  const to =
    address === undefined
      ? destination
      : `${familyOf(address) === 4 ? 'ip' : 'ip6'} daddr ${addressText(address)}`;
  return [asked, ports, to, conditions, outcome].filter((one) => one !== '').join(' ');
}
