/**
 * PCP packets (RFC 6887), both directions.
 *
 * Every packet has a header of 24 bytes: version 2, an opcode whose top bit marks an answer, and for a
 * request the lifetime and the client's own address (the server compares it with the packet's source, and
 * so notices a NAT between them), for an answer the result, the granted lifetime and the server's epoch.
 * MAP adds 36 bytes: a nonce that proves ownership of the mapping at refresh and delete, the protocol, the
 * ports and the external address. Options follow, each 4 bytes and its data, padded to 4.
 * Over IPv6 a MAP opens a pinhole in the firewall and translates nothing.
 */

import { NatwardError } from '../errors.ts';
import { addressBytes16, addressFromBytes, type IpAddress } from '../net/address.ts';

const PCP_VERSION = 2;
/** RFC 6887, section 7. */
export const PCP_MAX_BYTES = 1100;
export const PCP_NONCE_BYTES = 12;

/** RFC 6887, section 7.4. */
export const PCP_RESULT = {
  SUCCESS: 0,
  UNSUPP_VERSION: 1,
  NOT_AUTHORIZED: 2,
  MALFORMED_REQUEST: 3,
  UNSUPP_OPCODE: 4,
  UNSUPP_OPTION: 5,
  MALFORMED_OPTION: 6,
  NETWORK_FAILURE: 7,
  NO_RESOURCES: 8,
  UNSUPP_PROTOCOL: 9,
  USER_EX_QUOTA: 10,
  CANNOT_PROVIDE_EXTERNAL: 11,
  ADDRESS_MISMATCH: 12,
  EXCESSIVE_REMOTE_PEERS: 13,
} as const;

export function pcpResultName(result: number): string {
  return Object.entries(PCP_RESULT).find(([, code]) => code === result)?.[0] ?? 'UNKNOWN';
}

/** Only packets from `remoteAddress/prefixLength`, port `remotePort` (0: any), may use the mapping (section 13.3). */
export interface PcpFilter {
  /** 0..128, of the 128 bits of an IPv4-mapped or IPv6 address; 0 removes all filters. */
  readonly prefixLength: number;
  readonly remotePort: number;
  readonly remoteAddress: IpAddress;
}

export interface PcpOptions {
  /** Map for this host and not for the sender (section 13.1). */
  readonly thirdParty?: IpAddress;
  /** Refuse rather than grant another external port (section 13.2). */
  readonly preferFailure?: true;
  readonly filters?: readonly PcpFilter[];
  /** RFC 7220. */
  readonly description?: string;
}

export interface PcpMap {
  /** 12 bytes. */
  readonly nonce: Uint8Array;
  /** IANA protocol number; 0 is all protocols. */
  readonly protocol: number;
  readonly internalPort: number;
  /** Suggested in a request, assigned in an answer; 0 leaves it to the server. */
  readonly externalPort: number;
  /** `::` leaves it to the server; `0.0.0.0` asks for any IPv4 address (section 11.1). */
  readonly externalAddress: IpAddress;
  readonly options: PcpOptions;
}

export type PcpRequest = {
  readonly lifetimeSeconds: number;
  readonly clientAddress: IpAddress;
} & ({ readonly opcode: 'announce' } | { readonly opcode: 'map'; readonly map: PcpMap });

export type PcpResponse = {
  readonly result: number;
  /** Of the mapping; of the error where `result` is not 0 (section 7.2). */
  readonly lifetimeSeconds: number;
  readonly epochSeconds: number;
} & (
  | { readonly opcode: 'announce' }
  | { readonly opcode: 'map'; readonly map: PcpMap }
  /** Nothing but the header can be read: another opcode, or a refusal that echoes no payload. */
  | { readonly opcode: 'unknown'; readonly requestOpcode: number }
);

const HEADER_BYTES = 24;
const MAP_BYTES = 36;
const OPCODE = { announce: 0, map: 1 } as const;
const OPTION = { thirdParty: 1, preferFailure: 2, filter: 3, description: 128 } as const;
const RESPONSE = 0x80;
/** RFC 7220, section 3: 1016 octets fit the largest packet; what people write is shorter. */
const MAX_DESCRIPTION_BYTES = 256;
const MAX_OPTIONS = 64;
const SPACE = 0x20;

const utf8 = new TextEncoder();
const text = new TextDecoder();

/** Thrown by decodePcpRequest, with the result code that section 8.2 has the server answer. */
export class PcpRequestError extends NatwardError {
  readonly result: number;
  constructor(result: number, message: string) {
    super('MALFORMED', message);
    this.result = result;
  }
}

export function encodePcpRequest(request: PcpRequest): Uint8Array {
  const body = request.opcode === 'map' ? encodeMap(request.map) : new Uint8Array(0);
  const packet = new Uint8Array(HEADER_BYTES + body.length);
  const view = new DataView(packet.buffer);
  view.setUint8(0, PCP_VERSION);
  view.setUint8(1, OPCODE[request.opcode]);
  view.setUint32(4, request.lifetimeSeconds);
  packet.set(addressBytes16(request.clientAddress), 8);
  packet.set(body, HEADER_BYTES);
  return packet;
}

/** Throws PcpRequestError, which says what to answer. */
export function decodePcpRequest(packet: Uint8Array): PcpRequest {
  const view = viewOf(packet);
  if (packet.length < 2) throw new PcpRequestError(PCP_RESULT.MALFORMED_REQUEST, `${packet.length} bytes`);
  if (view.getUint8(0) !== PCP_VERSION) {
    throw new PcpRequestError(PCP_RESULT.UNSUPP_VERSION, `PCP version ${view.getUint8(0)}`);
  }
  if (packet.length < HEADER_BYTES || packet.length > PCP_MAX_BYTES || packet.length % 4 !== 0) {
    throw new PcpRequestError(PCP_RESULT.MALFORMED_REQUEST, `${packet.length} bytes`);
  }
  const opcode = view.getUint8(1);
  const common = {
    lifetimeSeconds: view.getUint32(4),
    clientAddress: addressFromBytes(packet.subarray(8, 24)),
  };
  if (opcode === OPCODE.announce) return { ...common, opcode: 'announce' };
  if (opcode !== OPCODE.map) throw new PcpRequestError(PCP_RESULT.UNSUPP_OPCODE, `PCP opcode ${opcode}`);
  if (packet.length < HEADER_BYTES + MAP_BYTES) {
    throw new PcpRequestError(PCP_RESULT.MALFORMED_REQUEST, `${packet.length} bytes in a MAP request`);
  }
  return { ...common, opcode: 'map', map: decodeMap(packet.subarray(HEADER_BYTES), 'request') };
}

export function encodePcpResponse(response: PcpResponse): Uint8Array {
  const body = response.opcode === 'map' ? encodeMap(response.map) : new Uint8Array(0);
  const packet = new Uint8Array(HEADER_BYTES + body.length);
  const view = new DataView(packet.buffer);
  view.setUint8(0, PCP_VERSION);
  const opcode = response.opcode === 'unknown' ? response.requestOpcode : OPCODE[response.opcode];
  view.setUint8(1, RESPONSE | opcode);
  view.setUint8(3, response.result);
  view.setUint32(4, response.lifetimeSeconds);
  view.setUint32(8, response.epochSeconds);
  packet.set(body, HEADER_BYTES);
  return packet;
}

/**
 * Decodes an answer or an announcement. Throws MALFORMED for any other packet, one of another version
 * included: NAT-PMP gateways answer a PCP request in version 0 (RFC 6887, appendix A).
 */
export function decodePcpResponse(packet: Uint8Array): PcpResponse {
  const view = viewOf(packet);
  if (packet.length < HEADER_BYTES || packet.length > PCP_MAX_BYTES || packet.length % 4 !== 0) {
    throw malformed(`${packet.length} bytes`);
  }
  if (view.getUint8(0) !== PCP_VERSION) throw malformed(`version ${view.getUint8(0)}`);
  const opcodeByte = view.getUint8(1);
  if ((opcodeByte & RESPONSE) === 0) throw malformed('a request where an answer was due');
  const requestOpcode = opcodeByte & ~RESPONSE;
  const common = {
    result: view.getUint8(3),
    lifetimeSeconds: view.getUint32(4),
    epochSeconds: view.getUint32(8),
  };
  if (requestOpcode === OPCODE.announce) return { ...common, opcode: 'announce' };
  if (requestOpcode === OPCODE.map && packet.length >= HEADER_BYTES + MAP_BYTES) {
    return { ...common, opcode: 'map', map: decodeMap(packet.subarray(HEADER_BYTES), 'response') };
  }
  if (common.result === 0) throw malformed(`opcode ${opcodeByte} with ${packet.length} bytes`);
  return { ...common, opcode: 'unknown', requestOpcode };
}

function encodeMap(map: PcpMap): Uint8Array {
  const options = encodeOptions(map.options);
  const body = new Uint8Array(MAP_BYTES + options.length);
  const view = new DataView(body.buffer);
  body.set(map.nonce.subarray(0, PCP_NONCE_BYTES), 0);
  view.setUint8(12, map.protocol);
  view.setUint16(16, map.internalPort);
  view.setUint16(18, map.externalPort);
  body.set(addressBytes16(map.externalAddress), 20);
  body.set(options, MAP_BYTES);
  return body;
}

function decodeMap(body: Uint8Array, direction: 'request' | 'response'): PcpMap {
  const view = viewOf(body);
  return {
    nonce: Uint8Array.from(body.subarray(0, PCP_NONCE_BYTES)),
    protocol: view.getUint8(12),
    internalPort: view.getUint16(16),
    externalPort: view.getUint16(18),
    externalAddress: addressFromBytes(body.subarray(20, 36)),
    options: decodeOptions(body.subarray(MAP_BYTES), direction),
  };
}

function encodeOptions(options: PcpOptions): Uint8Array {
  const parts: Uint8Array[] = [];
  const add = (code: number, data: Uint8Array) => {
    const part = new Uint8Array(4 + Math.ceil(data.length / 4) * 4);
    part[0] = code;
    new DataView(part.buffer).setUint16(2, data.length);
    part.set(data, 4);
    parts.push(part);
  };
  if (options.thirdParty !== undefined) add(OPTION.thirdParty, addressBytes16(options.thirdParty));
  if (options.preferFailure === true) add(OPTION.preferFailure, new Uint8Array(0));
  for (const filter of options.filters ?? []) {
    const data = new Uint8Array(20);
    const view = new DataView(data.buffer);
    view.setUint8(1, filter.prefixLength);
    view.setUint16(2, filter.remotePort);
    data.set(addressBytes16(filter.remoteAddress), 4);
    add(OPTION.filter, data);
  }
  if (options.description !== undefined) add(OPTION.description, shortened(options.description));
  return concatenated(parts);
}

function decodeOptions(bytes: Uint8Array, direction: 'request' | 'response'): PcpOptions {
  const filters: PcpFilter[] = [];
  let options: PcpOptions = {};
  let count = 0;
  for (let at = 0; at < bytes.length; ) {
    const view = viewOf(bytes.subarray(at));
    const length = bytes.length - at >= 4 ? view.getUint16(2) : Number.POSITIVE_INFINITY;
    count++;
    if (at + 4 + length > bytes.length || count > MAX_OPTIONS) {
      throw new PcpRequestError(PCP_RESULT.MALFORMED_OPTION, 'a PCP option runs past the end of its packet');
    }
    const code = view.getUint8(0);
    const data = bytes.subarray(at + 4, at + 4 + length);
    at += 4 + Math.ceil(length / 4) * 4;
    if (code === OPTION.thirdParty && length === 16) {
      options = { ...options, thirdParty: addressFromBytes(data) };
    } else if (code === OPTION.preferFailure && length === 0) {
      options = { ...options, preferFailure: true };
    } else if (code === OPTION.filter && length === 20) {
      filters.push({
        prefixLength: viewOf(data).getUint8(1),
        remotePort: viewOf(data).getUint16(2),
        remoteAddress: addressFromBytes(data.subarray(4, 20)),
      });
    } else if (code === OPTION.description) {
      options = { ...options, description: text.decode(data).trimEnd() };
    } else if (direction === 'request' && code < 128) {
      // Codes below 128 are mandatory to process (section 7.3); in an answer an unknown one means nothing.
      const known = code >= OPTION.thirdParty && code <= OPTION.filter;
      throw new PcpRequestError(
        known ? PCP_RESULT.MALFORMED_OPTION : PCP_RESULT.UNSUPP_OPTION,
        `PCP option ${code}`,
      );
    }
  }
  return filters.length > 0 ? { ...options, filters } : options;
}

/**
 * The description's bytes, cut at a character's border, then filled with spaces to a multiple of 4:
 * miniupnpd 2.3.1 does not skip an option's padding, and answers MALFORMED_OPTION where there is any.
 */
function shortened(description: string): Uint8Array {
  const bytes = new Uint8Array(MAX_DESCRIPTION_BYTES).fill(SPACE);
  const { written } = utf8.encodeInto(description, bytes);
  return bytes.subarray(0, Math.ceil(written / 4) * 4);
}

function concatenated(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function viewOf(packet: Uint8Array): DataView {
  return new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
}

function malformed(what: string): NatwardError {
  return new NatwardError('MALFORMED', `not a PCP answer: ${what}`);
}
