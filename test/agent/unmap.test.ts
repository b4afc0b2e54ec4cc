import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { UnmapReport } from '../../src/agent/unmap.ts';
import { gatewayFor } from '../support/gateway.ts';
import { agentOf, asksOf, type Options, sceneFor, type TestAgent } from './support.ts';

const RIVAL = '127.0.0.9';

interface UnmapOptions extends Options {
  readonly others?: 'refuse' | 'force';
}

async function unmap(
  {
    agent,
    options,
    clock,
  }: Pick<TestAgent, 'agent' | 'options'> & Pick<Awaited<ReturnType<typeof gatewayFor>>, 'clock'>,
  specs: string,
  more: UnmapOptions = {},
): Promise<UnmapReport> {
  const report = await clock.settle(agent.unmap(asksOf(specs), { ...options, others: 'refuse', ...more }));
  await clock.settle(agent[Symbol.asyncDispose]());
  return report;
}

describe('unmap', () => {
  test.each(['pcp', 'natpmp', 'upnp'] as const)('takes back what was mapped over %s', async (via) => {
    const scene = await sceneFor();
    await scene.map('8080 8081', { via });
    const { released, failures } = await unmap(scene, '8080');
    expect(failures).toEqual([]);
    expect(released).toEqual([
      {
        protocol: 'tcp',
        externalPort: 8080,
        internalClient: '127.0.0.1',
        internalPort: 8080,
        gateway: '127.0.0.1',
      },
    ]);
    expect(scene.embedded.table.map(({ externalPort }) => externalPort)).toEqual([8081]);
    expect(scene.remembered().mappings).toMatchObject([{ externalPort: 8081 }]);
  });

  test('takes both protocols of a port, and each port of a range', async () => {
    const scene = await sceneFor();
    await scene.map('6000-6005:7000-7005/tcp+udp');
    const { released } = await unmap(scene, '6000-6005:7000-7005/tcp+udp');
    expect(released).toHaveLength(12);
    expect(scene.embedded.table).toEqual([]);
    expect(scene.remembered().mappings).toEqual([]);
  });

  describe('knows the mapping of 8080, which became another external port, by', () => {
    test.each([
      ['what was asked for', () => '8080'],
      ['both ports as they were asked for', () => '8080:8080'],
      ['the external port that was granted', (granted: number) => `${granted}:8080`],
      ['any external port', () => '*:8080'],
      ['the external port alone, as list shows it', (granted: number) => String(granted)],
    ])('%s', async (_how, spec) => {
      const at = await gatewayFor();
      await (await agentOf(at, { client: RIVAL })).map('8080');
      const own = await agentOf(at);
      const granted = (await own.map('8080')).mappings[0]?.externalPort ?? 0;
      const { released } = await unmap({ ...at, ...own }, spec(granted));
      expect(released).toMatchObject([{ externalPort: granted, internalPort: 8080 }]);
      expect(at.embedded.table).toMatchObject([{ internalClient: RIVAL }]);
    });
  });

  test('knows 81:9081, which became another external port, by the 81 alone', async () => {
    const scene = await sceneFor({ deniedExternalPorts: [{ first: 1, last: 1023 }] });
    const granted = (await scene.map('81:9081')).mappings[0]?.externalPort;
    const { released } = await unmap(scene, '81');
    expect(released).toMatchObject([{ externalPort: granted, internalPort: 9081 }]);
  });

  test('leaves the mapping of another external port of the same internal one', async () => {
    const scene = await sceneFor({ protocols: ['upnp'] });
    await scene.map('8081:8080 8082:8080');
    await unmap(scene, '8081:8080');
    expect(scene.embedded.table).toMatchObject([{ externalPort: 8082 }]);
  });

  test('does not touch what somebody else mapped, says whose it is and how to insist', async () => {
    const at = await gatewayFor({ igdVersion: 1 }); // Version 2 shows strangers only their own rows.
    await (await agentOf(at, { client: RIVAL })).map('8080', { via: 'upnp', description: 'games' });
    const own = await agentOf(at);
    const { released, failures } = await unmap({ ...at, ...own }, '8080');
    expect(released).toEqual([]);
    expect(failures).toMatchObject([{ spec: '8080', error: { code: 'NOT_OWN' } }]);
    expect(failures[0]?.error.message).toContain(`${RIVAL}:8080 (“games”)`);
    expect(failures[0]?.error.advice).toContain('natward unmap --force 8080');
    expect(at.embedded.table).toHaveLength(1);
  });

  test('takes somebody else’s mapping back with force, where the gateway lets it', async () => {
    const at = await gatewayFor({ igdVersion: 1, secureMode: false });
    await (await agentOf(at, { client: RIVAL })).map('8080', { via: 'upnp' });
    const { released } = await unmap({ ...at, ...(await agentOf(at)) }, '8080', { others: 'force' });
    expect(released).toMatchObject([{ internalClient: RIVAL, externalPort: 8080 }]);
    expect(at.embedded.table).toEqual([]);
  });

  test('is NOT_FOUND where there is no such mapping', async () => {
    const { failures } = await unmap(await sceneFor(), '8080/udp');
    expect(failures).toMatchObject([
      { error: { code: 'NOT_FOUND', message: 'no mapping of UDP 8080 is known on 127.0.0.1' } },
    ]);
  });

  test('finds what this host has over NAT-PMP with force, though nobody remembers it', async () => {
    const scene = await sceneFor({ protocols: ['natpmp'] });
    await scene.map('8080');
    await writeFile(join(scene.directory, 'state.json'), '{"version":1,"mappings":[],"gateways":[]}');
    const stranger = { ...scene, ...(await agentOf(scene)) };
    expect((await unmap(stranger, '8080')).failures).toMatchObject([{ error: { code: 'NOT_FOUND' } }]);
    await unmap(stranger, '8080', { others: 'force' });
    expect(scene.embedded.table).toEqual([]);
  });

  test('falls back to another protocol where PCP refuses the nonce', async () => {
    const scene = await sceneFor();
    await scene.map('8080', { via: 'pcp' });
    const file = join(scene.directory, 'state.json');
    await writeFile(file, (await readFile(file, 'utf8')).replace(/"[0-9a-f]{24}"/, `"${'ab'.repeat(12)}"`));
    const later = { ...scene, ...(await agentAgain(scene)) };
    const { released, failures } = await unmap(later, '8080');
    expect(failures).toEqual([]);
    expect(released).toHaveLength(1);
    expect(scene.embedded.table).toEqual([]);
  });

  test('falls back to another protocol where the one that granted it has gone', async () => {
    const scene = await sceneFor();
    await scene.map('8080', { via: 'pcp' });
    scene.embedded.set({ silentOn: ['pcp announce', 'pcp map'] });
    const { released, failures } = await unmap(scene, '8080');
    expect(failures).toEqual([]);
    expect(released).toHaveLength(1);
    expect(scene.embedded.table).toEqual([]);
  });

  test('says that the protocol of the grant is silent, where no other can help', async () => {
    const scene = await sceneFor();
    await scene.map('8080', { via: 'pcp' });
    const { failures } = await unmap(scene, '8080', { via: 'upnp' });
    expect(failures).toEqual([]); // UPnP sees the row and may delete it.
    await scene.map('8081', { via: 'upnp' });
    const refused = await unmap(scene, '8081', { via: 'pcp' });
    expect(refused.failures).toMatchObject([{ error: { code: 'TIMEOUT' } }]);
    expect(refused.failures[0]?.error.message).toContain('granted this mapping over upnp');
    expect(scene.remembered().mappings).toMatchObject([{ externalPort: 8081 }]);
  });

  test('goes on with the other ports after a failure', async () => {
    const scene = await sceneFor();
    await scene.map('8081');
    const { released, failures } = await unmap(scene, '8080-8082');
    expect(released).toMatchObject([{ externalPort: 8081 }]);
    expect(failures.map(({ spec }) => spec)).toEqual(['8080/tcp', '8082/tcp']);
  });

  test('does not look for a row that another gateway made', async () => {
    const scene = await sceneFor();
    await scene.map('8080');
    const other = await gatewayFor();
    const file = join(scene.directory, 'state.json');
    await writeFile(file, (await readFile(file, 'utf8')).replaceAll('"127.0.0.1"', '"127.0.0.7"'));
    const { failures } = await unmap({ ...other, ...(await agentAgain(scene, other)) }, '8080');
    expect(failures).toMatchObject([{ error: { code: 'NOT_FOUND' } }]);
  });
});

/** Another process of the same person: the same memory, read afresh. */
async function agentAgain(
  scene: Awaited<ReturnType<typeof sceneFor>>,
  at: Awaited<ReturnType<typeof gatewayFor>> = scene,
): Promise<TestAgent> {
  const later = await agentOf(at);
  const state = await readFile(join(scene.directory, 'state.json'));
  await writeFile(join(later.directory, 'state.json'), state);
  return later;
}
