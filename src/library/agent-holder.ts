/** Hands leases and rules to the natward agent that runs on this host. Gateways are asked from this process. */

import type { LeaseKeeping } from '../agent/keeping.ts';
import type { OneShot } from '../agent/one-shot.ts';
import type { AgentClient } from '../control/client.ts';
import type { Holder } from './holder.ts';

export class AgentHolder implements Holder {
  readonly #client: AgentClient;
  readonly #own: Holder;

  /** `own` does what needs no agent. */
  constructor(client: AgentClient, own: Holder) {
    this.#client = client;
    this.#own = own;
  }

  oneShot(): Promise<OneShot> {
    return this.#own.oneShot();
  }

  async leases(): Promise<LeaseKeeping> {
    return this.#client;
  }

  async rules(): Promise<AgentClient> {
    return this.#client;
  }

  /** The agent of this host sees to it. */
  async saved(): Promise<void> {}

  close(signal: AbortSignal): Promise<void> {
    return this.#own.close(signal);
  }
}
