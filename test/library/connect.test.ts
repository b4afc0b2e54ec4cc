import { expect, onTestFinished, test, vi } from 'vitest';
import type { NatwardError } from '../../src/errors.ts';
import { connect } from '../../src/library/connect.ts';
import { temporaryHome } from '../cli/natward.ts';
import { hostFor } from './host.ts';
import { toldBy } from './support.ts';

test('leases are kept by the agent of this host, with the same interface', async () => {
  const host = await hostFor();
  const agent = await connect(host.options);
  onTestFinished(() => agent[Symbol.asyncDispose]());
  const lease = await agent.keep({ internalPort: 6881, protocol: 'udp' });
  expect(lease).toMatchObject({ state: 'held', protocol: 'udp', externalPort: 6881 });
  expect(host.keeper.intents).toMatchObject([{ owner: 'a test', id: lease.id }]);
  expect(agent.leases).toEqual([lease]);
  expect((await agent.mappings()).map(({ externalPort, own }) => [externalPort, own])).toEqual([
    [6881, true],
  ]);

  const told = toldBy(lease);
  host.embedded.changeExternalAddress('127.99.1.2');
  await vi.waitFor(() => expect(told).toContain('changed udp 6881'), 10_000);
  expect(lease.externalAddress).toBe('127.99.1.2');

  await lease.release();
  expect(told.at(-1)).toBe('released udp 6881');
  expect(host.keeper.intents).toEqual([]);
  expect(host.embedded.table).toEqual([]);
});

test('what somebody else ends there is released here', async () => {
  const host = await hostFor();
  const agent = await connect(host.options);
  onTestFinished(() => agent[Symbol.asyncDispose]());
  const lease = await agent.keep({ internalPort: 6881 });
  const told = toldBy(lease);
  await host.keeper.drop([{ kind: 'id', text: lease.id, id: lease.id }], {
    signal: AbortSignal.timeout(5000),
  });
  await vi.waitFor(() => expect(lease.state).toBe('released'), 5000);
  expect(told).toEqual(['released tcp 6881']);
  expect(agent.leases).toEqual([]);
  await lease.release();
});

test('when the agent of this host is started anew, its leases are heard of again', async () => {
  const host = await hostFor();
  const agent = await connect(host.options);
  onTestFinished(() => agent[Symbol.asyncDispose]());
  const warnings: NatwardError[] = [];
  agent.on('warning', (warning) => void warnings.push(warning));
  const lease = await agent.keep({ internalPort: 6881 });
  await host.restart();
  await vi.waitFor(() => expect(warnings.length).toBeGreaterThan(0), 5000);
  const told = toldBy(lease);
  await vi.waitFor(() => expect(lease.state).toBe('held'), 10_000);
  host.embedded.changeExternalAddress('127.99.1.3');
  await vi.waitFor(() => expect(told).toContain('changed tcp 6881'), 10_000);
});

test('a refusal and a conflict are told as they are without it, and nothing stays behind', async () => {
  const host = await hostFor();
  const agent = await connect(host.options);
  onTestFinished(() => agent[Symbol.asyncDispose]());
  const other = await connect({ ...host.options, name: 'another app' });
  onTestFinished(() => other[Symbol.asyncDispose]());
  const lease = await agent.keep({ internalPort: 6881 });
  await expect(agent.keep({ internalPort: 6881 })).rejects.toMatchObject({ code: 'CONFLICT' });
  await expect(other.keep({ internalPort: 6881 })).rejects.toMatchObject({ code: 'CONFLICT' });
  expect(other.leases).toEqual([]);
  await host.embedded.give('tcp', 4000, { address: '127.0.0.1', port: 1 });
  const exact = other.keep({ internalPort: 6999, externalPort: 4000, choice: 'exact' });
  await expect(exact).rejects.toMatchObject({ code: 'CONFLICT' });
  await vi.waitFor(() => expect(host.keeper.intents.map(({ id }) => id)).toEqual([lease.id]));
});

test('rules are carried by it, too', async () => {
  const host = await hostFor();
  const agent = await connect(host.options);
  onTestFinished(() => agent[Symbol.asyncDispose]());
  const rule = await agent.rules.add('in tcp 127.0.0.3:39171 -> 127.0.0.1:9', { id: 'web' });
  expect(rule.id).toBe('web');
  await agent[Symbol.asyncDispose]();
  const later = await connect(host.options);
  onTestFinished(() => later[Symbol.asyncDispose]());
  expect((await later.rules.list()).map(({ id }) => id)).toEqual(['web']);
  await later.rules.remove('web');
});

test('where none runs it says so', async () => {
  vi.stubEnv('NATWARD_HOME', await temporaryHome());
  onTestFinished(() => void vi.unstubAllEnvs());
  await expect(connect()).rejects.toMatchObject({ code: 'FAILED', message: /no natward agent runs/ });
});
