/** What rules need of this machine beside the nft tables, and what keeps one from being carried just now. Pure. */

import { type Family, isLoopback } from '../../net/address.ts';
import type { Rule } from '../rule.ts';
import { targetNames } from '../target.ts';
import { FORWARDS, type KernelRule, LOOPBACK } from './kernel-rule.ts';
import { type Around, type Way, wayKey, wayOf } from './rewrite.ts';

/** What the whole table needs. */
export interface Needs {
  /** Families in which packets go on to other hosts. */
  readonly forwards: ReadonlySet<Family>;
  /** Something goes to 127.0.0.0/8 that comes from elsewhere, or from there elsewhere. */
  readonly loopback: boolean;
  /** By wayKey. */
  readonly ways: ReadonlyMap<string, Way>;
}

export function needsOf(rules: Iterable<KernelRule>, around: Around): Needs {
  let needs = 0;
  const ways = new Map<string, Way>();
  for (const one of rules) {
    needs |= one.needsIn(around);
    if (one.way !== undefined) ways.set(wayKey(one.way), one.way);
  }
  const forwards = ([4, 6] as const).filter((of) => (needs & FORWARDS[of]) !== 0);
  return { forwards: new Set(forwards), loopback: (needs & LOOPBACK) !== 0, ways };
}

export interface Machine extends Around {
  readonly adapters: ReadonlySet<string>;
}

/** Why the rule is not carried, or not all of it, for now: a sentence without its full stop, as any message. */
export interface Lack {
  readonly reason: string;
  /** The rest of the rule can be carried meanwhile. */
  readonly isPartial: boolean;
}

export function lackOf(rule: Rule, machine: Machine): Lack | undefined {
  const { adapters, addressesOf } = machine;
  const unnamed = rule.to.addresses.filter(
    (one) => one.kind === 'name' && addressesOf(one.name).length === 0,
  );
  const [first] = unnamed;
  if (first?.kind === 'name') {
    const isPartial = unnamed.length < rule.to.addresses.length;
    return { reason: `${first.name} has no address; it is looked up again`, isPartial };
  }
  for (const name of targetNames(rule)) {
    if (name === 'localhost') continue;
    const found = addressesOf(name);
    if (found.length === 0)
      return { reason: `${name} has no address; it is looked up again`, isPartial: false };
    if (found.every(isLoopback)) {
      const reason = `${name} stands for a loopback address of this host: write 127.0.0.1 if that is meant`;
      return { reason, isPartial: false };
    }
  }
  const way = wayOf(rule);
  if (way !== undefined && !adapters.has(way.adapter)) {
    return { reason: `there is no interface ${way.adapter} yet; it is waited for`, isPartial: false };
  }
  const absent = rule.adapters.filter((one) => !adapters.has(one));
  if (absent.length > 0) {
    return { reason: `there is no interface ${absent.join(', ')} yet; it is waited for`, isPartial: true };
  }
  return undefined;
}
