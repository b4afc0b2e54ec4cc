/**
 * A rule as far as the kernel goes, and what was worked out for it: of a table of thousands one rule changes, and the
 * others need not be looked at again.
 */

import type { Direction, Rule } from '../rule.ts';
import type { Candidate } from './dispatch.ts';
import { isAttended } from './action.ts';
import { type Around, namesOf, type Rewrite, rewriteOf, type Way, wayOf } from './rewrite.ts';
import { comment, markLiteral } from './syntax.ts';
import type { Entry } from './table-builder.ts';

/** What one rule has in the ruleset: where it stands among the others, and what becomes of its conversations. */
export interface Part {
  readonly direction: Direction;
  readonly candidates: readonly Candidate[];
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
  /** In the kernel's set of ids: which mark, whose. */
  readonly id: readonly [key: string, comment: string] | undefined;
  /** With which all of this was worked out. */
  #around: Around | undefined;
  #rewrite: Rewrite | undefined;
  #part: Part | undefined;

  constructor(rule: Rule, mark: number | undefined) {
    this.rule = rule;
    this.mark = mark;
    this.way = wayOf(rule);
    this.isAttended = isAttended(rule, this.way);
    const { adapters, schedule } = rule;
    this.isSteady =
      this.way === undefined && schedule === undefined && adapters.length + namesOf(rule).length === 0;
    this.id = mark === undefined ? undefined : [markLiteral(mark), ` comment ${comment(rule.id)}`];
  }

  /** `around` is the same value as long as nothing in it changes. */
  rewriteIn(around: Around): Rewrite {
    this.#look(around);
    return (this.#rewrite ??= rewriteOf(this.rule, around));
  }

  /** `work` does it where nobody has; what it depends on beside `around` is the caller's to know. */
  partIn(around: Around, work: () => Part): Part {
    this.#look(around);
    return (this.#part ??= work());
  }

  #look(around: Around): void {
    if (this.#around === around) return;
    this.#around = around;
    this.#rewrite = undefined;
    this.#part = undefined;
  }
}
