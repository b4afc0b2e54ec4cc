/**
 * How much searching one source may cause: answers that wait for their moment, and answers a second. A search is one
 * packet whose source anybody can forge, and it is answered with a dozen.
 */

import type { IpAddress } from '../net/address.ts';

const MAX_WAITING = 256;
const MAX_WAITING_OF_ONE = 16;
const ANSWERS_PER_SECOND = 128;
const MAX_SOURCES = 4096;
const SECOND_MS = 1_000;

export class SearchLoad {
  readonly #waiting = new Map<IpAddress, number>();
  #allWaiting = 0;
  /** Of this second. */
  readonly #answered = new Map<IpAddress, number>();
  #secondAtMs = Number.NEGATIVE_INFINITY;

  /** Reports whether one more search of that source may wait for its answers; then `leave` has to follow. */
  enter(source: IpAddress): boolean {
    const own = this.#waiting.get(source) ?? 0;
    if (this.#allWaiting >= MAX_WAITING || own >= MAX_WAITING_OF_ONE) return false;
    this.#waiting.set(source, own + 1);
    this.#allWaiting++;
    return true;
  }

  leave(source: IpAddress): void {
    const left = (this.#waiting.get(source) ?? 1) - 1;
    if (left === 0) this.#waiting.delete(source);
    else this.#waiting.set(source, left);
    this.#allWaiting--;
  }

  /** Reports whether that source may be sent one more answer, and counts it. */
  takeAnswer(source: IpAddress, nowMs: number): boolean {
    if (nowMs - this.#secondAtMs >= SECOND_MS) {
      this.#answered.clear();
      this.#secondAtMs = nowMs;
    }
    const own = this.#answered.get(source) ?? 0;
    if (own >= ANSWERS_PER_SECOND || (own === 0 && this.#answered.size >= MAX_SOURCES)) return false;
    this.#answered.set(source, own + 1);
    return true;
  }
}
