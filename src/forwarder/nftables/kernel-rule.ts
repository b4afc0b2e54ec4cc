/**
 * A rule as far as the kernel goes, and what was worked out for it: of a table of thousands one rule changes, and the
 * others need not be looked at again.
 */

import { type Family, isLoopback } from '../../net/address.ts';
import type { Direction, Rule } from '../rule.ts';
import type { Candidate } from './dispatch.ts';
import { isAttended } from './action.ts';
import { type Around, namesOf, type Rewrite, rewriteOf, type Way, wayOf } from './rewrite.ts';
import type { Entry } from './table-builder.ts';

/** What one rule has in the ruleset: where it stands among the others, and what becomes of its conversations. */
export interface Part {
  readonly direction: Direction;
  readonly candidates: readonly Candidate[];
  /** Its targets see this host, at any port of it. */
  readonly isFromHost: boolean;
  readonly entries: readonly Entry[];
}

export class KernelRule {
  readonly rule: Rule;
  /** Undefined: the relay carries it. The kernel leaves to it what the rule takes. */
  readonly mark: number | undefined;
  /** By which it leaves; undefined: as the routes say. */
  readonly way: Way | undefined;
  /** The kernel does something with each of its packets, beside what it does with all. */
  readonly isAttended: boolean;
  /** Neither names nor interfaces nor hours keep it from being carried. */
  readonly isSteady: boolean;
  /** With which all of this was worked out. */
  #around: Around | undefined;
  #rewrite: Rewrite | undefined;
  #needs: number | undefined;
  #part: Part | undefined;

  constructor(rule: Rule, mark: number | undefined) {
    this.rule = rule;
    this.mark = mark;
    this.way = wayOf(rule);
    this.isAttended = isAttended(rule, this.way);
    const { adapters, schedule } = rule;
    this.isSteady =
      this.way === undefined && schedule === undefined && adapters.length + namesOf(rule).length === 0;
  }

  /** What it needs of the machine, as bits. `around` is the same value as long as nothing in it changes. */
  needsIn(around: Around): number {
    this.#look(around);
    return (this.#needs ??= needsOf(this.rule, (this.#rewrite ??= rewriteOf(this.rule, around))));
  }

  /** `work` does it where nobody has; what it depends on beside `around` is the caller's to know. */
  partIn(around: Around, work: (rewrite: Rewrite) => Part): Part {
    this.#look(around);
    if (this.#part === undefined) {
      this.#part = work(this.#rewrite ?? rewriteOf(this.rule, around));
      // All of it is in the part now.
      this.#rewrite = undefined;
    }
    return this.#part;
  }

  #look(around: Around): void {
    if (this.#around === around) return;
    this.#around = around;
    this.#rewrite = undefined;
    this.#needs = undefined;
    this.#part = undefined;
  }
}

/** Packets of the family go on to other hosts. */
export const FORWARDS: Readonly<Record<Family, number>> = { 4: 1, 6: 2 };
/** Something goes to 127.0.0.0/8 that comes from elsewhere, or from there elsewhere. */
export const LOOPBACK = 4;

function needsOf(rule: Rule, { destination, staysHere, way, families }: Rewrite): number {
  if (rule.verdict !== 'forward') return 0;
  let needs = 0;
  const isElsewhere = destination.kind !== 'kept' || way !== undefined;
  if (rule.direction === 'in' && !staysHere && isElsewhere) {
    for (const of of families) needs |= FORWARDS[of];
    if (rule.to.addresses.some((to) => to.kind === 'network' && isLoopback(to.address))) needs |= LOOPBACK;
  }
  if (destination.kind === 'address' && isLoopback(destination.addresses[4] ?? '')) needs |= LOOPBACK;
  return needs;
}
