/**
 * NAT-PMP (RFC 6886) as a PortMapper. A mapping is asked for, refreshed and deleted by one kind of request.
 * There is neither "this port or none" nor a nonce: the gateway knows a mapping by the sender's
 * address, the protocol and the internal port.
 */

import type { NatpmpOffer } from '../discovery/gateway.ts';
import {
  type GatewayLink,
  GRANT_SCHEDULE,
  type LinkMessage,
  NATPMP_BACKGROUND_SCHEDULE,
  type Schedule,
  type Stops,
} from '../discovery/link.ts';
import { type ErrorCode, NatwardError } from '../errors.ts';
import type { IpAddress } from '../net/address.ts';
import { formatEndpoint } from '../net/endpoint.ts';
import type { Clock } from '../system/clock.ts';
import { encodeNatpmpRequest, NATPMP_RESULT, type NatpmpRequest } from '../wire/natpmp.ts';
import type { Mapping, MappingKey, MappingRequest, PortMapper } from './mapping.ts';
import { LOWER_PORTS_ADVICE } from './advice.ts';

type MapRequest = NatpmpRequest & { opcode: 'map' };
type MapAnswer = LinkMessage & { version: 0; opcode: 'map' };

export class NatpmpMapper implements PortMapper {
  readonly protocol = 'natpmp';
  readonly gateway: IpAddress;
  /** RFC 6886, section 3.1: one request after the other. */
  readonly window = 1;
  readonly holds = undefined;
  readonly list = undefined;
  readonly #link: GatewayLink;
  readonly #clock: Clock;
  readonly #externalAddress: IpAddress | undefined;
  /** A link of one address has no network behind it: a VPN's. Nobody but its provider maps there. */
  readonly #isVpn: boolean;

  constructor(offer: NatpmpOffer, clock: Clock) {
    this.gateway = offer.gateway.address;
    this.#isVpn = offer.gateway.prefixLength >= 31;
    this.#link = offer.link;
    this.#clock = clock;
    this.#externalAddress = offer.externalAddress;
  }

  async map(request: MappingRequest, signal?: AbortSignal, enough?: AbortSignal): Promise<Mapping> {
    if (request.internalClient !== this.#link.localAddress) {
      throw new NatwardError(
        'UNSUPPORTED',
        `NAT-PMP maps only to this host, not to ${request.internalClient}`,
      );
    }
    if (request.remotePeer !== undefined) {
      throw new NatwardError('UNSUPPORTED', 'NAT-PMP lets everybody in: it cannot map for one remote peer');
    }
    const { protocol, internalPort, suggestedExternalPort, lifetimeSeconds } = request;
    const answer = await this.#request(
      { opcode: 'map', protocol, internalPort, suggestedExternalPort, lifetimeSeconds },
      { signal, enough },
      request.pace === 'background' ? NATPMP_BACKGROUND_SCHEDULE : GRANT_SCHEDULE,
    );
    const elsewhere = answer.internalPort !== internalPort || this.#isVpn;
    return {
      protocol,
      externalAddress: this.#externalAddress,
      externalPort: answer.externalPort,
      internalClient: request.internalClient,
      internalPort,
      lifetimeSeconds: answer.lifetimeSeconds,
      expiresAtMs: this.#clock.now() + answer.lifetimeSeconds * 1000,
      via: 'natpmp',
      gateway: this.gateway,
      description: request.description,
      notes: [],
      nonce: undefined,
      pinholeId: undefined,
      ...(elsewhere ? { arrivesOnPort: answer.externalPort } : {}),
    };
  }

  /** The answer is the proof: NAT-PMP has no other way to look. */
  async verify(_request: MappingRequest, mapping: Mapping): Promise<Mapping> {
    return mapping;
  }

  async unmap(key: MappingKey, signal?: AbortSignal): Promise<void> {
    const { protocol, internalPort, internalClient } = key;
    // By the sender's address: what this host made under another one would leave this one's in its place.
    if (internalClient !== this.#link.localAddress) {
      throw new NatwardError(
        'UNSUPPORTED',
        `NAT-PMP takes back only what leads to ${this.#link.localAddress}, not to ${internalClient}`,
      );
    }
    // RFC 6886, section 3.4: lifetime 0 and external port 0.
    await this.#request(
      { opcode: 'map', protocol, internalPort, suggestedExternalPort: 0, lifetimeSeconds: 0 },
      { signal },
    );
  }

  async externalAddress(): Promise<IpAddress | undefined> {
    return this.#externalAddress;
  }

  #request(request: MapRequest, stops: Stops, schedule: Schedule = GRANT_SCHEDULE): Promise<MapAnswer> {
    const accept = (message: LinkMessage): MapAnswer | undefined => {
      if (message.version !== 0) return undefined;
      const port = request.suggestedExternalPort || request.internalPort;
      if (message.opcode === 'unknown' && message.result !== 0)
        throw this.#refused(message.result, request.protocol, port);
      if (message.opcode !== 'map' || message.protocol !== request.protocol) return undefined;
      // A gateway that keeps 8 bits of a port answers for another port than was asked: not an answer.
      if (message.internalPort !== request.internalPort && !this.#isVpnAnswer(message, request))
        return undefined;
      if (message.result !== NATPMP_RESULT.SUCCESS)
        throw this.#refused(message.result, request.protocol, port);
      if (request.lifetimeSeconds > 0 && (message.lifetimeSeconds === 0 || message.externalPort === 0))
        return undefined;
      return message;
    };
    return this.#link.request(encodeNatpmpRequest(request), accept, schedule, stops);
  }

  /**
   * The gateways of VPN providers (ProtonVPN, 10.2.0.1) answer for internal port 0 or 1, whichever was asked. What
   * is the last byte of the port asked comes from a gateway that cuts ports, where there may be such a one.
   */
  #isVpnAnswer(answer: { readonly internalPort: number }, { internalPort }: MapRequest): boolean {
    return answer.internalPort <= 1 && (this.#isVpn || answer.internalPort !== (internalPort & 0xff));
  }

  #refused(result: number, protocol: string, port: number): NatwardError {
    const [code, reason] = REFUSALS[result] ?? (['REFUSED', 'it gave no reason that NAT-PMP knows'] as const);
    const protocolCode = `NAT-PMP ${result}`;
    const what = `${protocol.toUpperCase()} ${port}`;
    const message = `${formatEndpoint(this.#link.remote)} refused ${what}: ${reason} (${protocolCode})`;
    if (code !== 'NOT_AUTHORIZED') return new NatwardError(code, message, { protocolCode });
    const advice = port < 1024 ? LOWER_PORTS_ADVICE : 'Switch port mapping on in the gateway’s settings.';
    return new NatwardError(code, message, { protocolCode, advice });
  }
}

/** RFC 6886, section 3.5. */
const REFUSALS: Readonly<Record<number, readonly [ErrorCode, string]>> = {
  [NATPMP_RESULT.UNSUPPORTED_VERSION]: ['UNSUPPORTED', 'it does not speak NAT-PMP'],
  [NATPMP_RESULT.NOT_AUTHORIZED]: ['NOT_AUTHORIZED', 'its settings do not allow this mapping'],
  [NATPMP_RESULT.NETWORK_FAILURE]: ['NETWORK_DOWN', 'it has no connection to the internet'],
  [NATPMP_RESULT.OUT_OF_RESOURCES]: ['NO_RESOURCES', 'its table is full'],
  [NATPMP_RESULT.UNSUPPORTED_OPCODE]: ['UNSUPPORTED', 'it does not map ports over NAT-PMP'],
};
