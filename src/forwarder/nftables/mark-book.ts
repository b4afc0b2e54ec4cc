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
export interface MarkedRule extends KernelRule {
  readonly mark: number;
}

/** What a table would have. */
export interface MarkPlan {
  /** In the order of the rules. */
  readonly marked: readonly MarkedRule[];
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
  #marked: readonly MarkedRule[] = [];
  #retired: readonly MarkedRule[] = [];
  /** By mark: as long as it can be from the start, or V8 makes a dictionary of it. */
  readonly #ids: (string | undefined)[] = Array.from({ length: MAX_MARKS + 1 });

  /** Those of the table, in its order. */
  get marked(): readonly MarkedRule[] {
    return this.#marked;
  }

  /** Changed or removed; conversations may run under them. */
  get retired(): readonly MarkedRule[] {
    return this.#retired;
  }

  idOf(mark: number): string | undefined {
    return this.#ids[mark];
  }

  /** All that conversations may bear. */
  all(): ReadonlySet<number> {
    const all = new Set(this.#found);
    for (const { mark } of this.#marked) all.add(mark);
    for (const { mark } of this.#retired) all.add(mark);
    return all;
  }

  /** All marks of each rule: its own, and those that are retired. */
  byRule(): ReadonlyMap<string, readonly number[]> {
    const marks = new Map<string, number[]>();
    for (const { mark, rule } of [...this.#marked, ...this.#retired]) {
      const known = marks.get(rule.id);
      if (known === undefined) marks.set(rule.id, [mark]);
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
   * A rule that says the same keeps its mark; the others are given to `check` first, which may throw. `spare` is asked
   * for those that go and that nothing runs under, where there are not enough marks. Throws NO_RESOURCES.
   */
  async plan(
    carried: readonly Rule[],
    check: (rule: Rule) => void,
    spare: (going: readonly MarkedRule[]) => Promise<readonly MarkedRule[]>,
  ): Promise<MarkPlan> {
    const before = new Reader(this.#marked);
    const slots = carried.map((rule): MarkedRule | Rule => {
      const known = before.find(rule.id);
      if (known?.rule === rule) return known;
      check(rule);
      return known !== undefined && isSame(known.rule, rule) ? marking(rule, known.mark) : rule;
    });
    const kept = new Uint8Array(MAX_MARKS + 1);
    let wanted = 0;
    for (const slot of slots) {
      if ('mark' in slot) kept[slot.mark] = 1;
      else wanted++;
    }
    const going = this.#marked.filter(({ mark }) => kept[mark] === 0);
    const spared = wanted > this.#numbers.left ? await spare(going) : [];
    for (const { mark } of spared) this.#numbers.free(mark);
    const left = spared.length === 0 ? going : without(going, spared);
    const fresh: MarkedRule[] = [];
    const marked = slots.map((slot) => {
      if ('mark' in slot) return slot;
      const mark = this.#adopted.get(slot.id) ?? this.#numbers.fresh();
      if (mark === undefined) {
        this.undo({ marked: [], fresh, left, spared });
        const message = `the kernel’s engine has marks for ${MAX_MARKS} rules at once`;
        throw new NatwardError('NO_RESOURCES', message);
      }
      const one = marking(slot, mark);
      fresh.push(one);
      return one;
    });
    return { marked, fresh, left, spared };
  }

  /** The kernel has not taken it. */
  undo({ fresh, spared }: MarkPlan): void {
    for (const { mark, rule } of fresh) if (!this.#adopted.has(rule.id)) this.#numbers.free(mark);
    for (const { mark } of spared) this.#numbers.take(mark);
  }

  hold(marked: readonly MarkedRule[], retired: readonly MarkedRule[]): void {
    for (const { mark } of [...this.#marked, ...this.#retired]) this.#ids[mark] = undefined;
    this.#marked = marked;
    this.#retired = retired;
    for (const { mark, rule } of retired) this.#ids[mark] = rule.id;
    for (const { mark, rule } of marked) this.#ids[mark] = rule.id;
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

/** Finds rules by id, quickly where they are asked for in the order in which they stand: most tables change in one place. */
class Reader {
  readonly #marked: readonly MarkedRule[];
  #at = 0;
  #byId: Map<string, MarkedRule> | undefined;

  constructor(marked: readonly MarkedRule[]) {
    this.#marked = marked;
  }

  find(id: string): MarkedRule | undefined {
    const next = this.#marked[this.#at];
    if (next?.rule.id === id) {
      this.#at++;
      return next;
    }
    this.#byId ??= new Map(this.#marked.map((one) => [one.rule.id, one] as const));
    return this.#byId.get(id);
  }
}

function without(all: readonly MarkedRule[], some: readonly MarkedRule[]): readonly MarkedRule[] {
  const those = new Set(some);
  return all.filter((one) => !those.has(one));
}

function marking(rule: Rule, mark: number): MarkedRule {
  return new KernelRule(rule, mark) as MarkedRule;
}
