/**
 * The PROXY protocol (haproxy's proxy-protocol.txt), both directions: what a relay tells the server behind it
 * about the conversation that it carries.
 *
 * The header stands before the first byte of a stream, or at the front of a datagram. Version 1 is one line of
 * text, TCP only: `PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n`. Version 2 is binary: a signature, version
 * and command (LOCAL: the relay speaks for itself; PROXY), family and transport, a length, addresses, ports,
 * and any number of typed extras (TLVs), of which only the checksum is read here. Whether to believe a sender
 * is for others to say (section 2: only those that are known to be relays).
 */

import { NatwardError } from '../errors.ts';
import {
  addressBytes,
  addressBytes16,
  addressFromBytes,
  family,
  parseAddress,
  withoutZone,
} from '../net/address.ts';
import type { Endpoint } from '../net/endpoint.ts';
import type { TransportProtocol } from '../net/protocol.ts';

export type ProxyVersion = 'v1' | 'v2';

export interface ProxiedConversation {
  readonly protocol: TransportProtocol;
  readonly source: Endpoint;
  readonly destination: Endpoint;
}

/** Without a conversation, the endpoints of the connection that brought the header are the ones to use. */
export interface ProxyHeader extends Partial<ProxiedConversation> {
  readonly version: ProxyVersion;
  /** The relay speaks for itself, as for a health check. Version 1 cannot say so. */
  readonly local: boolean;
}

/** `length` is the header's own bytes: the conversation's first byte follows. */
export type ProxyRead =
  | { readonly state: 'more' }
  | { readonly state: 'done'; readonly header: ProxyHeader; readonly length: number };

/** Section 2.1: the longest line, CRLF included. */
const V1_MAX_BYTES = 107;
const V1_START = Uint8Array.from('PROXY ', (letter) => letter.charCodeAt(0));
const CR = 0x0d;
const LF = 0x0a;

/** Section 2.2. */
const V2_SIGNATURE = Uint8Array.of(0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a);
const V2_FIXED_BYTES = 16;
const V2_VERSION = 0x20;
const COMMAND = { local: 0, proxy: 1 } as const;
const FAMILY = { unspecified: 0, inet: 1, inet6: 2, unix: 3 } as const;
const TRANSPORT: Readonly<Record<TransportProtocol, number>> = { tcp: 1, udp: 2 };
const ADDRESS_BYTES: readonly number[] = [0, 4, 16, 108];
const PORT_BYTES = 2;
/** A certificate's name and a token or two; haproxy keeps the whole header below 536 bytes (section 2). */
const MAX_TLV_BYTES = 2048;
const TLV_HEAD_BYTES = 3;
const TLV_CRC32C = 3;

/**
 * Addresses of two families go as IPv6, the IPv4 one mapped. Version 1 has no word for UDP, nor for the relay
 * itself: it says UNKNOWN, and the receiver uses the connection's own endpoints (section 2.1).
 */
export function encodeProxyHeader(
  version: ProxyVersion,
  conversation: ProxiedConversation | 'local',
): Uint8Array {
  return version === 'v1' ? encodeV1(conversation) : encodeV2(conversation);
}

/**
 * Reads the header at the front of `bytes`, all that has come of the stream so far. Throws MALFORMED as soon
 * as they can be no header, and before more than 2280 bytes are asked for. A port may be 0.
 */
export function readProxyHeader(bytes: Uint8Array): ProxyRead {
  if (startsLike(bytes, V1_START)) return readV1(bytes);
  if (startsLike(bytes, V2_SIGNATURE)) return readV2(bytes);
  throw malformed('neither version 1 nor version 2 begins so');
}

/** Reads the header of one datagram, which is of version 2 and whole. Throws MALFORMED for any other. */
export function decodeProxyDatagram(datagram: Uint8Array): {
  readonly header: ProxyHeader;
  readonly length: number;
} {
  const read = startsLike(datagram, V2_SIGNATURE) ? readV2(datagram) : undefined;
  if (read?.state === 'done') return { header: read.header, length: read.length };
  throw malformed(
    read === undefined ? 'a datagram without one of version 2' : 'it goes on after its datagram',
  );
}

function encodeV1(conversation: ProxiedConversation | 'local'): Uint8Array {
  if (conversation === 'local' || conversation.protocol !== 'tcp') return ascii('PROXY UNKNOWN\r\n');
  const { source, destination } = conversation;
  const [word, addressText] = bothIpv4(conversation)
    ? ['TCP4', ({ address }: Endpoint) => address]
    : ['TCP6', ipv6Text];
  const addresses = `${addressText(source)} ${addressText(destination)}`;
  return ascii(`PROXY ${word} ${addresses} ${source.port} ${destination.port}\r\n`);
}

/** In hexadecimal throughout: section 2.1 knows no dotted quad at the end, and no zone. */
function ipv6Text({ address }: Endpoint): string {
  if (family(address) === 6) return withoutZone(address);
  const view = viewOf(addressBytes(address));
  return `::ffff:${view.getUint16(0).toString(16)}:${view.getUint16(2).toString(16)}`;
}

function encodeV2(conversation: ProxiedConversation | 'local'): Uint8Array {
  if (conversation === 'local') {
    return Uint8Array.of(...V2_SIGNATURE, V2_VERSION | COMMAND.local, FAMILY.unspecified, 0, 0);
  }
  const { protocol, source, destination } = conversation;
  const [addressFamily, bytesOf] = bothIpv4(conversation)
    ? [FAMILY.inet, addressBytes]
    : [FAMILY.inet6, addressBytes16];
  const addresses = [...bytesOf(source.address), ...bytesOf(destination.address)];
  const header = new Uint8Array(V2_FIXED_BYTES + addresses.length + 2 * PORT_BYTES);
  const view = viewOf(header);
  header.set(V2_SIGNATURE);
  view.setUint8(12, V2_VERSION | COMMAND.proxy);
  view.setUint8(13, (addressFamily << 4) | TRANSPORT[protocol]);
  view.setUint16(14, header.length - V2_FIXED_BYTES);
  header.set(addresses, V2_FIXED_BYTES);
  view.setUint16(header.length - 2 * PORT_BYTES, source.port);
  view.setUint16(header.length - PORT_BYTES, destination.port);
  return header;
}

function readV1(bytes: Uint8Array): ProxyRead {
  const front = bytes.subarray(0, V1_MAX_BYTES);
  const end = front.findIndex((byte, at) => byte === LF && front[at - 1] === CR) + 1;
  if (end === 0 && front.length === V1_MAX_BYTES)
    throw malformed(`no line ends within ${V1_MAX_BYTES} bytes`);
  if (end === 0) return { state: 'more' };
  const line = String.fromCharCode(...front.subarray(0, end - 2));
  // What follows the word is ignored (section 2.1).
  if (/^PROXY UNKNOWN( |$)/.test(line))
    return { state: 'done', header: { version: 'v1', local: false }, length: end };
  const [, word, ...fields] = line.split(' ');
  if ((word !== 'TCP4' && word !== 'TCP6') || fields.length !== 4)
    throw malformed('its line has other words');
  const [sourceAddress = '', destinationAddress = '', sourcePort = '', destinationPort = ''] = fields;
  const header: ProxyHeader = {
    version: 'v1',
    local: false,
    protocol: 'tcp',
    source: endpointFromText(word, sourceAddress, sourcePort),
    destination: endpointFromText(word, destinationAddress, destinationPort),
  };
  return { state: 'done', header, length: end };
}

function endpointFromText(word: 'TCP4' | 'TCP6', addressText: string, portText: string): Endpoint {
  // haproxy writes an IPv4-mapped address with a dotted quad, and so it is taken; a zone is not.
  const fits = addressText.includes(':') === (word === 'TCP6') && !addressText.includes('%');
  const address = fits ? parseAddress(addressText) : undefined;
  if (address === undefined) throw malformed(`an address that ${word} does not have`);
  const port = /^(0|[1-9]\d{0,4})$/.test(portText) ? Number(portText) : Number.NaN;
  if (!(port <= 0xffff)) throw malformed('a port that is none');
  return { address, port };
}

function readV2(bytes: Uint8Array): ProxyRead {
  // Each byte is judged as it comes, so that a stranger is refused at once.
  const [versionAndCommand, kind] = bytes.subarray(V2_SIGNATURE.length);
  if (versionAndCommand === undefined) return { state: 'more' };
  const command = versionAndCommand & 0x0f;
  if ((versionAndCommand & 0xf0) !== V2_VERSION || command > COMMAND.proxy) {
    throw malformed(`version and command 0x${versionAndCommand.toString(16)}`);
  }
  if (kind === undefined) return { state: 'more' };
  const local = command === COMMAND.local;
  const addressFamily = kind >> 4;
  const transport = kind & 0x0f;
  if (!local && (addressFamily > FAMILY.unix || transport > TRANSPORT.udp)) {
    throw malformed(`family and transport 0x${kind.toString(16)}`);
  }
  if (bytes.length < V2_FIXED_BYTES) return { state: 'more' };
  const length = V2_FIXED_BYTES + viewOf(bytes).getUint16(14);

  const addressBytesEach = ADDRESS_BYTES[addressFamily] ?? 0;
  const inet = addressFamily === FAMILY.inet || addressFamily === FAMILY.inet6;
  const tlvsAt = V2_FIXED_BYTES + 2 * (addressBytesEach + (inet ? PORT_BYTES : 0));
  if (length > tlvsAt + MAX_TLV_BYTES) throw malformed(`${length} bytes`);
  // A block that is to be ignored is skipped by its length alone (section 2.2).
  const ignored = local || addressFamily === FAMILY.unspecified || transport === 0;
  if (!ignored && length < tlvsAt) throw malformed(`${length} bytes are too few for its addresses`);
  if (bytes.length < length) return { state: 'more' };

  const whole = bytes.subarray(0, length);
  if (ignored) return { state: 'done', header: { version: 'v2', local }, length };
  checkTlvs(whole, tlvsAt);
  if (!inet) return { state: 'done', header: { version: 'v2', local }, length };
  const ports = V2_FIXED_BYTES + 2 * addressBytesEach;
  const endpoint = (index: 0 | 1): Endpoint => {
    const at = V2_FIXED_BYTES + index * addressBytesEach;
    return {
      address: addressFromBytes(whole.subarray(at, at + addressBytesEach)),
      port: viewOf(whole).getUint16(ports + index * PORT_BYTES),
    };
  };
  const protocol = transport === TRANSPORT.tcp ? 'tcp' : 'udp';
  const header: ProxyHeader = {
    version: 'v2',
    local,
    protocol,
    source: endpoint(0),
    destination: endpoint(1),
  };
  return { state: 'done', header, length };
}

/** Every TLV ends within the header, and the checksum, where there is one, is right (section 2.2.3). */
function checkTlvs(header: Uint8Array, from: number): void {
  const view = viewOf(header);
  let checksumAt: number | undefined;
  for (let at = from; at < header.length; ) {
    const fits = at + TLV_HEAD_BYTES <= header.length;
    const length = fits ? view.getUint16(at + 1) : 0;
    const valueAt = at + TLV_HEAD_BYTES;
    if (valueAt + length > header.length) throw malformed('a TLV runs past its end');
    if (view.getUint8(at) === TLV_CRC32C) {
      if (length !== 4 || checksumAt !== undefined) throw malformed('its checksum is not one of 4 bytes');
      checksumAt = valueAt;
    }
    at = valueAt + length;
  }
  if (checksumAt === undefined) return;
  const blank = Uint8Array.from(header).fill(0, checksumAt, checksumAt + 4);
  if (crc32c(blank) !== view.getUint32(checksumAt)) throw malformed('its checksum is wrong');
}

/** RFC 4960, appendix B: Castagnoli's polynomial, reflected. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) === 1 ? 0x82f6_3b78 : 0);
  }
  return ~crc >>> 0;
}

/** Reports whether `bytes` begin with `start`, or may yet. */
function startsLike(bytes: Uint8Array, start: Uint8Array): boolean {
  return start.every((byte, at) => at >= bytes.length || byte === bytes[at]);
}

function bothIpv4({ source, destination }: ProxiedConversation): boolean {
  return family(source.address) === 4 && family(destination.address) === 4;
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function malformed(what: string): NatwardError {
  return new NatwardError('MALFORMED', `not a PROXY protocol header: ${what}`);
}
