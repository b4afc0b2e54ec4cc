/**
 * The way out of a responder: whoever has what its clients ask for held by the outer gateway. The agent is that
 * (agent/upstream.ts); a test may be.
 */

import type { IpAddress } from '../net/address.ts';
import type { RemotePeer } from '../net/endpoint.ts';
import type { MappingProtocol, TransportProtocol } from '../net/protocol.ts';
import type { Refusal } from './grant.ts';

/** One port of one client, as it is to lead there from outside. */
export interface UpstreamWish {
  readonly protocol: TransportProtocol;
  readonly internalClient: IpAddress;
  readonly internalPort: number;
  /** 0: any. Of a pinhole it is the internal port. */
  readonly suggestedExternalPort: number;
  /** That port, or a refusal. */
  readonly exact: boolean;
  /** What the outer gateway is asked for each time; it is kept until `release`. */
  readonly lifetimeSeconds: number;
  readonly description: string;
  /** undefined: anybody. */
  readonly remotePeer: RemotePeer | undefined;
  /** How the client asked: to be known again after a restart. */
  readonly via: MappingProtocol;
  readonly nonce: Uint8Array | undefined;
  /** The client wants it until it deletes it. */
  readonly isEndless: boolean;
}

export interface UpstreamGrant {
  readonly externalPort: number;
  /** undefined where the outer gateway does not tell. */
  readonly externalAddress: IpAddress | undefined;
  /** As the outer gateway granted it; undefined: no end. */
  readonly lifetimeSeconds: number | undefined;
}

export type UpstreamOutcome =
  | { readonly kind: 'granted'; readonly grant: UpstreamGrant; readonly holding: UpstreamHolding }
  | { readonly kind: 'refused'; readonly refusal: Refusal };

/** What is kept for a client until it is released. */
export interface UpstreamHolding {
  /** Resolves when nobody holds it any more, as far as the outer gateway answers. */
  release(): Promise<void>;
}

export type UpstreamNews =
  /** It leads in from elsewhere now. */
  | { readonly kind: 'moved'; readonly grant: UpstreamGrant }
  /** The outer gateway has it again, or still, as it was. */
  | { readonly kind: 'held'; readonly grant: UpstreamGrant }
  /** The outer gateway no longer has it, and is being asked again. */
  | { readonly kind: 'lost' }
  /** It was asked again and said no. */
  | { readonly kind: 'refused'; readonly refusal: Refusal };

/** What was held for a client before this program started again, and is held still. */
export interface Restored {
  readonly wish: UpstreamWish;
  readonly grant: UpstreamGrant;
  readonly holding: UpstreamHolding;
  /** Has `tell` called with what becomes of it. */
  readonly listen: (tell: (news: UpstreamNews) => void) => void;
}

export interface Upstream {
  /** Has it held from now on. `tell` is called with what becomes of it, until it is released. */
  hold(wish: UpstreamWish, tell: (news: UpstreamNews) => void): Promise<UpstreamOutcome>;
  /**
   * Calls `take` with each mapping from before this start when the outer gateway has it again, and now and then after
   * that while `take` answers false: its client is not known yet. Pinholes are given back.
   */
  restore(take: (restored: Restored) => boolean): void;
  /** undefined: there is no gateway, or it does not tell. */
  readonly externalAddress: IpAddress | undefined;
  /** Calls `listener` when the external address is another, or known no more. Returns how to end it. */
  onExternalAddress(listener: (address: IpAddress | undefined) => void): () => void;
}
