/** The package as npm packs it, with no other package at hand than those that it asks for: `npm run build` comes first. */

import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('../..', import.meta.url));

describe('the packed package', () => {
  let home = '';

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'natward-package-'));
    const { stdout } = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', home], {
      cwd: ROOT,
    });
    const [{ filename }] = JSON.parse(stdout) as [{ filename: string }];
    const installed = join(home, 'app', 'node_modules', 'natward');
    await mkdir(installed, { recursive: true });
    await run('tar', ['xzf', join(home, filename), '--strip-components=1', '-C', installed]);
    const { dependencies } = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8')) as {
      dependencies: Record<string, string>;
    };
    for (const name of Object.keys(dependencies)) {
      const place = join(home, 'app', 'node_modules', name);
      await mkdir(dirname(place), { recursive: true });
      await symlink(join(ROOT, 'node_modules', name), place);
    }
  }, 60_000);

  afterAll(() => rm(home, { recursive: true, force: true }));

  async function said(...args: readonly string[]): Promise<string> {
    const cwd = join(home, 'app');
    const env = { ...process.env, NATWARD_HOME: join(home, 'nobody') };
    const { stdout } = await run(process.execPath, ['--no-warnings', ...args], { cwd, env });
    return stdout.trim();
  }

  test.each([
    ["require('natward').Agent"],
    ["require('natward').connect"],
    ["require('natward/nat-upnp').createClient"],
    // As it was there: the module itself.
    ["require('natward/nat-api')"],
  ])('CommonJS: %s', async (expression) => {
    expect(await said('-e', `console.log(typeof ${expression})`)).toBe('function');
  });

  test.each([
    ['natward', 'Agent'],
    ['natward/nat-upnp', 'createClient'],
    ['natward/nat-api', 'default'],
  ])('ESM: %s has %s', async (name, exported) => {
    const program = `import { ${exported} as it } from '${name}'; console.log(typeof it)`;
    expect(await said('--input-type=module', '-e', program)).toBe('function');
  });

  test('what is loaded late is found there, too: the keeper, UPnP, the ledger, the engines, the client', async () => {
    const program = `
      const { Agent, connect, realSystem } = require('natward');
      const lo = { interface: 'lo', address: '127.0.0.1', family: 4, prefixLength: 8, internal: true };
      const route = { family: 4, interface: 'lo', gateway: '127.0.0.1', metric: 0 };
      const network = async () => ({ defaultRoutes: [route], addresses: [lo] });
      const agent = new Agent({
        directory: 'memory',
        ports: { pcp: 9, ssdp: 9 },
        timeoutMs: 3000,
        system: { ...realSystem, network },
      });
      const code = ({ code }) => code;
      (async () => {
        console.log(await agent.keep({ internalPort: 6881 }).catch(code));
        console.log(await agent.map({ internalPort: 6881 }).catch(code));
        console.log((await agent.rules.list()).length);
        console.log(await connect().catch(code));
        await agent[Symbol.asyncDispose]();
      })();
    `;
    expect((await said('-e', program)).split('\n')).toEqual(['NO_GATEWAY', 'NO_GATEWAY', '0', 'FAILED']);
    expect(await readdir(join(home, 'app', 'memory'))).toContain('ledger.json');
  });

  test('the command is whole in itself', async () => {
    const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { version: string };
    const bin = join('node_modules', 'natward', 'dist', 'bin', 'natward.cjs');
    expect(await said(bin, '--version')).toContain(version);
  });
});
