import { readdir } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { GOLDEN, GOLDEN_FOLDER, goldenText } from './golden.ts';

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
