/** The gateways of this host, one after the other as they are known. */

import type { GatewayReport } from '../agent/survey.ts';

/** Looks, tells each gateway, and settles when no other can come. Its signal ends it. */
type Look = (tell: (report: GatewayReport) => void, signal: AbortSignal) => Promise<void>;

/** Begins with the first `next`, ends with the last gateway, the loop that is left, or `signal`. */
export class GatewaySearch implements AsyncIterableIterator<GatewayReport> {
  readonly #look: Look;
  readonly #during: <T>(work: Promise<T>) => Promise<T>;
  readonly #signal: AbortSignal | undefined;
  readonly #stop = new AbortController();
  readonly #found: GatewayReport[] = [];
  #looking: Promise<void> | undefined;
  #isOver = false;
  #error: unknown;
  #wake: () => void = () => undefined;

  /** `during` keeps the process alive while somebody waits. */
  constructor(look: Look, during: <T>(work: Promise<T>) => Promise<T>, signal: AbortSignal | undefined) {
    this.#look = look;
    this.#during = during;
    this.#signal = signal;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<GatewayReport, undefined>> {
    return this.#during(this.#next());
  }

  async #next(): Promise<IteratorResult<GatewayReport, undefined>> {
    this.#looking ??= this.#start();
    for (;;) {
      const value = this.#found.shift();
      if (value !== undefined) return { done: false, value };
      if (this.#isOver) break;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const error = this.#error;
    this.#error = undefined;
    if (error !== undefined) throw error;
    return { done: true, value: undefined };
  }

  async #start(): Promise<void> {
    const stop = () => this.#stop.abort(this.#signal?.reason);
    if (this.#signal?.aborted) stop();
    this.#signal?.addEventListener('abort', stop, { once: true });
    try {
      await this.#look((report) => {
        this.#found.push(report);
        this.#wake();
      }, this.#stop.signal);
    } catch (error) {
      this.#error = error;
    } finally {
      this.#signal?.removeEventListener('abort', stop);
      this.#isOver = true;
      this.#wake();
    }
  }

  /** The loop was left. */
  async return(): Promise<IteratorResult<GatewayReport, undefined>> {
    this.#stop.abort();
    this.#found.length = 0;
    await this.#during(this.#looking ?? Promise.resolve());
    this.#isOver = true;
    this.#error = undefined;
    return { done: true, value: undefined };
  }
}
