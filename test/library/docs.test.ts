import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { libraryDocs } from '../../scripts/library-docs.ts';
import * as natward from '../../src/index.ts';

const page = readFileSync(new URL('../../docs/library-api.md', import.meta.url), 'utf8');

test('docs/library-api.md is what `npm run library-docs` writes', () => {
  expect(page).toBe(libraryDocs());
});

test('it has all that is exported, and says something of each method of the agent', () => {
  for (const name of Object.keys(natward)) expect(page).toContain(`\n## ${name}\n`);
  const [, agent = ''] = page.split('\n## Agent\n');
  const rows = (agent.split('\n## ')[0] ?? '').split('\n').filter((line) => line.startsWith('| `'));
  expect(rows.length).toBeGreaterThan(8);
  for (const line of rows) expect(line).toMatch(/\| .+ \| .+ \|$/);
});
