import { once } from 'node:events';
import { expect, test } from 'vitest';
import type { Lease } from '../../src/library/agent.ts';
import { appFor, toldBy } from './support.ts';

test.each(['pcp', 'natpmp', 'upnp'] as const)('keeps a port over %s, and says where it is', async (via) => {
  const { agent, clock, gateway, table } = await appFor({ protocols: [via] });
  const lease = await clock.settle(agent.keep({ internalPort: 6881, protocol: 'udp' }));
  expect(lease).toMatchObject({
    state: 'held',
    protocol: 'udp',
    internalPort: 6881,
    externalPort: 6881,
    via,
    gateway: gateway.address,
    error: undefined,
  });
  expect(lease.externalAddress).toMatch(/^127\./);
  expect(lease.expiresAt?.getTime()).toBe(clock.now() + 7200_000);
  expect(lease.id).toMatch(/^[0-9a-f]{8}$/);
  expect(agent.leases).toEqual([lease]);
  expect(table()).toEqual(['udp 6881']);
});

test('keeps TCP and UDP of one number as one lease', async () => {
  const { agent, clock, table } = await appFor();
  const lease = await clock.settle(
    agent.keep({ internalPort: 7000, externalPort: 7001, protocol: 'tcp+udp' }),
  );
  expect(lease).toMatchObject({ protocol: 'tcp+udp', internalPort: 7000, externalPort: 7001 });
  expect(lease.mappings.map(({ protocol }) => protocol)).toEqual(['tcp', 'udp']);
  expect(table().sort()).toEqual(['tcp 7001', 'udp 7001']);
});

test('where there is no way out but IPv6, its pinhole is the lease', async () => {
  const { agent, clock, embedded } = await appFor({ address: '::1', protocols: ['pcp'] });
  const lease = await clock.settle(agent.keep({ internalPort: 6881, protocol: 'udp' }));
  expect(lease).toMatchObject({ state: 'held', externalPort: 6881, gateway: '::1', error: undefined });
  expect(embedded.pinholes).toHaveLength(1);
  await expect(clock.settle(agent.keep({ internalPort: 6882, family: 4 }))).rejects.toMatchObject({
    code: expect.stringMatching(/^NO_(ROUTE|GATEWAY)$/),
  });
  await clock.settle(lease.release());
  expect(embedded.pinholes).toEqual([]);
});

test('tells what happens: renewed, changed, lost and granted again, released', async () => {
  const { agent, clock, embedded, pass } = await appFor();
  const lease = await clock.settle(agent.keep({ internalPort: 6881 }));
  const told = toldBy(lease);
  await pass(5_000_000);
  expect(told.splice(0)).toEqual(['renewed tcp 6881']);

  embedded.changeExternalAddress('127.99.1.2');
  await pass(30_000);
  expect(told.splice(0)).toContain('changed tcp 6881');
  expect(lease.externalAddress).toBe('127.99.1.2');

  await embedded.wipe();
  await pass(30_000);
  expect(told.splice(0)).toEqual(['lost tcp -', 'granted tcp 6881']);
  expect(lease.state).toBe('held');

  await clock.settle(lease.release());
  expect(told).toEqual(['released tcp 6881']);
  expect(lease.state).toBe('released');
});

test('`changed` says what it was before', async () => {
  const { agent, clock, embedded, pass } = await appFor();
  const lease = await clock.settle(agent.keep({ internalPort: 6881 }));
  const before = lease.externalAddress;
  const changed = once(lease as Lease & NodeJS.EventEmitter, 'changed');
  embedded.changeExternalAddress('127.99.1.3');
  await pass(30_000);
  expect((await changed)[1]).toMatchObject({ externalAddress: before, externalPort: 6881 });
});

test('disposing of a lease gives it back, once', async () => {
  const { agent, clock, table } = await appFor();
  {
    const lease = await clock.settle(agent.keep({ internalPort: 6881 }));
    expect(table()).toEqual(['tcp 6881']);
    await clock.settle(Promise.resolve(lease[Symbol.asyncDispose]()));
    await clock.settle(lease.release());
  }
  expect(table()).toEqual([]);
  expect(agent.leases).toEqual([]);
});

test('disposing of the agent gives all back, and it takes no further question', async () => {
  const { agent, clock, table } = await appFor();
  const leases = await clock.settle(
    Promise.all([1, 2, 3].map((at) => agent.keep({ internalPort: 7000 + at, protocol: 'udp' }))),
  );
  const told = leases.map((lease) => toldBy(lease));
  expect(table()).toHaveLength(3);
  await clock.settle(agent[Symbol.asyncDispose]());
  expect(table()).toEqual([]);
  expect(told).toEqual([['released udp 7001'], ['released udp 7002'], ['released udp 7003']]);
  expect(leases.map(({ state }) => state)).toEqual(['released', 'released', 'released']);
  await expect(agent.keep({ internalPort: 1 })).rejects.toMatchObject({ code: 'ABORTED' });
  await expect(agent.gateways().next()).rejects.toMatchObject({ code: 'ABORTED' });
  await expect(agent.rules.list()).rejects.toMatchObject({ code: 'ABORTED' });
});

test('an agent that is disposed of while somebody waits for a port leaves nothing behind', async () => {
  const { agent, clock, table, pass } = await appFor();
  const kept = agent.keep({ internalPort: 6881 });
  kept.catch(() => undefined);
  await clock.settle(agent[Symbol.asyncDispose]());
  await expect(kept).rejects.toMatchObject({ code: 'ABORTED' });
  expect(table()).toEqual([]);
  await pass(60_000);
  expect(table()).toEqual([]);
});

test('where the gateway no longer answers, disposing ends in time and says what is left', async () => {
  const { agent, clock, embedded } = await appFor();
  const lease = await clock.settle(agent.keep({ internalPort: 6881 }));
  const reasons: (string | undefined)[] = [];
  lease.on('released', (_status, reason) => void reasons.push(reason));
  embedded.set({ silent: true });
  const startMs = clock.now();
  await clock.settle(agent[Symbol.asyncDispose]());
  expect(clock.now() - startMs).toBeLessThanOrEqual(12_000);
  expect(reasons).toEqual([expect.stringMatching(/./)]);
  expect(lease.state).toBe('released');
});

test("the agent's signal ends it as disposing does", async () => {
  const { another, clock, table } = await appFor();
  const end = new AbortController();
  const agent = another({ signal: end.signal });
  const lease = await clock.settle(agent.keep({ internalPort: 6881 }));
  end.abort();
  await clock.settle(agent[Symbol.asyncDispose]());
  expect(lease.state).toBe('released');
  expect(table()).toEqual([]);
});

test('a refusal rejects in the words of the gateway, and nothing is kept', async () => {
  const { agent, clock, table, pass } = await appFor({ deniedExternalPorts: [{ first: 6881, last: 6881 }] });
  const kept = agent.keep({ internalPort: 6881, choice: 'exact' });
  await expect(clock.settle(kept)).rejects.toMatchObject({ name: 'NatwardError', message: /6881/ });
  expect(agent.leases).toEqual([]);
  await pass(120_000);
  expect(table()).toEqual([]);
  // It may be asked for again.
  await expect(clock.settle(agent.keep({ internalPort: 6881, choice: 'exact' }))).rejects.toThrow(/6881/);
});

test('with retry it is asked for until it is granted', async () => {
  const quirks = { forbiddenByUser: true };
  const { agent, clock, embedded, pass } = await appFor({ protocols: ['upnp'], quirks });
  const lease = await clock.settle(agent.keep({ internalPort: 6881, retry: true }));
  expect(lease.state).toBe('refused');
  expect(lease.error).toMatchObject({ code: 'NOT_AUTHORIZED' });
  expect(agent.leases).toEqual([lease]);
  const told = toldBy(lease);
  embedded.set({ forbiddenByUser: false });
  await pass(60_000);
  expect(told).toEqual(['granted tcp 6881']);
  expect(lease.state).toBe('held');
  expect(lease.error).toBeUndefined();
});

test('where nobody answers it rejects, or is kept on trial', async () => {
  const { agent, clock, pass } = await appFor({ protocols: [] });
  await expect(clock.settle(agent.keep({ internalPort: 6881 }))).rejects.toMatchObject({
    code: 'NO_GATEWAY',
  });
  const lease = await clock.settle(agent.keep({ internalPort: 6881, retry: true }));
  expect(lease.state).toBe('no-gateway');
  expect(lease.error).toMatchObject({ code: 'NO_GATEWAY' });
  expect(lease.externalPort).toBeUndefined();
  await pass(1000);
});

test('whoever stops waiting gets ABORTED, and what was granted meanwhile is given back', async () => {
  const { another, clock, embedded, system, table, pass } = await appFor({ protocols: ['upnp'] });
  const stop = new AbortController();
  const agent = another({
    system: {
      ...system,
      http(request) {
        if (/#Add\w*PortMapping/.test(request.headers?.['SOAPAction'] ?? '')) stop.abort(new Error('enough'));
        return system.http(request);
      },
    },
  });
  const kept = agent.keep({ internalPort: 6881, signal: stop.signal });
  await expect(clock.settle(kept)).rejects.toMatchObject({ code: 'ABORTED', cause: { message: 'enough' } });
  expect(agent.leases).toEqual([]);
  await pass(60_000);
  expect(Object.keys(embedded.counters).join()).toMatch(/Add\w*PortMapping/);
  expect(table()).toEqual([]);
  await expect(agent.keep({ internalPort: 6881, signal: stop.signal })).rejects.toMatchObject({
    code: 'ABORTED',
  });
});

test('the same port is kept once; another agent of the process does not see it', async () => {
  const { agent, another, clock } = await appFor({ protocols: ['upnp'] });
  const lease = await clock.settle(agent.keep({ internalPort: 6881 }));
  await expect(clock.settle(agent.keep({ internalPort: 6881 }))).rejects.toMatchObject({
    code: 'CONFLICT',
    advice: 'Use the lease that there is, or release it first.',
  });
  const other = another();
  expect(other.leases).toEqual([]);
  const second = await clock.settle(other.keep({ internalPort: 6882 }));
  expect(other.leases).toEqual([second]);
  await clock.settle(other[Symbol.asyncDispose]());
  expect(lease.state).toBe('held');
  await clock.settle(lease.release());
  const again = await clock.settle(agent.keep({ internalPort: 6881 }));
  expect(again.id).toBe(lease.id);
});

test.each([
  [{ internalPort: 0 }, /internalPort 0/],
  [{ internalPort: 80.5 }, /internalPort 80.5/],
  [{ internalPort: 80, externalPort: 70_000 }, /externalPort 70000/],
  [{ internalPort: 80, protocol: 'sctp' as 'tcp' }, /protocol "sctp"/],
  [{ internalPort: 80, host: 'router' }, /host "router"/],
  [{ internalPort: 80, lifetimeSeconds: 0 }, /lifetimeSeconds 0/],
  [{ internalPort: 80, choice: 'maybe' as 'any' }, /choice "maybe"/],
  [{ internalPort: 80, description: 'x'.repeat(251) }, /description/],
])('refuses %# before anybody is asked', async (request, message) => {
  const { agent, embedded } = await appFor();
  await expect(agent.keep(request)).rejects.toMatchObject({
    code: 'USAGE',
    message: expect.stringMatching(message),
  });
  await expect(agent.map(request)).rejects.toMatchObject({ code: 'USAGE' });
  expect(embedded.counters).toEqual({});
});
