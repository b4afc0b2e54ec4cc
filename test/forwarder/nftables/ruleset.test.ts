import { readdir } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { KernelRule } from '../../../src/forwarder/nftables/kernel-rule.ts';
import type { MarkedRule } from '../../../src/forwarder/nftables/mark-book.ts';
import { MAIN_TABLE, type RulesetInput, rulesetOf } from '../../../src/forwarder/nftables/ruleset.ts';
import { GOLDEN, GOLDEN_FOLDER, goldenText } from './golden.ts';
import { rule } from '../arbitraries.ts';
import { Rulesets } from './kernel-tables.ts';
import { inputOf, tableOf } from './scene.ts';

const root = new URL(`../../../${GOLDEN_FOLDER}/`, import.meta.url);

// `vitest -u` writes them anew.
test.each(Object.keys(GOLDEN))('%s becomes what its golden file says', async (name) => {
  await expect(goldenText(name)).toMatchFileSnapshot(new URL(`${name}.nft`, root).pathname);
});

test('every golden file is of a table that there is', async () => {
  const files = (await readdir(root)).filter((one) => one.endsWith('.nft'));
  expect(files.sort()).toEqual(
    Object.keys(GOLDEN)
      .map((name) => `${name}.nft`)
      .sort(),
  );
});

test.each([
  ['of a conversation that runs no packet is asked for its rule', 'in tcp 80 -> 192.168.1.8:8080', false],
  ['but where a way looks at the mark first', 'in tcp 80 -> 192.168.1.8 via eth1', true],
  ['or a copy', 'in udp 80 -> 192.168.1.8:80 clone 192.168.1.7', true],
])('%s', (_, line, isAsked) => {
  const chains = new Rulesets().of([line]).get(MAIN_TABLE)?.chains;
  expect(chains?.has('classify_in')).toBe(isAsked);
  // The hooks of nat see the first packet alone.
  expect(chains?.get('nat_in')?.lines).toContainEqual(expect.stringMatching(/jump in$/));
});

function fromHost(lines: readonly string[], other?: Partial<RulesetInput>): readonly string[] {
  const sets = rulesetOf(inputOf(tableOf(lines), other)).get(MAIN_TABLE)?.sets;
  return [...(sets?.get('set from_host')?.elements.keys() ?? [])];
}

test('rules to other hosts are told by a range of marks, which a rule that keeps the client’s address cuts', () => {
  const lines = Array.from({ length: 1000 }, (_, at) => `in tcp ${1000 + at} -> 192.168.1.8:80`);
  expect(fromHost(lines)).toEqual(['0x80010000-0x83e80000']);
  for (const other of [
    '192.168.1.8:80 as client',
    ':80',
    'monitor',
    'refuse',
    '192.168.1.1:80',
    'reflect mirror',
  ]) {
    expect(fromHost(lines.with(499, `in tcp 80 -> ${other}`))).toEqual([
      '0x80010000-0x81f30000',
      '0x81f50000-0x83e80000',
    ]);
  }
});

test('a rule that is retired has its place among them', () => {
  const retired = [':80', '192.168.1.8:80'].map((target, at) => {
    return new KernelRule(rule(`in tcp 80 -> ${target}`, 'a'), 0x8003 + at) as MarkedRule;
  });
  expect(fromHost(['in tcp 81 -> 192.168.1.8:80'], { retired })).toEqual(['0x80010000', '0x80040000']);
});
