import { describe, expect, test } from 'vitest';
import { intentOf } from '../../src/agent/intent.ts';
import type { Intent, KeepRequest } from '../../src/agent/lease.ts';
import { parseDesired } from '../../src/control/desired.ts';
import { carryOut, keepChanges } from '../../src/control/desired-keeps.ts';
import { LEASE, REQUEST, startAgent } from './support/fake-agent.ts';

const OPTIONS = { timeoutMs: 1000, signal: new AbortController().signal };

const resolve = async (name: string) => (name === 'nas.lan' ? ['192.168.1.8'] : []);

async function changesOf(toml: string, known: readonly Intent[]) {
  const { keeps = [] } = parseDesired(toml, 'wanted.toml');
  const changes = await keepChanges({ wanted: async () => known }, keeps, resolve);
  const specs = (intents: readonly Intent[]) => intents.map(({ spec }) => spec);
  return {
    added: specs(changes.added),
    changed: specs(changes.changed),
    removed: specs(changes.removed),
    unchanged: changes.unchanged,
  };
}

function intent(port: number, change: Partial<KeepRequest> = {}, owner = 'user'): Intent {
  const range = { first: port, last: port };
  const request = { ...REQUEST, spec: `${port}`, external: range, internal: range, choice: 'any' } as const;
  return intentOf({ ...request, ...change }, owner);
}

describe('what a file changes of what is kept', () => {
  const known = [intent(80), intent(81), intent(82), intent(83, {}, 'config'), intent(84, {}, 'a-program')];

  test('is what is new, what is asked for otherwise, and what is missing', async () => {
    const toml = '[[keep]]\nspec = "80"\n[[keep]]\nspec = "81"\nlifetime = "1h"\n[[keep]]\nspec = "85/tcp"';
    expect(await changesOf(toml, known)).toEqual({
      added: ['85/tcp'],
      changed: ['81'],
      removed: ['82'],
      unchanged: 1,
    });
  });

  test('is nothing where only the spec is written otherwise', async () => {
    expect(await changesOf('[[keep]]\nspec = "80:80/TCP"', [intent(80)])).toMatchObject({ unchanged: 1 });
  });

  test('is known by the address of a name', async () => {
    const there = intent(80, { host: '192.168.1.8' });
    expect(await changesOf('[[keep]]\nspec = "nas.lan:80"', [there])).toMatchObject({ unchanged: 1 });
    await expect(changesOf('[[keep]]\nspec = "no.lan:80"', [])).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining('no.lan'),
    });
  });

  test.each([
    ['each other', '[[keep]]\nspec = "80"\n[[keep]]\nspec = "8080:80"', 'user has 80 kept already'],
    ['the configuration', '[[keep]]\nspec = "8083:83"', 'config has 83 kept already'],
    ['another program', '[[keep]]\nspec = "84"', 'a-program has 84 kept already'],
  ])('is refused before anything is done where it contradicts %s', async (_, toml, words) => {
    await expect(changesOf(toml, known)).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining(words),
    });
  });

  test('may put something else in the place of what goes', async () => {
    const toml = '[[keep]]\nspec = "8082:82"';
    expect(await changesOf(toml, [intent(82)])).toMatchObject({ added: ['8082:82'], removed: ['82'] });
  });
});

describe('carrying it out', () => {
  test('drops, then keeps, and tells what came of both', async () => {
    const { client, keeping } = await startAgent();
    keeping.answerWanted = [intent(82)];
    const changes = { added: [intent(80)], changed: [intent(81)], removed: [intent(82)], unchanged: 0 };
    expect(await carryOut(client, changes, OPTIONS)).toEqual({
      leases: [LEASE],
      released: [LEASE],
      failures: [],
    });
    const { id, spec } = intent(82);
    expect(keeping.asked).toMatchObject([
      { selectors: [{ kind: 'id', id, text: spec }] },
      { owner: 'user', requests: [{ spec: '80' }, { spec: '81' }] },
    ]);
  });

  test('asks for no more in one call than the agent takes', async () => {
    const { client, keeping } = await startAgent();
    keeping.answerKeep = async () => [];
    keeping.answerDrop = async () => ({ released: [], failures: [] });
    const many = Array.from({ length: 2500 }, (_, at) => intent(at + 1));
    const wide = Array.from({ length: 3 }, (_, at) =>
      intent(1, {
        host: `10.0.0.${at}`,
        external: { first: 1, last: 4000 },
        internal: { first: 1, last: 4000 },
      }),
    );
    const line = 'x'.repeat(4000);
    const hooks = Array.from({ length: 60 }, () => ({ kind: 'shell', line }) as const);
    const long = Array.from({ length: 9 }, (_, at) => intent(1, { host: `10.0.1.${at}`, hooks }));
    const added = [...many, ...wide, ...long];
    await carryOut(client, { added, changed: [], removed: many, unchanged: 0 }, OPTIONS);
    const asked = keeping.asked as { requests?: readonly KeepRequest[]; selectors?: readonly unknown[] }[];
    expect(asked.flatMap(({ selectors }) => selectors ?? [])).toHaveLength(2500);
    expect(asked.flatMap(({ requests }) => requests?.map(({ host, spec }) => [host, spec]) ?? [])).toEqual(
      added.map(({ host, spec }) => [host, spec]),
    );
    // The last three: two wide ones with what was left; the third with four long ones, and so on.
    expect(asked.map(({ requests, selectors }) => (requests ?? selectors)?.length)).toEqual([
      1000, 1000, 500, 1000, 1000, 502, 5, 4, 1,
    ]);
  });
});

test('what is kept is asked of the agent, with every hook', async () => {
  const { client, keeping } = await startAgent();
  keeping.answerWanted = [
    intent(80, {}, 'config'),
    intent(81, {
      host: '2001:db8::8',
      remotePeer: { address: '198.51.100.0', prefixLength: 24, port: 0 },
      hooks: [
        { kind: 'run', argv: ['/usr/bin/logger', ''], on: ['granted'], timeoutSeconds: 5 },
        { kind: 'sync', client: 'qbittorrent', url: 'http://admin:secret@127.0.0.1:8080' },
      ],
    }),
  ];
  expect(await client.wanted()).toEqual(keeping.answerWanted);
});
