/**
 * PCP (RFC 6887) as a PortMapper. One MAP request makes, refreshes or (lifetime 0) deletes a mapping; the
 * nonce says whose it is. PREFER_FAILURE turns "another port instead" into a refusal, THIRD_PARTY maps for
 * another host. Over IPv6 the same request opens a pinhole and the external address is the client's own.
 */

import type { PcpOffer } from '../discovery/gateway.ts';
import {
  type GatewayLink,
  GRANT_SCHEDULE,
  type LinkMessage,
  pcpBackgroundSchedule,
  type Schedule,
  type Stops,
} from '../discovery/link.ts';
import { type ErrorCode, isNatwardError, NatwardError } from '../errors.ts';
import { ANY_IPV4, ANY_IPV6, family, type IpAddress, kindOf } from '../net/address.ts';
import { formatEndpoint, type RemotePeer } from '../net/endpoint.ts';
import { PROTOCOL_NUMBER } from '../net/protocol.ts';
import { randomOf } from '../system/random.ts';
import type { System } from '../system/system.ts';
import {
  encodePcpRequest,
  PCP_NONCE_BYTES,
  PCP_RESULT,
  type PcpFilter,
  type PcpMap,
  type PcpOptions,
  pcpResultName,
} from '../wire/pcp.ts';
import type { Mapping, MappingKey, MappingRequest, PortMapper } from './mapping.ts';
import { LOWER_PORTS_ADVICE, OTHER_PORT_ADVICE } from './advice.ts';

const DISCARD_PORT = 9;
/** RFC 6335. */
const FIRST_DYNAMIC_PORT = 49_152;
const MOMENT_SECONDS = 10;

type MapAnswer = LinkMessage & { version: 2; opcode: 'map' };

export class PcpMapper implements PortMapper {
  readonly protocol = 'pcp';
  readonly gateway: IpAddress;
  /** Enough to keep a gateway busy that works on one request at a time, as all known ones do. */
  readonly window = 4;
  readonly holds = undefined;
  readonly list = undefined;
  readonly #link: GatewayLink;
  readonly #system: System;

  constructor(offer: PcpOffer, system: System) {
    this.gateway = offer.gateway.address;
    this.#link = offer.link;
    this.#system = system;
  }

  async map(request: MappingRequest, signal?: AbortSignal, enough?: AbortSignal): Promise<Mapping> {
    const options = {
      ...this.#thirdParty(request.internalClient),
      ...(request.choice === 'exact' ? { preferFailure: true as const } : {}),
      ...(request.remotePeer === undefined ? {} : { filters: [toFilter(request.remotePeer)] }),
    };
    const answer = await this.#request(
      {
        nonce: request.nonce,
        protocol: PROTOCOL_NUMBER[request.protocol],
        internalPort: request.internalPort,
        externalPort: request.suggestedExternalPort,
        externalAddress: family(request.internalClient) === 6 ? ANY_IPV6 : ANY_IPV4,
        options,
      },
      request.lifetimeSeconds,
      `${request.protocol.toUpperCase()} ${request.suggestedExternalPort || request.internalPort}`,
      { signal, enough },
      request.pace === 'background' ? pcpBackgroundSchedule(() => randomOf(this.#system)) : GRANT_SCHEDULE,
    );
    const { externalAddress, externalPort } = answer.map;
    return {
      protocol: request.protocol,
      externalAddress: kindOf(externalAddress) === 'unspecified' ? undefined : externalAddress,
      externalPort,
      internalClient: request.internalClient,
      internalPort: request.internalPort,
      lifetimeSeconds: answer.lifetimeSeconds,
      expiresAtMs: this.#system.clock.now() + answer.lifetimeSeconds * 1000,
      via: 'pcp',
      gateway: this.gateway,
      description: request.description,
      notes: [],
      nonce: request.nonce,
      pinholeId: undefined,
      remotePeer: request.remotePeer,
    };
  }

  /** The answer to MAP is the proof: PCP has no other way to look. */
  async verify(_request: MappingRequest, mapping: Mapping): Promise<Mapping> {
    return mapping;
  }

  async unmap(key: MappingKey, signal?: AbortSignal): Promise<void> {
    if (key.nonce === undefined) {
      throw new NatwardError('NOT_OWN', `${this.gateway} gives a PCP mapping back only to who has its nonce`);
    }
    const map: PcpMap = {
      nonce: key.nonce,
      protocol: PROTOCOL_NUMBER[key.protocol],
      internalPort: key.internalPort,
      externalPort: 0,
      externalAddress: family(key.internalClient) === 6 ? ANY_IPV6 : ANY_IPV4,
      options: this.#thirdParty(key.internalClient),
    };
    try {
      await this.#request(map, 0, `${key.protocol.toUpperCase()} ${key.internalPort}`, { signal });
    } catch (error) {
      // RFC 6887, section 15: what is gone already is a success. miniupnpd 2.3.1 calls it NO_RESOURCES, which
      // a deletion cannot lack.
      if (!isNatwardError(error, 'NO_RESOURCES')) throw error;
    }
  }

  /** PCP tells it only with a mapping: one of the discard port, for a moment (RFC 6887, section 11.6). */
  async externalAddress(signal?: AbortSignal): Promise<IpAddress | undefined> {
    const nonce = new Uint8Array(PCP_NONCE_BYTES);
    this.#system.fillRandom(nonce);
    // A port that gateways like to give: one below 1024 has miniupnpd search for seconds.
    const suggestedExternalPort = FIRST_DYNAMIC_PORT + (nonce[0] ?? 0);
    const mapping = await this.map(
      {
        protocol: 'udp',
        internalClient: this.#link.localAddress,
        internalPort: DISCARD_PORT,
        suggestedExternalPort,
        choice: 'any',
        lifetimeSeconds: MOMENT_SECONDS,
        description: 'natward address',
        nonce,
        held: undefined,
      },
      signal,
    );
    await this.unmap(mapping, signal);
    return mapping.externalAddress;
  }

  #thirdParty(internalClient: IpAddress): PcpOptions {
    return internalClient === this.#link.localAddress ? {} : { thirdParty: internalClient };
  }

  #request(
    map: PcpMap,
    lifetimeSeconds: number,
    what: string,
    stops: Stops,
    schedule: Schedule = GRANT_SCHEDULE,
  ): Promise<MapAnswer> {
    const clientAddress = this.#link.localAddress;
    const packet = encodePcpRequest({ opcode: 'map', lifetimeSeconds, clientAddress, map });
    const accept = (message: LinkMessage): MapAnswer | undefined => {
      if (message.version !== 2 || message.opcode !== 'map' || !answers(message.map, map)) return undefined;
      if (message.result !== PCP_RESULT.SUCCESS) throw this.#refusal(message.result, what, map);
      if (lifetimeSeconds > 0 && (message.lifetimeSeconds === 0 || message.map.externalPort === 0))
        return undefined;
      return message;
    };
    return this.#link.request(packet, accept, schedule, stops);
  }

  #refusal(result: number, what: string, map: PcpMap): NatwardError {
    const name = pcpResultName(result);
    const protocolCode = `PCP ${result} ${name}`;
    const { code, reason, advice } = REFUSALS[result] ?? {
      code: 'REFUSED',
      reason: 'it gave no reason that PCP knows',
    };
    const exact = result === PCP_RESULT.CANNOT_PROVIDE_EXTERNAL;
    const privileged =
      result === PCP_RESULT.NOT_AUTHORIZED && map.externalPort > 0 && map.externalPort < 1024;
    const hint = exact ? OTHER_PORT_ADVICE : privileged ? LOWER_PORTS_ADVICE : advice;
    return new NatwardError(
      code,
      `${formatEndpoint(this.#link.remote)} refused ${what}: ${reason} (${protocolCode})`,
      hint === undefined ? { protocolCode } : { protocolCode, advice: hint },
    );
  }
}

/** A prefix of an IPv4 address counts the 96 bits before it (RFC 6887, section 13.3). */
function toFilter({ address, prefixLength, port }: RemotePeer): PcpFilter {
  const bits = family(address) === 4 ? 96 + prefixLength : prefixLength;
  return { prefixLength: bits, remotePort: port, remoteAddress: address };
}

/** RFC 6887, section 11.4: an answer belongs to the request with its nonce, protocol, port and third party. */
function answers(answer: PcpMap, request: PcpMap): boolean {
  return (
    answer.protocol === request.protocol &&
    answer.internalPort === request.internalPort &&
    answer.nonce.every((byte, at) => byte === request.nonce[at])
  );
}

interface Refusal {
  readonly code: ErrorCode;
  readonly reason: string;
  readonly advice?: string;
}

/** RFC 6887, section 7.4. */
const REFUSALS: Readonly<Record<number, Refusal>> = {
  [PCP_RESULT.UNSUPP_VERSION]: { code: 'UNSUPPORTED', reason: 'it does not speak PCP version 2' },
  [PCP_RESULT.NOT_AUTHORIZED]: {
    code: 'NOT_AUTHORIZED',
    reason: 'its settings do not allow this mapping, or it belongs to somebody else',
    advice: 'Allow it in the gateway’s settings, or map another port.',
  },
  [PCP_RESULT.MALFORMED_REQUEST]: { code: 'UNSUPPORTED', reason: 'it could not read the request' },
  [PCP_RESULT.UNSUPP_OPCODE]: { code: 'UNSUPPORTED', reason: 'it does not map ports over PCP' },
  [PCP_RESULT.UNSUPP_OPTION]: {
    code: 'UNSUPPORTED',
    reason: 'it does not know an option that was asked for',
  },
  [PCP_RESULT.MALFORMED_OPTION]: { code: 'UNSUPPORTED', reason: 'it could not read an option' },
  [PCP_RESULT.NETWORK_FAILURE]: {
    code: 'NETWORK_DOWN',
    reason: 'it has no connection to the internet',
    advice: 'Check the gateway’s own connection.',
  },
  [PCP_RESULT.NO_RESOURCES]: { code: 'NO_RESOURCES', reason: 'its table is full' },
  [PCP_RESULT.UNSUPP_PROTOCOL]: { code: 'UNSUPPORTED', reason: 'it does not map this transport protocol' },
  [PCP_RESULT.USER_EX_QUOTA]: {
    code: 'NO_RESOURCES',
    reason: 'this host has as many mappings as it may have',
  },
  [PCP_RESULT.CANNOT_PROVIDE_EXTERNAL]: { code: 'CONFLICT', reason: 'that external port is not free' },
  [PCP_RESULT.ADDRESS_MISMATCH]: {
    code: 'UNSUPPORTED',
    reason: 'another NAT stands between this host and it',
    advice: 'Ask the nearer gateway, or map on each of them in turn: --gateway ADDR.',
  },
  [PCP_RESULT.EXCESSIVE_REMOTE_PEERS]: { code: 'NO_RESOURCES', reason: 'it takes fewer filters' },
};
