/** `natward import`: adds the rules of another program's configuration, or of a file of natward's own. */

import { connectAgent } from '../../control/client.ts';
import { nameOfFile, readText } from '../../control/desired.ts';
import { addImported, type ImportedRules, importText } from '../../control/desired-import.ts';
import type { EngineChoice } from '../../control/engines.ts';
import type { EditOptions, EditReport } from '../../control/protocol.ts';
import { EXIT } from '../exit.ts';
import { print, printJson, printJsonLine } from '../output.ts';
import { printEdit } from '../rule-words.ts';
import { refuseEngine, workHere } from '../working-here.ts';

export interface ImportFlags {
  readonly dryRun?: true;
  readonly engine?: EngineChoice;
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
    refuseEngine(flags.engine, agent);
    const report = await addImported(agent, imported, options);
    if (json) printJson(documentOf(report, imported, options));
    else printImport(report, imported, options);
    process.exitCode = EXIT.done;
    return;
  }
  const stays = !options.dryRun && imported.rules.length > 0;
  await workHere(version, { stays, isTold: true, json, signal, engine: flags.engine }, async (keeper) => {
    const report = await addImported(keeper, imported, options);
    if (json) (stays ? printJsonLine : printJson)(documentOf(report, imported, options));
    else printImport(report, imported, options);
  });
}

function printImport(report: EditReport, { notes, rules }: ImportedRules, options: EditOptions): void {
  printEdit(report, options);
  for (const note of notes) print(`note: ${note}`);
  if (rules.length === 0) print('there are no rules in the file');
}

function documentOf(report: EditReport, { notes }: ImportedRules, { dryRun }: EditOptions): object {
  return { dryRun, rules: report, notes };
}
