/** What is asked of a gateway, what it granted, and the one interface that each protocol implements. */

import type { IpAddress } from '../net/address.ts';
import type { RemotePeer } from '../net/endpoint.ts';
import type { MappingProtocol, TransportProtocol } from '../net/protocol.ts';

/** UPnP knows no lifetime longer (WANIPConnection:2, section 2.3.16), and a year is far beyond any use. */
export const MAX_LIFETIME_SECONDS = 604_800;

export interface MappingRequest {
  readonly protocol: TransportProtocol;
  /** The host that the traffic goes to; usually this one. */
  readonly internalClient: IpAddress;
  readonly internalPort: number;
  /** 0 leaves the choice to the gateway. */
  readonly suggestedExternalPort: number;
  /** `exact`: this external port or a CONFLICT. */
  readonly choice: 'exact' | 'any';
  /** 1..604800. */
  readonly lifetimeSeconds: number;
  readonly description: string;
  /** Only traffic from there is let in: PCP's FILTER, UPnP's NewRemoteHost. Left out: from anywhere. */
  readonly remotePeer?: RemotePeer | undefined;
  /** 12 bytes: the same ones on refresh and release (RFC 6887, section 11.2). */
  readonly nonce: Uint8Array;
  /** What this host holds already for the same ports, where it does: this request then refreshes it. */
  readonly held: HeldMapping | undefined;
  /**
   * `background`: nobody waits for this answer, a renewal for example, so that it is sent again as slowly as the
   * protocol's RFC says. Left out: somebody does.
   */
  readonly pace?: 'background';
  /** Another protocol was asked for the same and has not answered: it may have been granted all the same. */
  readonly askedBefore?: true;
}

/** What a later process needs to refresh a mapping or take it back. */
export interface HeldMapping {
  readonly internalClient: IpAddress;
  readonly externalPort: number;
  readonly lifetimeSeconds: number;
  readonly pinholeId: number | undefined;
}

export interface Mapping {
  readonly protocol: TransportProtocol;
  /** Undefined where the gateway does not tell, or tells nonsense. */
  readonly externalAddress: IpAddress | undefined;
  readonly externalPort: number;
  readonly internalClient: IpAddress;
  readonly internalPort: number;
  /** As granted; 0: until it is deleted. */
  readonly lifetimeSeconds: number;
  /** By this host's clock; undefined where there is no end. */
  readonly expiresAtMs: number | undefined;
  readonly via: MappingProtocol;
  readonly gateway: IpAddress;
  readonly description: string;
  /** What the person should know about this grant: sentences. */
  readonly notes: readonly string[];
  /** PCP's proof of ownership. */
  readonly nonce: Uint8Array | undefined;
  /** UPnP's name of an IPv6 pinhole (WANIPv6FirewallControl:1, UniqueID). */
  readonly pinholeId: number | undefined;
  /** As asked for; left out: anybody may use it. */
  readonly remotePeer?: RemotePeer | undefined;
  /** Where the traffic arrives instead of `internalPort`: VPN gateways deliver to the external port's number. */
  readonly arrivesOnPort?: number | undefined;
}

/** One row of a gateway's table, whoever made it. */
export interface ListedMapping {
  readonly protocol: TransportProtocol;
  readonly externalPort: number;
  readonly internalClient: IpAddress;
  readonly internalPort: number;
  readonly description: string;
  /** Undefined where the gateway does not tell; 0: no end. */
  readonly remainingSeconds: number | undefined;
  readonly enabled: boolean;
}

/** What identifies a mapping to its gateway when it is taken back. */
export type MappingKey = Pick<
  Mapping,
  'protocol' | 'externalPort' | 'internalClient' | 'internalPort' | 'nonce' | 'pinholeId' | 'remotePeer'
>;

/** Speaks one protocol to one gateway. */
export interface PortMapper {
  readonly protocol: MappingProtocol;
  readonly gateway: IpAddress;
  /** How many requests the gateway may be given at once. */
  readonly window: number;
  /**
   * Asks for one mapping. Resolves as soon as the gateway says yes. When `enough` fires nothing more is
   * sent, and an answer to what was sent is still taken.
   * Throws NOT_AUTHORIZED, CONFLICT, NO_RESOURCES, UNSUPPORTED, ONLY_PERMANENT, NETWORK_DOWN, REFUSED,
   * TIMEOUT, UNREACHABLE, MALFORMED or ABORTED.
   */
  map(request: MappingRequest, signal?: AbortSignal, enough?: AbortSignal): Promise<Mapping>;
  /**
   * Looks whether the gateway did what it said, where the protocol can tell, and returns what it did.
   * Throws NOT_MAPPED where it did nothing.
   */
  verify(request: MappingRequest, mapping: Mapping, signal?: AbortSignal): Promise<Mapping>;
  /** Takes a mapping back. One that is gone already is no error. Throws as `map` does. */
  unmap(key: MappingKey, signal?: AbortSignal): Promise<void>;
  /** Undefined where the gateway does not tell, or tells an address that cannot be. */
  externalAddress(signal?: AbortSignal): Promise<IpAddress | undefined>;
  /**
   * Looks whether a mapping of IPv4 is there and leads where it should, or a pinhole that has a number. Undefined where the protocol has no way to
   * look. Throws as `map` does.
   */
  readonly holds: ((key: MappingKey, signal?: AbortSignal) => Promise<boolean>) | undefined;
  /** The whole table. Undefined where the protocol has no way to ask. */
  readonly list: ((signal?: AbortSignal) => Promise<readonly ListedMapping[]>) | undefined;
}
