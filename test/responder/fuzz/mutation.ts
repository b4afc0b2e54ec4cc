/** Packets spoiled without knowledge of what they mean: what a broken sender, a bad wire or an attacker makes of them. */

import type { Random } from './random.ts';

const MOST_BYTES = 4096;
/** Where lengths and counts are looked at, these are the edges. */
const EDGES = [0, 1, 2, 3, 4, 0x0f, 0x10, 0x7f, 0x80, 0xfe, 0xff];

/** One to four changes. `other` is another packet of the same kind, to splice with. */
export function mutated(packet: Uint8Array, other: Uint8Array, random: Random): Uint8Array {
  let bytes: Uint8Array = Uint8Array.from(packet);
  for (let left = 1 + random.below(4); left > 0; left--) bytes = changed(bytes, other, random);
  return bytes.subarray(0, MOST_BYTES);
}

function changed(bytes: Uint8Array, other: Uint8Array, random: Random): Uint8Array {
  const at = random.below(bytes.length + 1);
  switch (random.below(10)) {
    case 0:
      return withByte(bytes, at, (bytes[at] ?? 0) ^ (1 << random.below(8)));
    case 1:
      return withByte(bytes, at, random.below(256));
    case 2:
      return withByte(bytes, at, random.pick(EDGES));
    case 3: // Two bytes: a port or a length.
      return withByte(withByte(bytes, at, random.pick(EDGES)), at + 1, random.pick(EDGES));
    case 4:
      return bytes.subarray(0, at);
    case 5:
      return joined(bytes, random.bytes(1 + random.below(64)));
    case 6:
      return joined(bytes.subarray(0, at), random.bytes(1 + random.below(16)), bytes.subarray(at));
    case 7: {
      const to = Math.min(bytes.length, at + random.below(40));
      return joined(bytes.subarray(0, to), bytes.subarray(at, to), bytes.subarray(to));
    }
    case 8:
      return joined(bytes.subarray(0, at), bytes.subarray(Math.min(bytes.length, at + 1 + random.below(24))));
    default:
      return joined(bytes.subarray(0, at), other.subarray(random.below(other.length + 1)));
  }
}

function withByte(bytes: Uint8Array, at: number, value: number): Uint8Array {
  if (at >= bytes.length) return bytes;
  const copy = Uint8Array.from(bytes);
  copy[at] = value;
  return copy;
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}
