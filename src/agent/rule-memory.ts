/** What remembers people's rules: a file (rule-book.ts), or nothing beyond a terminal. */

import type { Table } from '../forwarder/table.ts';

export interface RuleRecord {
  readonly rules: Table;
  /** Those that leases need: the next agent has them before its gateway has answered. */
  readonly leases: Table;
  /** No rule is carried out, these or others: see RulePause. */
  readonly isPaused: boolean;
}

/** Where a table is remembered. */
export interface RuleMemory {
  /** Throws FAILED where it cannot be read. */
  load(): RuleRecord;
  /** What may be done of `save` before it is known whether these rules will be: of tens of thousands it is work. */
  prepare(rules: Table): Promise<void>;
  /** Rejects with FAILED where it cannot be written; what was there before is as it was. */
  save(record: RuleRecord): Promise<void>;
}

/** Rules of a terminal: gone when it ends. */
export const FOREGROUND_RULES: RuleMemory = {
  load: () => ({ rules: [], leases: [], isPaused: false }),
  prepare: async () => undefined,
  save: async () => undefined,
};
