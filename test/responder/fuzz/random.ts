/** Chance with a seed: the same choices in every run, so that what was found is found again. */

import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';

export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 32 bits (Mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  below(limit: number): number {
    return this.next() % limit;
  }

  /** Reports true in so many of a hundred cases. */
  percent(chance: number): boolean {
    return this.below(100) < chance;
  }

  pick<Value>(values: readonly Value[]): Value {
    return values[this.below(values.length)] as Value;
  }

  bytes(count: number): Uint8Array {
    return Uint8Array.from({ length: count }, () => this.below(256));
  }
}

/** Has what is under test take its chances from here as well. Returns how to end it. */
export function ruleChance(random: Random): () => void {
  const { randomInt, randomUUID } = crypto;
  const between = (least: number, limit?: number) =>
    limit === undefined ? random.below(least) : least + random.below(limit - least);
  const uuid = () =>
    Buffer.from(random.bytes(16))
      .toString('hex')
      .replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/, '$1-$2-4$3-8$4-$5');
  Object.assign(crypto, { randomInt: between, randomUUID: uuid });
  syncBuiltinESMExports();
  return () => {
    Object.assign(crypto, { randomInt, randomUUID });
    syncBuiltinESMExports();
  };
}
