/** The machine's own resolver, in a namespace where the test has the name server and /etc/hosts. */

import { execFile, spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';

const ZONE = fileURLToPath(new URL('names-of-a-zone.ts', import.meta.url));
const UNSHARE = ['--map-root-user', '--net', '--mount', 'sh', '-c'];
const SETUP = `ip link set lo up &&
  mount --bind "$1/resolv.conf" /etc/resolv.conf && mount --bind "$1/hosts" /etc/hosts`;

/** Containers may forbid it. */
const canUnshare =
  process.platform === 'linux' && spawnSync('unshare', [...UNSHARE, 'ip link set lo up']).status === 0;

async function ask(...what: readonly string[]): Promise<Record<string, unknown>> {
  const directory = await mkdtemp(join(tmpdir(), 'natward-test-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  await writeFile(join(directory, 'resolv.conf'), 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n');
  await writeFile(join(directory, 'hosts'), '127.0.0.42 files.example\n2001:db8::42 files.example\n');
  const script = `${SETUP} && shift && exec "$0" --import tsx "$@"`;
  const { stdout } = await promisify(execFile)('unshare', [
    ...UNSHARE,
    script,
    process.execPath,
    directory,
    ZONE,
    ...what,
  ]);
  return JSON.parse(stdout) as Record<string, unknown>;
}

describe.runIf(canUnshare)('systemNames', () => {
  test('addressesOf() tells all addresses, and how long DNS lets them be used', async () => {
    const names = ['two.example', 'hasty.example', 'lasting.example', 'files.example', 'none.example'];
    const found = await ask(...names);
    expect(found).toEqual({
      'two.example': { addresses: expect.any(Array), ttlSeconds: 60 },
      // Asked for no more often than every second, and once an hour at least.
      'hasty.example': { addresses: ['192.0.2.3'], ttlSeconds: 1 },
      'lasting.example': { addresses: ['192.0.2.4', '192.0.2.5'], ttlSeconds: 3600 },
      // DNS does not know what is in /etc/hosts.
      'files.example': { addresses: expect.any(Array), ttlSeconds: 30 },
      'none.example': 'ENOTFOUND',
    });
    const sorted = (name: string) => (found[name] as { addresses: string[] }).addresses.toSorted();
    expect(sorted('two.example')).toEqual(['192.0.2.2', '2001:db8::2']);
    expect(sorted('files.example')).toEqual(['127.0.0.42', '2001:db8::42']);
  });

  test('namesOf() tells the names that lead back, and nothing of those that do not', async () => {
    expect(await ask('192.0.2.2', '192.0.2.9', '192.0.2.10', '2001:db8::99', 'fe80::1%lo')).toEqual({
      '192.0.2.2': ['two.example'],
      '192.0.2.9': [],
      '192.0.2.10': [],
      '2001:db8::99': [],
      'fe80::1%lo': [],
    });
  });
});
