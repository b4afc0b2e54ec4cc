/**
 * What somebody wants kept open (an Intent), and how each port of it stands (a Lease). The keeper makes the
 * second true to the first; what it tells about a lease is a LeaseStatus.
 */

import type { ErrorCode } from '../errors.ts';
import type { Family, IpAddress } from '../net/address.ts';
import type { Endpoint, RemotePeer } from '../net/endpoint.ts';
import type { MappingProtocol, TransportProtocol } from '../net/protocol.ts';
import type { Hook } from './hooks/hook.ts';
import type { MapAsk } from './map.ts';

/** Who asked: a person at a terminal, the configuration file, a client of the responder, or a program by its own name. */
export type Owner = string;
export const USER_OWNER: Owner = 'user';
export const CONFIG_OWNER: Owner = 'config';
export const RESPONDER_OWNER: Owner = 'responder';
/** Programs have other names. */
export const OWN_OWNERS: readonly Owner[] = [CONFIG_OWNER, RESPONDER_OWNER];

/** How a client of the responder asked for it. */
export interface IntentClient {
  readonly via: MappingProtocol;
  /** PCP's 12 bytes, in hex. */
  readonly nonce: string | null;
  /** Until it is deleted. */
  readonly isEndless: boolean;
}

/** What is asked of the keeper, before it has a number. */
export interface KeepRequest extends MapAsk {
  /** What the gateway is asked for, each time; what it grants is what is renewed. 1..604800. */
  readonly lifetimeSeconds: number;
  /** `exact`: this external port or none. */
  readonly choice: 'exact' | 'any';
  readonly description?: string | undefined;
  readonly remotePeer?: RemotePeer | undefined;
  readonly via?: MappingProtocol | undefined;
  readonly gateway?: IpAddress | undefined;
  readonly interface?: string | undefined;
  /** Left out: the IPv4 mapping, and the IPv6 pinhole as well where the gateway can do both. */
  readonly family?: Family | undefined;
  /**
   * To another host: `always` by a rule of this one, since the gateway knows no way to there; `never`, where it has to
   * be that host's own address. Left out: by a rule where the gateway will not map to there itself.
   */
  readonly carry?: 'always' | 'never' | undefined;
  /** Whose request to the responder it is, as that has to know it after a restart. */
  readonly client?: IntentClient | undefined;
  /** Beside the hooks of the configuration, for these leases alone. */
  readonly hooks: readonly Hook[];
}

export interface Intent extends KeepRequest {
  /** 8 hex digits; people type it. */
  readonly id: string;
  readonly owner: Owner;
}

export type LeaseState =
  /** Asked for, and not answered yet. */
  | 'asking'
  /** The gateway has granted it, and as far as anybody knows it is there. */
  | 'held'
  /** It was held and is gone; it is being asked for again. */
  | 'lost'
  /** The gateway said no. It is asked again from time to time: settings change. */
  | 'refused'
  /** There is no gateway to ask. */
  | 'no-gateway';

/** One port and protocol of an intent, as it stands. */
export interface LeaseStatus {
  /** The intent's id, then what it is of it: `3fa94c01/tcp/8080`; `/ipv6` at the end for a pinhole. */
  readonly id: string;
  readonly intentId: string;
  readonly owner: Owner;
  readonly spec: string;
  readonly state: LeaseState;
  readonly protocol: TransportProtocol;
  readonly family: Family;
  /** As asked; null: any. */
  readonly requestedExternalPort: number | null;
  readonly externalAddress: IpAddress | null;
  readonly externalPort: number | null;
  readonly internalClient: IpAddress | null;
  /** Where the traffic arrives on `internalClient`: VPN gateways deliver to the external port's number. */
  readonly internalPort: number;
  /** Where a rule takes it on to from there: the gateway maps to this host alone. Null: nowhere. */
  readonly target: Endpoint | null;
  /** As granted; 0: no end. Null until granted, as the rest. */
  readonly lifetimeSeconds: number | null;
  readonly expiresAt: string | null;
  readonly renewsAt: string | null;
  readonly via: MappingProtocol | null;
  readonly gateway: IpAddress | null;
  readonly description: string;
  readonly notes: readonly string[];
  /** Why it is not held. */
  readonly error: {
    readonly code: ErrorCode;
    readonly message: string;
    readonly advice: string | null;
  } | null;
}

export interface GatewayStatus {
  readonly address: IpAddress;
  readonly family: Family;
  readonly interface: string;
  /** This host's address towards it. */
  readonly localAddress: IpAddress;
  readonly state: 'up' | 'down';
  readonly protocols: readonly MappingProtocol[];
  readonly externalAddress: IpAddress | null;
}
