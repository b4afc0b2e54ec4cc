/**
 * Time that a test owns. Timers wait until the test moves the clock: `advance` moves it by so much, `settle`
 * moves it as far as a promise needs. Real sockets work meanwhile: before it jumps to the next timer, `settle`
 * waits until nothing has happened on the network for a short while. So silence, hedges and deadlines cost no
 * real seconds, and an answer that is on its way is never late.
 *
 * A system that tells its clock of all that it begins (support/gateway.ts does) makes long times cheap: while no
 * request is under way nothing can happen but the next timer, and nobody waits to see that nothing does.
 */

import { setImmediate as turn, setTimeout as pause } from 'node:timers/promises';
import { aborted, type Clock } from '../../src/system/clock.ts';

/** Loopback delivers at once and all ends live in this process: some turns of its loop are enough. */
const QUIET_TURNS = 20;
const QUIET_MS = 5;
/** Where the clock knows of everything that is under way, and nothing is. */
const IDLE_TURNS = 4;
/** A timer that is further away than any retransmission is only jumped to when nothing else can be meant. */
const NEAR_MS = 60_000;
const FAR_QUIET_MS = 500;
/** How long a promise may take that waits for no timer. */
const STUCK_MS = 10_000;

interface Timer {
  dueMs: number;
  readonly fire: () => void;
}

export class TestClock implements Clock {
  #nowMs = Date.UTC(2026, 0, 1);
  /** How far the machine's sleep has taken `now` ahead of `steady`. */
  #sleptMs = 0;
  readonly #timers = new Set<Timer>();
  #stirs = 0;
  /** Whether somebody tells of all that is under way. */
  #isTold = false;
  #working = 0;
  /** Datagrams that may still be answered, by the socket that they went out from. */
  readonly #asked = new Map<object, number>();

  now(): number {
    return this.#nowMs;
  }

  steady(): number {
    return this.#nowMs - this.#sleptMs;
  }

  /** The machine sleeps: time goes by, and no timer sees it. A negative time is a clock that is set back. */
  sleepThrough(ms: number): void {
    this.#nowMs += ms;
    this.#sleptMs += ms;
    for (const timer of this.#timers) timer.dueMs += ms;
  }

  /** How many timers wait. */
  get pending(): number {
    return this.#timers.size;
  }

  async sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    this.stir();
    if (signal?.aborted) throw aborted(signal);
    // As in real time: no delay is the next turn, and needs no moving.
    if (delayMs <= 0) return turn();
    await new Promise<void>((resolve, reject) => {
      const stop = () => {
        this.#timers.delete(timer);
        reject(aborted(signal as AbortSignal));
      };
      const timer = {
        dueMs: this.#nowMs + delayMs,
        fire: () => {
          signal?.removeEventListener('abort', stop);
          resolve();
        },
      };
      this.#timers.add(timer);
      signal?.addEventListener('abort', stop, { once: true });
    });
  }

  /** Something happened that no timer knows of: a datagram came. Systems of support/gateway.ts report it. */
  stir(): void {
    this.#stirs++;
  }

  /** From now on `during` and `asked` tell of all that is under way. */
  willBeTold(): void {
    this.#isTold = true;
  }

  /** Something is under way outside of this time until `work` settles; settles as it does. */
  async during<T>(work: PromiseLike<T>): Promise<T> {
    this.#working++;
    try {
      return await work;
    } finally {
      this.#working--;
      this.stir();
    }
  }

  /** A datagram went out from `socket`: an answer may come. */
  asked(socket: object): void {
    this.#asked.set(socket, (this.#asked.get(socket) ?? 0) + 1);
  }

  /** A datagram came to `socket`. */
  heard(socket: object): void {
    this.stir();
    const left = (this.#asked.get(socket) ?? 0) - 1;
    if (left > 0) this.#asked.set(socket, left);
    else this.#asked.delete(socket);
  }

  /** Moves on by `ms`, through every timer on the way; what each of them sets off gets its turns. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    await turns();
    for (let next = this.#next(); next !== undefined && next.dueMs <= endMs; next = this.#next()) {
      this.#fire(next);
      await turns();
    }
    this.#nowMs = endMs;
    await turns();
  }

  /** Moves from timer to timer until `promise` settles, and settles as it does. */
  async settle<T>(promise: Promise<T>): Promise<T> {
    let done = false;
    const finish = () => {
      done = true;
    };
    promise.then(finish, finish);
    this.asked(promise); // The test itself may have set something off just before.
    for (;;) {
      await this.#quiet(() => done);
      const next = this.#next();
      if (done) return promise;
      if (next === undefined) throw new Error(`nothing happens, and no timer waits at ${this.#nowMs}`);
      this.#fire(next);
    }
  }

  /** Resolves when `done`, or when nothing has happened for a while. */
  async #quiet(done: () => boolean): Promise<void> {
    let seen = this.#stirs;
    let sinceMs = performance.now();
    for (let quietTurns = 0; !done(); quietTurns++) {
      await (quietTurns < QUIET_TURNS ? turn() : pause(1));
      if (this.#stirs !== seen) {
        seen = this.#stirs;
        sinceMs = performance.now();
        quietTurns = 0;
      } else if (this.#isIdle() && quietTurns >= IDLE_TURNS) {
        return;
      } else if (quietTurns >= QUIET_TURNS && performance.now() - sinceMs >= this.#patienceMs()) {
        this.#asked.clear(); // No answer comes any more.
        return;
      }
    }
  }

  #isIdle(): boolean {
    return this.#knowsOfNoWork() && this.#asked.size === 0 && this.#timers.size > 0;
  }

  #knowsOfNoWork(): boolean {
    return this.#isTold && this.#working === 0;
  }

  #patienceMs(): number {
    const next = this.#next();
    if (next === undefined) return STUCK_MS;
    // Datagrams need turns, and no time: who answers lives in this process too.
    if (this.#knowsOfNoWork()) return 0;
    return next.dueMs - this.#nowMs > NEAR_MS ? FAR_QUIET_MS : QUIET_MS;
  }

  #next(): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) if (first === undefined || timer.dueMs < first.dueMs) first = timer;
    return first;
  }

  #fire(timer: Timer): void {
    this.#timers.delete(timer);
    this.#nowMs = Math.max(this.#nowMs, timer.dueMs);
    timer.fire();
  }
}

async function turns(): Promise<void> {
  for (let count = 0; count < QUIET_TURNS; count++) await turn();
}
