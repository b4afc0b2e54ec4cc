/** A clock that stands still until it is told to move. */

import { setImmediate } from 'node:timers/promises';
import { aborted, type Clock } from '../../../src/system/clock.ts';

export class StillClock implements Clock {
  #nowMs = 1_700_000_000_000;
  readonly #sleepers = new Set<{ readonly dueMs: number; readonly wake: () => void }>();

  now(): number {
    return this.#nowMs;
  }

  steady(): number {
    return this.#nowMs;
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(aborted(signal));
        return;
      }
      const stop = () => {
        this.#sleepers.delete(sleeper);
        reject(aborted(signal as AbortSignal));
      };
      const wake = () => {
        signal?.removeEventListener('abort', stop);
        resolve();
      };
      const sleeper = { dueMs: this.#nowMs + delayMs, wake };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', stop, { once: true });
    });
  }

  /** Reports whether anybody waits who will be woken within that time. */
  isDueWithin(ms: number): boolean {
    return [...this.#sleepers].some(({ dueMs }) => dueMs <= this.#nowMs + ms);
  }

  /** Moves on, wakes whoever is due, and lets them do what they woke for. */
  async advance(ms: number): Promise<void> {
    this.#nowMs += ms;
    for (const sleeper of this.#sleepers) {
      if (sleeper.dueMs > this.#nowMs) continue;
      this.#sleepers.delete(sleeper);
      sleeper.wake();
    }
    for (let turn = 0; turn < 20; turn++) await setImmediate();
  }
}
