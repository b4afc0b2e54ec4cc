/** `natward rule`: the rule table of the running agent, or of this terminal. */

import { connectAgent } from '../../control/client.ts';
import type { EngineChoice } from '../../control/engines.ts';
import type { EditOptions, EditReport, RuleEdit, RuleStatus } from '../../control/protocol.ts';
import { NatwardError } from '../../errors.ts';
import { parseAddress } from '../../net/address.ts';
import type { Endpoint } from '../../net/endpoint.ts';
import { parsePort } from '../../net/port-range.ts';
import { EXIT } from '../exit.ts';
import { print, printError, printJson, printJsonLine } from '../output.ts';
import {
  printConversationEvent,
  printEdit,
  printExplanation,
  printPause,
  printRule,
  printRules,
} from '../rule-words.ts';
import { runningAgent } from '../running-agent.ts';
import { refuseEngine, workHere } from '../working-here.ts';

interface JsonFlag {
  readonly json?: true;
}

interface EditFlags extends JsonFlag {
  readonly dryRun?: true;
  readonly cut?: true;
}

interface AddFlags extends EditFlags {
  readonly description?: string;
  readonly id?: string;
  readonly before?: string;
  readonly disabled?: true;
  readonly engine?: EngineChoice;
}

/** Of a client that is not named: one of those that systems choose from. */
const SOME_PORT = 50_000;

export async function add(
  version: string,
  rule: string,
  flags: AddFlags,
  signal: AbortSignal,
): Promise<void> {
  const { id, description, before, engine } = flags;
  const document = { id, rule, description, enabled: flags.disabled !== true };
  const edit: RuleEdit = { kind: 'add', rules: [document], before };
  const agent = await connectAgent();
  if (agent !== undefined) {
    refuseEngine(flags.engine, agent);
    report(await agent.edit(edit, optionsOf(flags)), flags);
    return;
  }
  const [stays, json] = [flags.dryRun !== true, flags.json === true];
  await workHere(version, { stays, isTold: true, json, signal, engine }, async (keeper) => {
    const done = await keeper.edit(edit, optionsOf(flags));
    // Events follow, a line each.
    if (stays && json) printJsonLine(done);
    else report(done, flags);
  });
}

export async function edit(
  name: string,
  rule: string | undefined,
  flags: EditFlags & { readonly description?: string },
): Promise<void> {
  const { description } = flags;
  if (rule === undefined && description === undefined) {
    throw new NatwardError('USAGE', 'nothing is to change: give the rule’s new text, or --description');
  }
  await change({ kind: 'edit', name, rule, description }, flags);
}

export async function change(edit: RuleEdit, flags: EditFlags): Promise<void> {
  const agent = await runningAgent();
  report(await agent.edit(edit, optionsOf(flags)), flags);
}

function report(done: EditReport, flags: EditFlags): void {
  if (flags.json) printJson(done);
  else printEdit(done, optionsOf(flags));
}

function optionsOf({ dryRun, cut }: EditFlags): EditOptions {
  return { dryRun: dryRun === true, conversations: cut === true ? 'cut' : 'drain' };
}

export async function list({ json }: JsonFlag): Promise<void> {
  const agent = await runningAgent();
  const table = await agent.table();
  if (json) printJson(table);
  else printRules(table.rules, table.isPaused);
}

export async function show(
  name: string,
  { watch, json }: JsonFlag & { readonly watch?: true },
  signal: AbortSignal,
): Promise<void> {
  const agent = await runningAgent();
  const rule = named(await agent.rules(), name);
  const conversations = (await agent.conversations()).filter(({ ruleId }) => ruleId === rule.id);
  if (!json) printRule(rule, conversations, Date.now());
  else if (watch) printJsonLine({ rule, conversations });
  else printJson({ rule, conversations });
  if (!watch) return;
  for await (const event of agent.follow(signal, rule.id)) {
    if (json) printJsonLine(event);
    else printConversationEvent(event);
  }
  // Ctrl-C is how one ends watching.
  process.exitCode = EXIT.done;
}

/** All rules off, or on again: by the agent, else here. */
export async function pause(what: 'panic' | 'resume', { json }: JsonFlag): Promise<void> {
  // Nothing else has a use for it, and it reads rule books.
  const control = await import('../../control/panic.ts');
  const done = await control[what](printError);
  if (json) printJson(done);
  else if ('isPaused' in done) printPause(done);
  else {
    for (const one of done.removed) print(`removed from the kernel: ${one}`);
    const next =
      what === 'panic' ? 'starts with its rules off, until natward rule resume' : 'carries its rules out';
    print(`no agent runs: one that remembers in ${done.books.join(' or ')} ${next}`);
  }
}

function named(rules: readonly RuleStatus[], name: string): RuleStatus {
  const rule = rules.find(({ id }) => id === name) ?? rules.find(({ position }) => String(position) === name);
  if (rule !== undefined) return rule;
  throw new NatwardError('NOT_FOUND', `there is no rule ${name}`, {
    advice: 'natward rule list shows the rules with their places and ids.',
  });
}

export async function explain(
  protocol: string,
  source: string,
  destination: string,
  flags: JsonFlag & { readonly out?: true; readonly adapter?: string },
): Promise<void> {
  if (protocol !== 'tcp' && protocol !== 'udp') {
    throw new NatwardError('USAGE', `"${protocol}" is no protocol: write tcp or udp`);
  }
  const packet = {
    direction: flags.out === true ? ('out' as const) : ('in' as const),
    protocol,
    source: endpointOf(source, SOME_PORT),
    destination: endpointOf(destination, undefined),
    names: [],
    adapter: flags.adapter,
  } as const;
  const agent = await runningAgent();
  const explanation = await agent.explain(packet);
  if (flags.json) printJson(explanation);
  else printExplanation(explanation);
}

/** `ADDRESS:PORT`, and `ADDRESS` alone where there is a port to put. */
function endpointOf(text: string, fallback: number | undefined): Endpoint {
  const bare = parseAddress(text.replace(/^\[(.*)\]$/, '$1'));
  if (bare !== undefined && fallback !== undefined) return { address: bare, port: fallback };
  const [, host = '', port = ''] = /^(.*):(\d+)$/.exec(text) ?? [];
  const address = parseAddress(host.replace(/^\[(.*)\]$/, '$1'));
  if (address === undefined) {
    throw new NatwardError('USAGE', `"${text}" is no ADDRESS:PORT: write 192.0.2.1:80 or [2001:db8::1]:80`);
  }
  return { address, port: parsePort(port) };
}
