/** `natward apply`: makes the user's rules and kept requests be what a file says. */

import { connectAgent } from '../../control/client.ts';
import type { EngineChoice } from '../../control/engines.ts';
import {
  checkDesired,
  type DesiredState,
  nameOfFile,
  parseDesired,
  readText,
} from '../../control/desired.ts';
import { carryOut, type KeepChanges, keepChanges, type KeepOutcome } from '../../control/desired-keeps.ts';
import type { ForegroundKeeper } from '../../control/local.ts';
import type { AgentClient, EditOptions, EditReport, LeaseStatus } from '../../control/protocol.ts';
import { isNatwardError, NatwardError } from '../../errors.ts';
import { realSystem } from '../../system/system.ts';
import { EXIT, exitCodeOf } from '../exit.ts';
import { printDropped, printLeaseErrors, printLeases } from '../lease-words.ts';
import { print, printError, printJson, printJsonLine } from '../output.ts';
import { printEdit, unchangedWords } from '../rule-words.ts';
import { refuseEngine, workHere } from '../working-here.ts';
import { exitCodeOfLeases } from './keep.ts';

export interface ApplyFlags {
  readonly dryRun?: true;
  readonly cut?: true;
  readonly engine?: EngineChoice;
  readonly json?: true;
}

/** For the first answer of what is asked for; what has none by then is still kept. */
const ANSWER_MS = 5000;
const NOTHING: KeepOutcome = { leases: [], released: [], failures: [] };

interface Steps {
  readonly rules: EditReport | undefined;
  readonly keeps: KeepChanges | undefined;
}

export async function run(
  version: string,
  file: string,
  flags: ApplyFlags,
  signal: AbortSignal,
): Promise<void> {
  const text = await readText(file);
  const desired = parseDesired(text, nameOfFile(file));
  const check = () => checkDesired(text, nameOfFile(file));
  const options: EditOptions = {
    conversations: flags.cut ? 'cut' : 'drain',
    dryRun: flags.dryRun === true,
  };
  const json = flags.json === true;
  const agent = await connectAgent();
  if (agent !== undefined) {
    refuseEngine(flags.engine, agent);
    await applyThere(agent, desired, options, { check, json, signal });
    return;
  }
  const { rules = [], keeps = [] } = desired;
  const stays = !options.dryRun && rules.length + keeps.length > 0;
  await workHere(
    version,
    { stays, isTold: true, json, signal, engine: flags.engine },
    async (keeper, end) => {
      const steps = await begin(keeper, desired, options, check);
      if (json) (stays ? printJsonLine : printJson)(documentOf(steps, NOTHING, options));
      else printSteps(steps, options);
      // What comes of it is told by events.
      if (stays && steps.keeps) await carryOut(keeper, steps.keeps, { timeoutMs: ANSWER_MS, signal: end });
    },
  );
}

/**
 * Checks all of it, and changes the rules unless it is a dry run. Throws before anything is changed; `check` does first,
 * where it finds the place in the file of what is wrong.
 */
async function begin(
  agent: AgentClient | ForegroundKeeper,
  { rules, keeps }: DesiredState,
  options: EditOptions,
  check: () => void,
): Promise<Steps> {
  try {
    const changes = keeps && (await keepChanges(agent, keeps, realSystem.resolve));
    return { keeps: changes, rules: rules && (await agent.edit({ kind: 'replace', rules }, options)) };
  } catch (error) {
    if (isNatwardError(error, 'USAGE', 'MALFORMED', 'CONFLICT')) check();
    throw error;
  }
}

async function applyThere(
  agent: AgentClient,
  desired: DesiredState,
  options: EditOptions,
  {
    check,
    json,
    signal,
  }: { readonly check: () => void; readonly json: boolean; readonly signal: AbortSignal },
): Promise<void> {
  const steps = await begin(agent, desired, options, check);
  if (!json) printSteps(steps, options);
  let outcome = NOTHING;
  let error: NatwardError | undefined;
  if (steps.keeps && !options.dryRun) {
    try {
      outcome = await carryOut(agent, steps.keeps, { timeoutMs: ANSWER_MS, signal });
    } catch (cause) {
      if (!isNatwardError(cause) || signal.aborted) throw cause;
      error = cause;
    }
  }
  if (json) printJson(documentOf(steps, outcome, options));
  else printOutcome(outcome, agent.agent.pid);
  if (error !== undefined) printError(error);
  process.exitCode = exitCodeFor(steps, outcome, error);
}

function documentOf({ rules, keeps }: Steps, outcome: KeepOutcome, { dryRun }: EditOptions): object {
  return { dryRun, rules: rules ?? null, keeps: keeps ?? null, ...outcome };
}

function printSteps({ rules, keeps }: Steps, options: EditOptions): void {
  if (rules !== undefined) printEdit(rules, options);
  if (keeps !== undefined) printKeepChanges(keeps, options);
  if (rules === undefined && keeps === undefined) {
    print('the file has neither rules nor keeps: all stays as it is');
  }
}

function printKeepChanges(
  { added, changed, removed, unchanged }: KeepChanges,
  { dryRun }: EditOptions,
): void {
  if (dryRun) {
    for (const { spec } of added) print(`${spec} would be kept`);
    for (const { id, spec } of changed) print(`${spec} would be asked for otherwise [${id}]`);
    for (const { id, spec } of removed) print(`${spec} would no longer be kept [${id}]`);
  }
  if (unchanged > 0) print(unchangedWords(unchanged, 'request', dryRun));
}

function printOutcome({ leases, released, failures }: KeepOutcome, pid: number): void {
  printDropped(released);
  for (const { code, message, advice } of failures) {
    printError(new NatwardError(code, message, advice === null ? {} : { advice }));
  }
  printLeases(leases);
  printLeaseErrors(leases);
  if (leases.some(({ state }) => state !== 'held')) {
    print(`the agent (pid ${pid}) goes on asking: natward status shows how it stands`);
  }
}

function exitCodeFor(
  { rules }: Steps,
  { leases, released, failures }: KeepOutcome,
  error: NatwardError | undefined,
): number {
  const isBack = (lease: LeaseStatus) => lease.state !== 'held' || lease.error === null;
  const codes = [
    error === undefined ? EXIT.done : exitCodeOf(error),
    exitCodeOfLeases(leases),
    failures.length === 0 && released.every(isBack) ? EXIT.done : EXIT.failed,
  ];
  const wrong = codes.find((code) => code !== EXIT.done);
  if (wrong === undefined) return EXIT.done;
  const isPart = rules !== undefined || leases.some(({ state }) => state === 'held') || released.some(isBack);
  return isPart ? EXIT.inPart : wrong;
}
