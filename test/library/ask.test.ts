import { expect, test } from 'vitest';
import { appFor } from './support.ts';

test.each(['pcp', 'natpmp', 'upnp'] as const)('maps a port once over %s, and takes it back', async (via) => {
  const { agent, clock, embedded, table } = await appFor({ protocols: [via] });
  const mapping = await clock.settle(
    agent.map({ internalPort: 8443, externalPort: 4443, lifetimeSeconds: 3600, description: 'a game' }),
  );
  expect(mapping).toMatchObject({
    protocol: 'tcp',
    internalPort: 8443,
    externalPort: 4443,
    lifetimeSeconds: 3600,
    description: 'a game',
    via,
    notes: [],
  });
  expect(mapping.expiresAt?.getTime()).toBe(clock.now() + 3_600_000);
  expect(agent.leases).toEqual([]);
  expect(table()).toEqual(['tcp 4443']);
  await clock.settle(agent.unmap(mapping));
  expect(table()).toEqual([]);
  expect(embedded.table).toEqual([]);
});

test('maps TCP and UDP at one number, and takes back both by their end', async () => {
  const { agent, clock, table } = await appFor();
  const mapping = await clock.settle(agent.map({ internalPort: 8443, externalPort: 0, protocol: 'tcp+udp' }));
  expect(mapping.mappings).toHaveLength(2);
  expect(new Set(mapping.mappings.map(({ externalPort }) => externalPort)).size).toBe(1);
  expect(table()).toHaveLength(2);
  await clock.settle(agent.unmap({ internalPort: 8443, protocol: 'tcp+udp' }));
  expect(table()).toEqual([]);
});

test('says that another port than asked for was granted, unless no other will do', async () => {
  const { agent, clock } = await appFor({ deniedExternalPorts: [{ first: 4443, last: 4443 }] });
  const { externalPort, notes } = await clock.settle(agent.map({ internalPort: 8443, externalPort: 4443 }));
  expect(externalPort).not.toBe(4443);
  expect(notes[0]).toMatch(/4443 was not to be had/);
  const exact = agent.map({ internalPort: 8444, externalPort: 4443, choice: 'exact' });
  await expect(clock.settle(exact)).rejects.toMatchObject({ name: 'NatwardError' });
});

test("does not take back somebody else's mapping, unless it is forced to", async () => {
  const { agent, clock, embedded, gateway, table } = await appFor({ protocols: ['upnp'] });
  await embedded.give('tcp', 7777, { address: gateway.localAddress, port: 7777 });
  await expect(clock.settle(agent.unmap({ internalPort: 7777 }))).rejects.toMatchObject({
    code: 'NOT_OWN',
    advice: "To delete it all the same: unmap(mapping, { others: 'force' })",
  });
  await clock.settle(agent.unmap({ internalPort: 7777 }, { others: 'force' }));
  expect(table()).toEqual([]);
  await expect(clock.settle(agent.unmap({ internalPort: 7777 }))).rejects.toMatchObject({
    code: 'NOT_FOUND',
  });
});

test('a port that is kept is released, not unmapped; mapped once more, it is refreshed', async () => {
  const { agent, clock, pass } = await appFor({ protocols: ['pcp'] });
  const lease = await clock.settle(agent.keep({ internalPort: 6881 }));
  await pass(1000);
  await expect(clock.settle(agent.unmap({ internalPort: 6881 }))).rejects.toMatchObject({
    code: 'NOT_OWN',
    advice: 'Release its lease.',
  });
  // PCP would refuse another nonce.
  const mapping = await clock.settle(agent.map({ internalPort: 6881 }));
  expect(mapping.externalPort).toBe(lease.externalPort);
});

test("lists the gateway's table with its own rows marked, kept ones as well", async () => {
  const { agent, clock, embedded, gateway } = await appFor();
  await embedded.give('udp', 7777, { address: gateway.localAddress, port: 7777 });
  await clock.settle(agent.keep({ internalPort: 6881 }));
  await clock.settle(agent.map({ internalPort: 6882 }));
  const rows = await clock.settle(agent.mappings());
  expect(rows.map(({ externalPort, own }) => [externalPort, own])).toEqual([
    [6881, true],
    [6882, true],
    [7777, false],
  ]);
});

test('tells the external address', async () => {
  const { agent, clock } = await appFor({ externalAddress: '198.51.100.7' });
  expect(await clock.settle(agent.externalAddress())).toBe('198.51.100.7');
});

test('gateways() tells each one and ends', async () => {
  const { agent, clock, gateway } = await appFor();
  const found = await clock.settle(collected(agent.gateways()));
  expect(found).toMatchObject([
    { address: gateway.address, interface: 'lo', protocols: ['pcp', 'natpmp', 'upnp'] },
  ]);
});

test('gateways() may be left, and asks nobody any more', async () => {
  const { agent, clock, embedded } = await appFor();
  const first = async () => {
    for await (const { address } of agent.gateways()) return address;
    return undefined;
  };
  expect(await clock.settle(first())).toBeDefined();
  const asked = { ...embedded.counters };
  await clock.settle(clock.sleep(10_000));
  expect(embedded.counters).toEqual(asked);
});

test('gateways() throws where there is none, or where it is told to stop', async () => {
  const { agent, clock } = await appFor({ protocols: [] });
  await expect(clock.settle(collected(agent.gateways()))).rejects.toMatchObject({
    code: 'NO_GATEWAY',
    advice: expect.stringContaining('the option gateway'),
  });
  const stop = new AbortController();
  const looking = collected(agent.gateways({ signal: stop.signal }));
  looking.catch(() => undefined);
  await clock.settle(clock.sleep(50));
  stop.abort();
  await expect(clock.settle(looking)).rejects.toMatchObject({ code: 'ABORTED' });
});

test('whoever stops waiting for a mapping gets ABORTED, and what is granted late is given back', async () => {
  const { another, clock, embedded, system, table } = await appFor({ protocols: ['upnp'] });
  const stop = new AbortController();
  const agent = another({
    system: {
      ...system,
      http(request) {
        if (/#Add\w*PortMapping/.test(request.headers?.['SOAPAction'] ?? '')) stop.abort();
        return system.http(request);
      },
    },
  });
  const mapping = agent.map({ internalPort: 8443, signal: stop.signal });
  await expect(clock.settle(mapping)).rejects.toMatchObject({ code: 'ABORTED' });
  expect(Object.keys(embedded.counters).join()).toMatch(/Add\w*PortMapping/);
  expect(table()).toEqual([]);
  await expect(clock.settle(agent.externalAddress({ signal: stop.signal }))).rejects.toMatchObject({
    code: 'ABORTED',
  });
});

test('a gateway that says nothing is given as long as the agent gives it', async () => {
  const { another, clock } = await appFor({ protocols: [] });
  const agent = another({ timeoutMs: 1000, via: 'pcp' });
  const startMs = clock.now();
  await expect(clock.settle(agent.map({ internalPort: 80 }))).rejects.toMatchObject({ name: 'NatwardError' });
  expect(clock.now() - startMs).toBeLessThanOrEqual(1000);
});

test.each([
  [{ gateway: 'router' }, /gateway/],
  [{ name: '' }, /name/],
  [{ name: 'config' }, /natward itself/],
  [{ timeoutMs: 0 }, /timeoutMs/],
])('refuses the options %j', async (options, message) => {
  const { another } = await appFor();
  expect(() => another(options)).toThrow(message);
});

async function collected<T>(all: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const one of all) found.push(one);
  return found;
}
