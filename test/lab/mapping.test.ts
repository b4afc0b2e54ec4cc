/** natward before a real miniupnpd: what it says is what the gateway's kernel does and what arrives. */

import { beforeEach, describe, expect, test } from 'vitest';
import { ADDRESSES, type GatewayOptions } from './support/lab.ts';
import {
  describeLab,
  freshHome,
  linesOf,
  listed,
  type MapDocument,
  rowsOf,
  rule,
  run,
  runJson,
} from './support/suite.ts';

interface Configuration {
  readonly name: string;
  readonly gateway: GatewayOptions;
  readonly flags: readonly string[];
  readonly via: 'pcp' | 'natpmp' | 'upnp';
  /** Whether `upnpc` has something to ask. */
  readonly listed: boolean;
}

interface GatewayDocument {
  readonly gateways: readonly {
    readonly protocols: readonly string[];
    readonly upnp: {
      readonly location: string;
      readonly serviceType: string;
      readonly controlUrl: string;
    } | null;
  }[];
}

const CONFIGURATIONS: readonly Configuration[] = [
  { name: 'PCP alone', gateway: { natpmp: false, upnp: false }, flags: [], via: 'pcp', listed: false },
  { name: 'NAT-PMP alone', gateway: { pcp: false, upnp: false }, flags: [], via: 'natpmp', listed: false },
  { name: 'IGD:2 alone', gateway: { pcp: false, natpmp: false }, flags: [], via: 'upnp', listed: true },
  {
    name: 'IGD:1 alone',
    gateway: { pcp: false, natpmp: false, igdV1: true },
    flags: [],
    via: 'upnp',
    listed: true,
  },
  { name: 'all, --via pcp', gateway: {}, flags: ['--via', 'pcp'], via: 'pcp', listed: true },
  { name: 'all, --via natpmp', gateway: {}, flags: ['--via', 'natpmp'], via: 'natpmp', listed: true },
  { name: 'all, --via upnp', gateway: {}, flags: ['--via', 'upnp'], via: 'upnp', listed: true },
];

const NAMES = { pcp: 'PCP', natpmp: 'NAT-PMP', upnp: 'UPnP' };

describeLab('mapping', { rival: true }, (lab) => {
  describe.each(CONFIGURATIONS)('$name', ({ gateway, flags, via, listed: hasRows }) => {
    let home: { readonly home: string };
    beforeEach(async () => {
      home = freshHome();
      await lab().startGateway(gateway);
    });
    const rows = (): ReturnType<typeof rowsOf> => (hasRows ? rowsOf(lab()) : lab().natRules());

    test('map 8080: the rule, the row and the bytes are there, and unmap takes them away', async () => {
      const { stdout, stderr } = await run(lab(), ['map', '8080', ...flags], home);
      expect(stdout).toBe(
        `tcp 11.22.33.44:8080 -> 192.168.77.10:8080 for 2h via ${NAMES[via]} on 192.168.77.1\n`,
      );
      expect(stderr).toBe('');
      expect(await lab().natRules()).toEqual([rule('tcp', 8080)]);
      expect(await rows()).toEqual([rule('tcp', 8080)]);
      const server = await lab().serve({ port: 8080, reply: 'from the lan' });
      expect(await lab().connectFromWan(8080, 'tcp', { send: 'from outside' })).toBe('from the lan');
      await expect.poll(() => server.received).toMatchObject([{ from: ADDRESSES.wan, text: 'from outside' }]);
      await server.stop();

      expect(await listed(lab(), home)).toEqual([{ ...rule('tcp', 8080), own: true }]);

      await run(lab(), ['unmap', '8080', ...flags], home);
      expect(await lab().natRules()).toEqual([]);
      expect(await rows()).toEqual([]);
      expect(await listed(lab(), home)).toEqual([]);
    });

    test('the same command twice refreshes: one rule, one row, one thing remembered', async () => {
      await run(lab(), ['map', '*:6881/tcp+udp', '--lifetime', '20m', ...flags], home);
      const again = await runJson<MapDocument>(lab(), ['map', '*:6881/tcp+udp', ...flags], home);
      expect(again.mappings.map(({ lifetimeSeconds }) => lifetimeSeconds)).toEqual([7200, 7200]);
      const rules = await lab().natRules();
      expect(rules).toHaveLength(2);
      expect(await rows()).toEqual(rules);
      expect(await listed(lab(), home)).toEqual(rules.map((one) => ({ ...one, own: true })));
    });

    test('*:PORT/tcp+udp: whatever port the gateway gives, the same for both, and bytes of both arrive', async () => {
      const { mappings } = await runJson<MapDocument>(lab(), ['map', '*:6881/tcp+udp', ...flags], home);
      const [tcp, udp] = mappings;
      expect(mappings.map(({ protocol }) => protocol)).toEqual(['tcp', 'udp']);
      expect(udp?.externalPort).toBe(tcp?.externalPort);
      const port = tcp?.externalPort ?? 0;
      const servers = [
        await lab().serve({ port: 6881, reply: 'stream' }),
        await lab().serve({ port: 6881, protocol: 'udp', reply: 'datagram' }),
      ];
      expect(await lab().connectFromWan(port, 'tcp')).toBe('stream');
      expect(await lab().connectFromWan(port, 'udp')).toBe('datagram');
      for (const server of servers) await server.stop();
      await run(lab(), ['unmap', '*:6881/tcp+udp', ...flags], home);
      expect(await lab().natRules()).toEqual([]);
    });

    test('--json is what the kernel does, of a range, with a lifetime and a description', async () => {
      const before = Date.now();
      const { mappings, failures } = await runJson<MapDocument>(
        lab(),
        [
          'map',
          '6000-6003:7000-7003/udp',
          '8085',
          '--lifetime',
          '10m',
          '--description',
          'a <b> & "c"',
          ...flags,
        ],
        home,
      );
      expect(failures).toEqual([]);
      expect(
        mappings.map(({ protocol, externalPort, internalClient, internalPort }) => ({
          protocol,
          externalPort,
          internalClient,
          internalPort,
        })),
      ).toEqual(await lab().natRules());
      expect(mappings).toHaveLength(5);
      for (const mapping of mappings) {
        expect(mapping).toMatchObject({
          externalAddress: ADDRESSES.external,
          lifetimeSeconds: 600,
          via,
          gateway: ADDRESSES.gateway,
          description: 'a <b> & "c"',
          target: null,
          notes: [],
        });
        const leftSeconds = (Date.parse(mapping.expiresAt ?? '') - before) / 1000;
        expect(leftSeconds).toBeGreaterThan(590);
        expect(leftSeconds).toBeLessThan(620);
      }
      expect(await rows()).toEqual(await lab().natRules());
    });

    test('the lifetime said is the one granted: a gateway may give more than was asked for', async () => {
      const { mappings } = await runJson<MapDocument>(
        lab(),
        ['map', '8080', '--lifetime', '90s', ...flags],
        home,
      );
      // Over PCP miniupnpd grants 120 s at least.
      const granted = via === 'pcp' ? 120 : 90;
      expect(mappings.map(({ lifetimeSeconds }) => lifetimeSeconds)).toEqual([granted]);
      const leases = hasRows ? (await lab().upnpcList()).map(({ leaseSeconds }) => leaseSeconds) : [granted];
      expect(leases).toHaveLength(1);
      expect(leases[0]).toBeGreaterThan(granted - 10);
      expect(leases[0]).toBeLessThanOrEqual(granted);
    });

    test('address and gateway tell what the gateway says about itself', async () => {
      expect((await run(lab(), ['address', ...flags], home)).stdout).toBe(`${ADDRESSES.external}\n`);
      expect(await lab().natRules(), 'a question leaves no mapping behind').toEqual([]);
      const { gateways } = await runJson<GatewayDocument>(lab(), ['gateway', ...flags], home);
      expect(gateways).toMatchObject([
        {
          address: ADDRESSES.gateway,
          interface: 'eth0',
          externalAddress: ADDRESSES.external,
          protocols: [via],
          verdict: { code: 'OK' },
        },
      ]);
      const url = via === 'upnp' ? lab().gateway.descriptionUrl() : undefined;
      const device = gateways[0]?.upnp ?? undefined;
      expect(device?.location).toBe(url);
      expect(device?.controlUrl).toBe(url?.replace('/rootDesc.xml', '/ctl/IPConn'));
      expect(device?.serviceType).toBe(
        url && `urn:schemas-upnp-org:service:WANIPConnection:${gateway.igdV1 ? 1 : 2}`,
      );
    });
  });

  describe('all three protocols together', () => {
    test('what one command maps another sees, refreshes and takes back, and gateway names all three', async () => {
      const home = freshHome();
      await lab().startGateway();
      const { gateways } = await runJson<GatewayDocument>(lab(), ['gateway'], home);
      expect(gateways.map(({ protocols }) => protocols)).toEqual([['pcp', 'natpmp', 'upnp']]);
      await run(lab(), ['map', '8080', '443:8443', '5000-5002/tcp+udp'], { ...home, code: 0 });
      expect(await rowsOf(lab())).toEqual(await lab().natRules());
      // External ports below 1024 are not this gateway's to give: another one is, and natward says so.
      const table = await listed(lab(), home);
      expect(table).toHaveLength(8);
      expect(table.every(({ own }) => own)).toBe(true);
      await run(lab(), ['map', '8080', '443:8443', '5000-5002/tcp+udp'], home);
      expect(await lab().natRules()).toHaveLength(8);
      await run(lab(), ['unmap', '8080', '443:8443', '5000-5002/tcp+udp'], home);
      expect(await lab().natRules()).toEqual([]);
      expect(await rowsOf(lab())).toEqual([]);
    });

    test.each([
      ['pcp', 'natpmp'],
      ['pcp', 'upnp'],
      ['natpmp', 'pcp'],
      ['natpmp', 'upnp'],
      ['upnp', 'pcp'],
      ['upnp', 'natpmp'],
    ])(
      'mapped over %s, refreshed over %s: still one mapping, and unmap removes it',
      async (first, second) => {
        const home = freshHome();
        await lab().startGateway();
        await run(lab(), ['map', '8080', '--via', first], home);
        await run(lab(), ['map', '8080', '--via', second], home);
        expect(await lab().natRules()).toEqual([rule('tcp', 8080)]);
        expect(await rowsOf(lab())).toEqual([rule('tcp', 8080)]);
        await run(lab(), ['unmap', '8080'], home);
        expect(await lab().natRules()).toEqual([]);
        expect(await rowsOf(lab())).toEqual([]);
      },
    );

    test('the facts are on stdout, one a line: runs of ports are one', async () => {
      await lab().startGateway();
      const { stdout } = await run(lab(), ['map', '7000-7009', '7000-7009/udp'], freshHome());
      expect(linesOf(stdout)).toEqual([
        'tcp 11.22.33.44:7000-7009 -> 192.168.77.10:7000-7009 for 2h via PCP on 192.168.77.1',
        'udp 11.22.33.44:7000-7009 -> 192.168.77.10:7000-7009 for 2h via PCP on 192.168.77.1',
      ]);
    });

    test('--gateway and --interface name what is asked', async () => {
      await lab().startGateway();
      const named = ['--gateway', ADDRESSES.gateway, '--interface', 'eth0'];
      await run(lab(), ['map', '8080', ...named], freshHome());
      expect(await lab().natRules()).toEqual([rule('tcp', 8080)]);
      await run(lab(), ['map', '8081', '--interface', 'nix0'], { ...freshHome(), code: 2 });
      await run(lab(), ['map', '8081', '--gateway', ADDRESSES.rival], { ...freshHome(), code: 3 });
      expect(await lab().natRules()).toHaveLength(1);
    });
  });

  test('1000 ports in one command, and all of them taken back', { timeout: 180_000 }, async () => {
    const home = freshHome();
    await lab().startGateway({ quiet: true });
    const range = { ...home, timeoutMs: 90_000 };
    const { stdout } = await run(lab(), ['map', '20000-20999'], range);
    expect(stdout).toBe(
      'tcp 11.22.33.44:20000-20999 -> 192.168.77.10:20000-20999 for 2h via PCP on 192.168.77.1\n',
    );
    const wanted = Array.from({ length: 1000 }, (_, at) => rule('tcp', 20_000 + at));
    expect(await lab().natRules()).toEqual(wanted);
    expect(await listed(lab(), home)).toEqual(wanted.map((one) => ({ ...one, own: true })));
    await run(lab(), ['unmap', '20000-20999'], range);
    expect(await lab().natRules()).toEqual([]);
    expect(await listed(lab(), home)).toEqual([]);
  });
});
