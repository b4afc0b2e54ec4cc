/**
 * Pinholes in the IPv6 firewall: what AddPinhole makes (WANIPv6FirewallControl:1) and what a PCP MAP over
 * IPv6 makes. Nothing is translated and nothing passes through this process, so there is nothing to relay:
 * the entry is what there is.
 */

import { type IpAddress, withoutZone } from '../net/address.ts';
import type { MappingProtocol } from '../net/protocol.ts';
import type { Clock } from '../system/clock.ts';
import { Deadlines } from './deadlines.ts';
import type { PinholeKeeping, PinholeOutcome } from './granting.ts';
import { MultiMap } from './multi-map.ts';

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

/** No look-up here is a walk, as in table.ts. */
export class Pinholes implements PinholeKeeping {
  readonly #clock: Clock;
  readonly #most: number;
  readonly #pinholes = new Map<number, Pinhole>();
  readonly #inner = new MultiMap<Pinhole>();
  readonly #deadlines = new Deadlines<Pinhole>((pinhole) => this.#has(pinhole));
  #nextId = 0;

  constructor(clock: Clock, most: number) {
    this.#clock = clock;
    this.#most = most;
  }

  list(): readonly Pinhole[] {
    this.#sweep();
    return [...this.#pinholes.values()];
  }

  get(uniqueId: number): Pinhole | undefined {
    this.#sweep();
    return this.#pinholes.get(uniqueId);
  }

  /** Those of one port of one host, whichever protocols and peers they are for. */
  to(internalClient: IpAddress, internalPort: number): readonly Pinhole[] {
    this.#sweep();
    return this.#inner.get(innerKey({ internalClient, internalPort }));
  }

  at(spot: PinholeSpot): Pinhole | undefined {
    return this.to(spot.internalClient, spot.internalPort).find(
      (pinhole) =>
        pinhole.protocol === spot.protocol &&
        pinhole.remoteHost === spot.remoteHost &&
        pinhole.remotePort === spot.remotePort,
    );
  }

  async put(pinhole: Omit<Pinhole, 'uniqueId'>): Promise<PinholeOutcome> {
    const existing = this.at(pinhole);
    if (existing === undefined && this.#pinholes.size >= this.#most) {
      return { kind: 'refused', refusal: 'table-full' };
    }
    const made = {
      ...pinhole,
      internalClient: withoutZone(pinhole.internalClient),
      uniqueId: existing?.uniqueId ?? this.#freeId(),
    };
    if (existing !== undefined) this.#inner.delete(innerKey(existing), existing);
    this.#pinholes.set(made.uniqueId, made);
    this.#inner.add(innerKey(made), made);
    this.#deadlines.add(made, this.#pinholes.size);
    return { kind: 'granted', pinhole: made };
  }

  async delete(pinhole: Pinhole): Promise<void> {
    this.#drop(pinhole);
  }

  #drop(pinhole: Pinhole): void {
    if (!this.#has(pinhole)) return;
    this.#pinholes.delete(pinhole.uniqueId);
    this.#inner.delete(innerKey(pinhole), pinhole);
  }

  /** When the first of them ends; Infinity where none does. */
  firstEndMs(): number {
    return this.#deadlines.firstMs();
  }

  clear(): void {
    for (const pinhole of this.#pinholes.values()) this.#drop(pinhole);
  }

  #has(pinhole: Pinhole): boolean {
    return this.#pinholes.get(pinhole.uniqueId) === pinhole;
  }

  /** Nothing is open that would have to be closed in time: the ended ones go when somebody looks. */
  #sweep(): void {
    for (const pinhole of this.#deadlines.take(this.#clock.now())) this.#drop(pinhole);
  }

  #freeId(): number {
    while (this.#pinholes.has(this.#nextId)) this.#nextId = (this.#nextId + 1) % 65_536;
    const id = this.#nextId;
    this.#nextId = (id + 1) % 65_536;
    return id;
  }
}

function innerKey({
  internalClient,
  internalPort,
}: Pick<Pinhole, 'internalClient' | 'internalPort'>): string {
  return `${internalPort} ${withoutZone(internalClient)}`;
}
