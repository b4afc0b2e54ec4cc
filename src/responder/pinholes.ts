/**
 * Pinholes in the IPv6 firewall: what AddPinhole makes (WANIPv6FirewallControl:1) and what a PCP MAP over
 * IPv6 makes. Nothing is translated and nothing passes through this process, so there is nothing to relay:
 * the entry is what there is.
 */

import { type IpAddress, withoutZone } from '../net/address.ts';
import type { MappingProtocol } from '../net/protocol.ts';
import type { Clock } from '../system/clock.ts';

export interface Pinhole {
  /** 0..65535. */
  readonly uniqueId: number;
  /** IANA protocol number. */
  readonly protocol: number;
  readonly internalClient: IpAddress;
  readonly internalPort: number;
  /** undefined: any. */
  readonly remoteHost: IpAddress | undefined;
  /** 0: any. */
  readonly remotePort: number;
  readonly expiresAtMs: number;
  readonly description: string;
  readonly via: MappingProtocol;
  readonly nonce: Uint8Array | undefined;
}

export type PinholeSpot = Pick<
  Pinhole,
  'protocol' | 'internalClient' | 'internalPort' | 'remoteHost' | 'remotePort'
>;

export class Pinholes {
  readonly #clock: Clock;
  readonly #most: number;
  #pinholes: readonly Pinhole[] = [];
  #nextId = 0;

  constructor(clock: Clock, most: number) {
    this.#clock = clock;
    this.#most = most;
  }

  list(): readonly Pinhole[] {
    return this.#pinholes.filter((pinhole) => pinhole.expiresAtMs > this.#clock.now());
  }

  get(uniqueId: number): Pinhole | undefined {
    return this.list().find((pinhole) => pinhole.uniqueId === uniqueId);
  }

  at(spot: PinholeSpot): Pinhole | undefined {
    return this.list().find(
      (pinhole) =>
        pinhole.protocol === spot.protocol &&
        pinhole.internalPort === spot.internalPort &&
        pinhole.internalClient === withoutZone(spot.internalClient) &&
        pinhole.remoteHost === spot.remoteHost &&
        pinhole.remotePort === spot.remotePort,
    );
  }

  /** Makes a pinhole, or renews the one at the same spot. undefined: there is no room. */
  put(pinhole: Omit<Pinhole, 'uniqueId'>): Pinhole | undefined {
    const existing = this.at(pinhole);
    const others = this.list().filter((other) => other !== existing);
    if (others.length >= this.#most) return undefined;
    const made = {
      ...pinhole,
      internalClient: withoutZone(pinhole.internalClient),
      uniqueId: existing?.uniqueId ?? this.#freeId(others),
    };
    this.#pinholes = [...others, made];
    return made;
  }

  remove(which: (pinhole: Pinhole) => boolean): void {
    this.#pinholes = this.list().filter((pinhole) => !which(pinhole));
  }

  #freeId(others: readonly Pinhole[]): number {
    const taken = new Set(others.map((other) => other.uniqueId));
    while (taken.has(this.#nextId)) this.#nextId = (this.#nextId + 1) % 65_536;
    const id = this.#nextId;
    this.#nextId = (id + 1) % 65_536;
    return id;
  }
}
