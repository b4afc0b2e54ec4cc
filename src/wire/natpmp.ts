/**
 * NAT-PMP packets (RFC 6886), both directions.
 *
 * A request is 2 or 12 bytes: version 0, an opcode (0 external address, 1 map UDP, 2 map TCP) and for a
 * mapping the internal port, the suggested external port and a lifetime. The answer carries opcode + 128,
 * a result and the gateway's seconds since its table was last emptied. An answer in opcode 128 that nobody
 * asked for, sent to 224.0.0.1:5350, is the announcement of a new external address or of a restart.
 */

import { NatwardError } from '../errors.ts';
import { ANY_IPV4, addressBytes, addressFromBytes, type IpAddress } from '../net/address.ts';
import type { TransportProtocol } from '../net/protocol.ts';

/** Gateways listen here, for PCP as well (RFC 6886, section 1.1; RFC 6887, section 19.1). */
export const GATEWAY_PORT = 5351;
/** Announcements are sent here (RFC 6886, section 3.2.1; RFC 6887, section 14.1). */
export const ANNOUNCE_ADDRESS = '224.0.0.1';
export const ANNOUNCE_PORT = 5350;

export const NATPMP_VERSION = 0;

/** RFC 6886, section 3.5. */
export const NATPMP_RESULT = {
  SUCCESS: 0,
  UNSUPPORTED_VERSION: 1,
  NOT_AUTHORIZED: 2,
  NETWORK_FAILURE: 3,
  OUT_OF_RESOURCES: 4,
  UNSUPPORTED_OPCODE: 5,
} as const;

export type NatpmpRequest =
  | { readonly opcode: 'address' }
  | {
      readonly opcode: 'map';
      readonly protocol: TransportProtocol;
      readonly internalPort: number;
      readonly suggestedExternalPort: number;
      readonly lifetimeSeconds: number;
    };

export type NatpmpResponse = {
  /** 0 is success; see NATPMP_RESULT. */
  readonly result: number;
  readonly epochSeconds: number;
} & (
  | { readonly opcode: 'address'; readonly externalAddress: IpAddress }
  | {
      readonly opcode: 'map';
      readonly protocol: TransportProtocol;
      readonly internalPort: number;
      readonly externalPort: number;
      readonly lifetimeSeconds: number;
    }
  /** The opcode was not known to the gateway, or the version: nothing but the result can be read. */
  | { readonly opcode: 'unknown'; readonly requestOpcode: number }
);

const OPCODE_MAP: Readonly<Record<TransportProtocol, number>> = { udp: 1, tcp: 2 };
const RESPONSE = 0x80;
/** The longest answer has 16 bytes; what PCP, on the same port, may send is more than enough (RFC 6887, section 7). */
const MAX_BYTES = 1100;

export function encodeNatpmpRequest(request: NatpmpRequest): Uint8Array {
  if (request.opcode === 'address') return new Uint8Array([NATPMP_VERSION, 0]);
  const packet = new Uint8Array(12);
  const view = new DataView(packet.buffer);
  view.setUint8(1, OPCODE_MAP[request.protocol]);
  view.setUint16(4, request.internalPort);
  view.setUint16(6, request.suggestedExternalPort);
  view.setUint32(8, request.lifetimeSeconds);
  return packet;
}

/** Throws MALFORMED for anything but a request of version 0 with a known opcode. */
export function decodeNatpmpRequest(packet: Uint8Array): NatpmpRequest {
  const view = viewOf(packet);
  if (packet.length < 2) throw malformed(`${packet.length} bytes`);
  if (view.getUint8(0) !== NATPMP_VERSION) throw malformed(`version ${view.getUint8(0)}`);
  const opcode = view.getUint8(1);
  if (opcode === 0) return { opcode: 'address' };
  const protocol = mappedProtocol(opcode);
  if (packet.length < 12) throw malformed(`${packet.length} bytes in a mapping request`);
  return {
    opcode: 'map',
    protocol,
    internalPort: view.getUint16(4),
    suggestedExternalPort: view.getUint16(6),
    lifetimeSeconds: view.getUint32(8),
  };
}

export function encodeNatpmpResponse(response: NatpmpResponse): Uint8Array {
  const packet = new Uint8Array(response.opcode === 'address' ? 12 : response.opcode === 'map' ? 16 : 8);
  const view = new DataView(packet.buffer);
  view.setUint16(2, response.result);
  view.setUint32(4, response.epochSeconds);
  switch (response.opcode) {
    case 'address':
      view.setUint8(1, RESPONSE);
      packet.set(addressBytes(response.externalAddress), 8);
      break;
    case 'map':
      view.setUint8(1, RESPONSE | OPCODE_MAP[response.protocol]);
      view.setUint16(8, response.internalPort);
      view.setUint16(10, response.externalPort);
      view.setUint32(12, response.lifetimeSeconds);
      break;
    case 'unknown':
      view.setUint8(1, RESPONSE | response.requestOpcode);
  }
  return packet;
}

/**
 * Decodes an answer or an announcement. Throws MALFORMED for any other packet. A refusal may be as short
 * as 8 bytes; its missing fields are then zero.
 */
export function decodeNatpmpResponse(packet: Uint8Array): NatpmpResponse {
  const view = viewOf(packet);
  if (packet.length < 8 || packet.length > MAX_BYTES) throw malformed(`${packet.length} bytes`);
  if (view.getUint8(0) !== NATPMP_VERSION) throw malformed(`version ${view.getUint8(0)}`);
  const opcodeByte = view.getUint8(1);
  if ((opcodeByte & RESPONSE) === 0) throw malformed('a request where an answer was due');
  const requestOpcode = opcodeByte & ~RESPONSE;
  const result = view.getUint16(2);
  const common = { result, epochSeconds: view.getUint32(4) };
  if (requestOpcode === 0) {
    if (packet.length >= 12)
      return { ...common, opcode: 'address', externalAddress: addressFromBytes(packet.subarray(8, 12)) };
    if (result !== 0) return { ...common, opcode: 'address', externalAddress: ANY_IPV4 };
    throw malformed(`${packet.length} bytes in an address answer`);
  }
  if (requestOpcode > 2) {
    if (result === 0) throw malformed(`opcode ${opcodeByte}`);
    return { ...common, opcode: 'unknown', requestOpcode };
  }
  if (packet.length < 16) {
    if (result !== 0) return { ...common, opcode: 'unknown', requestOpcode };
    throw malformed(`${packet.length} bytes in a mapping answer`);
  }
  return {
    ...common,
    opcode: 'map',
    protocol: mappedProtocol(requestOpcode),
    internalPort: view.getUint16(8),
    externalPort: view.getUint16(10),
    lifetimeSeconds: view.getUint32(12),
  };
}

function mappedProtocol(opcode: number): TransportProtocol {
  if (opcode === OPCODE_MAP.udp) return 'udp';
  if (opcode === OPCODE_MAP.tcp) return 'tcp';
  throw malformed(`opcode ${opcode}`);
}

function viewOf(packet: Uint8Array): DataView {
  return new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
}

function malformed(what: string): NatwardError {
  return new NatwardError('MALFORMED', `not a NAT-PMP packet: ${what}`);
}
