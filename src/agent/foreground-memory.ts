/**
 * How a keeper in somebody's terminal remembers: like `natward map` does, so that `natward unmap` can take back
 * what a killed one has left. Several may run at once; none takes up what another has left.
 */

import { isNatwardError, type NatwardError } from '../errors.ts';
import type { Clock } from '../system/clock.ts';
import type { LedgerState, Memory } from './ledger.ts';
import { placeOf, type RememberedMapping, type Store } from './store.ts';

/** Grants that come together are written together; so are renewals. */
const SOON_MS = 50;
const LONGEST_LATER_MS = 60_000;

export class ForegroundMemory implements Memory {
  trouble: NatwardError | undefined;
  readonly #store: Store;
  readonly #clock: Clock;
  /** The places that this keeper has written down. */
  #written: ReadonlySet<string> = new Set();
  /** Until then what is written is right enough: the store forgets what has ended by its own word. */
  #rightUntilMs = 0;
  #laterMs = 0;
  #pending: (() => LedgerState) | undefined;
  #timer: { readonly dueMs: number; readonly cut: AbortController } | undefined;
  #saving: Promise<void> = Promise.resolve();

  constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  load(): LedgerState {
    return { intents: [], holdings: [] };
  }

  save(state: () => LedgerState, when: 'soon' | 'later'): void {
    if (when === 'later' && this.#clock.now() < this.#rightUntilMs) return;
    this.#pending = state;
    this.#schedule(when === 'soon' ? SOON_MS : this.#laterMs);
  }

  #schedule(delayMs: number): void {
    const dueMs = this.#clock.steady() + delayMs;
    if (this.#timer !== undefined && this.#timer.dueMs <= dueMs) return;
    this.#timer?.cut.abort();
    const cut = new AbortController();
    this.#timer = { dueMs, cut };
    this.#clock.sleep(delayMs, cut.signal).then(
      () => this.#begin(),
      () => undefined,
    );
  }

  /** Writes what is pending, after what is being written. */
  #begin(): void {
    this.#timer?.cut.abort();
    this.#timer = undefined;
    this.#saving = this.#saving.then(() => this.#write());
  }

  async #write(): Promise<void> {
    const mappings = this.#pending?.().holdings.map(({ mapping }) => mapping);
    this.#pending = undefined;
    if (mappings === undefined) return;
    const before = this.#written;
    const places = new Set(mappings.map(placeOf));
    if (before.size === 0 && places.size === 0) return;
    this.#written = new Set([...before, ...places]);
    try {
      await this.#store.update((known) => ({
        ...known,
        mappings: [...known.mappings.filter((one) => !this.#written.has(placeOf(one))), ...mappings],
      }));
      this.#written = places;
      this.#plan(mappings);
      this.trouble = undefined;
    } catch (error) {
      if (!isNatwardError(error)) throw error;
      this.trouble = error;
    }
  }

  /** A lease is renewed when half of its lifetime is over, or an eighth later. */
  #plan(mappings: readonly RememberedMapping[]): void {
    const ending = mappings.filter(({ expiresAtMs }) => expiresAtMs !== null);
    const shortestMs = ending.reduce(
      (least, one) => Math.min(least, one.lifetimeSeconds * 1000),
      Number.POSITIVE_INFINITY,
    );
    this.#laterMs = Math.min(LONGEST_LATER_MS, shortestMs / 4);
    this.#rightUntilMs = ending.reduce(
      (first, one) => Math.min(first, (one.expiresAtMs as number) - one.lifetimeSeconds * 500),
      Number.POSITIVE_INFINITY,
    );
  }

  async flush(): Promise<void> {
    this.#begin();
    await this.#saving;
  }
}
