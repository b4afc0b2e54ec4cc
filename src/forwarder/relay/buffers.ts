/** The buffers that streams read into: of three sizes, small ones used again, and large ones only within limits. */

/** What an idle connection holds, and what a busy one is worth: a larger buffer gains little more. */
export const SIZES: readonly [number, number, number] = [4096, 65_536, 262_144];
/** Of all buffers that have grown. */
const GROWN_LIMIT_BYTES = 128 * 2 ** 20;
/** Small buffers kept for the next connections. */
const MAX_SPARE = 512;

/** Hands out buffers, the large ones within limits. */
export class Buffers {
  #grownBytes = 0;
  readonly #small: Uint8Array[] = [];

  /** `size` is a place in SIZES. Undefined where all that have grown take too much together; never for 0. */
  take(size: number): Uint8Array | undefined {
    if (size === 0) return this.#small.pop() ?? Buffer.allocUnsafeSlow(SIZES[0]);
    const length = SIZES[size] as number;
    if (this.#grownBytes + length > GROWN_LIMIT_BYTES) return undefined;
    this.#grownBytes += length;
    return Buffer.allocUnsafeSlow(length);
  }

  /** Only one that is free is handed out again. */
  giveBack(buffer: Uint8Array, isFree: boolean): void {
    if (buffer.length > SIZES[0]) this.#grownBytes -= buffer.length;
    // Windows may still be writing from the buffer of a connection that is closed.
    else if (isFree && this.#small.length < MAX_SPARE && process.platform !== 'win32')
      this.#small.push(buffer);
  }
}
