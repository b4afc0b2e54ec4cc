/**
 * Which rule has which mark: those of the table, those that are retired while conversations run under them, and those
 * that an agent before this one has left in the kernel.
 */

import { NatwardError } from '../../errors.ts';
import type { Rule } from '../rule.ts';
import { isSame } from '../table.ts';
import { Numbers } from './numbers.ts';
import { KernelRule } from './kernel-rule.ts';

/** A rule that the kernel carries. */
export type MarkedRule = KernelRule & { readonly mark: number };

/** What a table would have. */
export interface MarkPlan {
  readonly marked: ReadonlyMap<string, MarkedRule>;
  /** New, or changed. */
  readonly fresh: readonly MarkedRule[];
  /** Of rules that go or change. */
  readonly left: readonly MarkedRule[];
  /** As well; their marks are given to others. */
  readonly spared: readonly MarkedRule[];
}

const MAX_MARKS = 65_534;
/** Marks from here on have a bit in common, by which the kernel picks conversations quickly: they are given first. */
export const FIRST_MARK = 0x8000;

export class MarkBook {
  readonly #numbers = new Numbers(MAX_MARKS, FIRST_MARK);
  /** Of rules that an agent before this one has left. */
  readonly #adopted = new Map<string, number>();
  /** Conversations may bear them, of rules that are gone as well. */
  readonly #found = new Set<number>();
  #marked: ReadonlyMap<string, MarkedRule> = new Map();
  #retired: readonly MarkedRule[] = [];
  #ids: ReadonlyMap<number, string> = new Map();

  /** By rule. */
  get marked(): ReadonlyMap<string, MarkedRule> {
    return this.#marked;
  }

  get retired(): readonly MarkedRule[] {
    return this.#retired;
  }

  /** The rule of each mark. */
  get ids(): ReadonlyMap<number, string> {
    return this.#ids;
  }

  all(): ReadonlySet<number> {
    return new Set([...this.#ids.keys(), ...this.#found]);
  }

  /** All marks of each rule: its own, and those that are retired. */
  byRule(): ReadonlyMap<string, readonly number[]> {
    const marks = new Map<string, number[]>();
    for (const [mark, id] of this.#ids) {
      const known = marks.get(id);
      if (known === undefined) marks.set(id, [mark]);
      else known.push(mark);
    }
    return marks;
  }

  /** One that is in the kernel already; of a rule, where it is known. */
  adopt(mark: number, id?: string): void {
    if (id !== undefined) this.#adopted.set(id, mark);
    this.#found.add(mark);
    this.#numbers.take(mark);
  }

  /**
   * A rule that says the same keeps its mark. `spare` is asked for marks of rules that go and that nothing runs under,
   * where there are not enough. Throws NO_RESOURCES.
   */
  async plan(
    carried: readonly Rule[],
    spare: (going: readonly MarkedRule[]) => Promise<readonly MarkedRule[]>,
  ): Promise<MarkPlan> {
    const marked = new Map<string, MarkedRule>();
    const changed: Rule[] = [];
    for (const rule of carried) {
      const before = this.#marked.get(rule.id);
      if (before === undefined || !isSame(before.rule, rule)) changed.push(rule);
      // In its place in the order, whatever its mark.
      marked.set(rule.id, before?.rule === rule ? before : marking(rule, before?.mark ?? 0));
    }
    const isNew = new Set(changed.map(({ id }) => id));
    const going = [...this.#marked.values()].filter(({ rule }) => !marked.has(rule.id) || isNew.has(rule.id));
    const spared = changed.length > this.#numbers.left ? await spare(going) : [];
    for (const { mark } of spared) this.#numbers.free(mark);
    const left = spared.length === 0 ? going : without(going, spared);
    const fresh: MarkedRule[] = [];
    for (const rule of changed) {
      const mark = this.#adopted.get(rule.id) ?? this.#numbers.fresh();
      if (mark === undefined) {
        this.undo({ marked, fresh, left, spared });
        throw new NatwardError(
          'NO_RESOURCES',
          `the kernel’s engine has marks for ${MAX_MARKS} rules at once`,
        );
      }
      const one = marking(rule, mark);
      fresh.push(one);
      marked.set(rule.id, one);
    }
    return { marked, fresh, left, spared };
  }

  /** The kernel has not taken it. */
  undo({ fresh, spared }: MarkPlan): void {
    for (const { mark, rule } of fresh) if (!this.#adopted.has(rule.id)) this.#numbers.free(mark);
    for (const { mark } of spared) this.#numbers.take(mark);
  }

  hold(marked: ReadonlyMap<string, MarkedRule>, retired: readonly MarkedRule[]): void {
    this.#marked = marked;
    this.#retired = retired;
    const ids = new Map<number, string>();
    for (const { mark, rule } of retired) ids.set(mark, rule.id);
    for (const { mark, rule } of marked.values()) ids.set(mark, rule.id);
    this.#ids = ids;
  }

  /** The kernel has it. */
  settle({ fresh }: MarkPlan): void {
    for (const { rule } of fresh) this.#adopted.delete(rule.id);
  }

  /** Nothing runs under it any more. */
  free(mark: number): void {
    this.#numbers.free(mark);
  }
}

function without(all: readonly MarkedRule[], some: readonly MarkedRule[]): readonly MarkedRule[] {
  const those = new Set(some);
  return all.filter((one) => !those.has(one));
}

function marking(rule: Rule, mark: number): MarkedRule {
  return new KernelRule(rule, mark) as MarkedRule;
}
