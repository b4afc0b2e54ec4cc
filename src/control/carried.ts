/**
 * What a gateway will map to this host alone, `natward map` has the running agent carry on from here: a rule for each
 * spec, made before the mapping, and taken away by `natward unmap`. Without an agent nothing would carry it when the
 * command has ended.
 */

import type { MapAsk, MapFailure } from '../agent/map.ts';
import type { RuleKeeping, RuleStatus } from '../agent/rule-keeping.ts';
import { isNatwardError, NatwardError } from '../errors.ts';
import { bracketed, type IpAddress } from '../net/address.ts';
import { formatPortRange } from '../net/port-range.ts';
import { connectAgent } from './client.ts';

export interface CarriedAsk extends MapAsk {
  readonly host: IpAddress;
}

const MAX_ID_LENGTH = 64;
/** Nobody answered: asking for a mapping to this host would be no better. */
const SILENT = ['TIMEOUT', 'UNREACHABLE', 'NO_GATEWAY', 'NO_ROUTE', 'ABORTED'] as const;

/** The agent that carries what it is asked to; one that may not be asked carries nothing for this user. */
export async function carryingAgent(): Promise<RuleKeeping | undefined> {
  try {
    return await connectAgent();
  } catch (error) {
    if (!isNatwardError(error)) throw error;
    return undefined;
  }
}

/** Those of the asks that another host is the target of, and that the gateway refused. */
export function refusedElsewhere(
  asks: readonly MapAsk[],
  failures: readonly MapFailure[],
): readonly CarriedAsk[] {
  const refused = new Set(
    failures.filter(({ error }) => !isNatwardError(error, ...SILENT)).map(({ spec }) => spec),
  );
  return asks.filter((ask): ask is CarriedAsk => ask.host !== undefined && refused.has(ask.spec));
}

/** Says what would help. */
export function withCarryAdvice(failure: MapFailure): MapFailure {
  const { code, message } = failure.error;
  const advice = `Where an agent runs, a rule carries it on from this host: start one (natward agent), or natward keep ${failure.spec}`;
  return { ...failure, error: new NatwardError(code, message, { advice, cause: failure.error }) };
}

/** Has it carried on, and reports whether it was not before. Throws what the agent says. */
export async function carryOn(rules: RuleKeeping, ask: CarriedAsk): Promise<boolean> {
  const id = carriedRuleId(ask);
  // Mapped again, it goes on with all that it has counted.
  if ((await ruleOf(rules, ask))?.enabled) return false;
  await takeAway(rules, ask);
  const rule = `in ${ask.protocols.join('+')} ${formatPortRange(ask.internal)} -> ${bracketed(ask.host)}:+0`;
  const document = { id, rule, description: `natward map ${ask.spec}` };
  await rules.edit({ kind: 'add', rules: [document] }, { conversations: 'drain', dryRun: false });
  return true;
}

/** Reports whether there was such a rule. */
export async function takeAway(rules: RuleKeeping, ask: CarriedAsk): Promise<boolean> {
  const rule = await ruleOf(rules, ask);
  if (rule === undefined) return false;
  await rules.edit({ kind: 'remove', names: [rule.id] }, { conversations: 'drain', dryRun: false });
  return true;
}

async function ruleOf(rules: RuleKeeping, ask: CarriedAsk): Promise<RuleStatus | undefined> {
  const id = carriedRuleId(ask);
  return (await rules.rules()).find((rule) => rule.id === id && rule.owner === 'user');
}

/** Another one for another host: what is carried to one is not taken from it by a command about the other. */
function carriedRuleId({ protocols, internal, host }: CarriedAsk): string {
  const words = ['map', ...protocols, formatPortRange(internal), host];
  return words
    .join('-')
    .replace(/[^\w.-]/g, '-')
    .slice(0, MAX_ID_LENGTH);
}
