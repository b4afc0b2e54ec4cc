/** What one engine promises and another does not. All that is not named here, each of them promises. */

import { expect } from 'vitest';
import type { Activity } from '../../src/forwarder/engine.ts';

export interface EngineTraits {
  /** Seconds of the engine's own time that stand for a minute in the suite: the kernel has none but real ones. */
  readonly minute: number;
  /** What is counted: what the conversation says, or its packets with their headers and acknowledgements. */
  readonly counts: 'payload' | 'packets';
  /** It listens, so that a port in use is in its way. Otherwise what the port's owner had is the rule's meanwhile. */
  readonly listens: boolean;
  /** What a TCP client sees that may not pass: a reset after it was taken, or none at all. */
  readonly turnedAway: 'ECONNRESET' | 'ECONNREFUSED';
  /** A client that is refused is an event. It is counted in any case. */
  readonly tellsRefusals: boolean;
  /** What it says of a client that has too many conversations. */
  readonly tooManyOfOne: RegExp;
  /** What a UDP client sends that was sending before there was a rule for it comes to the rule at once, or soon. */
  readonly takesStreamsAtOnce: boolean;
  /** What it counts where the target refuses: that is its own refusal where it connects to it by itself. */
  readonly targetRefuses: Pick<Activity, 'refused' | 'lastRefusal'>;
  /**
   * Both sides hear at once that a conversation was taken from them. Otherwise whoever says something next is reset,
   * and where a quota is used up nothing passes any more.
   */
  readonly resetsBoth: boolean;
  /** What it says of a conversation that was silent for a minute. */
  readonly silence: RegExp;
  readonly leadsToOtherFamily: boolean;
  readonly clonesToThisHost: boolean;
  /** More than it can carry, and the clause that is. */
  readonly tooMuch: { readonly clauses: string; readonly field: string };
}

export const RELAY: EngineTraits = {
  minute: 60,
  counts: 'payload',
  listens: true,
  turnedAway: 'ECONNRESET',
  tellsRefusals: true,
  tooManyOfOne: /127\.2\.0\.1 has 1 conversations open/,
  takesStreamsAtOnce: true,
  targetRefuses: { refused: 1, lastRefusal: expect.stringMatching(/cannot be reached: ECONNREFUSED/) },
  resetsBoth: true,
  silence: /^silent for 60 s$/,
  leadsToOtherFamily: true,
  clonesToThisHost: true,
  tooMuch: { clauses: 'mac 02:00:00:00:00:01 -> :80', field: 'mac' },
};

export const KERNEL: EngineTraits = {
  minute: 2,
  counts: 'packets',
  listens: false,
  turnedAway: 'ECONNREFUSED',
  tellsRefusals: false,
  tooManyOfOne: /as many of this client are open as may be/,
  takesStreamsAtOnce: false,
  targetRefuses: { refused: 0, lastRefusal: null },
  resetsBoth: false,
  silence: /^silent for too long$/,
  leadsToOtherFamily: false,
  clonesToThisHost: false,
  tooMuch: { clauses: '-> :80 proxy v1', field: 'proxy' },
};

/** Of what the kernel carries; what it cannot, the relay does. */
export const SHARED: EngineTraits = {
  ...KERNEL,
  leadsToOtherFamily: true,
  clonesToThisHost: true,
  tooMuch: { clauses: 'mac 02:00:00:00:00:01 -> :80 proxy v1', field: 'proxy' },
};

/** Of what it hands to the relay: the same as alone, but for what no engine of both can carry. */
export const SHARED_WITH_RELAY: EngineTraits = {
  ...RELAY,
  tooMuch: SHARED.tooMuch,
};
