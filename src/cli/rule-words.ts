/** What people read about rules: one fact a line. */

import {
  type Activity,
  type Conversation,
  type EditReport,
  type EngineEvent,
  type ExplainReport,
  PAUSED,
  PAUSED_ADVICE,
  type PauseReport,
  type RuleStatus,
} from '../control/protocol.ts';
import { formatEndpoint } from '../net/endpoint.ts';
import { duration, print, printLines } from './output.ts';

/** `1  web  in tcp 80 -> :8080  12 conversations (2 open), 1.0 kB in, 2.5 MB out`; where they are off, that first. */
export function printRules(rules: readonly RuleStatus[], isPaused: boolean): void {
  if (isPaused) print(`RULES ARE OFF: ${PAUSED}. ${PAUSED_ADVICE}`);
  const width = (of: (rule: RuleStatus) => string) => Math.max(0, ...rules.map((rule) => of(rule).length));
  const place = ({ position }: RuleStatus) => String(position);
  const [places, ids] = [width(place), width(({ id }) => id)];
  const lines = rules.flatMap((rule) => {
    const state = rule.enabled ? '' : ' (disabled)';
    const line = `${place(rule).padStart(places)} ${rule.id.padEnd(ids)} ${rule.text}${state}${activityWords(rule.activity)}`;
    if (rule.waiting === null || isPaused) return [line];
    return [line, `warning: ${rule.id} is not carried out: ${rule.waiting}`];
  });
  printLines(lines);
  if (rules.length === 0) print('no rules');
}

export function printRule(rule: RuleStatus, conversations: readonly Conversation[], nowMs: number): void {
  const { activity } = rule;
  print(`${rule.id} ${rule.text}`);
  print(
    `place ${rule.position}, ${OWNERS[rule.owner]}, ${rule.enabled ? `carried by ${CARRIERS[rule.engine]}` : 'disabled'}`,
  );
  if (rule.waiting !== null) print(`warning: not carried out: ${rule.waiting}`);
  print(`conversations ${activity.conversations} begun, ${activity.open} open, ${activity.refused} refused`);
  print(
    `in ${amount(activity.bytesIn)} in ${activity.packetsIn} packets, out ${amount(activity.bytesOut)} in ${activity.packetsOut}`,
  );
  if (activity.lastAtMs !== null) print(`last ${new Date(activity.lastAtMs).toISOString()}`);
  if (activity.lastRefusal !== null) print(`last refused ${activity.lastRefusal}`);
  for (const one of conversations) {
    const age = duration(Math.max(0, Math.round((nowMs - one.beganAtMs) / 1000)));
    print(`${conversationWords(one)} for ${age}, ${amount(one.bytesIn)} in, ${amount(one.bytesOut)} out`);
  }
}

/** What an edit did, or would do: the dry run's words are of the future. */
export function printEdit(
  report: EditReport,
  { dryRun, conversations }: { readonly dryRun: boolean; readonly conversations: 'drain' | 'cut' },
): void {
  const textOf = new Map(report.rules.map(({ id, text }) => [id, text] as const));
  const would = dryRun ? 'would be ' : '';
  for (const [ids, verb] of [
    [report.added, 'added'],
    [report.changed, 'changed'],
    [report.moved, 'moved'],
    [report.removed, 'removed'],
  ] as const) {
    printLines(ids.map((id) => `${id} ${would}${verb}${textOf.has(id) ? `: ${textOf.get(id)}` : ''}`));
  }
  if (report.unchanged > 0) print(unchangedWords(report.unchanged, 'rule', dryRun));
  for (const one of report.affected) {
    const fate =
      conversations === 'cut' ? (dryRun ? 'would be cut' : 'was cut') : dryRun ? 'would drain' : 'drains';
    print(`${conversationWords(one)} of ${one.ruleId} ${fate}`);
  }
  for (const { message, advice } of report.notes)
    print(`note: ${message}${advice === null ? '' : `. ${advice}`}`);
  const moved = new Set(report.moved);
  const waiting = report.rules.filter(({ id, waiting: why }) => why !== null && !moved.has(id));
  printLines(waiting.map(({ id, waiting: why }) => `warning: ${id} waits: ${why}`));
}

/** What a panic or its end did, by the agent. */
export function printPause({ isPaused, isNew, rules, ended }: PauseReport): void {
  if (!isPaused) {
    print(isNew ? `rules are on again: ${counted(rules, 'rule')}` : 'rules were on already');
    return;
  }
  const done = `${counted(rules, 'rule')} off, ${counted(ended, 'conversation')} ended`;
  print(isNew ? done : `rules were off already; ${counted(ended, 'conversation')} ended`);
  print('natward rule resume has them carried out again');
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

/** `1 rule stays as it is`, `3 requests would stay as they are`. */
export function unchangedWords(count: number, what: string, dryRun: boolean): string {
  const [things, stay, as] = count === 1 ? [what, 'stays', 'it is'] : [`${what}s`, 'stay', 'they are'];
  return `${count} ${things} ${dryRun ? 'would stay' : stay} as ${as}`;
}

export function printExplanation({ rule, refusal, obstacles, passed }: ExplainReport): void {
  for (const one of passed) print(`${one.position} ${one.id} no: ${one.reason}`);
  if (rule === null) {
    print('no rule decides: natward leaves it alone');
    return;
  }
  print(`${rule.position} ${rule.id} decides: ${rule.text}`);
  if (refusal !== null) print(`${rule.id} does not let it through: ${refusal}`);
  if (rule.waiting !== null) print(`warning: ${rule.id} is not carried out: ${rule.waiting}`);
  for (const obstacle of obstacles) print(`warning: ${obstacle}`);
}

export function printConversationEvent(event: EngineEvent): void {
  switch (event.type) {
    case 'opened':
      print(`opened ${conversationWords(event.conversation)} by ${event.conversation.ruleId}`);
      return;
    case 'closed': {
      const { bytesIn, bytesOut } = event.conversation;
      print(
        `closed ${conversationWords(event.conversation)}: ${event.reason}, ${amount(bytesIn)} in, ${amount(bytesOut)} out`,
      );
      return;
    }
    case 'refused':
      print(
        `refused ${formatEndpoint(event.client)}${event.ruleId === null ? '' : ` by ${event.ruleId}`}: ${event.reason}`,
      );
  }
}

const OWNERS: Readonly<Record<RuleStatus['owner'], string>> = {
  user: 'made by hand',
  config: 'of the configuration file',
  lease: 'of a lease',
};
const CARRIERS: Readonly<Record<RuleStatus['engine'], string>> = {
  relay: 'the relay',
  nftables: 'the kernel',
  'nftables+relay': 'the kernel and the relay',
};

function activityWords({ conversations, open, refused, bytesIn, bytesOut }: Activity): string {
  if (conversations === 0 && refused === 0) return '';
  const facts = [
    `${conversations} conversations (${open} open)`,
    ...(refused > 0 ? [`${refused} refused`] : []),
    `${amount(bytesIn)} in`,
    `${amount(bytesOut)} out`,
  ];
  return `  ${facts.join(', ')}`;
}

function conversationWords({ protocol, client, local, target }: Conversation): string {
  return `${protocol} ${formatEndpoint(client)} -> ${formatEndpoint(local)} -> ${target === null ? '...' : formatEndpoint(target)}`;
}

/** `999 B`, `1.5 kB`, `2.0 GB`. */
function amount(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let [left, at] = [bytes, 0];
  // What one decimal would round up to a thousand is one of the next.
  while (left >= (at === 0 ? 1000 : 999.95) && at < units.length - 1) [left, at] = [left / 1000, at + 1];
  return `${at === 0 ? left : left.toFixed(1)} ${units[at]}`;
}
