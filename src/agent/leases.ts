/**
 * The leases that are kept: begun, changed and ended as what is wanted changes. Carries out what reconcile.ts says of
 * the difference.
 */

import type { Carrier } from './carrier.ts';
import { claimants } from './holding.ts';
import type { Intent, LeaseStatus } from './lease.ts';
import { followsExternal, LeaseRecord, type WantedLease } from './lease-record.ts';
import { leasesOf, reconcile } from './reconcile.ts';
import type { Rounds } from './rounds.ts';
import type { Sites } from './sites.ts';
import type { Strays } from './strays.ts';

export interface LeasesContext {
  readonly sites: Sites;
  readonly strays: Strays;
  readonly rounds: Rounds;
  readonly carrier: Carrier | undefined;
}

export class Leases {
  readonly #context: LeasesContext;
  readonly #leases = new Map<string, LeaseRecord>();

  constructor(context: LeasesContext) {
    this.#context = context;
  }

  get all(): readonly LeaseRecord[] {
    return [...this.#leases.values()];
  }

  /** Those that are kept for this intent. */
  of(intent: Intent): readonly LeaseRecord[] {
    return [...leasesOf(intent)].flatMap(({ key }) => this.#leases.get(key) ?? []);
  }

  /** Of what an agent before this one has had carried, what these leases need is still wanted. */
  settle(): void {
    const carried = this.all.filter(({ carriedTo }) => carriedTo !== undefined);
    this.#context.carrier?.settle(carried.map(({ carryKey }) => carryKey));
  }

  /** Makes the leases true to the intents. Returns those that have ended: what they hold is stray now. */
  reconcile(intents: readonly Intent[]): readonly LeaseRecord[] {
    const { sites, strays } = this.#context;
    const kept = new Map([...this.#leases].map(([key, { intent }]) => [key, intent] as const));
    const steps = reconcile(intents, { leases: kept, holdings: strays.all });
    const ended: LeaseRecord[] = [];
    const begun: LeaseRecord[] = [];
    for (const step of steps) {
      switch (step.kind) {
        case 'begin':
          strays.delete(step.holdings);
          begun.push(new LeaseRecord(step.wanted, step.holdings));
          break;
        case 'change':
          this.#change(step.wanted);
          break;
        case 'end':
          ended.push(this.#end(step.key));
          break;
        case 'release':
          break; // It is a stray already: given back when its gateway answers, or now.
      }
    }
    // One that takes the place of another takes over what that one holds.
    const heir = claimants(begun);
    for (const lease of ended) {
      for (const holding of lease.holdings) {
        const taker = heir(holding);
        if (taker !== undefined) taker.holdings = [...taker.holdings, holding];
      }
      lease.holdings = lease.holdings.filter((holding) => heir(holding) === undefined);
    }
    for (const lease of begun) {
      this.#leases.set(lease.key, lease);
      sites.add(lease);
    }
    for (const { holdings } of ended) strays.add(holdings);
    return ended;
  }

  #change({ key, intent, port }: WantedLease): void {
    const lease = this.#leases.get(key) as LeaseRecord;
    const before = lease.intent;
    lease.intent = intent;
    if (followsExternal(before) !== followsExternal(intent)) lease.port = port;
    else if (askedOf(before) === askedOf(intent)) return;
    lease.line = undefined;
    lease.retryAtMs = 0;
    this.#context.sites.of(lease).review(lease);
  }

  #end(key: string): LeaseRecord {
    const { sites, rounds, carrier } = this.#context;
    const lease = this.#leases.get(key) as LeaseRecord;
    this.#leases.delete(key);
    rounds.delete(lease);
    lease.dropped = true;
    carrier?.release(lease.carryKey); // It may be about to be carried.
    sites.of(lease).remove(lease);
    return lease;
  }
}

/** As people see them: what nobody asked for by name is shown where it is to be had. */
export function statusesOf(leases: readonly LeaseRecord[]): readonly LeaseStatus[] {
  const shown = leases.filter(({ isOptional, state }) => !isOptional || state === 'held' || state === 'lost');
  return shown.flatMap(({ statuses }) => statuses);
}

/** What of it the gateway is told, beside the ports. */
function askedOf({ lifetimeSeconds, description, choice, remotePeer }: Intent): string {
  return JSON.stringify([lifetimeSeconds, description, choice, remotePeer]);
}
