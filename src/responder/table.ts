/**
 * A gateway's table of mappings: one entry for each transport protocol and external port. Values only; who
 * may have an entry and for how long is for grants.ts, and the traffic for relay.ts.
 */

import { family, type IpAddress, sameNetwork } from '../net/address.ts';
import type { Endpoint, RemotePeer } from '../net/endpoint.ts';
import type { MappingProtocol, TransportProtocol } from '../net/protocol.ts';
import { Deadlines } from './deadlines.ts';
import { MultiMap } from './multi-map.ts';

export interface TableEntry {
  readonly protocol: TransportProtocol;
  readonly externalPort: number;
  readonly internalClient: IpAddress;
  readonly internalPort: number;
  /** undefined: until deleted. */
  readonly expiresAtMs: number | undefined;
  readonly description: string;
  /** A mapping that is not enabled is kept, and carries nothing (WANIPConnection:1, section 2.2.18). */
  readonly enabled: boolean;
  /** The protocol that made it; any of the others may refresh it. */
  readonly via: MappingProtocol;
  /** Of the PCP client that made it. */
  readonly nonce: Uint8Array | undefined;
  /** UPnP's RemoteHost and PCP's FILTER; empty: anybody. */
  readonly remotePeers: readonly RemotePeer[];
  /** Made by PCP's PEER: its peers are those that it was asked for, and a MAP opens it for all. */
  readonly isPeer?: true | undefined;
  /** Left out: the gateway's own. */
  readonly externalAddress?: IpAddress | undefined;
}

/** No look-up here is a walk: a table of ten thousand answers as fast as one of ten. */
export class Table {
  readonly #entries = new Map<string, TableEntry>();
  readonly #inner = new MultiMap<TableEntry>();
  readonly #deadlines = new Deadlines<TableEntry>((entry) => this.has(entry));
  #listed: readonly TableEntry[] | undefined;

  get size(): number {
    return this.#entries.size;
  }

  has(entry: TableEntry): boolean {
    return this.get(entry.protocol, entry.externalPort) === entry;
  }

  get(protocol: TransportProtocol, externalPort: number): TableEntry | undefined {
    return this.#entries.get(outerKey({ protocol, externalPort }));
  }

  /** The mappings to an internal endpoint: one, or those that UPnP made, the oldest first. */
  toInternal(
    protocol: TransportProtocol,
    internalClient: IpAddress,
    internalPort: number,
  ): readonly TableEntry[] {
    return this.#inner.get(innerKey({ protocol, internalClient, internalPort }));
  }

  /** In the order in which they were made. */
  list(): readonly TableEntry[] {
    this.#listed ??= [...this.#entries.values()];
    return this.#listed;
  }

  /** When the first lifetime ends; Infinity where none does. */
  firstEndMs(): number {
    return this.#deadlines.firstMs();
  }

  /** Those whose lifetime ends by then. They are still in the table. */
  ending(untilMs: number): readonly TableEntry[] {
    return this.#deadlines.take(untilMs);
  }

  /** In place of the one at the same external port. */
  put(entry: TableEntry): void {
    const before = this.get(entry.protocol, entry.externalPort);
    if (before !== undefined) this.#inner.delete(innerKey(before), before);
    this.#entries.set(outerKey(entry), entry);
    this.#inner.add(innerKey(entry), entry);
    this.#deadlines.add(entry, this.size);
    this.#listed = undefined;
  }

  /** One that is not there any more is left alone, and so is what is there in its place. */
  delete(entry: TableEntry): void {
    if (!this.has(entry)) return;
    this.#entries.delete(outerKey(entry));
    this.#inner.delete(innerKey(entry), entry);
    this.#listed = undefined;
  }
}

function outerKey({ protocol, externalPort }: Pick<TableEntry, 'protocol' | 'externalPort'>): string {
  return `${protocol} ${externalPort}`;
}

function innerKey(inner: Pick<TableEntry, 'protocol' | 'internalClient' | 'internalPort'>): string {
  return `${inner.protocol} ${inner.internalPort} ${inner.internalClient}`;
}

/** Reports whether `peer` may send to a mapping that is limited to `remotePeers`. */
export function admits(remotePeers: readonly RemotePeer[], peer: Endpoint): boolean {
  if (remotePeers.length === 0) return true;
  return remotePeers.some(
    (remote) =>
      (remote.port === 0 || remote.port === peer.port) &&
      family(remote.address) === family(peer.address) &&
      sameNetwork(remote.address, peer.address, remote.prefixLength),
  );
}

/** Reports whether both nonces are the same twelve bytes. */
export function sameNonce(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}
