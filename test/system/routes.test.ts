import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import type { Family } from '../../src/net/address.ts';
import { interfaceAddresses } from '../../src/system/routes/addresses.ts';
import { defaultRoutes, nextHop } from '../../src/system/routes/default.ts';
import { parseIpv4Table, parseIpv6Table } from '../../src/system/routes/linux.ts';
import { parseNetstat } from '../../src/system/routes/netstat.ts';
import { parseNetRoutes } from '../../src/system/routes/windows.ts';
import { type DefaultRoute, type NetworkSource, readNetwork, thisMachine } from '../../src/system/routes.ts';

function fixture(name: string): string {
  return readFileSync(new URL(`../../fixtures/tools/${name}`, import.meta.url), 'utf8');
}

function source(parts: Partial<NetworkSource>): NetworkSource {
  return {
    platform: 'linux',
    readFile: () => undefined,
    run: (command) => Promise.reject(new Error(`${command} was run`)),
    addresses: () => [],
    ...parts,
  };
}

function linux(name: string): NetworkSource {
  const files = new Map([
    ['/proc/net/route', `${name}.route.txt`],
    ['/proc/net/ipv6_route', `${name}.ipv6_route.txt`],
  ]);
  return source({ readFile: (path) => fixture(files.get(path) ?? path) });
}

function withoutIpv6(path: string): string | undefined {
  return path === '/proc/net/route' ? fixture('linux-container.route.txt') : undefined;
}

function netstat(platform: NodeJS.Platform, inet: string, inet6?: string): NetworkSource {
  return source({
    platform,
    run: (command, args) => {
      expect(`${command} ${args.join(' ')}`).toMatch(/^netstat -rn -f inet6?$/);
      const name = args.includes('inet') ? inet : inet6;
      return Promise.resolve(name === undefined ? 'Routing tables\n' : fixture(name));
    },
  });
}

function windows(answer: string): NetworkSource {
  return source({ platform: 'win32', run: () => Promise.resolve(answer) });
}

async function routesOf(from: NetworkSource): Promise<readonly DefaultRoute[]> {
  return (await readNetwork(from)).defaultRoutes;
}

function route(family: Family, name: string, gateway: string | undefined, metric: number): DefaultRoute {
  return { family, interface: name, gateway, metric };
}

describe('readNetwork() on Linux', () => {
  it('puts the least metric first and leaves out unreachable and blackhole routes', async () => {
    expect(await routesOf(linux('linux-desktop'))).toEqual([
      route(4, 'enp3s0', '192.168.1.1', 100),
      route(4, 'wlan0', '192.168.1.1', 600),
    ]);
  });

  it("takes OpenVPN's halves for a default route that beats the one they hide", async () => {
    expect(await routesOf(linux('linux-openvpn-def1'))).toEqual([
      route(6, 'tun0', undefined, 1024),
      route(4, 'tun0', '10.8.0.1', 0),
      route(4, 'eth0', '192.168.1.1', 0),
      route(6, 'eth0', 'fe80::1%eth0', 1024),
    ]);
  });

  it('gives no gateway for a default route over WireGuard', async () => {
    expect(await routesOf(linux('linux-wireguard'))).toEqual([
      route(4, 'wg0', undefined, 50),
      route(6, 'wg0', undefined, 50),
      route(4, 'eth0', '192.168.1.1', 100),
      route(6, 'eth0', 'fe80::1%eth0', 1024),
    ]);
  });

  it('finds the bridge of a container, without a program', async () => {
    expect(await routesOf(linux('linux-container'))).toEqual([route(4, 'eth0', '172.17.0.1', 0)]);
  });

  it("gives a router's link-local address its zone, whatever the interface is called", async () => {
    expect(await routesOf(linux('linux-ipv6-ra'))).toEqual([
      route(4, 'eth0', '192.168.1.1', 0),
      route(6, 'eth0', 'fe80::1%eth0', 1024),
      route(6, 'eth0.100', 'fe80::a:1%eth0.100', 2048),
    ]);
  });

  it('works where IPv6 is switched off and its file is absent', async () => {
    const ipv4Only = { ...linux('linux-container'), readFile: withoutIpv6 };
    expect(await routesOf(ipv4Only)).toEqual([route(4, 'eth0', '172.17.0.1', 0)]);
  });

  it('throws FAILED where neither file exists', async () => {
    await expect(readNetwork(source({}))).rejects.toMatchObject({
      code: 'FAILED',
      advice: expect.stringContaining('/proc'),
    });
  });

  it('skips lines that are no routes and reads the rest', () => {
    const good = fixture('linux-container.route.txt').split('\n')[1];
    const lines = [
      'eth0',
      'eth0 00000000 010200C0 zzzz 0 0 0 00000000 0 0 0',
      'eth0 00000000 0102 0003 0 0 0 00000000 0 0 0',
      'eth0 00000000 010200C0 0003 0 0 many 00000000 0 0 0',
      'down0\t00000000\t010200C0\t0002\t0\t0\t0\t00000000\t0\t0\t0',
      good,
    ];
    expect(parseIpv4Table(lines.join('\n')).map((entry) => entry.interface)).toEqual(['eth0']);
    const zero = '0'.repeat(32);
    const odd = [
      `${zero} 00 ${zero} 00 fe80 00000400 1 0 00000003 eth0`,
      `${zero} 00 ${zero} 00 ${zero} 400 1 0 00000003 eth0`,
      `${zero} 00 ${zero} 00 ${zero} 00000400 1 0 00000201 eth0`,
      `${zero} 00`,
    ];
    expect(parseIpv6Table(odd.join('\n'))).toEqual([]);
  });

  it('looks at 10,000 lines and no more', () => {
    const line = 'eth0\t00000000\t010011AC\t0003\t0\t0\t7\t00000000\t0\t0\t0\n';
    expect(parseIpv4Table('x\n'.repeat(9_999) + line)).toHaveLength(1);
    expect(parseIpv4Table('x\n'.repeat(10_000) + line)).toHaveLength(0);
  });

  it('names a default route once though each source prefix has its own (OpenWrt)', () => {
    const zero = '0'.repeat(32);
    const from = (prefix: string) =>
      `${zero} 00 ${prefix} 38 fe800000000000000000000000000001 00000200 00000001 00000000 00000003 eth1\n`;
    const text = from(`20010db8${'0'.repeat(24)}`) + from(`20010db9${'0'.repeat(24)}`);
    expect(defaultRoutes(parseIpv6Table(text))).toEqual([route(6, 'eth1', 'fe80::1%eth1', 512)]);
  });

  it.each([
    ['one half is missing', ['tun0 00000080 0100080A 0003 0 0 0 00000080']],
    [
      'the halves lie on two interfaces',
      ['tun0 00000000 0100080A 0003 0 0 0 00000080', 'tun1 00000080 0100080A 0003 0 0 0 00000080'],
    ],
  ])('takes halves for no default route where %s', (_, lines) => {
    expect(defaultRoutes(parseIpv4Table(lines.join('\n')))).toEqual([]);
  });
});

describe('readNetwork() on macOS and the BSDs', () => {
  it('reads OpenVPN on utun over en0, and puts a scoped route behind', async () => {
    expect(await routesOf(netstat('darwin', 'macos-openvpn.inet.txt', 'macos.inet6.txt'))).toEqual([
      route(4, 'utun4', undefined, 0),
      route(4, 'en0', '192.168.1.1', 0),
      route(6, 'en0', 'fe80::225:90ff:fe38:9404%en0', 0),
      route(4, 'en7', '192.168.1.1', 1),
    ]);
  });

  it('reads a VPN that took the default route itself, with link# for a gateway', async () => {
    expect(await routesOf(netstat('darwin', 'macos-wireguard.inet.txt'))).toEqual([
      route(4, 'utun3', undefined, 0),
      route(4, 'en0', '192.168.1.1', 1),
    ]);
  });

  it.each([
    ['darwin', 'macos-10.12.inet.txt', undefined, [route(4, 'en0', '172.16.32.3', 0)]],
    [
      'freebsd',
      'freebsd.inet.txt',
      'freebsd.inet6.txt',
      [route(4, 'em0', '192.0.2.1', 0), route(6, 'em0', 'fe80::1%em0', 0)],
    ],
    [
      'openbsd',
      'openbsd.inet.txt',
      'openbsd.inet6.txt',
      [route(4, 'em0', '192.0.2.1', 8), route(4, 'em1', '192.0.2.254', 12)],
    ],
    ['sunos', 'illumos.inet.txt', undefined, [route(4, 'net0', '172.16.32.4', 0)]],
  ] as const)('finds the columns of %s (%s) by their heading', async (platform, inet, inet6, expected) => {
    expect(await routesOf(netstat(platform, inet, inet6))).toEqual(expected);
  });

  it('skips rows that are no routes, and all of a table without a heading', () => {
    const heading = 'Destination Gateway Flags Netif Expire\n';
    const rows = [
      'default',
      'default 192.168.1.1 UGSc',
      'default 192.168.1 UGSc en0',
      'default 192.168.1.1 GSc en0',
      'default 127.0.0.1 UGSR lo0',
      'default 127.0.0.1 UGSB lo0',
      'default 192.168.1.1 U!G en0',
    ];
    expect(parseNetstat(heading + rows.join('\n'), 4)).toEqual([]);
    expect(parseNetstat('default 192.168.1.1 UGSc en0', 4)).toEqual([]);
    expect(parseNetstat('Destination Gateway Flags\ndefault 192.168.1.1 UGSc en0', 4)).toEqual([]);
  });

  it("passes on what the tool's failure said", async () => {
    const failed = source({ platform: 'darwin', run: () => thisMachine.run('/nowhere/netstat', ['-rn']) });
    await expect(readNetwork(failed)).rejects.toMatchObject({ code: 'FAILED' });
  });
});

describe('readNetwork() on Windows', () => {
  it('reads the single object that one route makes, with an alias beyond ASCII', async () => {
    expect(await routesOf(windows(fixture('windows-one.json')))).toEqual([
      route(4, 'Conexión de área local', '192.168.1.1', 25),
    ]);
  });

  it('adds the metrics of route and interface, and uses the index for a zone', async () => {
    expect(await routesOf(windows(fixture('windows-several.json')))).toEqual([
      route(4, 'wg-home', undefined, 5),
      route(4, 'Ethernet 2', '192.168.1.1', 25),
      route(4, 'Wi-Fi', '192.168.1.1', 50),
      route(6, 'Wi-Fi', 'fe80::225:90ff:fe38:9404%7', 306),
    ]);
  });

  it("takes OpenVPN's halves for a default route, whatever their metric", async () => {
    expect(await routesOf(windows(fixture('windows-openvpn.json')))).toEqual([
      route(4, 'OpenVPN Data Channel Offload', '10.8.0.1', 25),
      route(4, 'Ethernet', '192.168.1.1', 5),
    ]);
  });

  it('asks PowerShell by its full path, with a script that needs no quoting', async () => {
    const asked: (readonly string[])[] = [];
    const run = (command: string, args: readonly string[]) => {
      asked.push([command, ...args]);
      return Promise.resolve('');
    };
    expect(await routesOf(source({ platform: 'win32', run }))).toEqual([]);
    expect(asked).toHaveLength(1);
    expect(asked[0]?.[0]).toMatch(/^.+\\System32\\WindowsPowerShell\\v1\.0\\powershell\.exe$/);
    expect(asked[0]?.at(-1)).toContain("@('0.0.0.0/0','0.0.0.0/1','128.0.0.0/1','::/0'");
    expect(asked[0]?.join(' ')).not.toMatch(/["\n]/);
  });

  it('reads past a byte order mark and over entries that are none', () => {
    const good = fixture('windows-one.json').trim();
    const odd =
      '{"DestinationPrefix":"0.0.0.0/0","NextHop":"there","InterfaceAlias":"x","InterfaceIndex":1,"RouteMetric":0}';
    expect(parseNetRoutes(`\uFEFF[null, 1, "x", {}, ${odd}, ${good}]`)).toHaveLength(1);
  });

  it('throws FAILED where the answer is no JSON, and shows its start', async () => {
    const answer = 'Get-NetRoute : Access denied';
    await expect(readNetwork(windows(answer))).rejects.toMatchObject({
      code: 'FAILED',
      message: expect.stringContaining(answer),
    });
  });
});

describe('interfaceAddresses()', () => {
  const ipv4 = { netmask: '', family: 'IPv4', mac: '', internal: false } as const;
  const ipv6 = { netmask: '', family: 'IPv6', mac: '', internal: false, scopeid: 0 } as const;

  it('gives link-local IPv6 its zone: the name, or on Windows the index', () => {
    const info = { ...ipv6, address: 'fe80::2', cidr: 'fe80::2/64', scopeid: 7 };
    const [onLinux] = interfaceAddresses({ eth0: [info] }, 'linux');
    const [onWindows] = interfaceAddresses({ 'Wi-Fi: 2': [info] }, 'win32');
    expect(onLinux).toEqual({
      interface: 'eth0',
      address: 'fe80::2%eth0',
      family: 6,
      prefixLength: 64,
      internal: false,
    });
    expect(onWindows).toMatchObject({ interface: 'Wi-Fi: 2', address: 'fe80::2%7' });
  });

  it('names an address with a label after its interface (eth0:1)', () => {
    const found = interfaceAddresses(
      { 'eth0:1': [{ ...ipv4, address: '192.168.1.21', cidr: '192.168.1.21/24' }] },
      'linux',
    );
    expect(found).toMatchObject([{ interface: 'eth0', address: '192.168.1.21', prefixLength: 24 }]);
  });

  it('drops what is malformed or has no prefix length', () => {
    const infos = [
      { ...ipv4, address: 'none', cidr: 'none/24' },
      { ...ipv4, address: '192.168.1.20', cidr: null },
      { ...ipv4, address: '192.168.1.20', cidr: '192.168.1.20/33' },
      { ...ipv6, address: '2001:db8::1', cidr: '2001:db8::1/129' },
    ];
    expect(interfaceAddresses({ eth0: infos, eth1: undefined }, 'linux')).toEqual([]);
  });
});

describe('nextHop()', () => {
  it.each([
    ['192.168.1.1', '192.168.1.1'],
    ['FE80:0::1', 'fe80::1%en0'],
    ['fe80::1%br-lan', 'fe80::1%br-lan'],
    ['2001:db8::1', '2001:db8::1'],
    ['link#4', undefined],
    ['0:25:90:38:94:4', undefined],
    ['192.168.1', undefined],
  ])('makes %s into %s', (text, expected) => {
    expect(nextHop(text, 'en0')).toBe(expected);
  });
});

const WORDS =
  'default 0/1 128.0/1 00000000 00000080 0003 UGSc en0 link#4 fe80::1%en0 00 0 00000001 Destination Gateway Flags Netif Prio 192.168.1.1 % /'
    .split(' ')
    .concat('0'.repeat(32));

describe('the parsers', () => {
  // Text near the real thing reaches further into a parser than noise does.
  const word = fc.oneof(fc.string({ maxLength: 12 }), fc.constantFrom(...WORDS));
  const line = fc.array(word, { maxLength: 12 }).map((words) => words.join(' '));
  const text = fc.oneof(
    fc.string(),
    fc.array(line, { maxLength: 8 }).map((lines) => lines.join('\n')),
  );
  const tableRow = fc.record(
    {
      DestinationPrefix: fc.oneof(fc.constantFrom('0.0.0.0/0', '::/0'), fc.anything()),
      NextHop: fc.oneof(fc.constantFrom('0.0.0.0', 'fe80::1', '::'), fc.anything()),
      InterfaceAlias: fc.oneof(fc.string(), fc.anything()),
      InterfaceIndex: fc.oneof(fc.nat(), fc.anything()),
      RouteMetric: fc.oneof(fc.nat(), fc.anything()),
      InterfaceMetric: fc.anything(),
    },
    { requiredKeys: [] },
  );

  test('never throw, whatever the text', () => {
    fc.assert(
      fc.property(text, fc.constantFrom<Family>(4, 6), (text, family) => {
        const entries = [
          ...parseIpv4Table(text),
          ...parseIpv6Table(text),
          ...parseNetstat(text, family),
          ...parseNetstat(`Destination Gateway Flags Netif\n${text}`, family),
          ...(parseNetRoutes(text) ?? []),
        ];
        expect(defaultRoutes(entries).length).toBeLessThanOrEqual(entries.length);
      }),
      { numRuns: 1_000 },
    );
  });

  test('never throw, whatever the JSON', () => {
    const json = fc.oneof(
      fc.json(),
      fc.array(tableRow).map((rows) => JSON.stringify(rows, withoutBigInt)),
    );
    fc.assert(
      fc.property(json, (json) => {
        for (const { gateway, metric } of parseNetRoutes(json) ?? []) {
          expect(gateway === undefined || gateway.length > 0).toBe(true);
          expect(typeof metric).toBe('number');
        }
      }),
      { numRuns: 1_000 },
    );
  });
});

function withoutBigInt(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}

describe('thisMachine', () => {
  it('tells an absent file from one that it cannot read', () => {
    expect(thisMachine.readFile('/proc/net/nowhere')).toBeUndefined();
    expect(() => thisMachine.readFile('/')).toThrow(expect.objectContaining({ code: 'FAILED' }));
  });

  it.each([
    ['is absent', '/nowhere/netstat', [], /no such program/],
    ['says why it failed', process.execPath, ['-e', 'console.error("no way"); process.exit(3)'], /no way/],
    ['fails without a word', process.execPath, ['-e', 'process.exit(3)'], /ended with 3/],
    ['prints too much', process.execPath, ['-e', 'process.stdout.write("x".repeat(2 ** 21))'], /1 MiB/],
  ])('throws FAILED where the program %s', async (_, command, args, message) => {
    await expect(thisMachine.run(command, args)).rejects.toMatchObject({
      code: 'FAILED',
      message: expect.stringMatching(message),
    });
  });

  it('hands over what the program printed, and leaves it no input to wait for', async () => {
    const script = 'process.stdin.on("end", () => console.log("done")).resume()';
    expect(await thisMachine.run(process.execPath, ['-e', script])).toBe('done\n');
  });
});

const hasIp = ['/sbin/ip', '/usr/sbin/ip', '/bin/ip', '/usr/bin/ip'].some((path) => existsSync(path));

interface IpRoute {
  readonly type?: string;
  readonly gateway?: string;
  readonly dev?: string;
  readonly metric?: number;
}

interface IpInterface {
  readonly ifname: string;
  readonly addr_info: readonly { readonly local?: string; readonly prefixlen?: number }[];
}

function ipJson(...args: string[]): string {
  return execFileSync('ip', ['-j', ...args], { encoding: 'utf8' }) || '[]';
}

describe.skipIf(process.platform !== 'linux' || !hasIp)('readNetwork() on this machine', () => {
  it('agrees with `ip route` on the default routes', async () => {
    const { defaultRoutes } = await readNetwork();
    for (const family of [4, 6] as const) {
      const listed: readonly IpRoute[] = JSON.parse(ipJson(`-${family}`, 'route', 'show', 'default'));
      const expected = listed
        .filter(
          (route) => route.dev !== undefined && route.dev !== 'lo' && (route.type ?? 'unicast') === 'unicast',
        )
        .map(({ dev, gateway, metric = 0 }) => {
          const hop = gateway?.startsWith('fe80:') === true ? `${gateway}%${dev}` : gateway;
          return `${dev} ${hop} ${metric}`;
        });
      const found = defaultRoutes
        .filter((route) => route.family === family)
        .map((route) => `${route.interface} ${route.gateway} ${route.metric}`);
      // Routes of a VPN's halves, or of further tables in IPv6, are not in what `ip` shows here.
      expect(found).toEqual(expect.arrayContaining(expected));
    }
  });

  it('agrees with `ip addr` on the addresses', async () => {
    const { addresses } = await readNetwork();
    const listed: readonly IpInterface[] = JSON.parse(ipJson('addr'));
    const known = listed.flatMap(({ ifname, addr_info }) =>
      addr_info.map(({ local = '', prefixlen }) =>
        local.startsWith('fe80:')
          ? `${ifname} ${local}%${ifname}/${prefixlen}`
          : `${ifname} ${local}/${prefixlen}`,
      ),
    );
    const found = addresses.map((one) => `${one.interface} ${one.address}/${one.prefixLength}`);
    expect(known).toEqual(expect.arrayContaining(found));
    expect(addresses).toContainEqual(
      expect.objectContaining({ interface: 'lo', address: '127.0.0.1', internal: true }),
    );
  });
});
