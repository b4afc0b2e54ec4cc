/** What is asked of the table, whichever protocol asks, and what comes of it. */

import { randomInt } from 'node:crypto';
import type { IpAddress } from '../net/address.ts';
import type { MappingProtocol, TransportProtocol } from '../net/protocol.ts';
import type { RemotePeer } from '../net/endpoint.ts';
import type { TableEntry } from './table.ts';

export interface GrantRequest {
  readonly via: MappingProtocol;
  /** Who asks. */
  readonly requester: IpAddress;
  readonly protocol: TransportProtocol;
  readonly internalClient: IpAddress;
  readonly internalPort: number;
  /** 0: any. */
  readonly suggestedExternalPort: number;
  /** That port, or a refusal. */
  readonly exact: boolean;
  /** undefined: until deleted. */
  readonly lifetimeSeconds: number | undefined;
  /** undefined leaves an entry's own as it is. */
  readonly description: string | undefined;
  readonly enabled: boolean;
  /** undefined leaves an entry's own as they are. */
  readonly remotePeers: readonly RemotePeer[] | undefined;
  readonly nonce?: Uint8Array;
  /** A PEER asks for it, and not a MAP (RFC 6887, section 12). */
  readonly isPeer?: true | undefined;
}

export type Refusal =
  /** Secure mode, or the user has not permitted it. */
  | 'not-authorized'
  /** Another client's nonce is on the mapping. */
  | 'wrong-nonce'
  /** The settings deny this external port. */
  | 'denied-port'
  /** The external port belongs to another mapping, or to the gateway's host. */
  | 'taken'
  /** The external port belongs to a rule that the user made. */
  | 'manual-rule'
  /** The client has as many mappings as it may. */
  | 'over-quota'
  /** The mapping would be for more remote peers than can be told apart. */
  | 'too-many-peers'
  | 'table-full'
  | 'no-free-port'
  /** The gateway has no working connection to the outside. */
  | 'network-down';

export type GrantOutcome =
  | {
      readonly kind: 'granted';
      readonly entry: TableEntry;
      /** What the answer says; undefined: until deleted. */
      readonly lifetimeSeconds: number | undefined;
    }
  | { readonly kind: 'refused'; readonly refusal: Refusal };

export function refused(refusal: Refusal): GrantOutcome {
  return { kind: 'refused', refusal };
}

/** Each try opens a socket; a host on which this many random ports are taken is out of ports. */
const RANDOM_PORT_TRIES = 100;

/** The ports to try: the one that was asked for, the inner one, then random ones (RFC 6887, section 17.2). */
export function* candidatePorts(request: GrantRequest): Generator<number> {
  const { suggestedExternalPort, internalPort } = request;
  if (suggestedExternalPort !== 0) yield suggestedExternalPort;
  if (request.exact && suggestedExternalPort !== 0) return;
  if (suggestedExternalPort === 0) yield internalPort;
  for (let tries = 0; tries < RANDOM_PORT_TRIES; tries++) yield randomInt(1024, 65_536);
}
