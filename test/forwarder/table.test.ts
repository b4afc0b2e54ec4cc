import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Rule } from '../../src/forwarder/rule.ts';
import {
  difference,
  exchanged,
  identified,
  inserted,
  isSame,
  moved,
  parseRuleId,
  placeOf,
  replaced,
  type WantedRule,
} from '../../src/forwarder/table.ts';
import { parseRule } from '../../src/forwarder/text.ts';
import { rule, smallTable, table } from './arbitraries.ts';

const ids = (rules: readonly Rule[]) => rules.map(({ id }) => id).join('');
const three = table('in tcp 1 -> :11', 'in tcp 2 -> :12', 'in tcp 3 -> :13');

function wanted(line: string, id?: string, enabled = true): WantedRule {
  return { id, enabled, spec: parseRule(line) };
}

describe('parseRuleId()', () => {
  test.each(['a', 'web-1', 'A.b_c', '7', 'x'.repeat(64)])('takes %s', (id) => {
    expect(parseRuleId(id)).toBe(id);
  });

  test.each(['', 'a b', 'ü', 'a/b', 'a\n', 'x'.repeat(65), '\u0000'])('refuses %j', (id) => {
    expect(() => parseRuleId(id)).toThrow(
      expect.objectContaining({
        code: 'USAGE',
        message: `"${id}" is no id of a rule: 1 to 64 letters, digits, and . _ -`,
      }),
    );
  });
});

describe('placeOf()', () => {
  test('finds a rule by its id or its place from 1', () => {
    expect(placeOf(three, 'b')).toBe(1);
    expect(placeOf(three, '1')).toBe(0);
    expect(placeOf(three, '3')).toBe(2);
  });

  test('an id that looks like a place goes first', () => {
    const rules = [...three, rule('in tcp 4 -> :14', '1')];
    expect(placeOf(rules, '1')).toBe(3);
  });

  test.each(['0', '4', '-1', '1.0', 'd', '', '1e0', '9999999', 'A'])('there is no rule "%s"', (name) => {
    expect(() => placeOf(three, name)).toThrow(
      expect.objectContaining({ code: 'NOT_FOUND', message: `there is no rule ${name}` }),
    );
  });
});

describe('a rule', () => {
  const x = rule('in tcp 9 -> :19', 'x');

  test('is put in before another, or at the end', () => {
    expect(ids(inserted(three, x, 0))).toBe('xabc');
    expect(ids(inserted(three, x, 2))).toBe('abxc');
    expect(ids(inserted(three, x))).toBe('abcx');
  });

  test('is replaced, or taken away', () => {
    expect(ids(replaced(three, 1, x))).toBe('axc');
    expect(ids(replaced(three, 1, undefined))).toBe('ac');
  });

  test.each([
    [0, 0, 'abc'],
    [0, 1, 'bac'],
    [0, 2, 'bca'],
    [2, 0, 'cab'],
    [1, 2, 'acb'],
  ])('that is moved from %i to %i stands there: %s', (from, to, expected) => {
    expect(ids(moved(three, from, to))).toBe(expected);
    expect(moved(three, from, to)[to]).toBe(three[from]);
  });
});

describe('isSame()', () => {
  const one = rule('in tcp 80 -> :81', 'a');
  test.each([
    [rule('in  TCP :80 -> :81', 'a'), true],
    [rule('in tcp 80 -> :81', 'b'), false],
    [rule('in tcp 80 -> :82', 'a'), false],
    [rule('in tcp 80 -> :81', 'a', false), false],
    [rule('in tcp 80 -> :81 "said"', 'a'), false],
  ])('case %#', (other, expected) => {
    expect(isSame(one, other)).toBe(expected);
  });
});

describe('identified()', () => {
  const newId = () => {
    let count = 0;
    return () => `new${++count}`;
  };

  test('asked twice, the same rules keep their ids and are the same values', () => {
    const first = identified([wanted('in tcp 1 -> :11'), wanted('in tcp 2 -> :12')], [], newId());
    expect(first.map(({ id }) => id)).toEqual(['new1', 'new2']);
    const again = identified([wanted('in  tcp 2 -> :12'), wanted('in tcp 1 -> :11')], first, newId());
    expect(again).toEqual([first[1], first[0]]);
    expect(again[0]).toBe(first[1]);
  });

  test('two that say the same have each an id of their own', () => {
    const twins = [wanted('in tcp 1 -> :11'), wanted('in tcp 1 -> :11')];
    const first = identified(twins, [], newId());
    expect(first.map(({ id }) => id)).toEqual(['new1', 'new2']);
    expect(identified([...twins, ...twins.slice(0, 1)], first, () => 'new3').map(({ id }) => id)).toEqual([
      'new1',
      'new2',
      'new3',
    ]);
  });

  test('an id that is said is kept, whatever the rule says now', () => {
    const [changed] = identified([wanted('in tcp 9 -> :19', 'b')], three, newId());
    expect(changed).toMatchObject({ id: 'b', to: { ports: { included: [{ first: 9, last: 9 }] } } });
  });

  test('a rule whose id is said by another wanted one does not lend it', () => {
    const rules = identified([wanted('in tcp 2 -> :12'), wanted('in tcp 9 -> :19', 'b')], three, newId());
    expect(rules.map(({ id }) => id)).toEqual(['new1', 'b']);
  });

  test('a rule that is only switched off keeps its id', () => {
    const [off] = identified([wanted('in tcp 1 -> :11', undefined, false)], three, newId());
    expect(off).toEqual({ ...three[0], enabled: false });
  });

  test('two with one id are refused', () => {
    expect(() =>
      identified([wanted('in tcp 1 -> :11', 'x'), wanted('in tcp 2 -> :12', 'x')], [], newId()),
    ).toThrow(expect.objectContaining({ code: 'CONFLICT', message: 'two rules have the id x' }));
  });

  test('ten thousand that say the same take no time', () => {
    const same = Array.from({ length: 10_000 }, () => wanted('in tcp 1 -> :11'));
    const first = identified(same, [], newId());
    const start = performance.now();
    expect(identified(same, first, newId()).every((one, at) => one === first[at])).toBe(true);
    expect(performance.now() - start).toBeLessThan(2000);
  });
});

describe('exchanged()', () => {
  test('says what goes and comes, and nothing of what stays', () => {
    fc.assert(
      fc.property(smallTable, fc.nat(), fc.nat(), (rules, a, b) => {
        const [off, on] = [a % (rules.length + 1), b % (rules.length + 1)];
        const [from, to] = [rules.filter((_, at) => at !== off), rules.filter((_, at) => at !== on)];
        const { gone, come } = exchanged(from, to);
        expect(gone).toEqual(from.filter((one) => !to.includes(one)));
        expect(come).toEqual(to.filter((one) => !from.includes(one)));
      }),
    );
  });

  test('where others change places, they go and come as well', () => {
    const [a, b, c] = three as [Rule, Rule, Rule];
    expect(exchanged([a, b, c], [b, a, c])).toEqual({ gone: [a, b], come: [b, a] });
    expect(exchanged([a, b, c], [a, b, c])).toEqual({ gone: [], come: [] });
  });
});

describe('difference()', () => {
  const told = (from: readonly Rule[], to: readonly Rule[]) => {
    const { added, removed, changed, moved: put, unchanged } = difference(from, to);
    return [ids(added), ids(removed), ids(changed.map((one) => one.to)), ids(put), ids(unchanged)].join('|');
  };

  test('of a table to itself is none', () => {
    expect(told(three, three)).toBe('||||abc');
    expect(told([], [])).toBe('||||');
  });

  test('names what is added, removed and changed', () => {
    const [a, b] = three as [Rule, Rule, Rule];
    const to = [a, { ...b, description: 'changed' }, rule('in tcp 4 -> :14', 'd')];
    expect(told(three, to)).toBe('d|c|b||a');
    expect(difference(three, to).changed).toEqual([{ from: b, to: to[1] }]);
  });

  test('what stands between others that come and go has not moved', () => {
    const [a, b, c] = three as [Rule, Rule, Rule];
    expect(told([a, b, c], [b, c])).toBe('|a|||bc');
    expect(told([b, c], [a, b, c])).toBe('a||||bc');
  });

  test('one that is put elsewhere has moved alone, wherever it went', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 12 }), fc.nat(), fc.nat(), (count, a, b) => {
        const rules = table(...Array.from({ length: count }, (_, at) => `in tcp ${at + 1} -> :80`));
        const [from, to] = [a % count, b % count];
        const { moved: put, unchanged } = difference(rules, moved(rules, from, to));
        // Of two neighbours that change places, either may be the one that moved.
        const far = Math.abs(from - to) > 1;
        expect(put).toHaveLength(from === to ? 0 : 1);
        expect(put[0] === rules[from] || !far).toBe(true);
        expect(put.length + unchanged.length).toBe(count);
      }),
    );
  });

  test('a table turned round has one rule that stayed', () => {
    expect(difference(three, three.toReversed()).moved).toHaveLength(2);
  });

  test('each rule is told once, and what has not moved is in its order', () => {
    fc.assert(
      fc.property(smallTable, fc.array(fc.nat(), { maxLength: 6 }), fc.nat(), (from, moves, off) => {
        let to = from;
        for (const move of moves) to = moved(to, move % to.length, Math.floor(move / 8) % to.length);
        to = to.flatMap((one, at) =>
          at === off % 8 ? [] : at === off % 5 ? [{ ...one, description: 'x' }] : [one],
        );
        const { added, removed, changed, moved: put, unchanged } = difference(from, to);
        expect(added).toEqual([]);
        expect(
          [...removed, ...changed.map((one) => one.from), ...put, ...unchanged].map(({ id }) => id).sort(),
        ).toEqual(from.map(({ id }) => id).sort());
        const stayed = new Set(unchanged.map(({ id }) => id));
        const left = (rules: readonly Rule[]) => rules.flatMap(({ id }) => (stayed.has(id) ? [id] : []));
        expect(left(to)).toEqual(left(from));
      }),
    );
  });
});
