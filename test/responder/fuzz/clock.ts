/** A clock that the harness moves. Who sleeps by it is counted: nobody's sleep may be forgotten. */

import { aborted, type Clock } from '../../../src/system/clock.ts';

interface Sleeper {
  readonly dueMs: number;
  readonly wake: () => void;
}

export class FuzzClock implements Clock {
  #nowMs = 1_700_000_000_000;
  readonly #sleepers = new Set<Sleeper>();

  now(): number {
    return this.#nowMs;
  }

  steady(): number {
    return this.#nowMs;
  }

  get sleepers(): number {
    return this.#sleepers.size;
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(aborted(signal));
        return;
      }
      const cut = () => {
        this.#sleepers.delete(sleeper);
        reject(aborted(signal as AbortSignal));
      };
      const sleeper: Sleeper = {
        dueMs: this.#nowMs + delayMs,
        wake: () => {
          signal?.removeEventListener('abort', cut);
          resolve();
        },
      };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', cut, { once: true });
    });
  }

  advance(ms: number): void {
    this.#nowMs += ms;
    for (const sleeper of this.#sleepers) {
      if (sleeper.dueMs > this.#nowMs) continue;
      this.#sleepers.delete(sleeper);
      sleeper.wake();
    }
  }
}
