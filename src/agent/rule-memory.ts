/** What remembers people's rules: a file (rule-book.ts), or nothing beyond a terminal. */

import type { Table } from '../forwarder/table.ts';

/** Where a table is remembered. */
export interface RuleMemory {
  /** Throws FAILED where it cannot be read. */
  load(): Table;
  /** Rejects with FAILED where it cannot be written; what was there before is as it was. */
  save(table: Table): Promise<void>;
}

/** Rules of a terminal: gone when it ends. */
export const FOREGROUND_RULES: RuleMemory = { load: () => [], save: async () => undefined };
