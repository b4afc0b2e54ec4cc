/** `natward list`. */

import { localAgent } from '../../control/local.ts';
import { askOptions, type GatewayFlags } from '../options.ts';
import { printJson, printTable, rowJson } from '../output.ts';

export async function run(flags: GatewayFlags, signal: AbortSignal): Promise<void> {
  await using agent = await localAgent();
  const rows = await agent.list(askOptions(flags, signal));
  if (flags.json) printJson({ mappings: rows.map(rowJson) });
  else printTable(rows);
}
