/** What the user wants of an agent, written as `natward apply` reads it. */

import { stringify } from 'smol-toml';
import type { Hook } from '../agent/hooks/hook.ts';
import { type Intent, USER_OWNER } from '../agent/lease.ts';
import type { RuleStatus } from '../agent/rule-keeping.ts';
import { parseSpec } from '../agent/spec.ts';
import { isNatwardError } from '../errors.ts';
import { bracketed } from '../net/address.ts';
import { formatPortRange } from '../net/port-range.ts';

interface RuleTable {
  readonly id: string;
  readonly rule: string;
  readonly enabled?: false;
}

/** The keys of docs/config.md. */
interface KeepTable {
  readonly spec: string;
  readonly lifetime: string;
  readonly [option: string]: unknown;
}

/** With both keys, also where there is nothing: read again, there is nothing then as well. */
export interface DesiredDocument {
  readonly rule: readonly RuleTable[];
  readonly keep: readonly KeepTable[];
}

export interface WrittenState {
  readonly document: DesiredDocument;
  /** What the file has no words for: programs ask for that, and never the command line. */
  readonly leftOut: readonly Intent[];
}

const HEADER =
  '# What natward keeps and steers for this user: natward apply reads it. Hooks may hold passwords.\n\n';
const UNITS = [
  ['d', 86_400],
  ['h', 3600],
  ['m', 60],
] as const;

export function writeState(rules: readonly RuleStatus[], intents: readonly Intent[]): WrittenState {
  const own = intents.filter(({ owner }) => owner === USER_OWNER);
  return {
    document: {
      rule: rules.filter(({ owner }) => owner === 'user').map(ruleTable),
      keep: own.filter(isSayable).map(keepTable),
    },
    leftOut: own.filter((intent) => !isSayable(intent)),
  };
}

export function formatDesired(document: DesiredDocument): string {
  return `${HEADER}${stringify(document).trimEnd()}\n`;
}

function ruleTable({ id, text, enabled }: RuleStatus): RuleTable {
  return { id, rule: text, ...(enabled ? {} : { enabled }) };
}

function isSayable({ remotePeer }: Intent): boolean {
  return remotePeer === undefined;
}

function keepTable(intent: Intent): KeepTable {
  const { lifetimeSeconds, description, choice, via, gateway, family, hooks } = intent;
  return {
    spec: specOf(intent),
    lifetime: durationOf(lifetimeSeconds),
    description,
    exact: choice === 'exact' ? true : undefined,
    via,
    gateway,
    interface: intent.interface,
    family,
    hook: hooks.length > 0 ? hooks.map(hookTable) : undefined,
  };
}

/** As it was written, where that means the same without asking who has which name. */
function specOf(intent: Intent): string {
  const { spec, protocols, external, internal, host } = intent;
  if (meansIt(spec, intent)) return spec;
  const inside = formatPortRange(internal);
  const outside = external === 'any' ? '*' : formatPortRange(external);
  return [
    ...(outside === inside ? [] : [outside]),
    ...(host === undefined ? [] : [bracketed(host)]),
    protocols.length === 1 && protocols[0] === 'tcp' ? inside : `${inside}/${protocols.join('+')}`,
  ].join(':');
}

function meansIt(text: string, { protocols, external, internal, host }: Intent): boolean {
  try {
    const spec = parseSpec(text);
    const said = [spec.protocols, spec.external, spec.internal, spec.host];
    return JSON.stringify(said) === JSON.stringify([protocols, external, internal, host]);
  } catch (error) {
    if (!isNatwardError(error, 'USAGE')) throw error;
    return false;
  }
}

function durationOf(seconds: number): string {
  const [unit, length] = UNITS.find(([, size]) => seconds % size === 0) ?? ['s', 1];
  return `${seconds / length}${unit}`;
}

/** The inverse of hooks/parse.ts's hookDocumentSchema. */
function hookTable({ on, timeoutSeconds, ...hook }: Hook): object {
  return { on, timeoutSeconds, ...actionOf(hook) };
}

function actionOf(hook: Hook): object {
  switch (hook.kind) {
    case 'run':
      return { run: hook.argv };
    case 'shell':
      return { shell: hook.line };
    case 'webhook':
      return { webhook: hook.url };
    case 'sync':
      return { sync: `${hook.client}=${hook.url}` };
    case 'dyndns':
      return { dyndns: { url: hook.url, hostname: hook.hostname } };
  }
}
