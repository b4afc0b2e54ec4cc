/**
 * Who of an interface's networks is answered, and how often. Knows each client by its source address: its verdict for
 * some seconds, and what it may still ask. Sources are easily made up, so that those who are not known yet come in
 * slowly, what is known of them is bounded, and each has an equal share where all together ask too much.
 */

import { addressBytes, family, type IpAddress, sameNetwork, withoutZone } from '../net/address.ts';
import type { Clock } from '../system/clock.ts';
import type { Guard } from './guard.ts';
import type { InnerNetwork } from './responder.ts';
import type { RightsOf } from './rights.ts';

export interface ClientGuardOptions {
  readonly networks: readonly InnerNetwork[];
  readonly rightsOf: RightsOf;
  readonly isOwn: (address: IpAddress) => boolean;
  readonly clock: Clock;
}

interface Client {
  /** undefined: it is not answered. */
  allowance: Allowance | undefined;
  judgedMs: number;
  lastMs: number;
  answeredMs: number;
}

/** Rights may be others after the configuration was read anew. */
const VERDICT_MS = 2000;
const MAX_CLIENTS = 4096;
/** Whoever has asked within this time is not forgotten for another. */
const IDLE_MS = 60_000;
/** So many of the oldest are looked at for one that may be forgotten. */
const FORGET_TRIES = 8;
const NEW_CLIENTS = { perSecond: 128, burst: 512 } as const;
/** All clients together: an agent has more to do. A single one that may ask more raises it. */
const ALL_CLIENTS_PER_SECOND = 2000;
const LEAST_BURST = 10;

export class ClientGuard implements Guard {
  readonly #options: ClientGuardOptions;
  /** The one that was looked at longest ago comes first. */
  readonly #clients = new Map<IpAddress, Client>();
  readonly #newcomers: Allowance;
  readonly #all: Allowance;

  constructor(options: ClientGuardOptions) {
    this.#options = options;
    const nowMs = options.clock.steady();
    this.#newcomers = new Allowance(NEW_CLIENTS.perSecond, NEW_CLIENTS.burst, nowMs);
    this.#all = new Allowance(ALL_CLIENTS_PER_SECOND, 2 * ALL_CLIENTS_PER_SECOND, nowMs);
  }

  /** That are remembered, answered or not. */
  get size(): number {
    return this.#clients.size;
  }

  admits(source: IpAddress): boolean {
    const nowMs = this.#options.clock.steady();
    const client = this.#clients.get(source) ?? this.#meet(source, nowMs);
    if (client === undefined) return false;
    client.lastMs = nowMs;
    if (nowMs - client.judgedMs >= VERDICT_MS) this.#judge(source, client, nowMs);
    const { allowance } = client;
    if (allowance === undefined) return false;
    allowance.refill(nowMs);
    this.#all.refill(nowMs);
    // Where it is short for all, each has an equal share.
    const shareMs = (1000 * this.#clients.size) / this.#all.perSecond;
    if (this.#all.isLow && nowMs - client.answeredMs < shareMs) return false;
    if (allowance.tokens < 1 || !this.#all.take()) return false;
    client.answeredMs = nowMs;
    return allowance.take();
  }

  /** undefined: it is of no network of the interface, or there is no room for more just now. */
  #meet(source: IpAddress, nowMs: number): Client | undefined {
    this.#newcomers.refill(nowMs);
    // A flood costs no more than this look.
    if (this.#newcomers.tokens < 1 || !this.#isNear(source)) return undefined;
    if (!this.#newcomers.take() || !this.#makeRoom(nowMs)) return undefined;
    const client: Client = {
      allowance: undefined,
      judgedMs: nowMs,
      lastMs: nowMs,
      answeredMs: Number.NEGATIVE_INFINITY,
    };
    this.#judge(source, client, nowMs);
    this.#clients.set(source, client);
    return client;
  }

  #judge(source: IpAddress, client: Client, nowMs: number): void {
    client.judgedMs = nowMs;
    const { rightsOf, isOwn } = this.#options;
    const rights = isOwn(source) ? undefined : rightsOf(source);
    if (rights === undefined) client.allowance = undefined;
    else if (client.allowance?.perSecond !== rights.requestsPerSecond) {
      const { requestsPerSecond } = rights;
      client.allowance = new Allowance(
        requestsPerSecond,
        Math.max(LEAST_BURST, 2 * requestsPerSecond),
        nowMs,
      );
      this.#all.raise(requestsPerSecond);
    }
  }

  #isNear(source: IpAddress): boolean {
    const network = this.#options.networks.find(({ address, prefixLength }) =>
      isOfNetwork(source, address, prefixLength),
    );
    return network !== undefined && isHost(source, network.prefixLength);
  }

  /** Whoever is passed over goes to the end of the row: each is looked at in its turn. */
  #makeRoom(nowMs: number): boolean {
    if (this.#clients.size < MAX_CLIENTS) return true;
    let tries = FORGET_TRIES;
    for (const [source, client] of this.#clients) {
      this.#clients.delete(source);
      if (nowMs - client.lastMs >= IDLE_MS) return true;
      this.#clients.set(source, client);
      if (--tries === 0) return false;
    }
    return false;
  }
}

/** What somebody may ask: so much a second, and some of it saved up. */
class Allowance {
  perSecond: number;
  tokens: number;
  #burst: number;
  #atMs: number;

  constructor(perSecond: number, burst: number, nowMs: number) {
    this.perSecond = perSecond;
    this.tokens = burst;
    this.#burst = burst;
    this.#atMs = nowMs;
  }

  get isLow(): boolean {
    return this.tokens < this.#burst / 2;
  }

  refill(nowMs: number): void {
    this.tokens = Math.min(this.#burst, this.tokens + ((nowMs - this.#atMs) * this.perSecond) / 1000);
    this.#atMs = nowMs;
  }

  take(): boolean {
    if (this.tokens < 1) return false;
    this.tokens--;
    return true;
  }

  raise(perSecond: number): void {
    if (perSecond <= this.perSecond) return;
    this.perSecond = perSecond;
    this.tokens += 2 * perSecond - this.#burst;
    this.#burst = 2 * perSecond;
  }
}

/** A link-local source is of the interface that it came in by. */
function isOfNetwork(source: IpAddress, address: IpAddress, prefixLength: number): boolean {
  const zone = zoneOf(source);
  if (zone !== '' && zoneOf(address) !== zone) return false;
  return family(source) === family(address) && sameNetwork(source, address, prefixLength);
}

function zoneOf(address: IpAddress): string {
  return address.slice(withoutZone(address).length);
}

/** No host asks from an address that is for many, or for none. */
function isHost(source: IpAddress, prefixLength: number): boolean {
  const bytes = addressBytes(source);
  const [first = 0] = bytes;
  if (bytes.every((byte) => byte === 0)) return false;
  if (bytes.length === 16) return first !== 0xff;
  if (first >= 224) return false;
  if (prefixLength >= 31) return true;
  const mask = 0xffffffff >>> prefixLength;
  const host = (new DataView(bytes.buffer).getUint32(0) & mask) >>> 0;
  return host !== 0 && host !== mask;
}
