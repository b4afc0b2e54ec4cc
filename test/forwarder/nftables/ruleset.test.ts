import { readdir } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { MAIN_TABLE } from '../../../src/forwarder/nftables/ruleset.ts';
import { GOLDEN, GOLDEN_FOLDER, goldenText } from './golden.ts';
import { Rulesets } from './kernel-tables.ts';

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
