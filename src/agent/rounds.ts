/**
 * Goes round for as long as anything is kept: one agenda and one timer for all leases, and on the way the machine's
 * network and its clock are looked at.
 */

import { NatwardError } from '../errors.ts';
import { OVER } from '../system/clock.ts';
import type { NetworkState } from '../system/routes.ts';
import type { System } from '../system/system.ts';
import { Agenda } from './agenda.ts';
import type { LeaseRecord } from './lease-record.ts';

export interface RoundsListener {
  /** Its time has come. */
  due(lease: LeaseRecord): void;
  /** The machine's network as it is now. */
  network(network: NetworkState): void;
  networkUnknown(reason: NatwardError): void;
  /** The machine has slept, or its clock was set forward. */
  setForward(): void;
  /** Its clock was set back by so much, a negative number: leases end when they would have ended. */
  setBack(byMs: number): void;
}

/** A clock that goes on by this much while no timer does has slept, or was set. */
const CLOCK_JUMP_MS = 5000;
/** The network is looked at more often than that, on any platform. */
const LONGEST_ROUND_MS = 45_000;

export class Rounds implements AsyncDisposable {
  readonly #system: System;
  readonly #listener: RoundsListener;
  readonly #agenda = new Agenda<LeaseRecord>();
  readonly #running: Promise<void>;
  #isOver = false;
  #wake = new AbortController();
  /** While the loop sleeps. */
  #asleepUntilMs = Number.NEGATIVE_INFINITY;
  /** When the network is looked at next, by the steady clock. */
  #lookAtMs = 0;
  /** When the loop went round last, by the steady clock. */
  #roundMs: number;
  /** By so much was the host's clock ahead of its steady one. */
  #aheadMs: number;

  constructor(system: System, listener: RoundsListener) {
    this.#system = system;
    this.#listener = listener;
    this.#roundMs = system.clock.steady();
    this.#aheadMs = system.clock.now() - this.#roundMs;
    this.#running = this.#run();
  }

  /** Its loop has gone round not long ago: what hangs is not alive. */
  get isAlive(): boolean {
    return this.#system.clock.steady() - this.#roundMs < LONGEST_ROUND_MS;
  }

  /** The lease is due then, and not when it was before. */
  set(lease: LeaseRecord, atMs: number): void {
    this.#agenda.set(lease, atMs);
    if (atMs < this.#asleepUntilMs) this.#wake.abort(OVER);
  }

  delete(lease: LeaseRecord): void {
    this.#agenda.delete(lease);
  }

  /** Somebody waits to hear what the network is. */
  lookSoon(): void {
    this.#lookAtMs = 0;
    this.#wake.abort(OVER);
  }

  /** Also before each grant: what is granted by a clock that was set must not be moved with what was granted before. */
  lookAtClock(): void {
    const { clock } = this.#system;
    const aheadMs = clock.now() - clock.steady();
    const driftMs = aheadMs - this.#aheadMs;
    this.#aheadMs = aheadMs;
    if (driftMs > CLOCK_JUMP_MS) this.#listener.setForward();
    if (driftMs >= -CLOCK_JUMP_MS) return;
    this.#agenda.shift(driftMs);
    this.#listener.setBack(driftMs);
  }

  async #run(): Promise<void> {
    const { clock } = this.#system;
    while (!this.#isOver) {
      this.lookAtClock();
      this.#roundMs = clock.steady();
      // Not for every lease that is due: looking may be a program that runs.
      if (this.#roundMs >= this.#lookAtMs) {
        this.#lookAtMs = this.#roundMs + this.#system.networkLookMs;
        await this.#lookAtNetwork();
      }
      for (const lease of this.#agenda.takeDue(clock.now())) this.#listener.due(lease);
      const untilNextMs = (this.#agenda.nextMs ?? Number.POSITIVE_INFINITY) - clock.now();
      await this.#sleep(Math.max(0, Math.min(untilNextMs, this.#lookAtMs - clock.steady())));
    }
  }

  async #lookAtNetwork(): Promise<void> {
    try {
      this.#listener.network(await this.#system.network());
    } catch (error) {
      if (!(error instanceof NatwardError)) throw error;
      this.#listener.networkUnknown(error);
    }
  }

  async #sleep(delayMs: number): Promise<void> {
    const { clock } = this.#system;
    this.#asleepUntilMs = clock.now() + delayMs;
    await clock.sleep(delayMs, this.#wake.signal).catch(() => undefined);
    this.#asleepUntilMs = Number.NEGATIVE_INFINITY;
    this.#wake = new AbortController();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    this.#wake.abort(OVER);
    await this.#running;
  }
}
