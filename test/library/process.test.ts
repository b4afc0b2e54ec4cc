/** What the library does to the process that it is a guest in. */

import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { startCommand, temporaryHome } from '../cli/natward.ts';
import { hostFor } from './host.ts';
import { type RealScene, realSceneFor } from './support.ts';

const APP = fileURLToPath(new URL('app.ts', import.meta.url));

interface Surroundings {
  readonly directory?: string;
  /** Of the agent of this host. */
  readonly home?: string;
}

async function run(what: string, { ports, embedded }: RealScene, around: Surroundings = {}) {
  const home = await temporaryHome();
  const [cwd, user] = [join(home, 'cwd'), join(home, 'home')];
  await Promise.all([mkdir(cwd), mkdir(user)]);
  const address = new URL(embedded.location).hostname;
  const args = ['--import', 'tsx', APP, what, JSON.stringify(ports), address];
  const { child, ended } = startCommand(
    'sh',
    [
      '-c',
      'cd "$CWD" && exec "$0" "$@"',
      process.execPath,
      ...resolved(args),
      ...(around.directory === undefined ? [] : [around.directory]),
    ],
    {
      CWD: cwd,
      HOME: user,
      XDG_DATA_HOME: join(user, 'data'),
      NATWARD_HOME: around.home ?? join(user, 'natward'),
      TSX_DISABLE_CACHE: '1',
    },
  );
  const { code, stdout, stderr } = await ended;
  const written = [...(await readdir(cwd)), ...(await readdir(user))];
  return {
    child,
    code,
    lines: stdout.trim().split('\n'),
    stderr,
    written,
  };
}

/** tsx is found from here, whichever directory the app runs in. */
function resolved(args: readonly string[]): string[] {
  return args.map((one) => (one === 'tsx' ? import.meta.resolve('tsx') : one));
}

test('a process that keeps a port and is done ends by itself, and has written nothing', async () => {
  const { code, lines, stderr, written } = await run('keeps and is done', await realSceneFor());
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(lines).toEqual(['kept 6881', 'main is over']);
  expect(written).toEqual([]);
});

test('so does one that hands its lease to the agent of this host, where it stays', async () => {
  const host = await hostFor();
  const { code, lines } = await run('hands over and is done', host, { home: host.home });
  expect({ code, lines }).toEqual({ code: 0, lines: ['kept 6881', 'main is over'] });
  expect(host.keeper.intents).toMatchObject([{ owner: 'natward library' }]);
  expect(host.embedded.table).toHaveLength(1);
});

test('nor does it stay for what it has mapped and found', async () => {
  const { code, lines, written } = await run('maps', await realSceneFor());
  expect(code).toBe(0);
  expect(lines).toEqual(['mapped 6881', 'found pcp natpmp upnp', 'main is over']);
  expect(written).toEqual([]);
});

test('a process that waits for a port stays until it is granted, or is not', async () => {
  const slow = await realSceneFor({
    quirks: { delayMs: { pcp: 1200, natpmp: 1200, ssdp: 1200, http: 300 } },
  });
  expect((await run('only waits', slow)).lines).toEqual(['main is over', 'kept 6881']);
});

test('`await using` gives back at the end of its block', async () => {
  const scene = await realSceneFor();
  const { code, lines } = await run('gives back', scene);
  expect({ code, lines }).toEqual({ code: 0, lines: ['kept 6881', 'main is over'] });
  expect(scene.embedded.table).toEqual([]);
});

test("a listener's error is its program's own, and the others are told", async () => {
  const { lines } = await run('has a listener that throws', await realSceneFor());
  expect(lines.sort()).toEqual(['main is over', 'then released', 'told as well', 'uncaught: of the app']);
});

test('with a directory, what a killed process held is taken up by the next one', async () => {
  const scene = await realSceneFor({ protocols: ['pcp', 'natpmp', 'upnp'] });
  const directory = join(await temporaryHome(), 'memory');
  const first = await run('keeps and is done', scene, { directory });
  expect(first.lines[0]).toBe('kept 6881');
  expect(await readdir(directory)).toContain('ledger.json');
  const [before] = scene.embedded.table;
  // PCP would refuse a stranger's nonce for the same port.
  const second = await run('keeps and is done', scene, { directory });
  expect(second.lines[0]).toBe('kept 6881');
  const [after] = scene.embedded.table;
  expect(scene.embedded.table).toHaveLength(1);
  expect(after && 'nonce' in after && after.nonce).toEqual(before && 'nonce' in before && before.nonce);
});
