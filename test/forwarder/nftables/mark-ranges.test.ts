import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { MarkRanges } from '../../../src/forwarder/nftables/mark-ranges.ts';

function rangesOf(inside: readonly number[], outside: readonly number[]): readonly string[] {
  const ranges = new MarkRanges();
  for (const mark of inside) ranges.put(mark, true);
  for (const mark of outside) ranges.put(mark, false);
  return ranges.elements;
}

test('what thousands of neighbours have in common is one element', () => {
  const marks = Array.from({ length: 30_000 }, (_, at) => 0x8000 + at);
  expect(rangesOf(marks, [])).toEqual(['0x80000000-0xf52f0000']);
  expect(rangesOf(marks.slice(0, 1), [])).toEqual(['0x80000000']);
  expect(rangesOf([], marks)).toEqual([]);
});

test('a number that no rule has is no hole, and one of another rule is', () => {
  expect(rangesOf([1, 2, 5], [])).toEqual(['0x00010000-0x00050000']);
  expect(rangesOf([1, 2, 5], [4])).toEqual(['0x00010000-0x00020000', '0x00050000']);
});

test('holds all that were put in, none that were put out, and no more elements than that takes', () => {
  const mark = fc.integer({ min: 1, max: 0xffff });
  fc.assert(
    fc.property(
      fc.dictionary(fc.oneof(mark, fc.integer({ min: 1, max: 40 })).map(String), fc.boolean()),
      (sides) => {
        const marks = Object.entries(sides).map(([key, isInside]) => [Number(key), isInside] as const);
        const sorted = marks.toSorted(([a], [b]) => a - b);
        const elements = rangesOf(
          marks.flatMap(([one, isInside]) => (isInside ? [one] : [])),
          marks.flatMap(([one, isInside]) => (isInside ? [] : [one])),
        );
        const spans = elements.map((one) => one.split('-').map((end) => Number(end) / 0x1_0000));
        for (const [one, isInside] of marks) {
          expect(spans.some(([first = 0, last = first]) => first <= one && one <= last)).toBe(isInside);
        }
        const runs = sorted.filter(([, isInside], at) => isInside && sorted[at - 1]?.[1] !== true);
        expect(elements).toHaveLength(runs.length);
      },
    ),
  );
});
