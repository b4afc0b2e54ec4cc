/** Waits for gateways to have answered for leases, as long as whoever asked for them wants to. */

import { type Clock, OVER } from '../system/clock.ts';
import type { LeaseRecord } from './lease-record.ts';

export class LeaseAnswers {
  readonly #clock: Clock;
  /** Those who wait: called at each change. */
  readonly #watchers = new Set<() => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Some lease has changed. */
  changed(): void {
    for (const look of this.#watchers) look();
  }

  /** Resolves when each is answered or dropped, when the time is over, or when `signal` fires. */
  async wait(leases: readonly LeaseRecord[], timeoutMs: number, signal: AbortSignal): Promise<void> {
    const cut = new AbortController();
    const stop = () => cut.abort(OVER);
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    let settled = 0;
    const look = () => {
      while (leases[settled]?.isSettled || leases[settled]?.dropped) settled++;
      if (settled >= leases.length) stop();
    };
    this.#watchers.add(look);
    look();
    await this.#clock.sleep(timeoutMs, cut.signal).catch(() => undefined);
    this.#watchers.delete(look);
    signal.removeEventListener('abort', stop);
  }
}
