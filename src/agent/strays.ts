/**
 * What is held for nobody: claimed by a lease that would get the same, or given back when its gateway answers. What
 * can be neither stays a stray until its lifetime ends.
 */

import { NatwardError } from '../errors.ts';
import { family, sameNetwork } from '../net/address.ts';
import type { Clock } from '../system/clock.ts';
import type { NetworkState } from '../system/routes.ts';
import type { Line } from './gateway-watch.ts';
import { claimants, isOf, isOver, placesOf } from './holding.ts';
import type { Holding, LeaseRecord } from './lease-record.ts';
import { isSilence } from './silence.ts';
import type { Site } from './site.ts';
import type { Sites } from './sites.ts';
import { releaseOwn } from './unmap.ts';

export interface StraysContext {
  readonly clock: Clock;
  readonly sites: Sites;
  /** All leases that are kept. */
  kept(): Iterable<LeaseRecord>;
  /** One that was there is gone. */
  forgotten(): void;
}

/** Requests to give back, at once to one gateway. */
const WINDOW = 4;
/** Each try to give back what nobody answered for is as long after the last as all before together. */
const FIRST_RETRY_MS = 5000;
const LONGEST_RETRY_MS = 300_000;

export class Strays {
  readonly #context: StraysContext;
  readonly #strays: Set<Holding>;
  /** Those that are being given back. */
  readonly #releasing = new Set<Holding>();
  /** Those that their gateway will not take: it is not asked again and again, they end by their lifetimes. */
  readonly #refused = new WeakSet<Holding>();
  /** Whose gateway has not answered to that is tried again then, by the steady clock. */
  #retryAtMs = 0;
  #retryMs = FIRST_RETRY_MS;

  constructor(holdings: Iterable<Holding>, context: StraysContext) {
    this.#strays = new Set(holdings);
    this.#context = context;
  }

  get all(): readonly Holding[] {
    return [...this.#strays];
  }

  add(holdings: Iterable<Holding>): void {
    for (const holding of holdings) this.#strays.add(holding);
  }

  /** A lease has them now. */
  delete(holdings: Iterable<Holding>): void {
    for (const holding of holdings) this.#strays.delete(holding);
  }

  /** Takes in what no lease has any more, and gives back what can be by now. */
  giveBack(holdings: Iterable<Holding>): void {
    this.add(holdings);
    for (const site of this.#context.sites.all) void this.#giveBackAt(site);
  }

  /**
   * A gateway answers. What is held there and wanted is asked for again, with its nonce and its port: to give it back as
   * well would end what is granted just now.
   */
  meet(site: Site, line: Line): void {
    const nowMs = this.#context.clock.now();
    const claimant = claimants(site.leases);
    for (const stray of this.#strays) {
      const lease = isOf(stray, line) && !isOver(stray, nowMs) ? claimant(stray) : undefined;
      if (lease === undefined) continue;
      this.#strays.delete(stray);
      this.#refused.delete(stray);
      lease.holdings = [...lease.holdings, stray];
    }
    void this.#giveBackAt(site);
  }

  /**
   * Where something is held for nobody there is a site that waits for its gateway: also for the one that this host has
   * turned away from, as long as it is next to it.
   */
  attend({ addresses }: NetworkState): void {
    const { clock, sites } = this.#context;
    const nowMs = clock.now();
    for (const stray of this.#strays) if (isOver(stray, nowMs)) this.#forget(stray);
    const isTime = clock.steady() >= this.#retryAtMs;
    for (const site of sites.all) {
      void this.#closeIdle(site);
      // What it did not answer for, it may by now.
      if (this.#releasing.size === 0 && isTime) void this.#giveBackAt(site);
    }
    // The first answer tells which gateway it is.
    if (sites.all.some((site) => site.isUndecided)) return;
    for (const stray of this.#waiting()) {
      const { mapping, interface: name } = stray;
      const isNear = addresses.some(
        ({ interface: own, address, prefixLength }) =>
          own === name && sameNetwork(address, mapping.gateway, prefixLength),
      );
      if (!isNear || sites.all.some((site) => site.reaches(stray))) continue;
      sites.open(family(mapping.gateway), { via: mapping.via, gateway: mapping.gateway, interface: name });
    }
  }

  /** Gives back what leases hold that have ended. `released` is called for each, with what went wrong. */
  async release(
    ended: readonly LeaseRecord[],
    signal: AbortSignal,
    released: (lease: LeaseRecord, error: NatwardError | undefined) => void,
  ): Promise<void> {
    const bySite = new Map<Site, LeaseRecord[]>();
    for (const lease of ended) {
      const site = this.#context.sites.of(lease);
      bySite.set(site, [...(bySite.get(site) ?? []), lease]);
    }
    await Promise.all(
      [...bySite].map(async ([site, leases]) => {
        const next = leases.values();
        const worker = async () => {
          for (const lease of next) {
            await site.idle(lease);
            this.add(lease.holdings); // It may have been granted just now.
            released(lease, await this.#release(site, lease.holdings, signal));
          }
        };
        // RFC 6886, section 3.1: one request after the other.
        const isNatpmp = leases.some((lease) =>
          lease.holdings.some(({ mapping }) => mapping.via === 'natpmp'),
        );
        const window = isNatpmp ? 1 : WINDOW;
        await Promise.all(Array.from({ length: Math.min(window, leases.length) }, worker));
        await this.#closeIdle(site);
      }),
    );
  }

  /** What is held at this gateway for nobody; what a lease has taken the place of is no longer there. */
  async #giveBackAt(site: Site): Promise<void> {
    const { line } = site.watch;
    if (line === undefined) return;
    const mine = this.#waiting().filter((holding) => isOf(holding, line));
    if (mine.length === 0) return;
    const taken = new Set<string>();
    for (const { holdings } of this.#context.kept()) {
      for (const { mapping } of holdings) for (const place of placesOf(mapping)) taken.add(place);
    }
    for (const stray of mine) {
      if (placesOf(stray.mapping).some((place) => taken.has(place))) this.#forget(stray);
      else await this.#release(site, [stray], line.signal);
    }
  }

  /** Undefined where all of it is gone; what is not stays a stray. */
  async #release(
    { watch: { line } }: Site,
    holdings: readonly Holding[],
    signal: AbortSignal,
  ): Promise<NatwardError | undefined> {
    let error: NatwardError | undefined;
    for (const holding of holdings) {
      if (!this.#strays.has(holding) || this.#releasing.has(holding)) continue; // Given back meanwhile.
      if (line === undefined || !isOf(holding, line)) {
        error ??= goneError(holding);
        continue;
      }
      this.#releasing.add(holding);
      try {
        await releaseOwn([holding.mapping], { session: line.session, signal });
        this.#forget(holding);
        this.#retryMs = FIRST_RETRY_MS;
      } catch (cause) {
        if (!(cause instanceof NatwardError)) throw cause;
        if (isSilence(cause)) this.#retryLater();
        else this.#refused.add(holding);
        // The conversation has ended meanwhile, and not because somebody wanted that.
        const hasGone = cause.code === 'ABORTED' && !signal.aborted;
        error ??= hasGone ? goneError(holding) : cause;
      } finally {
        this.#releasing.delete(holding);
      }
    }
    return error;
  }

  /** The first of those that were not answered for puts all off. */
  #retryLater(): void {
    const nowMs = this.#context.clock.steady();
    if (nowMs < this.#retryAtMs) return;
    this.#retryAtMs = nowMs + this.#retryMs;
    this.#retryMs = Math.min(2 * this.#retryMs, LONGEST_RETRY_MS);
  }

  /** Closes the site where nobody needs it, for a lease or to give something back. */
  async #closeIdle(site: Site): Promise<void> {
    if (!this.#waiting().some((stray) => site.reaches(stray))) await this.#context.sites.closeIdle(site);
  }

  #waiting(): readonly Holding[] {
    return this.all.filter((stray) => !this.#refused.has(stray));
  }

  #forget(stray: Holding): void {
    this.#strays.delete(stray);
    this.#context.forgotten();
  }
}

function goneError({ mapping }: Holding): NatwardError {
  return new NatwardError(
    'UNREACHABLE',
    `${mapping.gateway} cannot be asked just now: the mapping ends by its lifetime`,
  );
}
