/**
 * Pinholes that the outer gateway opens: an IPv6 client has an address of its own, so nothing is carried from here.
 * Counted with the client's mappings.
 */

import type { IpAddress } from '../net/address.ts';
import { PROTOCOL_NUMBER, type TransportProtocol } from '../net/protocol.ts';
import type { Clock } from '../system/clock.ts';
import type { Refusal } from './grant.ts';
import type { PinholeKeeping, PinholeOutcome } from './granting.ts';
import { type Pinhole, Pinholes, type PinholeSpot } from './pinholes.ts';
import type { Quota } from './quota.ts';
import type { RightsOf } from './rights.ts';
import { Sweeper } from './sweeper.ts';
import { Turns } from './turns.ts';
import type { Upstream, UpstreamHolding, UpstreamNews } from './upstream.ts';

export interface LeasePinholesOptions {
  readonly clock: Clock;
  readonly maxPinholes: number;
  readonly rightsOf: RightsOf;
  /** Whose quotas they count for. */
  readonly quota: Quota;
}

interface Held {
  readonly pinhole: Pinhole;
  readonly holding: UpstreamHolding;
  readonly isThere: boolean;
}

/** A pinhole has one remote host, and no network. */
const WHOLE_ADDRESS = 128;

export class LeasePinholes implements PinholeKeeping {
  readonly #upstream: Upstream;
  readonly #options: LeasePinholesOptions;
  readonly #pinholes: Pinholes;
  readonly #held = new Map<number, Held>();
  readonly #turns = new Turns();
  readonly #sweeper: Sweeper;

  constructor(upstream: Upstream, options: LeasePinholesOptions) {
    this.#upstream = upstream;
    this.#options = options;
    this.#pinholes = new Pinholes(options.clock, options.maxPinholes);
    this.#sweeper = new Sweeper(options.clock, async () => this.#sweep());
  }

  list(): readonly Pinhole[] {
    return this.#pinholes.list();
  }

  get(uniqueId: number): Pinhole | undefined {
    return this.#pinholes.get(uniqueId);
  }

  to(internalClient: IpAddress, internalPort: number): readonly Pinhole[] {
    return this.#pinholes.to(internalClient, internalPort);
  }

  at(spot: PinholeSpot): Pinhole | undefined {
    return this.#pinholes.at(spot);
  }

  put(pinhole: Omit<Pinhole, 'uniqueId'>): Promise<PinholeOutcome> {
    return this.#turns.run([spotKey(pinhole)], () => this.#putNow(pinhole));
  }

  async #putNow(pinhole: Omit<Pinhole, 'uniqueId'>): Promise<PinholeOutcome> {
    this.#sweep();
    const existing = this.#pinholes.at(pinhole);
    if (existing !== undefined) {
      if (this.#held.get(existing.uniqueId)?.isThere !== true) return refused('network-down');
      return this.#enter(pinhole);
    }
    // Of any host from one port: there are no words for that outside, and all ports would be more than was asked for.
    if (pinhole.remoteHost === undefined && pinhole.remotePort !== 0) return refused('too-many-peers');
    const protocol = transportOf(pinhole.protocol);
    const rights = this.#options.rightsOf(pinhole.internalClient);
    if (protocol === undefined || rights === undefined) return refused('not-authorized');
    const isAllowed = rights.externalPorts.some(
      ({ first, last }) => pinhole.internalPort >= first && pinhole.internalPort <= last,
    );
    if (!isAllowed) return refused('denied-port');
    const { quota } = this.#options;
    const refusal = quota.take(pinhole.internalClient, rights);
    if (refusal !== undefined) return refused(refusal);
    const outcome = await this.#open(pinhole, protocol);
    if (outcome.kind === 'refused') quota.give(pinhole.internalClient);
    return outcome;
  }

  async #open(pinhole: Omit<Pinhole, 'uniqueId'>, protocol: TransportProtocol): Promise<PinholeOutcome> {
    const { internalClient, internalPort, remoteHost, remotePort, description, expiresAtMs } = pinhole;
    let told: (news: UpstreamNews) => void = () => undefined;
    const outcome = await this.#upstream.hold(
      {
        protocol,
        internalClient,
        internalPort,
        suggestedExternalPort: internalPort,
        exact: true,
        lifetimeSeconds: Math.max(1, Math.ceil((expiresAtMs - this.#options.clock.now()) / 1000)),
        description,
        via: pinhole.via,
        nonce: pinhole.nonce,
        isEndless: false,
        remotePeer:
          remoteHost === undefined
            ? undefined
            : { address: remoteHost, prefixLength: WHOLE_ADDRESS, port: remotePort },
      },
      (news) => told(news),
    );
    if (outcome.kind === 'refused') return outcome;
    const made = await this.#enter(pinhole);
    if (made.kind === 'refused') {
      await outcome.holding.release();
      return made;
    }
    const { uniqueId } = made.pinhole;
    this.#held.set(uniqueId, { pinhole: made.pinhole, holding: outcome.holding, isThere: true });
    told = (news) => this.#happened(uniqueId, news);
    return made;
  }

  async #enter(pinhole: Omit<Pinhole, 'uniqueId'>): Promise<PinholeOutcome> {
    const outcome = await this.#pinholes.put(pinhole);
    this.#sweeper.wakeAt(this.#pinholes.firstEndMs());
    return outcome;
  }

  #happened(uniqueId: number, { kind }: UpstreamNews): void {
    const held = this.#held.get(uniqueId);
    if (held === undefined) return;
    if (kind === 'refused') void this.#end(held);
    else this.#held.set(uniqueId, { ...held, isThere: kind !== 'lost' });
  }

  async delete(pinhole: Pinhole): Promise<void> {
    const held = this.#held.get(pinhole.uniqueId);
    if (held !== undefined) await this.#end(held);
  }

  async #end({ pinhole, holding }: Held): Promise<void> {
    this.#held.delete(pinhole.uniqueId);
    this.#options.quota.give(pinhole.internalClient);
    const current = this.#pinholes.get(pinhole.uniqueId);
    if (current !== undefined) await this.#pinholes.delete(current);
    await this.#turns.run([spotKey(pinhole)], () => holding.release());
  }

  #sweep(): void {
    const there = new Set(this.#pinholes.list().map(({ uniqueId }) => uniqueId));
    for (const [id, held] of this.#held) if (!there.has(id)) void this.#end(held);
    this.#sweeper.wakeAt(this.#pinholes.firstEndMs());
  }

  close(): void {
    this.#sweeper.stop();
  }
}

function spotKey({ protocol, internalClient, internalPort, remoteHost, remotePort }: PinholeSpot): string {
  return `${protocol} ${internalClient} ${internalPort} ${remoteHost ?? ''} ${remotePort}`;
}

function transportOf(protocol: number): TransportProtocol | undefined {
  if (protocol === PROTOCOL_NUMBER.tcp) return 'tcp';
  return protocol === PROTOCOL_NUMBER.udp ? 'udp' : undefined;
}

function refused(refusal: Refusal): PinholeOutcome {
  return { kind: 'refused', refusal };
}
