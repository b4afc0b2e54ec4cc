/**
 * Whether a gateway has lost its table, by the clock that it sends with every answer: seconds since it last
 * started from nothing. RFC 6886, section 3.6, and RFC 6887, section 8.5, have a rule each.
 */

export interface Epoch {
  readonly epochSeconds: number;
  /** When that was heard, by this host's clock, which may be set. */
  readonly heardAtMs: number;
  /** The same by its steady clock, which stands still while the machine sleeps. */
  readonly heardSteadyMs: number;
}

export type EpochRule = 'natpmp' | 'pcp';

/**
 * Reports whether the gateway that said `last` and now says `next` can still have its table. It has to agree with
 * one of this host's clocks alone: no gateway starts again because a clock here was set, or stood still.
 */
export function keptItsTable(rule: EpochRule, last: Epoch, next: Epoch): boolean {
  const elapsedMs = [next.heardAtMs - last.heardAtMs, next.heardSteadyMs - last.heardSteadyMs];
  return elapsedMs.some((ms) => agrees(rule, last.epochSeconds, next.epochSeconds, Math.max(0, ms) / 1000));
}

/** `here` is the time that has passed for this host, in seconds. */
function agrees(rule: EpochRule, last: number, next: number, here: number): boolean {
  // Its clock may run an eighth too slow, and two seconds are forgiven.
  if (rule === 'natpmp') return next >= last + (here * 7) / 8 - 2;
  if (next < last - 1) return false;
  const there = next - last;
  return here + 2 >= there - there / 16 && there + 2 >= here - here / 16;
}
