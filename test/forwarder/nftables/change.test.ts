import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  change,
  type NftChain,
  type NftSet,
  replacement,
  type Ruleset,
} from '../../../src/forwarder/nftables/change.ts';
import { TABLES } from '../../../src/forwarder/nftables/ruleset.ts';
import { Rulesets, tables } from './kernel-tables.ts';
import { NftModel } from './nft-model.ts';

function ruleset(parts: {
  readonly objects?: Readonly<Record<string, string>>;
  readonly sets?: Readonly<
    Record<string, readonly [head: string, elements: Readonly<Record<string, string>>]>
  >;
  readonly chains?: Readonly<Record<string, readonly string[]>>;
}): Ruleset {
  const sets = Object.entries(parts.sets ?? {}).map(([name, [head, elements]]): [string, NftSet] => {
    return [name, { head, elements: new Map(Object.entries(elements)) }];
  });
  const chains = Object.entries(parts.chains ?? {}).map(([name, lines]): [string, NftChain] => {
    return [name, { hook: undefined, lines }];
  });
  const objects = new Map(Object.entries(parts.objects ?? {}));
  return new Map([['inet t', { objects, sets: new Map(sets), chains: new Map(chains) }]]);
}

function loaded(...texts: readonly string[]): unknown {
  const nft = new NftModel();
  for (const text of texts) nft.load(text);
  return nft.listing;
}

test('between two rulesets that are the same there is nothing to say', () => {
  const rulesets = new Rulesets();
  const lines = ['in tcp 80 -> :8080', 'in tcp 81 -> 192.168.1.8:80 via eth1'];
  expect(change(rulesets.of(lines), rulesets.of(lines))).toBe('');
});

test('a rule that is added to many costs a few lines', () => {
  const rulesets = new Rulesets();
  const lines = Array.from({ length: 500 }, (_, at) => `in tcp ${1000 + at} -> :${2000 + at}`);
  const text = change(rulesets.of(lines), rulesets.of([...lines, 'in tcp 80 -> :8080']));
  expect(text.length).toBeLessThan(500);
});

test('an element that leads elsewhere is taken out before it is put in, and its chain goes last', () => {
  const chains = (name: string) => ({ [name]: ['accept'] });
  const from = ruleset({
    sets: { 'map m': ['type mark : verdict', { '1': ' : goto a' }] },
    chains: chains('a'),
  });
  const to = ruleset({
    sets: { 'map m': ['type mark : verdict', { '1': ' : goto b' }] },
    chains: chains('b'),
  });
  expect(change(from, to).split('\n')).toEqual([
    'flush chain inet t a',
    'delete element inet t m { 1 }',
    'table inet t {',
    ' chain b {',
    '  accept',
    ' }',
    '}',
    'add element inet t m { 1 : goto b }',
    'delete chain inet t a',
    '',
  ]);
});

test('the kernel is told how large a large set may become', () => {
  const sizesOf = (count: number) => {
    const numbers = Array.from({ length: count }, (_, at) => [String(at), ''] as const);
    const text = replacement(ruleset({ sets: { 'set s': ['type mark', Object.fromEntries(numbers)] } }));
    return text.split('\n').filter((one) => one.startsWith('  size'));
  };
  expect(sizesOf(4096)).toEqual([]);
  expect(sizesOf(4097)).toEqual(['  size 65536']);
  expect(sizesOf(60_000)).toEqual(['  size 120000']);
});

test('a table that is not there any more is deleted, and one that is new is made', () => {
  const one: Ruleset = new Map([['ip t', { objects: new Map(), sets: new Map(), chains: new Map() }]]);
  expect(change(one, new Map())).toBe('delete table ip t\n');
  expect(change(new Map(), one)).toBe('table ip t {\n}\n');
});

test('a replacement takes away what stood there, and what is stale', () => {
  const text = replacement(new Map(), TABLES);
  const nft = new NftModel();
  nft.load(
    'table inet natward {\nset s {\ntype mark\n}\n}\ntable netdev natward {\n}\ntable inet other {\n}\n',
  );
  nft.load(text);
  expect(nft.listing).toEqual([['inet other', [[], [], []]]]);
  // Nothing need be there.
  expect(loaded(text)).toEqual([]);
});

describe('one table after the other', () => {
  test('leaves in the kernel what the last one alone would', () => {
    let changes = 0;
    fc.assert(
      fc.property(tables, fc.boolean(), (edits, keepsMarks) => {
        const rulesets = new Rulesets();
        const nft = new NftModel();
        let before: Ruleset | undefined;
        for (const lines of edits) {
          const after = rulesets.of(lines, { keepsMarks });
          nft.load(before === undefined ? replacement(after) : change(before, after));
          expect(nft.listing).toEqual(loaded(replacement(after)));
          before = after;
          changes++;
        }
      }),
      { numRuns: 300 },
    );
    expect(changes).toBeGreaterThan(600);
  });
});
