import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { localAgent } from '../../src/control/local.ts';
import { gatewayFor } from '../support/gateway.ts';

async function mapWith(environment: Record<string, string>): Promise<void> {
  for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
  onTestFinished(() => {
    vi.unstubAllEnvs();
  });
  const { gateway, system, clock } = await gatewayFor();
  const agent = await localAgent(system);
  const range = { first: 8080, last: 8080 };
  const ask = {
    spec: '8080',
    protocols: ['tcp'],
    external: range,
    internal: range,
    host: undefined,
  } as const;
  const { failures } = await clock.settle(
    agent.map([ask], {
      ports: gateway.ports,
      timeoutMs: 5000,
      signal: new AbortController().signal,
      lifetimeSeconds: 7200,
      choice: 'any',
      description: undefined,
      onWarning: (warning) => {
        throw warning;
      },
    }),
  );
  expect(failures).toEqual([]);
  await clock.settle(agent[Symbol.asyncDispose]());
}

async function temporary(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'natward-test-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

test('a local agent remembers under NATWARD_HOME', async () => {
  const home = join(await temporary(), 'home');
  await mapWith({ NATWARD_HOME: home });
  expect(await readdir(home)).toEqual(['state.json']);
});

test.runIf(process.platform === 'linux')(
  'a local agent remembers under the platform’s own place where NATWARD_HOME says nothing',
  async () => {
    const data = await temporary();
    await mapWith({ NATWARD_HOME: '', XDG_DATA_HOME: data, HOME: data });
    const places = await readdir(data, { recursive: true });
    expect(places.filter((name) => name.endsWith('state.json'))).toHaveLength(1);
  },
);
