import { describe, expect, test } from 'vitest';
import type { GatewayReport } from '../../src/agent/survey.ts';
import type { Offer } from '../../src/discovery/gateway.ts';
import { MAPPING_PROTOCOLS } from '../../src/net/protocol.ts';
import type { System } from '../../src/system/system.ts';
import { gatewayFor } from '../support/gateway.ts';
import { agentOf, sceneFor } from './support.ts';

const RIVAL = '127.0.0.9';

async function gatewaysOf(
  { agent, options, clock }: Awaited<ReturnType<typeof sceneFor>>,
  more: Partial<typeof options> = {},
): Promise<{ reports: GatewayReport[]; offers: Offer[] }> {
  const reports: GatewayReport[] = [];
  const offers: Offer[] = [];
  await clock.settle(
    agent.gateways({
      ...options,
      ...more,
      onOffer: (offer) => offers.push(offer),
      onGateway: (report) => reports.push(report),
    }),
  );
  return { reports, offers };
}

describe('gateways', () => {
  test('reports what a gateway speaks, where its services are and whether the internet reaches it', async () => {
    const scene = await sceneFor({ externalAddress: '11.22.33.44' });
    const { reports, offers } = await gatewaysOf(scene);
    expect(reports).toEqual([
      {
        address: '127.0.0.1',
        interface: 'lo',
        externalAddress: '11.22.33.44',
        protocols: ['pcp', 'natpmp', 'upnp'],
        upnp: {
          location: scene.embedded.location,
          serviceType: 'urn:schemas-upnp-org:service:WANIPConnection:2',
          controlUrl: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/control\/WANIPConnection$/),
          model: expect.stringContaining('natward'),
        },
        verdict: {
          code: 'OK',
          message: 'has an address of the internet: mapped ports can be reached',
        },
      },
    ]);
    expect(offers.map(({ protocol }) => protocol).sort()).toEqual(['natpmp', 'pcp', 'upnp']);
  });

  test.each(MAPPING_PROTOCOLS)('reports a gateway that speaks %s alone', async (protocol) => {
    const scene = await sceneFor({ protocols: [protocol], externalAddress: '11.22.33.44' });
    const { reports } = await gatewaysOf(scene);
    expect(reports).toMatchObject([
      { protocols: [protocol], externalAddress: '11.22.33.44', verdict: { code: 'OK' } },
    ]);
    expect(reports[0]?.upnp === undefined).toBe(protocol !== 'upnp');
  });

  test.each([
    ['11.22.33.44', 'OK'],
    ['100.64.0.17', 'CGNAT'],
    ['100.127.255.254', 'CGNAT'],
    ['192.168.178.20', 'DOUBLE_NAT'],
    ['10.0.0.2', 'DOUBLE_NAT'],
    ['172.16.3.4', 'DOUBLE_NAT'],
  ])('judges the external address %s as %s', async (externalAddress, code) => {
    const { reports } = await gatewaysOf(await sceneFor({ externalAddress }));
    expect(reports).toMatchObject([{ externalAddress, verdict: { code } }]);
    const { message } = reports[0]?.verdict ?? { message: '' };
    expect(message.includes(externalAddress)).toBe(code !== 'OK');
  });

  test('says so where the gateway does not know its external address', async () => {
    const scene = await sceneFor({ protocols: ['natpmp'], quirks: { natpmpNetworkFailure: true } });
    const { reports } = await gatewaysOf(scene);
    expect(reports).toMatchObject([
      { externalAddress: undefined, protocols: ['natpmp'], verdict: { code: 'NO_EXTERNAL_ADDRESS' } },
    ]);
  });

  test('leaves nothing mapped, though PCP tells the address only with a mapping', async () => {
    const scene = await sceneFor({ protocols: ['pcp'] });
    await gatewaysOf(scene);
    expect(scene.embedded.counters).toHaveProperty(['pcp map']);
    expect(scene.embedded.table).toEqual([]);
  });

  test('is NO_GATEWAY where nobody offers anything', async () => {
    const scene = await sceneFor();
    await scene.embedded.close();
    await expect(gatewaysOf(scene)).rejects.toMatchObject({ code: 'NO_GATEWAY' });
  });
});

describe('externalAddress', () => {
  test.each(MAPPING_PROTOCOLS)('is what %s tells', async (via) => {
    const { agent, options, clock, embedded } = await sceneFor({ externalAddress: '11.22.33.44' });
    await expect(clock.settle(agent.externalAddress({ ...options, via }))).resolves.toBe('11.22.33.44');
    expect(embedded.table).toEqual([]);
  });

  test('is undefined where the gateway does not know it', async () => {
    const { agent, options, clock } = await sceneFor({
      protocols: ['natpmp'],
      quirks: { natpmpNetworkFailure: true },
    });
    await expect(clock.settle(agent.externalAddress(options))).resolves.toBeUndefined();
  });

  test('leaves no timer behind that would keep the program from ending', async () => {
    const { agent, options, clock } = await sceneFor({ protocols: ['natpmp'] });
    await clock.settle(agent.externalAddress({ ...options, via: 'natpmp' }));
    await clock.advance(0);
    expect(clock.pending).toBe(0);
  });
});

describe('list', () => {
  test('marks what natward made on this host', async () => {
    const at = await gatewayFor({ igdVersion: 1 }); // Version 2 shows strangers only their own rows.
    await (await agentOf(at, { client: RIVAL })).map('9000/udp', { via: 'upnp', description: 'games' });
    const { agent, map, options } = await agentOf(at);
    await map('8080', { via: 'upnp' });
    const rows = await at.clock.settle(agent.list(options));
    expect(rows).toEqual([
      {
        protocol: 'tcp',
        externalPort: 8080,
        internalClient: '127.0.0.1',
        internalPort: 8080,
        description: 'natward 8080/tcp',
        remainingSeconds: 7200,
        enabled: true,
        own: true,
      },
      expect.objectContaining({ protocol: 'udp', externalPort: 9000, description: 'games', own: false }),
    ]);
  });

  test('shows what is remembered where the gateway cannot list', async () => {
    const { agent, map, options, clock } = await sceneFor({ protocols: ['pcp', 'natpmp'] });
    await map('8080 9000/udp');
    await clock.advance(1_200_000);
    const rows = await clock.settle(agent.list(options));
    expect(rows).toMatchObject([
      { protocol: 'tcp', externalPort: 8080, own: true, enabled: true },
      { protocol: 'udp', externalPort: 9000, own: true },
    ]);
    for (const { remainingSeconds } of rows) expect(remainingSeconds).toBeLessThanOrEqual(6000);
  });

  test('forgets what has ended', async () => {
    const { agent, map, options, clock } = await sceneFor({ protocols: ['pcp'] });
    await map('8080', { lifetimeSeconds: 120 });
    await clock.advance(121_000);
    await expect(clock.settle(agent.list(options))).resolves.toEqual([]);
  });

  test('is NO_GATEWAY where nobody answers, whatever is remembered', async () => {
    const { agent, map, options, clock, embedded } = await sceneFor({ protocols: ['pcp'] });
    await map('8080');
    await embedded.close();
    await expect(clock.settle(agent.list(options))).rejects.toMatchObject({ code: 'NO_GATEWAY' });
  });
});

describe('a host with two ways out', () => {
  const DEAD = '127.88.88.88';

  test('asks the second gateway where the first one offers nothing', async () => {
    const at = await gatewayFor({ externalAddress: '11.22.33.44' });
    const twoWays = (system: System): System => ({
      ...system,
      network: async () => {
        const { defaultRoutes, addresses } = await system.network();
        const dead = { family: 4, interface: 'lo', gateway: DEAD, metric: 0 } as const;
        return { addresses, defaultRoutes: [dead, ...defaultRoutes] };
      },
    });
    const { map, agent, options } = await agentOf(at, { system: twoWays });
    const { mappings } = await map('8080', { via: 'pcp' });
    expect(mappings).toMatchObject([{ gateway: '127.0.0.1', externalPort: 8080 }]);
    await expect(at.clock.settle(agent.externalAddress({ ...options, via: 'pcp' }))).resolves.toBe(
      '11.22.33.44',
    );
  });

  test('names both gateways where neither offers anything', async () => {
    const at = await gatewayFor();
    await at.embedded.close();
    const { map } = await agentOf(at, {
      system: (system) => ({
        ...system,
        network: async () => {
          const { defaultRoutes, addresses } = await system.network();
          const dead = { family: 4, interface: 'lo', gateway: DEAD, metric: 0 } as const;
          return { addresses, defaultRoutes: [dead, ...defaultRoutes] };
        },
      }),
    });
    await expect(map('8080', { via: 'pcp' })).rejects.toMatchObject({
      code: 'NO_GATEWAY',
      message: expect.stringMatching(/127\.88\.88\.88 .*; 127\.0\.0\.1 /),
    });
  });
});
