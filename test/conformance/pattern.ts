/**
 * Bytes that can be checked wherever they arrive: a period of a prime number of them, begun elsewhere for each
 * seed, so that bytes that are lost, doubled, out of order or another conversation's do not fit.
 */

const PERIOD = 65_521;
export const CHUNK_BYTES = 65_536;

const table = makeTable();

export class Pattern {
  readonly #phase: number;

  constructor(seed: number) {
    this.#phase = (seed * 7919) % PERIOD;
  }

  /** The `length` bytes that follow the first `offset`. At most CHUNK_BYTES, and not to be written to. */
  bytes(offset: number, length: number): Buffer {
    const start = (this.#phase + offset) % PERIOD;
    return table.subarray(start, start + length);
  }

  /** Throws where `received` is not what follows the first `offset` bytes. */
  check(offset: number, received: Buffer): void {
    for (let done = 0; done < received.length; done += CHUNK_BYTES) {
      const part = received.subarray(done, done + CHUNK_BYTES);
      if (!part.equals(this.bytes(offset + done, part.length)))
        throw new Error(`wrong bytes arrived after the first ${offset + done}`);
    }
  }
}

function makeTable(): Buffer {
  const bytes = Buffer.alloc(PERIOD + CHUNK_BYTES);
  let state = 1;
  for (let at = 0; at < bytes.length; at++) {
    // A linear congruential generator (Knuth's MMIX constants do not fit; these are of Numerical Recipes).
    if (at < PERIOD) state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[at] = at < PERIOD ? state >>> 24 : (bytes[at - PERIOD] ?? 0);
  }
  return bytes;
}
