/** Rules without an agent: they run in this terminal until Ctrl-C. */

import { once } from 'node:events';
import { foregroundKeeper } from '../control/local.ts';
import type { EditOptions, RuleEdit } from '../control/protocol.ts';
import { EXIT } from './exit.ts';
import { print, printError, printJson } from './output.ts';
import { printEdit } from './rule-words.ts';

/** Conversations that run have so long to end by themselves. */
const DRAIN_LIMIT_MS = 2500;

export async function steerHere(
  version: string,
  edit: RuleEdit,
  options: EditOptions,
  { json, signal }: { readonly json: boolean; readonly signal: AbortSignal },
): Promise<void> {
  const keeper = await foregroundKeeper(version);
  try {
    const report = await keeper.edit(edit, options);
    if (json) printJson(report);
    else printEdit(report, options);
    if (options.dryRun) return;
    if (!json) print('no agent runs: the rules work in this terminal, until Ctrl-C');
    if (!signal.aborted) await once(signal, 'abort');
  } finally {
    for (const error of await keeper.close(DRAIN_LIMIT_MS)) printError(error);
  }
  process.exitCode = EXIT.done;
}
