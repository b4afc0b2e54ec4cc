/** What a packet at the port of PCP and NAT-PMP may do, as this harness reads it. Its first byte says whose it is. */

import { family, withoutZone } from '../../../src/net/address.ts';
import type { Endpoint } from '../../../src/net/endpoint.ts';
import { PROTOCOL_NUMBER } from '../../../src/net/protocol.ts';
import { sameNonce } from '../../../src/responder/table.ts';
import { decodeNatpmpRequest, NATPMP_VERSION, type NatpmpRequest } from '../../../src/wire/natpmp.ts';
import { decodePcpRequest, type PcpMap, type PcpPeer, type PcpRequest } from '../../../src/wire/pcp.ts';
import { mayActFor } from './ground.ts';
import { type Claim, NO_CLAIM, protocolOf } from './judge.ts';

export function claimFor(bytes: Uint8Array, source: Endpoint): Claim {
  const isNatpmp = bytes[0] === NATPMP_VERSION && family(source.address) === 4;
  return isNatpmp ? natpmpClaim(bytes, source) : pcpClaim(bytes, source);
}

function pcpClaim(bytes: Uint8Array, { address }: Endpoint): Claim {
  const asked = pcpRequest(bytes);
  if (asked === undefined || asked.opcode === 'announce' || asked.clientAddress !== withoutZone(address))
    return NO_CLAIM;
  const { nonce, protocol, internalPort, options } = mapOf(asked);
  const client = options.thirdParty ?? address;
  if (!mayActFor(address, client)) return NO_CLAIM;
  return {
    makes: (one) =>
      asked.lifetimeSeconds > 0 &&
      one.internalClient === client &&
      one.internalPort === internalPort &&
      protocolOf(one) === protocol &&
      one.nonce !== undefined &&
      sameNonce(one.nonce, nonce),
    ends: (one) =>
      one.internalClient === client &&
      // RFC 6887, section 11.1: with all protocols the port is not looked at.
      (protocol === 0 ||
        ((internalPort === 0 || one.internalPort === internalPort) && protocolOf(one) === protocol)) &&
      (one.nonce === undefined || sameNonce(one.nonce, nonce)),
  };
}

/** It knows no nonce: whoever asks from the address owns what the address has. */
function natpmpClaim(bytes: Uint8Array, { address }: Endpoint): Claim {
  const asked = natpmpRequest(bytes);
  if (asked?.opcode !== 'map' || !mayActFor(address, address)) return NO_CLAIM;
  const { protocol, internalPort, lifetimeSeconds } = asked;
  return {
    makes: (one) =>
      lifetimeSeconds > 0 &&
      one.internalClient === address &&
      one.internalPort === internalPort &&
      protocolOf(one) === PROTOCOL_NUMBER[protocol],
    ends: (one) =>
      one.internalClient === address &&
      (internalPort === 0 || one.internalPort === internalPort) &&
      protocolOf(one) === PROTOCOL_NUMBER[protocol],
  };
}

export function pcpRequest(bytes: Uint8Array): PcpRequest | undefined {
  try {
    return decodePcpRequest(bytes);
  } catch {
    return undefined;
  }
}

export function natpmpRequest(bytes: Uint8Array): NatpmpRequest | undefined {
  try {
    return decodeNatpmpRequest(bytes);
  } catch {
    return undefined;
  }
}

/** PEER has what MAP has, and more. */
export function mapOf(
  one: { readonly opcode: 'map'; readonly map: PcpMap } | { readonly opcode: 'peer'; readonly peer: PcpPeer },
): PcpMap {
  return one.opcode === 'map' ? one.map : one.peer;
}
