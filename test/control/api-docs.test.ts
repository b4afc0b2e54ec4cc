import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { apiDocs } from '../../scripts/api-docs.ts';
import { FACTS, LEASE, RESPONDER, RULE, STATUS, startAgent, temporary } from './support/fake-agent.ts';

const PAGE = readFileSync(new URL('../../docs/api.md', import.meta.url), 'utf8');
const EXAMPLES = [...PAGE.matchAll(/```sh\n(.*?)```/gs)].map(([, lines = '']) => lines);

test('docs/api.md is what the schema says: npm run api-docs', () => {
  expect(PAGE).toBe(apiDocs());
});

test('every link of the page leads somewhere', () => {
  const anchors = new Set([...PAGE.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) => title.toLowerCase()));
  const links = [...PAGE.matchAll(/\]\(#([^)]*)\)/g)].map(([, anchor = '']) => anchor);
  expect(links.filter((anchor) => !anchors.has(anchor))).toEqual([]);
  expect(links.length).toBeGreaterThan(10);
});

async function paste(lines: string, environment: Record<string, string>): Promise<string> {
  const shell = spawn('bash', ['-euc', lines], {
    env: { PATH: process.env['PATH'], ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  const take = (chunk: Buffer) => {
    text += chunk.toString();
  };
  shell.stdout.on('data', take);
  shell.stderr.on('data', take);
  await new Promise((resolve) => shell.on('close', resolve));
  return text;
}

async function hasCurl(): Promise<boolean> {
  const found = spawn('bash', ['-c', 'curl --version'], { stdio: 'ignore' });
  return await new Promise((resolve) => {
    found.on('error', () => resolve(false)).on('close', (code) => resolve(code === 0));
  });
}

describe.runIf(process.platform === 'linux' && (await hasCurl()))('an example does what it says', () => {
  const [status = '', keep = '', drop = '', follow = ''] = EXAMPLES;
  const [socket = ''] = status.split('\n', 1);

  test('there are no others', () => {
    expect(EXAMPLES).toHaveLength(4);
  });

  test('the status, wherever the socket is', async () => {
    const directory = await temporary();
    const document = { agent: FACTS, ...STATUS, rulesPaused: false, rules: [RULE], responders: [RESPONDER] };
    await startAgent({ place: join(directory, 'home', 'control.sock') });
    await startAgent({ place: join(directory, 'natward', 'control.sock') });
    await startAgent({ place: join(directory, '.local', 'share', 'natward', 'control.sock') });
    for (const environment of [
      { NATWARD_HOME: join(directory, 'home'), HOME: '/nowhere' },
      { XDG_RUNTIME_DIR: directory, HOME: '/nowhere' },
      { HOME: directory },
    ] as Record<string, string>[]) {
      expect(JSON.parse(await paste(status, environment))).toEqual(document);
    }
  });

  test('keeping and dropping', async () => {
    const { place, keeping } = await startAgent();
    const environment = { NATWARD_HOME: join(place, '..') };
    expect(JSON.parse(await paste(`${socket}\n${keep}`, environment))).toEqual({ leases: [LEASE] });
    expect(JSON.parse(await paste(`${socket}\n${drop}`, environment))).toEqual({
      released: [LEASE],
      failures: [],
    });
    const ask = {
      protocols: ['tcp'],
      external: { first: 443, last: 443 },
      internal: { first: 8443, last: 8443 },
    };
    expect(keeping.asked).toMatchObject([
      { owner: 'my-script', requests: [{ ...ask, choice: 'exact' }] },
      { selectors: [{ kind: 'spec', ask }] },
    ]);
  });

  test('following what happens', async () => {
    const { place, keeping } = await startAgent();
    const said = paste(`${socket}\n${follow}`, { NATWARD_HOME: join(place, '..') });
    await keeping.until(() => keeping.readers === 1);
    keeping.emit({ type: 'granted', id: 7, at: '2026-01-01T00:00:00.000Z', lease: LEASE });
    keeping.endEvents();
    expect(await said).toContain('id: 7\nevent: granted\ndata: {"type":"granted"');
    expect(keeping.subscriptions).toEqual([0]);
  });
});
