/** What may be asked of whoever keeps leases: the agent over its socket, or a keeper in this process. */

import type { AgentEvent } from './events.ts';
import type { GatewayStatus, Intent, KeepRequest, LeaseStatus, Owner } from './lease.ts';

export interface KeepOptions {
  readonly owner: Owner;
  /** How long to wait for each lease's first answer; what has none by then is still kept. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** Which intents are meant: by id, or by what was kept (a spec's protocols, ports and host). */
export type DropSelector =
  | { readonly kind: 'id'; readonly text: string; readonly id: string }
  | {
      readonly kind: 'spec';
      readonly text: string;
      readonly ask: Pick<KeepRequest, 'protocols' | 'external' | 'internal' | 'host'>;
    };

export interface DropOptions {
  readonly signal: AbortSignal;
}

export interface DropFailure {
  /** As the person wrote it. */
  readonly selector: string;
  readonly code: 'NOT_FOUND' | 'NOT_OWN' | 'FAILED';
  readonly message: string;
  readonly advice: string | null;
}

export interface DropReport {
  /** As they stood when they were dropped. `error` says what could not be taken back: it ends by its lifetime. */
  readonly released: readonly LeaseStatus[];
  readonly failures: readonly DropFailure[];
}

export interface KeeperStatus {
  readonly gateways: readonly GatewayStatus[];
  readonly leases: readonly LeaseStatus[];
  /** What does not go well just now: full sentences. */
  readonly warnings: readonly string[];
  /** Of the last event that this status takes in; 0: none yet. `events` goes on from there without a gap. */
  readonly lastEventId: number;
}

export interface LeaseKeeping {
  /** Begins to keep each request and resolves with its leases as they stand when all are answered. */
  keep(requests: readonly KeepRequest[], options: KeepOptions): Promise<readonly LeaseStatus[]>;
  /** Stops keeping, and takes the mappings back. */
  drop(selectors: readonly DropSelector[], options: DropOptions): Promise<DropReport>;
  status(): Promise<KeeperStatus>;
  /** What is to be kept, whoever asked for it. */
  wanted(): Promise<readonly Intent[]>;
  /**
   * What happens from this call on, until `signal` fires. With `since`, first what is still remembered after
   * the event with that id; all that is remembered where no event of this agent's life has that id yet.
   */
  events(signal: AbortSignal, since?: number): AsyncIterable<AgentEvent>;
}
