/** Who asks gateways, keeps leases and carries rules for an app's agent. */

import type { LeaseKeeping } from '../agent/keeping.ts';
import type { OneShot } from '../agent/one-shot.ts';
import type { RuleKeeping } from '../agent/rule-keeping.ts';

/** Each begins when it is first asked for. */
export interface Holder {
  /** Asks once, and keeps nothing. */
  oneShot(): Promise<OneShot>;
  leases(): Promise<LeaseKeeping>;
  rules(): Promise<RuleKeeping>;
  /** Resolves when all that is to be remembered of leases is on disk. */
  saved(): Promise<void>;
  /** Gives back what is left to be given back, before `signal` fires, and ends. */
  close(signal: AbortSignal): Promise<void>;
}
