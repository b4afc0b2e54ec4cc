import { readFileSync } from 'node:fs';
import { beforeAll, expect, test } from 'vitest';
import { measure } from '../../scripts/size.ts';

let sizes: Awaited<ReturnType<typeof measure>>;

beforeAll(async () => {
  sizes = await measure();
}, 60_000);

test('what `import { Agent }` loads is under 60 KB minified, its package included', () => {
  expect(sizes.uses[0]?.bytes).toBeLessThan(60_000);
});

test('what is loaded when it is used is no larger than docs/library.md says', () => {
  const page = readFileSync(new URL('../../docs/library.md', import.meta.url), 'utf8');
  for (const { what, bytes, ownBytes } of [...sizes.uses, ...sizes.later]) {
    const row = page.split('\n').find((line) => line.startsWith(`| ${what} |`));
    expect(row, what).toBeDefined();
    const [all = 0, own = 0] = [...(row ?? '').matchAll(/(\d+) KB/g)].map(([, size]) => Number(size));
    expect([what, bytes / 1000 <= all, ownBytes / 1000 <= own]).toEqual([what, true, true]);
    // Nor much smaller: then the page is to be written anew.
    expect([what, bytes / 1000 >= 0.85 * all - 3]).toEqual([what, true]);
  }
});

test('each module that is loaded late is named with its use; programs are run where routes are read so', () => {
  expect([...sizes.unnamed].sort()).toEqual(['follow-program', 'program', 'web']);
});
