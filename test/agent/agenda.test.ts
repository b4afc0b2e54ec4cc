import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Agenda } from '../../src/agent/agenda.ts';

/** The same, as a sorted array would do it. */
type Model = Map<string, number>;
type Command = fc.Command<Model, Agenda<string>>;

function earliest(model: Model): number | undefined {
  const times = [...model.values()];
  return times.length === 0 ? undefined : Math.min(...times);
}

function agree(model: Model, agenda: Agenda<string>): void {
  assert.equal(agenda.size, model.size);
  assert.equal(agenda.nextMs, earliest(model));
}

class Put implements Command {
  readonly #item: string;
  readonly #dueMs: number;
  constructor(item: string, dueMs: number) {
    this.#item = item;
    this.#dueMs = dueMs;
  }
  check = () => true;
  run(model: Model, agenda: Agenda<string>): void {
    model.set(this.#item, this.#dueMs);
    agenda.set(this.#item, this.#dueMs);
    agree(model, agenda);
  }
  toString = () => `set ${this.#item} ${this.#dueMs}`;
}

class Delete implements Command {
  readonly #item: string;
  constructor(item: string) {
    this.#item = item;
  }
  check = () => true;
  run(model: Model, agenda: Agenda<string>): void {
    model.delete(this.#item);
    agenda.delete(this.#item);
    agree(model, agenda);
  }
  toString = () => `delete ${this.#item}`;
}

class Take implements Command {
  readonly #nowMs: number;
  constructor(nowMs: number) {
    this.#nowMs = nowMs;
  }
  check = () => true;
  run(model: Model, agenda: Agenda<string>): void {
    const due = [...model].filter(([, dueMs]) => dueMs <= this.#nowMs);
    const times = due.map(([, dueMs]) => dueMs).sort((a, b) => a - b);
    const taken = agenda.takeDue(this.#nowMs);
    assert.deepEqual(
      taken.map((item) => model.get(item)),
      times,
    );
    assert.deepEqual(new Set(taken), new Set(due.map(([item]) => item)));
    for (const item of taken) model.delete(item);
    agree(model, agenda);
  }
  toString = () => `takeDue ${this.#nowMs}`;
}

class Shift implements Command {
  readonly #byMs: number;
  constructor(byMs: number) {
    this.#byMs = byMs;
  }
  check = () => true;
  run(model: Model, agenda: Agenda<string>): void {
    for (const [item, dueMs] of model) model.set(item, dueMs + this.#byMs);
    agenda.shift(this.#byMs);
    agree(model, agenda);
  }
  toString = () => `shift ${this.#byMs}`;
}

describe('an agenda', () => {
  test('does what a sorted array would do, whatever is asked of it', () => {
    // Few items and few times: they meet.
    const item = fc.integer({ min: 0, max: 12 }).map(String);
    const time = fc.integer({ min: 0, max: 30 });
    const commands = fc.commands(
      [
        fc.tuple(item, time).map(([name, dueMs]) => new Put(name, dueMs)),
        fc.tuple(item, time).map(([name, dueMs]) => new Put(name, dueMs)),
        item.map((name) => new Delete(name)),
        time.map((nowMs) => new Take(nowMs)),
        fc.integer({ min: -20, max: 20 }).map((byMs) => new Shift(byMs)),
      ],
      { maxCommands: 200 },
    );
    fc.assert(
      fc.property(commands, (all) => {
        fc.modelRun(() => ({ model: new Map(), real: new Agenda<string>() }), all);
      }),
      { numRuns: 200 },
    );
  });

  test('is empty at first: nothing is due, nothing to delete', () => {
    const agenda = new Agenda<string>();
    agenda.delete('nothing');
    agenda.shift(1000);
    expect([agenda.size, agenda.nextMs, agenda.takeDue(Number.POSITIVE_INFINITY)]).toEqual([
      0,
      undefined,
      [],
    ]);
  });

  test('an item has one place: set again it is moved, sooner or later', () => {
    const agenda = new Agenda<string>();
    agenda.set('a', 100);
    agenda.set('b', 50);
    agenda.set('a', 20);
    expect([agenda.size, agenda.nextMs]).toEqual([2, 20]);
    agenda.set('a', 200);
    expect([agenda.size, agenda.nextMs]).toEqual([2, 50]);
    expect(agenda.takeDue(200)).toEqual(['b', 'a']);
  });

  test('what is due at this very moment is taken', () => {
    const agenda = new Agenda<string>();
    agenda.set('a', 100);
    expect(agenda.takeDue(99)).toEqual([]);
    expect(agenda.takeDue(100)).toEqual(['a']);
  });

  test('ten thousand items come out in order, and take no time', () => {
    const agenda = new Agenda<number>();
    const times = Array.from({ length: 10_000 }, (_, at) => (at * 7919) % 10_007);
    const startMs = performance.now();
    for (const [item, dueMs] of times.entries()) agenda.set(item, dueMs);
    for (let item = 0; item < 10_000; item += 3) agenda.delete(item);
    for (let item = 1; item < 10_000; item += 3) agenda.set(item, (times[item] as number) + 5000);
    const due = agenda.takeDue(Number.POSITIVE_INFINITY);
    expect(performance.now() - startMs).toBeLessThan(1000);
    const timeOf = (item: number) => (times[item] as number) + (item % 3 === 1 ? 5000 : 0);
    expect(due).toHaveLength(6666);
    expect(due.map(timeOf)).toEqual(due.map(timeOf).sort((a, b) => a - b));
    expect(agenda.size).toBe(0);
  });
});
