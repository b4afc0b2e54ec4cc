/**
 * PCP packets (RFC 6887), both directions.
 *
 * Every packet has a header of 24 bytes: version 2, an opcode whose top bit marks an answer, and for a
 * request the lifetime and the client's own address (the server compares it with the packet's source, and
 * so notices a NAT between them), for an answer the result, the granted lifetime and the server's epoch.
 * MAP adds 36 bytes: a nonce that proves ownership of the mapping at refresh and delete, the protocol, the
 * ports and the external address; PEER the same and the remote peer, 56 in all. Options follow (pcp-options.ts).
 * Over IPv6 a MAP opens a pinhole in the firewall and translates nothing.
 */

import { NatwardError } from '../errors.ts';
import type { IpAddress } from '../net/address.ts';
import { readPcpAddress, writePcpAddress } from './pcp-address.ts';
import { decodePcpOptions, encodePcpOptions, type PcpOpcode, type PcpOptions } from './pcp-options.ts';
import { PCP_RESULT, PcpRequestError } from './pcp-result.ts';

const PCP_VERSION = 2;
/** RFC 6887, section 7. */
export const PCP_MAX_BYTES = 1100;
export const PCP_NONCE_BYTES = 12;

export { PCP_RESULT, PcpRequestError, pcpResultName } from './pcp-result.ts';
export type { PcpFilter, PcpOptions } from './pcp-options.ts';

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

/** A mapping for what one remote peer sends (section 12). */
export interface PcpPeer extends PcpMap {
  readonly remotePort: number;
  readonly remoteAddress: IpAddress;
}

export type PcpRequest = {
  readonly lifetimeSeconds: number;
  readonly clientAddress: IpAddress;
} & (
  | { readonly opcode: 'announce' }
  | { readonly opcode: 'map'; readonly map: PcpMap }
  | { readonly opcode: 'peer'; readonly peer: PcpPeer }
);

export type PcpResponse = {
  readonly result: number;
  /** Of the mapping; of the error where `result` is not 0 (section 7.2). */
  readonly lifetimeSeconds: number;
  readonly epochSeconds: number;
} & (
  | { readonly opcode: 'announce' }
  | { readonly opcode: 'map'; readonly map: PcpMap }
  | { readonly opcode: 'peer'; readonly peer: PcpPeer }
  /** Nothing but the header can be read: another opcode, or a refusal that echoes no payload. */
  | { readonly opcode: 'unknown'; readonly requestOpcode: number }
);

const HEADER_BYTES = 24;
const MAP_BYTES = 36;
const PEER_BYTES = 56;
const OPCODE: Readonly<Record<PcpOpcode, number>> = { announce: 0, map: 1, peer: 2 };
const OPCODES: readonly PcpOpcode[] = ['announce', 'map', 'peer'];
const BODY_BYTES: Readonly<Record<PcpOpcode, number>> = { announce: 0, map: MAP_BYTES, peer: PEER_BYTES };
const RESPONSE = 0x80;

export function encodePcpRequest(request: PcpRequest): Uint8Array {
  const packet = withBody(request);
  packet[1] = OPCODE[request.opcode];
  viewOf(packet).setUint32(4, request.lifetimeSeconds);
  writePcpAddress(packet, 8, request.clientAddress);
  return packet;
}

/** Throws PcpRequestError, which says what to answer. */
export function decodePcpRequest(packet: Uint8Array): PcpRequest {
  if (packet.length < 2) throw new PcpRequestError(PCP_RESULT.MALFORMED_REQUEST, `${packet.length} bytes`);
  if (packet[0] !== PCP_VERSION) {
    throw new PcpRequestError(PCP_RESULT.UNSUPP_VERSION, `PCP version ${packet[0]}`);
  }
  if (packet.length < HEADER_BYTES || packet.length > PCP_MAX_BYTES || packet.length % 4 !== 0) {
    throw new PcpRequestError(PCP_RESULT.MALFORMED_REQUEST, `${packet.length} bytes`);
  }
  const opcode = OPCODES[packet[1] ?? 0];
  if (opcode === undefined) throw new PcpRequestError(PCP_RESULT.UNSUPP_OPCODE, `PCP opcode ${packet[1]}`);
  if (packet.length < HEADER_BYTES + BODY_BYTES[opcode]) {
    const what = `${packet.length} bytes in a ${opcode.toUpperCase()} request`;
    throw new PcpRequestError(PCP_RESULT.MALFORMED_REQUEST, what);
  }
  const lifetimeSeconds = viewOf(packet).getUint32(4);
  const clientAddress = readPcpAddress(packet, 8);
  const options = decodePcpOptions(packet, HEADER_BYTES + BODY_BYTES[opcode], opcode, 'request');
  switch (opcode) {
    case 'announce':
      return { opcode, lifetimeSeconds, clientAddress };
    case 'map':
      return { opcode, lifetimeSeconds, clientAddress, map: readMap(packet, options) };
    default:
      return { opcode, lifetimeSeconds, clientAddress, peer: readPeer(packet, options) };
  }
}

export function encodePcpResponse(response: PcpResponse): Uint8Array {
  const packet = withBody(response);
  const view = viewOf(packet);
  const opcode = response.opcode === 'unknown' ? response.requestOpcode : OPCODE[response.opcode];
  packet[1] = RESPONSE | opcode;
  packet[3] = response.result;
  view.setUint32(4, response.lifetimeSeconds);
  view.setUint32(8, response.epochSeconds);
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
  const result = view.getUint8(3);
  const lifetimeSeconds = view.getUint32(4);
  const epochSeconds = view.getUint32(8);
  const opcode = OPCODES[requestOpcode];
  if (opcode === 'announce') return { opcode, result, lifetimeSeconds, epochSeconds };
  if (opcode !== undefined && packet.length >= HEADER_BYTES + BODY_BYTES[opcode]) {
    const options = decodePcpOptions(packet, HEADER_BYTES + BODY_BYTES[opcode], opcode, 'response');
    return opcode === 'map'
      ? { opcode, result, lifetimeSeconds, epochSeconds, map: readMap(packet, options) }
      : { opcode, result, lifetimeSeconds, epochSeconds, peer: readPeer(packet, options) };
  }
  if (result === 0) throw malformed(`opcode ${opcodeByte} with ${packet.length} bytes`);
  return { opcode: 'unknown', requestOpcode, result, lifetimeSeconds, epochSeconds };
}

/** A packet with its version and what follows the header. */
function withBody(message: PcpRequest | PcpResponse): Uint8Array {
  const map = message.opcode === 'map' ? message.map : message.opcode === 'peer' ? message.peer : undefined;
  if (map === undefined) {
    const bare = new Uint8Array(HEADER_BYTES);
    bare[0] = PCP_VERSION;
    return bare;
  }
  const fixed = HEADER_BYTES + (message.opcode === 'peer' ? PEER_BYTES : MAP_BYTES);
  const options = encodePcpOptions(map.options);
  const packet = new Uint8Array(fixed + options.length);
  packet[0] = PCP_VERSION;
  const view = viewOf(packet);
  packet.set(map.nonce.length === PCP_NONCE_BYTES ? map.nonce : map.nonce.subarray(0, PCP_NONCE_BYTES), 24);
  packet[36] = map.protocol;
  view.setUint16(40, map.internalPort);
  view.setUint16(42, map.externalPort);
  writePcpAddress(packet, 44, map.externalAddress);
  if (message.opcode === 'peer') {
    view.setUint16(60, message.peer.remotePort);
    writePcpAddress(packet, 64, message.peer.remoteAddress);
  }
  packet.set(options, fixed);
  return packet;
}

function readMap(packet: Uint8Array, options: PcpOptions): PcpMap {
  const view = viewOf(packet);
  const nonce = new Uint8Array(PCP_NONCE_BYTES);
  nonce.set(packet.subarray(24, 24 + PCP_NONCE_BYTES));
  return {
    nonce,
    protocol: view.getUint8(36),
    internalPort: view.getUint16(40),
    externalPort: view.getUint16(42),
    externalAddress: readPcpAddress(packet, 44),
    options,
  };
}

function readPeer(packet: Uint8Array, options: PcpOptions): PcpPeer {
  return {
    ...readMap(packet, options),
    remotePort: viewOf(packet).getUint16(60),
    remoteAddress: readPcpAddress(packet, 64),
  };
}

function viewOf(packet: Uint8Array): DataView {
  return new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
}

function malformed(what: string): NatwardError {
  return new NatwardError('MALFORMED', `not a PCP answer: ${what}`);
}
