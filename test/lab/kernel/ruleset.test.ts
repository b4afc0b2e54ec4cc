/** What tables become, judged by nft itself: in a network namespace that has nothing but two interfaces. */

import { randomBytes } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { change, replacement, type Ruleset } from '../../../src/forwarder/nftables/change.ts';
import { TABLES } from '../../../src/forwarder/nftables/ruleset.ts';
import { GOLDEN, GOLDEN_FOLDER } from '../../forwarder/nftables/golden.ts';
import { Rulesets, tables } from '../../forwarder/nftables/kernel-tables.ts';
import { Janitor } from '../support/janitor.ts';
import { labUnavailable } from '../support/lab.ts';
import { Processes } from '../support/processes.ts';

const unavailable = labUnavailable();

type Listed = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** What is listed, in an order of its own: things are listed as they were made. Rules keep theirs. */
function inOrder(listing: string): readonly string[] {
  const { nftables }: { readonly nftables: readonly Listed[] } = JSON.parse(listing);
  const rules = new Map<string, string[]>();
  const others: string[] = [];
  for (const [kind = '', { handle: _, ...thing } = {}] of nftables.flatMap((one) => Object.entries(one))) {
    if (kind === 'metainfo') continue;
    if (kind !== 'rule') {
      const elements = Array.isArray(thing['elem'])
        ? thing['elem'].map((one) => JSON.stringify(one)).sort()
        : [];
      others.push(JSON.stringify([kind, { ...thing, elem: elements }]));
      continue;
    }
    const chain = `${String(thing['family'])} ${String(thing['chain'])}`;
    rules.set(chain, [...(rules.get(chain) ?? []), JSON.stringify(thing['expr'])]);
  }
  return [...others, ...[...rules].map((one) => JSON.stringify(one))].sort();
}

describe.skipIf(unavailable)(`lab: rulesets in nft${unavailable ? ` (${unavailable})` : ''}`, () => {
  const prefix = `nwn${randomBytes(3).toString('hex')}`;
  const processes = new Processes({ NATWARD_LAB: prefix });
  const folder = mkdtempSync(join(tmpdir(), 'natward-rulesets-'));
  const janitor = new Janitor(folder, `NATWARD_LAB=${prefix}`, [prefix]);
  const inside = (...command: readonly string[]) => ['ip', 'netns', 'exec', prefix, ...command];

  beforeAll(async () => {
    await processes.must(['ip', 'netns', 'add', prefix]);
    await processes.must(inside('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1'));
  });
  afterAll(async () => {
    await processes.stopAll();
    await janitor.clean();
  });

  const load = (text: string) => processes.must(inside('nft', '-f', '-'), { input: text });
  const listed = async () => inOrder(await processes.must(inside('nft', '-j', 'list', 'ruleset')));

  test.each(Object.keys(GOLDEN))('nft takes %s', async (name) => {
    const file = new URL(`../../../${GOLDEN_FOLDER}/${name}.nft`, import.meta.url).pathname;
    expect(await processes.run(inside('nft', '-c', '-f', file))).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  test('one table after the other leaves what the last one alone would', async () => {
    let changes = 0;
    await fc.assert(
      fc.asyncProperty(tables, async (edits) => {
        const rulesets = new Rulesets();
        let before: Ruleset | undefined;
        await load(replacement(new Map(), TABLES));
        for (const lines of edits) {
          const after = rulesets.of(lines);
          await load(before === undefined ? replacement(after) : change(before, after));
          before = after;
          changes++;
        }
        const changed = await listed();
        await load(replacement(before as Ruleset, TABLES));
        expect(changed).toEqual(await listed());
      }),
      { numRuns: 60 },
    );
    expect(changes).toBeGreaterThan(120);
  });
});
