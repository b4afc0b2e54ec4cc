/** `natward import`: adds the rules of another program's configuration, or of a file of natward's own. */

import { connectAgent } from '../../control/client.ts';
import { nameOfFile, readText } from '../../control/desired.ts';
import { type ImportedRules, importText, placed } from '../../control/desired-import.ts';
import type { EditOptions, EditReport, RuleKeeping } from '../../control/protocol.ts';
import { isNatwardError } from '../../errors.ts';
import { EXIT } from '../exit.ts';
import { print, printJson, printJsonLine } from '../output.ts';
import { printEdit } from '../rule-words.ts';
import { workHere } from '../working-here.ts';

export interface ImportFlags {
  readonly dryRun?: true;
  readonly json?: true;
}

export async function run(
  version: string,
  file: string,
  flags: ImportFlags,
  signal: AbortSignal,
): Promise<void> {
  const imported = importText(await readText(file), nameOfFile(file));
  const options: EditOptions = { conversations: 'drain', dryRun: flags.dryRun === true };
  const json = flags.json === true;
  const agent = await connectAgent();
  if (agent !== undefined) {
    const rules = await agent.rules();
    const before = rules.filter(({ owner }) => owner !== 'lease').length;
    const report = await add(agent, imported, before, options);
    if (json) printJson(documentOf(report, imported, options));
    else printImport(report, imported, options);
    process.exitCode = EXIT.done;
    return;
  }
  const stays = !options.dryRun && imported.rules.length > 0;
  await workHere(version, { stays, json, signal }, async (keeper) => {
    const report = await add(keeper, imported, 0, options);
    if (json) (stays ? printJsonLine : printJson)(documentOf(report, imported, options));
    else printImport(report, imported, options);
  });
}

/** `before`: how many rules stand in front of those that are added. Throws with the place in the file. */
async function add(
  steering: Pick<RuleKeeping, 'edit'>,
  imported: ImportedRules,
  before: number,
  options: EditOptions,
): Promise<EditReport> {
  try {
    return await steering.edit({ kind: 'add', rules: imported.rules }, options);
  } catch (error) {
    throw isNatwardError(error) ? placed(error, imported, before) : error;
  }
}

function printImport(report: EditReport, { notes, rules }: ImportedRules, options: EditOptions): void {
  printEdit(report, options);
  for (const note of notes) print(`note: ${note}`);
  if (rules.length === 0) print('there are no rules in the file');
}

function documentOf(report: EditReport, { notes }: ImportedRules, { dryRun }: EditOptions): object {
  return { dryRun, rules: report, notes };
}
