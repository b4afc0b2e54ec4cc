/**
 * IPv6 pinholes over UPnP (WANIPv6FirewallControl:1). Nothing is translated: the pinhole lets packets for
 * this host's own address and port in. The gateway names each one with a number, needed to extend or close it.
 */

import type { UpnpService } from '../discovery/gateway.ts';
import { callAction, soapValue, UpnpFault } from '../discovery/soap-call.ts';
import { isNatwardError, NatwardError } from '../errors.ts';
import type { IpAddress } from '../net/address.ts';
import type { RemotePeer } from '../net/endpoint.ts';
import { PROTOCOL_NUMBER } from '../net/protocol.ts';
import type { System } from '../system/system.ts';
import type { SoapValues } from '../wire/soap.ts';
import type { Mapping, MappingRequest } from './mapping.ts';

/** WANIPv6FirewallControl:1, section 2.3.6: 1 to 86400. */
const MAX_LIFETIME_SECONDS = 86_400;
const NO_SUCH_PINHOLE = 704;

export class PinholeService {
  readonly #system: System;
  readonly #service: UpnpService;
  readonly #gateway: IpAddress;

  constructor(system: System, service: UpnpService, gateway: IpAddress) {
    this.#system = system;
    this.#service = service;
    this.#gateway = gateway;
  }

  /** Opens a pinhole, or extends the one that is held. Throws as PortMapper.map does. */
  async add(request: MappingRequest, signal?: AbortSignal): Promise<Mapping> {
    const lifetimeSeconds = Math.min(request.lifetimeSeconds || MAX_LIFETIME_SECONDS, MAX_LIFETIME_SECONDS);
    const { internalClient, internalPort, protocol } = request;
    if (request.suggestedExternalPort !== 0 && request.suggestedExternalPort !== internalPort) {
      throw new NatwardError(
        'UNSUPPORTED',
        `an IPv6 pinhole keeps the port: ${internalPort} cannot be seen as ${request.suggestedExternalPort}`,
      );
    }
    const id = await this.#open(request, lifetimeSeconds, signal);
    return {
      protocol,
      externalAddress: internalClient,
      externalPort: internalPort,
      internalClient,
      internalPort,
      lifetimeSeconds,
      expiresAtMs: this.#system.clock.now() + lifetimeSeconds * 1000,
      via: 'upnp',
      gateway: this.#gateway,
      description: request.description,
      notes: [],
      nonce: undefined,
      pinholeId: id,
      remotePeer: request.remotePeer,
    };
  }

  /** Extends the pinhole that is held, or opens a new one where that one is gone. Returns its number. */
  async #open(request: MappingRequest, lifetimeSeconds: number, signal?: AbortSignal): Promise<number> {
    const { internalClient, internalPort, protocol, held } = request;
    if (held?.pinholeId !== undefined) {
      const update = { UniqueID: String(held.pinholeId), NewLeaseTime: String(lifetimeSeconds) };
      try {
        await this.#call('UpdatePinhole', update, internalClient, signal);
        return held.pinholeId;
      } catch (error) {
        // 704, and whatever else: miniupnpd 2.3.1 answers 402 for one that it has forgotten.
        if (!isFault(error)) throw error;
      }
    }
    await this.#checkStatus(internalClient, signal);
    const values = await this.#call(
      'AddPinhole',
      {
        ...remoteArguments(request.remotePeer),
        InternalClient: internalClient,
        InternalPort: String(internalPort),
        Protocol: String(PROTOCOL_NUMBER[protocol]),
        LeaseTime: String(lifetimeSeconds),
      },
      internalClient,
      signal,
    );
    const id = soapValue(values, 'UniqueID');
    if (!/^\d{1,5}$/.test(id)) throw new NatwardError('MALFORMED', `${this.#gateway} names no pinhole`);
    return Number(id);
  }

  /** Closes a pinhole; one that is gone already is no error. */
  async delete(id: number, internalClient: IpAddress, signal?: AbortSignal): Promise<void> {
    try {
      await this.#call('DeletePinhole', { UniqueID: String(id) }, internalClient, signal);
    } catch (error) {
      if (!isNoSuchPinhole(error)) throw error;
    }
  }

  /** Reports whether there is one by this number. Throws REFUSED or NOT_AUTHORIZED where the gateway does not tell. */
  async isOpen(id: number, internalClient: IpAddress, signal?: AbortSignal): Promise<boolean> {
    try {
      await this.#call('GetPinholePackets', { UniqueID: String(id) }, internalClient, signal);
      return true;
    } catch (error) {
      if (isNoSuchPinhole(error)) return false;
      throw error;
    }
  }

  /** A firewall that is off lets everything in; one that takes no pinholes says so here and not in AddPinhole. */
  async #checkStatus(from: IpAddress, signal?: AbortSignal): Promise<void> {
    const status = await this.#call('GetFirewallStatus', {}, from, signal).catch((error: unknown) => {
      if (isNatwardError(error, 'ABORTED', 'UNREACHABLE', 'TIMEOUT')) throw error;
      return {};
    });
    if (soapValue(status, 'InboundPinholeAllowed') === '0') {
      throw new NatwardError(
        'NOT_AUTHORIZED',
        `${this.#gateway} opens no IPv6 pinholes (InboundPinholeAllowed is 0)`,
        {
          advice: 'Allow it in the gateway’s IPv6 firewall settings.',
        },
      );
    }
  }

  /**
   * Asked from the internal client's own address, since gateways answer 606 to any other; from any of ours
   * where that one is another host's.
   */
  async #call(
    action: string,
    values: SoapValues,
    internalClient: IpAddress,
    signal?: AbortSignal,
  ): Promise<SoapValues> {
    const call = (localAddress: IpAddress | undefined) =>
      callAction(this.#system, { service: this.#service, localAddress }, action, values, signal);
    try {
      return await call(internalClient).catch((error: unknown) => {
        if (isNotOurs(error)) return call(undefined);
        throw error;
      });
    } catch (error) {
      if (!(error instanceof UpnpFault)) throw error;
      const code = [606, 702, 703].includes(error.errorCode) ? 'NOT_AUTHORIZED' : 'REFUSED';
      throw new NatwardError(code, `${this.#gateway} refused an IPv6 pinhole: ${error.message}`, {
        cause: error,
      });
    }
  }
}

/** A pinhole lets one host in, or everybody; from one of its ports, or from any (section 2.3.1). */
function remoteArguments(peer: RemotePeer | undefined): SoapValues {
  if (peer !== undefined && peer.prefixLength !== 128) {
    throw new NatwardError('UNSUPPORTED', 'an IPv6 pinhole is for one remote host, not for a network');
  }
  return { RemoteHost: peer?.address ?? '', RemotePort: String(peer?.port ?? 0) };
}

function isFault(error: unknown): error is NatwardError & { readonly cause: UpnpFault } {
  return isNatwardError(error) && error.cause instanceof UpnpFault;
}

function isNoSuchPinhole(error: unknown): boolean {
  return isFault(error) && error.cause.errorCode === NO_SUCH_PINHOLE;
}

function isNotOurs(error: unknown): boolean {
  const { cause } = error as { cause?: NodeJS.ErrnoException };
  return isNatwardError(error, 'UNREACHABLE') && cause?.code === 'EADDRNOTAVAIL';
}
