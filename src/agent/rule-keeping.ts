/** What may be asked of whoever steers: the agent over its socket, or an engine in this process. */

import type { FirstPacket } from '../forwarder/decide.ts';
import type { Activity, Conversation, EngineEvent } from '../forwarder/engine.ts';

/** Who asked for a rule: a person, the configuration file, or a lease that leads to another host or port. */
export type RuleOwner = 'user' | 'config' | 'lease';

/** The engines, as one word. */
export type CarrierName = 'relay' | 'nftables' | 'nftables+relay';

export interface RuleStatus {
  readonly id: string;
  /** From 1, the top. */
  readonly position: number;
  readonly owner: RuleOwner;
  readonly enabled: boolean;
  /** As text.ts writes it, with the description. */
  readonly text: string;
  readonly description: string;
  /** What carries it: `relay`, `nftables`, or both, joined by `+`. */
  readonly engine: CarrierName;
  /** Why it is not carried out now: a full sentence. */
  readonly waiting: string | null;
  readonly activity: Activity;
}

/** A rule as a person or a file gives it. */
export interface RuleDocument {
  /** Undefined: the id of a rule that says the same, or a new one. */
  readonly id?: string | undefined;
  readonly rule: string;
  readonly enabled?: boolean | undefined;
  /** Instead of the one that stands in `rule`. */
  readonly description?: string | undefined;
}

/** Rules are named by their ids or their positions. Without `before`: to the end. */
export type RuleEdit =
  | { readonly kind: 'add'; readonly rules: readonly RuleDocument[]; readonly before?: string | undefined }
  | { readonly kind: 'replace'; readonly rules: readonly RuleDocument[] }
  | {
      readonly kind: 'edit';
      readonly name: string;
      readonly rule?: string | undefined;
      readonly description?: string | undefined;
    }
  | { readonly kind: 'enable' | 'disable' | 'remove'; readonly names: readonly string[] }
  | { readonly kind: 'move'; readonly name: string; readonly before?: string | undefined };

export interface EditOptions {
  /** What becomes of the conversations of rules that go or change. */
  readonly conversations: 'drain' | 'cut';
  /** Says what would happen, and does nothing. */
  readonly dryRun: boolean;
}

export interface RuleNote {
  readonly ruleId: string;
  readonly position: number;
  readonly message: string;
  readonly advice: string | null;
}

/** A rule that an edit concerns, as it is now, or would be. */
export interface EditedRule {
  readonly id: string;
  readonly position: number;
  readonly text: string;
  /** As RuleStatus has it. */
  readonly waiting: string | null;
}

export interface EditReport {
  readonly added: readonly string[];
  readonly removed: readonly string[];
  readonly changed: readonly string[];
  readonly moved: readonly string[];
  /** How many stay as they are. */
  readonly unchanged: number;
  /** Whose rule goes or changes: they drain, or are cut. */
  readonly affected: readonly Conversation[];
  /** What is odd and no error: a rule that can never match. */
  readonly notes: readonly RuleNote[];
  /** Those that were added, changed and moved, from the top. */
  readonly rules: readonly EditedRule[];
}

export interface ExplainReport {
  /** Null: none decides. */
  readonly rule: RuleStatus | null;
  /** What access lists say of it: null where it may pass. */
  readonly refusal: string | null;
  /** What of other programs on this machine stands in its way: full sentences. */
  readonly obstacles: readonly string[];
  readonly passed: readonly { readonly position: number; readonly id: string; readonly reason: string }[];
}

export interface RuleKeeping {
  rules(): Promise<readonly RuleStatus[]>;
  /** Throws USAGE, NOT_FOUND, NOT_OWN, CONFLICT, UNSUPPORTED or what the engine says; the table is then as it was. */
  edit(edit: RuleEdit, options: EditOptions): Promise<EditReport>;
  explain(packet: FirstPacket): Promise<ExplainReport>;
  conversations(): Promise<readonly Conversation[]>;
  /** What happens to conversations, until `signal` fires: of one rule, or of all. */
  follow(signal: AbortSignal, ruleId?: string): AsyncIterable<EngineEvent>;
}
