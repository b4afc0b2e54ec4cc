/**
 * The activity of rules, from what the kernel counts by mark. A rule that changes has another mark, and keeps what was
 * counted under those before it.
 */

import { type Activity, NO_ACTIVITY } from '../engine.ts';
import { type Count, reasonOf } from './counters.ts';

/** Of marks that are no longer used, and what was seen before a table was made anew. */
type Sums = Pick<
  Activity,
  | 'bytesIn'
  | 'bytesOut'
  | 'packetsIn'
  | 'packetsOut'
  | 'conversations'
  | 'refused'
  | 'lastAtMs'
  | 'lastRefusal'
>;

export class Tally {
  /** By mark number, as last seen. */
  #counts: ReadonlyMap<number, Count> = new Map();
  readonly #sums = new Map<string, Sums>();
  readonly #seen = new Map<string, { at: number | null; reason: string | null }>();

  get counts(): ReadonlyMap<number, Count> {
    return this.#counts;
  }

  /** What the kernel says now. Rules by mark tell for which of them something has come since. */
  see(counts: ReadonlyMap<number, Count>, idOf: (mark: number) => string | undefined, nowMs: number): void {
    const before = this.#counts;
    this.#counts = counts;
    for (const [number, count] of counts) {
      const id = idOf(number);
      if (id !== undefined) this.#look(id, before.get(number), count, nowMs);
    }
  }

  #look(id: string, before: Count | undefined, now: Count, nowMs: number): void {
    const seen = this.#seen.get(id) ?? { at: null, reason: null };
    if (now.packetsIn + now.packetsOut > (before?.packetsIn ?? 0) + (before?.packetsOut ?? 0))
      seen.at = nowMs;
    for (const [tally, packets] of now.refused) {
      if (packets <= (before?.refused.get(tally) ?? 0)) continue;
      [seen.at, seen.reason] = [nowMs, reasonOf(tally)];
    }
    this.#seen.set(id, seen);
  }

  /** What these marks counted is the rule's for good; they are used no more. */
  fold(id: string, numbers: readonly number[]): void {
    const sums = numbers.reduce(
      (sum: Sums, number) => plus(sum, this.#counts.get(number)),
      this.#sums.get(id) ?? NO_ACTIVITY,
    );
    this.#sums.set(id, sums);
  }

  keepOnly(ids: (id: string) => boolean): void {
    for (const id of this.#sums.keys()) if (!ids(id)) this.#sums.delete(id);
    for (const id of this.#seen.keys()) if (!ids(id)) this.#seen.delete(id);
  }

  of(id: string, numbers: readonly number[], open: number): Activity {
    const sums = numbers.reduce(
      (sum: Sums, number) => plus(sum, this.#counts.get(number)),
      this.#sums.get(id) ?? NO_ACTIVITY,
    );
    const seen = this.#seen.get(id);
    return { ...sums, open, lastAtMs: seen?.at ?? null, lastRefusal: seen?.reason ?? null };
  }
}

function plus(sum: Sums, count: Count | undefined): Sums {
  if (count === undefined) return sum;
  return {
    ...sum,
    bytesIn: sum.bytesIn + count.bytesIn,
    bytesOut: sum.bytesOut + count.bytesOut,
    packetsIn: sum.packetsIn + count.packetsIn,
    packetsOut: sum.packetsOut + count.packetsOut,
    conversations: sum.conversations + count.begun,
    refused: sum.refused + [...count.refused.values()].reduce((a, b) => a + b, 0),
  };
}
