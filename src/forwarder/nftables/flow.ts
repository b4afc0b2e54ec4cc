/**
 * One flow of the kernel's connection tracking: the commands of conntrack-tools that list flows, tell of them as they
 * come and go, or delete them, and a line of their answers as a value. Which flows are of interest is the caller's.
 *
 * Only a DESTROY and a listing tell counts. A DESTROY without a time left is that of a flow whose time ran out; an
 * older kernel tells no TCP state in it. The age is told where net.netfilter.nf_conntrack_timestamp is on.
 */

import { type IpAddress, parseAddress } from '../../net/address.ts';
import type { Endpoint } from '../../net/endpoint.ts';
import type { TransportProtocol } from '../../net/protocol.ts';

export interface Flow {
  /** Undefined in a listing. */
  readonly event: 'new' | 'update' | 'destroy' | undefined;
  /** A hash of the kernel's: another flow may have the same. */
  readonly id: number;
  readonly protocol: TransportProtocol;
  /** Of TCP, in the kernel's word: ESTABLISHED, TIME_WAIT. */
  readonly state: string | undefined;
  /** Who sent the first packet, and to whom. */
  readonly client: Endpoint;
  readonly local: Endpoint;
  /** Who answers, and whom: otherwise than `local` and `client` where the kernel translates. */
  readonly replySource: Endpoint;
  readonly replyDestination: Endpoint;
  /** From the client, and back, with the headers of IP. 0 where it is not told. */
  readonly packetsIn: number;
  readonly bytesIn: number;
  readonly packetsOut: number;
  readonly bytesOut: number;
  readonly isAnswered: boolean;
  /** Whole, without a sign. */
  readonly mark: number;
  /** Left until the kernel forgets it. */
  readonly timeoutSeconds: number | undefined;
  readonly ageSeconds: number | undefined;
  /** When the event was heard, in Unix milliseconds. */
  readonly heardAtMs: number | undefined;
}

type Command = readonly [string, ...string[]];

const PROGRAM = 'conntrack';
const LISTED = ['-o', 'extended,id'];
/** The kernel doubles it. Without it, events are lost already at a burst of some hundred conversations. */
const EVENT_BUFFER_BYTES = 8 * 2 ** 20;

/** Of all flows, or of those alone that have `mark` in the bits of `mask`: the kernel picks them, which is quick. */
export function listCommand(only?: { readonly mark: number; readonly mask: number }): Command {
  const picked = only === undefined ? [] : ['-m', masked(only.mark, only.mask)];
  return [PROGRAM, '-L', ...picked, ...LISTED];
}

/** Goes on until it is ended. The TCP states between are not asked for: nobody can read all of them in time. */
export function eventsCommand(): Command {
  const buffer = ['-b', String(EVENT_BUFFER_BYTES)];
  return [PROGRAM, '-E', ...buffer, '-e', 'NEW,DESTROY', '-o', 'extended,id,timestamp'];
}

/** Answers with what it has deleted. Its exit code is 1 where there was none. */
export function deleteCommand(mark: number, mask: number): Command {
  return [PROGRAM, '-D', '-m', masked(mark, mask), ...LISTED];
}

function masked(mark: number, mask: number): string {
  return `0x${mark.toString(16)}/0x${mask.toString(16)}`;
}

// The number of an event's time, the event, the protocol, the time left, the state; then of each direction the tuple
// and the counts; then fields in an order that depends on what the kernel has.
const TUPLE = String.raw`src=(\S{2,45}) dst=(\S{2,45}) sport=(\d{1,5}) dport=(\d{1,5}) `;
const COUNTS = String.raw`(?:packets=(\d{1,20}) bytes=(\d{1,20}) )?`;
const LINE = new RegExp(
  String.raw`^(?:\[(\d{1,12}\.\d{1,9})\])?\s*(?:\[(NEW|UPDATE|DESTROY)\] )?ipv[46] +\d+ (tcp|udp) +\d+ ` +
    String.raw`(?:(\d{1,10}) )?(?:([A-Z][A-Z_0-9]{0,15}) )?` +
    `${TUPLE}(?:zone-orig=\\d+ )?${COUNTS}(\\[UNREPLIED\\] )?${TUPLE}(?:zone-reply=\\d+ )?${COUNTS}`,
);
const EVENTS: Readonly<Record<string, Flow['event']>> = { NEW: 'new', UPDATE: 'update', DESTROY: 'destroy' };
const MAX_UINT32 = 0xffff_ffff;

/** Undefined for what is no line of a TCP or UDP flow, whole. */
export function parseFlow(line: string): Flow | undefined {
  const match = LINE.exec(line);
  if (match === null) return undefined;
  const [head, heardAt, event = '', protocol, timeLeft, state] = match;
  const rest = line.slice(head.length - 1);
  const id = fieldOf(rest, ' id=');
  const mark = fieldOf(rest, ' mark=') ?? 0;
  const ageSeconds = fieldOf(rest, ' delta-time=');
  if (id === undefined || !(id <= MAX_UINT32) || !(mark <= MAX_UINT32)) return undefined;
  if (Number.isNaN(ageSeconds)) return undefined;
  const client = endpointOf(match[6], match[8]);
  const local = endpointOf(match[7], match[9]);
  const replySource = endpointOf(match[13], match[15]);
  const replyDestination = endpointOf(match[14], match[16]);
  if (client === undefined || local === undefined) return undefined;
  if (replySource === undefined || replyDestination === undefined) return undefined;
  return {
    event: EVENTS[event],
    id,
    protocol: protocol === 'tcp' ? 'tcp' : 'udp',
    state,
    client,
    local,
    replySource,
    replyDestination,
    packetsIn: Number(match[10] ?? 0),
    bytesIn: Number(match[11] ?? 0),
    packetsOut: Number(match[17] ?? 0),
    bytesOut: Number(match[18] ?? 0),
    isAnswered: match[12] === undefined,
    mark,
    timeoutSeconds: timeLeft === undefined ? undefined : Number(timeLeft),
    ageSeconds,
    heardAtMs: heardAt === undefined ? undefined : Math.round(Number(heardAt) * 1000),
  };
}

/** `name` begins with the space before it. NaN where it is no number. */
function fieldOf(text: string, name: string): number | undefined {
  const at = text.indexOf(name);
  if (at < 0) return undefined;
  const from = at + name.length;
  const end = text.indexOf(' ', from);
  const digits = end < 0 ? text.slice(from) : text.slice(from, end);
  return /^\d{1,10}$/.test(digits) ? Number(digits) : Number.NaN;
}

function endpointOf(addressText = '', portText = ''): Endpoint | undefined {
  const address = addressOf(addressText);
  const port = Number(portText);
  return address === '' || port < 1 || port > 65_535 ? undefined : { address, port };
}

/**
 * The addresses of late: a few come again and again. They are copies, since a piece of a line would keep the whole of
 * what was read with it. Empty: none.
 */
const addresses = new Map<string, IpAddress>();
const MAX_ADDRESSES = 16_384;

function addressOf(text: string): IpAddress {
  const known = addresses.get(text);
  if (known !== undefined) return known;
  if (addresses.size >= MAX_ADDRESSES) addresses.clear();
  const copy = Buffer.from(text).toString();
  const address = isShortIpv6(copy) ? copy : (parseAddress(copy) ?? '');
  addresses.set(copy, address);
  return address;
}

const GROUPS = '(?:0|[1-9a-f][0-9a-f]{0,3})(?::(?:0|[1-9a-f][0-9a-f]{0,3}))';
const FULL_IPV6 = new RegExp(`^${GROUPS}{7}$`);
const SHORTENED_IPV6 = new RegExp(`^(?:${GROUPS}{0,5})?::(?:${GROUPS}{0,5})?$`);
/** Zeros that the short form may have to leave out, or elsewhere. */
const ODD_ZEROS = /(?:^|:)0:(?:0(?::|$)|:)|::0(?::|$)/;

/**
 * Reports whether it is IPv6 in its short form (RFC 5952) without doubt, as the kernel's tools write it: parsing takes
 * 40 us an address, which is too much for a listing.
 */
function isShortIpv6(text: string): boolean {
  if (text.startsWith('::ffff:') || ODD_ZEROS.test(text)) return false;
  if (FULL_IPV6.test(text)) return true;
  return SHORTENED_IPV6.test(text) && text.split(':').filter((group) => group !== '').length <= 6;
}
