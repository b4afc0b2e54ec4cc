/**
 * What natward remembers between two commands: the mappings it made, with what it takes to refresh them or
 * give them back, and where each gateway was found. In a file (file-store.ts), or for as long as the process lives.
 */

import type { IpAddress } from '../net/address.ts';
import type { RemotePeer } from '../net/endpoint.ts';
import type { MappingProtocol, TransportProtocol } from '../net/protocol.ts';
import type { Clock } from '../system/clock.ts';
import type { Granted } from './port.ts';

export interface RememberedMapping {
  readonly gateway: IpAddress;
  readonly via: MappingProtocol;
  readonly protocol: TransportProtocol;
  readonly internalClient: IpAddress;
  readonly internalPort: number;
  readonly externalPort: number;
  readonly externalAddress: IpAddress | null;
  /** As the person asked; 0: any. */
  readonly requestedExternalPort: number;
  readonly lifetimeSeconds: number;
  /** Milliseconds since 1970; null: no end. */
  readonly expiresAtMs: number | null;
  readonly description: string;
  /** PCP's 12 bytes, in hex. */
  readonly nonce: string | null;
  readonly pinholeId: number | null;
  readonly remotePeer?: RemotePeer | undefined;
  /** See Mapping. */
  readonly arrivesOnPort?: number | undefined;
}

export interface KnownGateway {
  readonly address: IpAddress;
  readonly interface: string;
  /** URL of its UPnP description. */
  readonly location: string;
}

export interface State {
  readonly version: 1;
  readonly mappings: readonly RememberedMapping[];
  readonly gateways: readonly KnownGateway[];
}

/** As it is remembered. */
export function toRemembered(mapping: Granted): RememberedMapping {
  const { gateway, via, protocol, internalClient, internalPort, externalPort, requestedExternalPort } =
    mapping;
  const { lifetimeSeconds, description } = mapping;
  return {
    gateway,
    via,
    protocol,
    internalClient,
    internalPort,
    externalPort,
    externalAddress: mapping.externalAddress ?? null,
    requestedExternalPort,
    lifetimeSeconds,
    expiresAtMs: mapping.expiresAtMs ?? null,
    description,
    nonce: mapping.nonce === undefined ? null : Buffer.from(mapping.nonce).toString('hex'),
    pinholeId: mapping.pinholeId ?? null,
    remotePeer: mapping.remotePeer,
    ...(mapping.arrivesOnPort === undefined ? {} : { arrivesOnPort: mapping.arrivesOnPort }),
  };
}

/** A mapping made anew under another address of this host replaces the old one. */
export function placeOf(
  one: Pick<RememberedMapping, 'gateway' | 'protocol' | 'externalPort' | 'internalPort'>,
): string {
  return `${one.gateway} ${one.protocol} ${one.externalPort} ${one.internalPort}`;
}

export interface Store {
  /** What is remembered, without what has ended. */
  read(): State;
  /** Changes what is remembered: at once for `read`. Rejects with FAILED where it cannot be kept. */
  update(change: (state: State) => State): Promise<void>;
}

export const EMPTY: State = { version: 1, mappings: [], gateways: [] };

/** Without what has ended. */
export function swept(state: State, nowMs: number): State {
  const lives = ({ expiresAtMs }: RememberedMapping) => expiresAtMs === null || expiresAtMs > nowMs;
  return { ...state, mappings: state.mappings.filter(lives) };
}

/** Remembers as long as the process does, and writes nothing down. */
export class MemoryStore implements Store {
  readonly #clock: Clock;
  #state: State = EMPTY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  read(): State {
    return swept(this.#state, this.#clock.now());
  }

  async update(change: (state: State) => State): Promise<void> {
    this.#state = change(this.read());
  }
}
