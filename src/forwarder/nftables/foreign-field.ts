/**
 * What a packet's fields hold, as far as it is known: some bits, a name, or nothing at all. nft's expressions on one
 * side, a passage on the other. Pure.
 */

import {
  addressBytes,
  addressBytes16,
  type Family,
  type IpAddress,
  parseAddress,
} from '../../net/address.ts';
import { PROTOCOL_NUMBER, type TransportProtocol } from '../../net/protocol.ts';
import { arrayOf, type Hook, isObject, type Json, numberOf, textOf } from './foreign-ruleset.ts';

/** What a rule can ask of the first packet of a conversation. Undefined: may be anything. */
export interface Packet {
  readonly hook: Hook;
  readonly family: Family;
  readonly protocol: TransportProtocol;
  readonly source: IpAddress | undefined;
  readonly sourcePort: number | undefined;
  readonly destination: IpAddress | undefined;
  readonly destinationPort: number | undefined;
  readonly inAdapter: string | undefined;
  readonly outAdapter: string | undefined;
  readonly isTranslated: boolean;
  mark: number | undefined;
}

type Symbols = Readonly<Record<string, number>>;

export type Field =
  /** A number of `width` bits, of which `known` are known. `others`: what an unknown word stands for, if one can tell. */
  | {
      readonly kind: 'bits';
      readonly value: bigint;
      readonly known: bigint;
      readonly width: number;
      readonly symbols: Symbols;
      readonly others: bigint | undefined;
    }
  | { readonly kind: 'name'; readonly name: string | undefined }
  /** Not known at all. */
  | { readonly kind: 'unknown' }
  /** The packet has no such field: nft ends the rule, whatever it compares with. */
  | { readonly kind: 'absent' };

export type Bits = Extract<Field, { kind: 'bits' }>;

const UNKNOWN: Field = { kind: 'unknown' };
const ABSENT: Field = { kind: 'absent' };
/** No field holds it. */
const NEVER = -1n;

const STATES: Symbols = { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 };
const STATUSES: Symbols = {
  expected: 1,
  'seen-reply': 2,
  assured: 4,
  confirmed: 8,
  snat: 16,
  dnat: 32,
  dying: 512,
};
const FLAGS: Symbols = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32, ecn: 64, cwr: 128 };
const ROUTES: Symbols = {
  unspec: 0,
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
};
const DIRECTIONS: Symbols = { original: 0, reply: 1 };
const PACKET_TYPES: Symbols = { host: 0, unicast: 0, broadcast: 1, multicast: 2, other: 3 };
const HEADERS: Symbols = { ip: 0x0800, ip6: 0x86dd };
const FAMILIES: Symbols = { ipv4: 2, ipv6: 10 };

export function ones(width: number): bigint {
  return (1n << BigInt(width)) - 1n;
}

/** The field that an nft expression reads. */
export function fieldOf(expression: unknown, packet: Packet): Field {
  if (!isObject(expression)) return UNKNOWN;
  const [kind, value] = Object.entries(expression)[0] ?? [];
  if (kind === '&') return masked(arrayOf(value), packet);
  if (!isObject(value)) return UNKNOWN;
  switch (kind) {
    case 'meta':
      return metaField(textOf(value['key']), packet);
    case 'payload':
      return 'base' in value
        ? rawField(value, packet)
        : payloadField(textOf(value['protocol']), textOf(value['field']), packet);
    case 'ct':
      return conntrackField(textOf(value['key']), textOf(value['dir']), packet);
    case 'fib':
      return routeField(value, packet);
    case 'exthdr':
      // What opens a conversation has no extension headers. Whether there is one is a field that is always there.
      return value['field'] === undefined ? number(0, 1) : ABSENT;
    default:
      return UNKNOWN;
  }
}

/** A constant as lowest and highest number; undefined where it is not understood. */
export function rangeOf(constant: unknown, field: Bits): readonly [bigint, bigint] | undefined {
  const { width } = field;
  if (typeof constant === 'number') {
    return Number.isSafeInteger(constant) && constant >= 0 ? [BigInt(constant), BigInt(constant)] : undefined;
  }
  if (typeof constant === 'boolean') return constant ? [1n, 1n] : [0n, 0n];
  if (typeof constant === 'string') {
    const single = numberOfText(constant, field);
    return single === undefined ? undefined : [single, single];
  }
  if (Array.isArray(constant)) return flagsOf(constant, field);
  if (!isObject(constant)) return undefined;
  if (Array.isArray(constant['|'])) return flagsOf(constant['|'], field);
  const range = arrayOf(constant['range']);
  if (range.length === 2 && range.every((end) => typeof end !== 'object')) {
    const [first, last] = [rangeOf(range[0], field), rangeOf(range[1], field)];
    return first && last && [first[0], last[1]];
  }
  const prefix = constant['prefix'];
  if (!isObject(prefix) || typeof prefix['addr'] !== 'string') return undefined;
  const [address, length] = [numberOfText(prefix['addr'], field), prefix['len']];
  if (address === undefined || typeof length !== 'number' || !(length >= 0 && length <= width))
    return undefined;
  if (!Number.isInteger(length)) return undefined;
  const rest = ones(width - length);
  return [address & ~rest, address | rest];
}

function metaField(key: string | undefined, packet: Packet): Field {
  const { hook, family, protocol, inAdapter, outAdapter, mark } = packet;
  switch (key) {
    case 'l4proto':
      return transport(protocol);
    case 'nfproto':
      return number(family === 4 ? 2 : 10, 8, FAMILIES, NEVER);
    case 'protocol':
      return number(family === 4 ? 0x0800 : 0x86dd, 16, HEADERS, NEVER);
    case 'mark':
      return number(mark, 32);
    // Where there is no such adapter yet, or none any more, its name is empty.
    case 'iif':
    case 'iifname':
      return { kind: 'name', name: hook === 'output' ? '' : inAdapter };
    case 'oif':
    case 'oifname':
      return { kind: 'name', name: hook === 'prerouting' || hook === 'input' ? '' : outAdapter };
    case 'pkttype':
      return hook === 'output' || hook === 'postrouting' ? UNKNOWN : number(0, 8, PACKET_TYPES);
    case 'skuid':
    case 'skgid':
      return hook === 'prerouting' || hook === 'forward' ? ABSENT : UNKNOWN;
    default:
      return UNKNOWN;
  }
}

/** Fields by their place, in bits from the header's begin: so miniupnpd asks. */
const RAW: Readonly<Record<string, readonly [string, string]>> = {
  'nh 4 72 8': ['ip', 'protocol'],
  'nh 4 96 32': ['ip', 'saddr'],
  'nh 4 128 32': ['ip', 'daddr'],
  'nh 6 48 8': ['ip6', 'nexthdr'],
  'nh 6 64 128': ['ip6', 'saddr'],
  'nh 6 192 128': ['ip6', 'daddr'],
  'th 0 16': ['th', 'sport'],
  'th 16 16': ['th', 'dport'],
};

function rawField({ base, offset, len }: Json, packet: Packet): Field {
  const version = base === 'nh' ? `${packet.family} ` : '';
  const name = typeof base === 'string' ? `${base} ${version}${numberOf(offset)} ${numberOf(len)}` : '';
  const [header, field] = (Object.hasOwn(RAW, name) ? RAW[name] : undefined) ?? [];
  return header === undefined ? UNKNOWN : payloadField(header, field, packet);
}

function payloadField(header: string | undefined, field: string | undefined, packet: Packet): Field {
  const { family, protocol } = packet;
  switch (header) {
    case 'ip':
    case 'ip6':
      if (family !== (header === 'ip' ? 4 : 6)) return ABSENT;
      if (field === 'saddr') return address(packet.source, family);
      if (field === 'daddr') return address(packet.destination, family);
      if (field === 'protocol' || field === 'nexthdr') return transport(protocol);
      // No fragment; DF alone may be set.
      return field === 'frag-off' ? { ...bits(0n, ones(14), 16), symbols: {} } : UNKNOWN;
    case 'th':
    case 'tcp':
    case 'udp':
      if (header !== 'th' && header !== protocol) return ABSENT;
      if (field === 'sport') return number(packet.sourcePort, 16);
      if (field === 'dport') return number(packet.destinationPort, 16);
      // A conversation opens with SYN alone; ECN may be asked for with it.
      return field === 'flags' && protocol === 'tcp' ? { ...bits(2n, 0x3fn, 8), symbols: FLAGS } : UNKNOWN;
    case 'icmp':
    case 'icmpv6':
    case 'igmp':
    case 'sctp':
    case 'dccp':
    case 'udplite':
    case 'esp':
    case 'ah':
    case 'comp':
    case 'arp':
      return ABSENT;
    default:
      return UNKNOWN;
  }
}

function conntrackField(key: string | undefined, direction: string | undefined, packet: Packet): Field {
  const { hook, family, isTranslated } = packet;
  // The addresses that the client used. Sources are rewritten on the way out only.
  const isOriginal = direction === 'original';
  switch (key) {
    case 'state':
      return number(8, 32, STATES);
    case 'status':
      // Nothing was answered, and confirmed is it last of all. Of `snat` and `expected` one cannot know.
      return { ...bits(isTranslated ? 32n : 0n, 0x2en, 32), symbols: STATUSES };
    case 'direction':
      return number(0, 8, DIRECTIONS);
    case 'protocol':
      return transport(packet.protocol);
    case 'ip saddr':
    case 'ip6 saddr':
      if (family !== (key === 'ip saddr' ? 4 : 6)) return ABSENT;
      return isOriginal && hook !== 'postrouting' ? address(packet.source, family) : UNKNOWN;
    case 'ip daddr':
    case 'ip6 daddr':
      if (family !== (key === 'ip daddr' ? 4 : 6)) return ABSENT;
      return isOriginal && !isTranslated ? address(packet.destination, family) : UNKNOWN;
    case 'proto-dst':
      return isOriginal && !isTranslated ? number(packet.destinationPort, 16) : UNKNOWN;
    default:
      return UNKNOWN;
  }
}

function routeField({ result, flags }: Json, { hook }: Packet): Field {
  const asked = arrayOf(flags);
  if (result === 'type' && asked.length === 1 && asked[0] === 'daddr') {
    if (hook === 'input') return number(2, 32, ROUTES);
    if (hook === 'forward') return number(1, 32, ROUTES);
  }
  // Asking for the way back to the sender: a client whose answers leave elsewhere is not what a rule is about.
  if ((result === 'oif' || result === 'oifname') && asked.includes('saddr')) return number(1, 1);
  return UNKNOWN;
}

function masked([left, mask]: readonly unknown[], packet: Packet): Field {
  // One level: nft folds constants itself.
  const field = isObject(left) && !('&' in left) ? fieldOf(left, packet) : UNKNOWN;
  if (field.kind !== 'bits') return field.kind === 'absent' ? field : UNKNOWN;
  const range = rangeOf(mask, field);
  if (range === undefined || range[0] !== range[1]) return UNKNOWN;
  return { ...field, value: field.value & range[0], known: field.known | (ones(field.width) & ~range[0]) };
}

function bits(value: bigint, known: bigint, width: number): Omit<Bits, 'symbols'> {
  return { kind: 'bits', value, known, width, others: undefined };
}

function number(value: number | undefined, width: number, symbols: Symbols = {}, others?: bigint): Field {
  const known = value === undefined ? 0n : ones(width);
  return { ...bits(BigInt(value ?? 0) & known, known, width), symbols, others };
}

// Any other protocol's name is another protocol.
function transport(protocol: TransportProtocol): Field {
  return number(PROTOCOL_NUMBER[protocol], 8, PROTOCOL_NUMBER, NEVER);
}

function address(value: IpAddress | undefined, family: Family): Field {
  const width = family === 4 ? 32 : 128;
  const known = value === undefined ? undefined : addressNumber(value, width);
  return { ...bits(known ?? 0n, known === undefined ? 0n : ones(width), width), symbols: {} };
}

function flagsOf(words: readonly unknown[], field: Bits): readonly [bigint, bigint] | undefined {
  if (words.length > 64) return undefined;
  let all = 0n;
  for (const word of words) {
    const one = typeof word === 'object' ? undefined : rangeOf(word, field);
    if (one === undefined) return undefined;
    all |= one[0];
  }
  return [all, all];
}

function numberOfText(text: string, { width, symbols, others }: Bits): bigint | undefined {
  if (Object.hasOwn(symbols, text)) return BigInt(symbols[text] as number);
  if (/^(0x[\da-f]{1,32}|\d{1,39})$/i.test(text)) return BigInt(text);
  return (width === 32 || width === 128 ? addressNumber(text, width) : undefined) ?? others;
}

function addressNumber(text: string, width: number): bigint | undefined {
  const parsed = parseAddress(text);
  if (parsed === undefined) return undefined;
  const bytes = width === 128 ? addressBytes16(parsed) : addressBytes(parsed);
  if (bytes.length * 8 !== width) return undefined;
  return bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}
