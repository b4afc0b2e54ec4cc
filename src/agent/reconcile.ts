/**
 * From what is wanted and what is there to what is to be done. Pure: the keeper carries it out, and asks again
 * whenever either side has changed.
 */

import { type Family, family } from '../net/address.ts';
import type { Intent } from './lease.ts';
import type { Holding, WantedLease } from './lease-record.ts';
import { eachPort } from './map.ts';

export type Step =
  /** Begin to keep it; what is held for it already is claimed. */
  | { readonly kind: 'begin'; readonly wanted: WantedLease; readonly holdings: readonly Holding[] }
  /** It is wanted in another way than before. */
  | { readonly kind: 'change'; readonly wanted: WantedLease }
  /** Nobody wants it any more. */
  | { readonly kind: 'end'; readonly key: string }
  /** Held for a lease that there is no more. */
  | { readonly kind: 'release'; readonly holding: Holding };

export interface Actual {
  /** The leases that are being kept, with the intents that they are kept for. */
  readonly leases: ReadonlyMap<string, Intent>;
  /** What is held for none of them. */
  readonly holdings: readonly Holding[];
}

export function reconcile(intents: Iterable<Intent>, actual: Actual): Step[] {
  const wanted = new Map<string, WantedLease>();
  for (const intent of intents) for (const lease of leasesOf(intent)) wanted.set(lease.key, lease);
  const held = new Map<string, Holding[]>();
  for (const holding of actual.holdings) {
    const others = held.get(holding.leaseKey);
    if (others === undefined) held.set(holding.leaseKey, [holding]);
    else others.push(holding);
  }
  const steps: Step[] = [];
  for (const [key, lease] of wanted) {
    const kept = actual.leases.get(key);
    if (kept === undefined) steps.push({ kind: 'begin', wanted: lease, holdings: held.get(key) ?? [] });
    else if (kept !== lease.intent) steps.push({ kind: 'change', wanted: lease });
  }
  for (const key of actual.leases.keys()) if (!wanted.has(key)) steps.push({ kind: 'end', key });
  for (const holding of actual.holdings) {
    // A lease that is kept has all that it needs: what is left of it elsewhere is nobody's.
    const isClaimed = wanted.has(holding.leaseKey) && !actual.leases.has(holding.leaseKey);
    if (!isClaimed) steps.push({ kind: 'release', holding });
  }
  return steps;
}

/** An intent's leases: one for each port and family. */
export function* leasesOf(intent: Intent): Generator<WantedLease> {
  for (const of of familiesOf(intent)) {
    for (const port of eachPort([intent])) {
      const key = `${intent.id}/${port.internalPort}${of === 6 ? '/ipv6' : ''}`;
      // Over IPv6 nothing is translated.
      const asked = of === 6 ? { ...port, externalPort: port.internalPort } : port;
      yield { key, intent, family: of, port: asked };
    }
  }
}

function familiesOf(intent: Intent): readonly Family[] {
  if (intent.host !== undefined) return [family(intent.host)];
  if (intent.gateway !== undefined) return [family(intent.gateway)];
  return intent.family === undefined ? [4, 6] : [intent.family];
}

/** What one lease needs now. */
export type NextStep =
  | { readonly kind: 'ask'; readonly why: 'new' | 'again' | 'renewal' }
  | { readonly kind: 'wait'; readonly untilMs: number };

export interface LeaseFacts {
  readonly state: string;
  /** The conversation in which it was granted. */
  readonly line: unknown;
  readonly renewAtMs: number;
  readonly retryAtMs: number;
  readonly expiresAtMs: number | undefined;
}

/** `line` is the conversation that there is with its gateway, if there is one. */
export function nextStep(lease: LeaseFacts, line: unknown, nowMs: number): NextStep {
  const endsAtMs = lease.expiresAtMs ?? Number.POSITIVE_INFINITY;
  if (line === undefined)
    return { kind: 'wait', untilMs: lease.state === 'held' ? endsAtMs : Number.POSITIVE_INFINITY };
  if (lease.state !== 'held') {
    if (nowMs < lease.retryAtMs) return { kind: 'wait', untilMs: lease.retryAtMs };
    return { kind: 'ask', why: 'new' };
  }
  if (lease.line !== line && nowMs >= lease.retryAtMs) return { kind: 'ask', why: 'again' };
  const nextMs = lease.line === line ? lease.renewAtMs : lease.retryAtMs;
  if (nowMs >= nextMs) return { kind: 'ask', why: 'renewal' };
  return { kind: 'wait', untilMs: Math.min(nextMs, endsAtMs) };
}
