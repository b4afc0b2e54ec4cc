/**
 * The order of a hook's runs. Each hook has a lane: what it has to do there is done one piece after the other,
 * whatever the other lanes do. A `QueueLane` does every piece, a `NewestLane` only has to arrive at the newest
 * value. What a piece of work is, is the caller's.
 */

import type { NatwardError } from '../../errors.ts';
import type { Clock } from '../../system/clock.ts';

/** A lane keeps no more than that for later: an event a minute for an hour. */
const MAX_WAITING = 64;

export abstract class Lane {
  readonly #clock: Clock;
  #work: Promise<void> | undefined;
  #rest: AbortController | undefined;
  #closing = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves when nothing is left to do. */
  get idle(): Promise<void> {
    return this.#work ?? Promise.resolve();
  }

  get isIdle(): boolean {
    return this.#work === undefined;
  }

  protected get closing(): boolean {
    return this.#closing;
  }

  /** From now on nothing is tried twice. */
  close(): void {
    this.#closing = true;
    this.wake();
  }

  /** Forgets what waits. */
  abstract clear(): void;

  protected abstract hasWork(): boolean;

  /** Does one piece, with `rest` between its tries. Never rejects. */
  protected abstract step(): Promise<void>;

  protected start(): void {
    this.#work ??= this.#run();
  }

  /** Ends a rest before its time. */
  protected wake(): void {
    this.#rest?.abort();
  }

  /** Waits so long, or until woken. Reports whether there is to be another try. */
  protected async rest(delayMs: number): Promise<boolean> {
    if (this.#closing) return false;
    const rest = new AbortController();
    this.#rest = rest;
    await this.#clock.sleep(delayMs, rest.signal).catch(() => {});
    this.#rest = undefined;
    return !this.#closing;
  }

  async #run(): Promise<void> {
    // Never in the same turn as the event: whoever tells of it is not kept waiting.
    await Promise.resolve();
    while (this.hasWork()) await this.step();
    this.#work = undefined;
  }
}

/** Waits so long; reports whether there is to be another try. */
export type Rest = (delayMs: number) => Promise<boolean>;

export interface QueueOptions<T> {
  /** Never rejects. */
  readonly deliver: (item: T, rest: Rest) => Promise<void>;
  /** More waits than is kept; told once until the queue has been empty again. */
  readonly onOverflow: (limit: number) => void;
}

/** Does everything, in the order in which it came. */
export class QueueLane<T> extends Lane {
  readonly #options: QueueOptions<T>;
  #waiting: T[] = [];
  #overflowing = false;

  constructor(clock: Clock, options: QueueOptions<T>) {
    super(clock);
    this.#options = options;
  }

  push(item: T): void {
    if (this.#waiting.length >= MAX_WAITING) {
      // The newest says how things are.
      this.#waiting.shift();
      if (!this.#overflowing) this.#options.onOverflow(MAX_WAITING);
      this.#overflowing = true;
    }
    this.#waiting.push(item);
    this.start();
  }

  clear(): void {
    this.#waiting = [];
  }

  protected hasWork(): boolean {
    return this.#waiting.length > 0;
  }

  protected async step(): Promise<void> {
    const item = this.#waiting.shift() as T;
    if (this.#waiting.length === 0) this.#overflowing = false;
    await this.#options.deliver(item, (delayMs) => this.rest(delayMs));
  }
}

/** What came of a try that failed. */
export interface Setback {
  readonly error: NatwardError;
  /** When to try again; null: not before somebody wants it again. */
  readonly retryMs: number | null;
  /** Whether it is worth a word to the person: what passes by itself soon is not. */
  readonly isWorthTelling: boolean;
}

export interface NewestOptions<T> {
  /** Resolves with undefined when `value` is what holds there. `tries` counts those that failed. Never rejects. */
  readonly attempt: (value: T, tries: number) => Promise<Setback | undefined>;
  /** Not called twice in a row with the same message. */
  readonly tell: (error: NatwardError, value: T) => void;
}

/** Arrives at the newest of the values that are wanted; those in between may never be seen. */
export class NewestLane<T extends string | number> extends Lane {
  readonly #options: NewestOptions<T>;
  #wanted: T | undefined;
  #holds: T | undefined;
  #givenUp = false;
  #told = '';

  constructor(clock: Clock, options: NewestOptions<T>) {
    super(clock);
    this.#options = options;
  }

  /** Wanted again, a value that does not hold yet is tried at once. */
  want(value: T): void {
    this.#wanted = value;
    this.#givenUp = false;
    this.wake();
    this.start();
  }

  clear(): void {
    this.#wanted = undefined;
    this.wake();
  }

  protected hasWork(): boolean {
    return this.#wanted !== undefined && this.#wanted !== this.#holds && !this.#givenUp;
  }

  protected async step(): Promise<void> {
    const value = this.#wanted as T;
    for (let tries = 0; this.#wanted === value; tries++) {
      const setback = await this.#options.attempt(value, tries);
      if (setback === undefined) {
        this.#holds = value;
        this.#told = '';
        return;
      }
      // The other side may have done it, or half of it, all the same.
      this.#holds = undefined;
      if (this.closing || setback.isWorthTelling) this.#tell(setback.error, value);
      if (this.#wanted !== value) return;
      if (setback.retryMs === null || !(await this.rest(setback.retryMs))) {
        this.#givenUp = this.#wanted === value;
        return;
      }
    }
  }

  #tell(error: NatwardError, value: T): void {
    const message = `${value}: ${error.message}`;
    if (message === this.#told) return;
    this.#told = message;
    this.#options.tell(error, value);
  }
}
