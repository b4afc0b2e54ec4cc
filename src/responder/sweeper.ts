/** Waits for the next mapping to end, whichever it is, and moves when an earlier one comes. */

import { type Clock, OVER } from '../system/clock.ts';

export class Sweeper {
  readonly #clock: Clock;
  readonly #sweep: () => Promise<void>;
  #wait = new AbortController();
  #dueMs = Number.POSITIVE_INFINITY;

  constructor(clock: Clock, sweep: () => Promise<void>) {
    this.#clock = clock;
    this.#sweep = sweep;
  }

  /** Infinity waits for nothing. */
  wakeAt(dueMs: number): void {
    if (!Number.isFinite(dueMs)) this.stop();
    // A later time is found when the earlier one comes: moving at each renewal costs more than waking for nothing.
    if (dueMs >= this.#dueMs || !Number.isFinite(dueMs)) return;
    this.stop();
    this.#dueMs = dueMs;
    this.#wait = new AbortController();
    this.#clock.sleep(Math.max(0, dueMs - this.#clock.now()), this.#wait.signal).then(
      () => {
        // A timer may fire a millisecond early: whoever sweeps then asks for the same time again.
        this.#dueMs = Number.POSITIVE_INFINITY;
        return this.#sweep();
      },
      () => undefined,
    );
  }

  stop(): void {
    this.#wait.abort(OVER);
    this.#dueMs = Number.POSITIVE_INFINITY;
  }
}
