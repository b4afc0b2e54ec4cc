/**
 * What carries a table of rules out. Two engines keep this contract, and one suite (test/contract/) holds them to it:
 * the relay, portable and unprivileged, and the kernel's.
 */

import { NatwardError } from '../errors.ts';
import type { Endpoint } from '../net/endpoint.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import type { FirstPacket } from './decide.ts';
import type { Rule } from './rule.ts';
import type { Table } from './table.ts';

export type EngineName = 'relay' | 'nftables';

export interface Activity {
  /** From whoever began the conversation, and back. Packets of TCP are the engine's reads. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly packetsIn: number;
  readonly packetsOut: number;
  /** Open now. */
  readonly open: number;
  /** Ever begun, and ever refused. */
  readonly conversations: number;
  readonly refused: number;
  /** Of the last conversation or packet, in Unix milliseconds; null: none yet. */
  readonly lastAtMs: number | null;
  readonly lastRefusal: string | null;
}

/** Of a rule that nothing has come for yet. */
export const NO_ACTIVITY: Activity = {
  bytesIn: 0,
  bytesOut: 0,
  packetsIn: 0,
  packetsOut: 0,
  open: 0,
  conversations: 0,
  refused: 0,
  lastAtMs: null,
  lastRefusal: null,
};

/** Of a rule that was counted in two places, the later first. */
export function sumOf(one: Activity, before: Activity): Activity {
  const times = [one.lastAtMs, before.lastAtMs].filter((atMs) => atMs !== null);
  return {
    bytesIn: one.bytesIn + before.bytesIn,
    bytesOut: one.bytesOut + before.bytesOut,
    packetsIn: one.packetsIn + before.packetsIn,
    packetsOut: one.packetsOut + before.packetsOut,
    open: one.open + before.open,
    conversations: one.conversations + before.conversations,
    refused: one.refused + before.refused,
    lastAtMs: times.length === 0 ? null : Math.max(...times),
    lastRefusal: one.lastRefusal ?? before.lastRefusal,
  };
}

export interface Conversation {
  /** Counts up by one in the engine's life. */
  readonly id: number;
  readonly ruleId: string;
  readonly protocol: TransportProtocol;
  readonly client: Endpoint;
  /** Where the client sent to. */
  readonly local: Endpoint;
  /** Null until it is reached. */
  readonly target: Endpoint | null;
  readonly beganAtMs: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

export type EngineEvent =
  | { readonly type: 'opened'; readonly conversation: Conversation }
  | { readonly type: 'closed'; readonly conversation: Conversation; readonly reason: string }
  | {
      readonly type: 'refused';
      readonly ruleId: string | null;
      readonly client: Endpoint;
      readonly reason: string;
    };

/** Why an engine cannot carry a rule, and what would help. */
export interface Shortcoming {
  /** The clause that is too much for it, as text.ts names it. */
  readonly field: string;
  readonly reason: string;
  readonly advice: string;
}

/** What becomes of the conversations of rules that are removed or changed. */
export interface ApplyOptions {
  /** `drain`: they go on under the rule that they began with. */
  readonly conversations: 'drain' | 'cut';
}

export interface ApplyReport {
  /** Conversations whose rule goes or changes: they go on, or have been cut. */
  readonly affected: number;
  /** Rules that wait for something, such as an interface that does not exist yet: full sentences. */
  readonly waiting: readonly { readonly ruleId: string; readonly reason: string }[];
}

export interface ForwardEngine extends AsyncDisposable {
  readonly name: EngineName;
  /** Pure: what of the rule is too much for this engine, on this machine, now. */
  shortcoming(rule: Rule): Shortcoming | undefined;
  /**
   * Takes the whole table or none of it: throws what stands in the way (CONFLICT for a port in use, NOT_AUTHORIZED for
   * one that needs privileges, UNSUPPORTED for what the engine cannot do) and goes on with the table before.
   */
  apply(table: Table, options: ApplyOptions): Promise<ApplyReport>;
  /** Of each rule of the table. */
  activity(): Promise<ReadonlyMap<string, Activity>>;
  conversations(): Promise<readonly Conversation[]>;
  /** What the rule's access lists say of whoever sends this, where it matches: null where it may pass. */
  refusal(rule: Rule, packet: FirstPacket): Promise<string | null>;
  /** Those whose rule would go or change with this table. */
  affected(table: Table): Promise<readonly Conversation[]>;
  /** What carries the rule here and now: shown to people. */
  carriedBy(rule: Rule): readonly EngineName[];
  /** What of other programs on this machine stands in the way of the rule's traffic, a full sentence each; of that packet alone where one is given. */
  obstacles(rule: Rule, packet?: FirstPacket): Promise<readonly string[]>;
  /** Hears events until the returned function is called. Nothing is made ready while nobody listens. */
  listen(listener: (event: EngineEvent) => void): () => void;
  /** Says what goes wrong beside single conversations, until it is called with undefined for the same key. */
  onTrouble(listener: (key: string, error: NatwardError | undefined) => void): void;
  /** Says which rules of its table wait, and why, when that changes between two calls of `apply`. */
  onWaiting(listener: (waiting: ApplyReport['waiting']) => void): void;
  /** Stops taking new conversations and lets those that run go on, for so long at most. */
  drain(limitMs: number): Promise<void>;
}

/** Throws UNSUPPORTED where the rule is to be carried out and the engine cannot: which clause, why, what would help. `called` puts the rule in words. */
export function checkCan(
  engine: Pick<ForwardEngine, 'shortcoming'>,
  rule: Rule,
  called: (rule: Rule) => string,
): void {
  const shortcoming = rule.enabled ? engine.shortcoming(rule) : undefined;
  if (shortcoming === undefined) return;
  const { field, reason, advice } = shortcoming;
  throw new NatwardError('UNSUPPORTED', `${called(rule)}: ${field}: ${reason}`, { advice });
}
