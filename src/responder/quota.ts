/** How many mappings and pinholes each client has, and all together, those that are being asked for among them. */

import type { IpAddress } from '../net/address.ts';
import type { Refusal } from './grant.ts';
import type { ClientRights } from './rights.ts';

export class Quota {
  readonly #most: () => number;
  readonly #counts = new Map<IpAddress, number>();
  #count = 0;

  /** `most` of all clients together, as it is just then. */
  constructor(most: () => number) {
    this.#most = most;
  }

  /** Takes a place for one more. Says why there is none. */
  take(client: IpAddress, { maxMappings }: ClientRights): Refusal | undefined {
    const own = this.#counts.get(client) ?? 0;
    if (own >= maxMappings) return 'over-quota';
    if (this.#count >= this.#most()) return 'table-full';
    this.#counts.set(client, own + 1);
    this.#count++;
    return undefined;
  }

  give(client: IpAddress): void {
    const own = (this.#counts.get(client) ?? 0) - 1;
    if (own > 0) this.#counts.set(client, own);
    else this.#counts.delete(client);
    this.#count--;
  }
}
