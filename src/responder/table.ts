/**
 * A gateway's table of mappings: one entry for each transport protocol and external port. Values only; who
 * may have an entry and for how long is for grants.ts, and the traffic for relay.ts.
 */

import { family, type IpAddress, sameNetwork } from '../net/address.ts';
import type { Endpoint, RemotePeer } from '../net/endpoint.ts';
import type { MappingProtocol, TransportProtocol } from '../net/protocol.ts';

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
}

export class Table {
  readonly #entries = new Map<string, TableEntry>();

  get(protocol: TransportProtocol, externalPort: number): TableEntry | undefined {
    return this.#entries.get(`${protocol} ${externalPort}`);
  }

  /** The mapping to an internal endpoint; the oldest, where UPnP made several. */
  toInternal(
    protocol: TransportProtocol,
    internalClient: IpAddress,
    internalPort: number,
  ): TableEntry | undefined {
    for (const entry of this.#entries.values()) {
      if (
        entry.protocol === protocol &&
        entry.internalPort === internalPort &&
        entry.internalClient === internalClient
      ) {
        return entry;
      }
    }
    return undefined;
  }

  /** In the order in which they were made. */
  list(): TableEntry[] {
    return [...this.#entries.values()];
  }

  put(entry: TableEntry): void {
    this.#entries.set(`${entry.protocol} ${entry.externalPort}`, entry);
  }

  delete(entry: TableEntry): void {
    this.#entries.delete(`${entry.protocol} ${entry.externalPort}`);
  }
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
