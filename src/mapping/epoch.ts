/**
 * Whether a gateway has lost its table, by the clock that it sends with every answer: seconds since it last
 * started from nothing. RFC 6886, section 3.6, and RFC 6887, section 8.5, have a rule each.
 */

export interface Epoch {
  readonly epochSeconds: number;
  /** When that was heard, by this host's clock. */
  readonly heardAtMs: number;
}

export type EpochRule = 'natpmp' | 'pcp';

/** Reports whether the gateway that said `last` and now says `next` can still have its table. */
export function keptItsTable(rule: EpochRule, last: Epoch, next: Epoch): boolean {
  const here = Math.max(0, next.heardAtMs - last.heardAtMs) / 1000;
  if (rule === 'natpmp') {
    // Its clock may run an eighth too slow, and two seconds are forgiven.
    return next.epochSeconds >= last.epochSeconds + (here * 7) / 8 - 2;
  }
  if (next.epochSeconds < last.epochSeconds - 1) return false;
  const there = next.epochSeconds - last.epochSeconds;
  return here + 2 >= there - there / 16 && there + 2 >= here - here / 16;
}
