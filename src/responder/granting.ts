/**
 * Who grants, as the protocols see him: a gateway of its own (grants.ts, pinholes.ts) or one that has each request
 * carried on to the outer gateway (lease-grants.ts, lease-pinholes.ts).
 */

import type { IpAddress } from '../net/address.ts';
import type { MappingProtocol, TransportProtocol } from '../net/protocol.ts';
import type { GrantOutcome, GrantRequest, Refusal } from './grant.ts';
import type { Pinhole, PinholeSpot } from './pinholes.ts';
import type { Table, TableEntry } from './table.ts';

export interface Granting {
  /** What is mapped now, in the order in which it was made; with `via` only what that protocol sees. */
  list(via?: MappingProtocol): readonly TableEntry[];
  get(via: MappingProtocol, protocol: TransportProtocol, externalPort: number): TableEntry | undefined;
  /** The mapping of an internal endpoint; of several, which UPnP can make, the oldest. */
  to(
    via: MappingProtocol,
    protocol: TransportProtocol,
    internalClient: IpAddress,
    internalPort: number,
  ): TableEntry | undefined;
  /** Reports whether `requester` may act for `client`. */
  mayActFor(requester: IpAddress, client: IpAddress): boolean;
  /** Reports whether there are hosts other than itself that `requester` may act for. */
  mayActForOthers(requester: IpAddress): boolean;
  /** Makes a mapping, or refreshes the one that is there. */
  grant(request: GrantRequest): Promise<GrantOutcome>;
  /** Ends the mappings that `pick` finds in the table that `via` sees, and resolves with them. */
  remove(via: MappingProtocol, pick: (table: Table) => readonly TableEntry[]): Promise<readonly TableEntry[]>;
}

export type PinholeOutcome =
  | { readonly kind: 'granted'; readonly pinhole: Pinhole }
  | { readonly kind: 'refused'; readonly refusal: Refusal };

export interface PinholeKeeping {
  list(): readonly Pinhole[];
  get(uniqueId: number): Pinhole | undefined;
  /** Those of one port of one host, whichever protocols and peers they are for. */
  to(internalClient: IpAddress, internalPort: number): readonly Pinhole[];
  at(spot: PinholeSpot): Pinhole | undefined;
  /** Makes a pinhole, or renews the one at the same spot. */
  put(pinhole: Omit<Pinhole, 'uniqueId'>): Promise<PinholeOutcome>;
  /** One that is not there any more is left alone. */
  delete(pinhole: Pinhole): Promise<void>;
}
