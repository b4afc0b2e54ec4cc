/** Which intents contradict each other, and which of them somebody means. Pure. */

import { NatwardError } from '../errors.ts';
import type { DropFailure, DropSelector } from './keeping.ts';
import type { Intent } from './lease.ts';

export function checkNoConflict(intents: readonly Intent[], others: readonly Intent[]): void {
  for (const [at, intent] of intents.entries()) {
    const other = conflictOf(intent, [...others, ...intents.slice(0, at)]);
    if (other === undefined) continue;
    throw new NatwardError(
      'CONFLICT',
      `${intent.spec}: ${other.owner} has ${other.spec} kept already (${other.id}), with the same port on this host`,
      { advice: `Stop that first: natward drop ${other.id}` },
    );
  }
}

/** PCP and NAT-PMP know a mapping by its internal end: one for each. */
export function conflictOf(intent: Intent, others: readonly Intent[]): Intent | undefined {
  return others.find(
    (other) =>
      other.id !== intent.id &&
      // What a rule carries from a port of this host is another mapping for the gateway.
      other.carry !== 'always' &&
      intent.carry !== 'always' &&
      other.gateway === intent.gateway &&
      other.interface === intent.interface &&
      other.host === intent.host &&
      (other.family ?? intent.family) === (intent.family ?? other.family) &&
      other.protocols.some((protocol) => intent.protocols.includes(protocol)) &&
      other.internal.first <= intent.internal.last &&
      intent.internal.first <= other.internal.last,
  );
}

export function isMeant(intent: Intent, selector: DropSelector): boolean {
  if (selector.kind === 'id') return intent.id === selector.id;
  const { protocols, external, internal, host } = selector.ask;
  return (
    JSON.stringify([protocols, external, internal, host]) ===
    JSON.stringify([intent.protocols, intent.external, intent.internal, intent.host])
  );
}

export function dropFailure(selector: DropSelector, configured: readonly Intent[]): DropFailure {
  const [first] = configured;
  if (first === undefined) {
    return {
      selector: selector.text,
      code: 'NOT_FOUND',
      message: `nothing is kept as ${selector.text}`,
      advice: 'natward status shows what is.',
    };
  }
  return {
    selector: selector.text,
    code: 'NOT_OWN',
    message: `${first.spec} is kept by the configuration file`,
    advice: 'Remove it there.',
  };
}
