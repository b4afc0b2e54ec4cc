import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Deadlines } from '../../src/responder/deadlines.ts';

interface Entry {
  readonly name: string;
  readonly expiresAtMs: number | undefined;
}

function deadlinesOf(current: Map<string, Entry>): Deadlines<Entry> {
  return new Deadlines((entry) => current.get(entry.name) === entry);
}

describe('Deadlines', () => {
  test('takes what has ended, the first one first, and whatever is current alone', () => {
    const change = fc.record({
      name: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'),
      expiresAtMs: fc.option(fc.nat(100), { nil: undefined }),
      removed: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 300 }), fc.nat(100), (changes, untilMs) => {
        const current = new Map<string, Entry>();
        const deadlines = deadlinesOf(current);
        for (const { name, expiresAtMs, removed } of changes) {
          const entry: Entry = { name, expiresAtMs };
          current.set(name, entry);
          deadlines.add(entry, current.size);
          if (removed) current.delete(name);
        }
        const ends = [...current.values()]
          .flatMap(({ expiresAtMs }) => expiresAtMs ?? [])
          .sort((a, b) => a - b);
        expect(deadlines.firstMs()).toBe(ends[0] ?? Number.POSITIVE_INFINITY);
        const taken = deadlines.take(untilMs).map(({ expiresAtMs }) => expiresAtMs);
        expect(taken).toEqual(ends.filter((endMs) => endMs <= untilMs));
        const rest = ends.filter((endMs) => endMs > untilMs);
        expect(deadlines.firstMs()).toBe(rest[0] ?? Number.POSITIVE_INFINITY);
        expect(deadlines.take(Number.POSITIVE_INFINITY).map(({ expiresAtMs }) => expiresAtMs)).toEqual(rest);
      }),
    );
  });

  test('an entry that is renewed for ever keeps only a few places', () => {
    const current = new Map<string, Entry>();
    let asked = 0;
    const deadlines = new Deadlines<Entry>((entry) => {
      asked++;
      return current.get(entry.name) === entry;
    });
    for (let at = 0; at < 100_000; at++) {
      const entry = { name: 'a', expiresAtMs: at };
      current.set('a', entry);
      deadlines.add(entry, 1);
    }
    // Each was looked at once, when it was thrown out: the heap never grew past what is tidied.
    expect(asked).toBeLessThan(110_000);
    expect(deadlines.take(Number.POSITIVE_INFINITY)).toEqual([{ name: 'a', expiresAtMs: 99_999 }]);
  });
});
