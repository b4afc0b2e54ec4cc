import { describe, expect, test, vi } from 'vitest';
import { type Client, createClient, default as natUpnp } from '../../src/drop-in/nat-upnp.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import { routerFor, tableOf, type TestRouter } from './support.ts';

const UPNP_ALONE: Partial<GatewaySettings> = { protocols: ['upnp'] };

async function clientFor(
  settings: Partial<GatewaySettings> = UPNP_ALONE,
): Promise<TestRouter & { readonly client: Client }> {
  const router = await routerFor(settings);
  return { ...router, client: createClient(router.options) };
}

describe('portMapping', () => {
  test('maps with the defaults that are known: TCP, half an hour, a description', async () => {
    const { embedded, client } = await clientFor();
    const before = Date.now();
    await client.portMapping({ public: 12_345, private: 54_321 });
    const [entry] = embedded.table;
    expect(entry).toMatchObject({
      protocol: 'tcp',
      externalPort: 12_345,
      internalPort: 54_321,
      description: 'node:nat:upnp',
      via: 'upnp',
    });
    expect((entry?.expiresAtMs ?? 0) - before).toBeGreaterThan(1_790_000);
    expect((entry?.expiresAtMs ?? 0) - before).toBeLessThan(1_810_000);
  });

  test.each([
    ['numbers', { public: 2000, private: 3000, protocol: 'UDP', ttl: 600 }],
    ['text', { public: '2000', private: '3000', protocol: 'udp', ttl: '600' }],
    [
      'objects',
      { public: { port: 2000 }, private: { port: '3000', host: '127.0.0.1' }, protocol: 'Udp', ttl: 600 },
    ],
  ])('takes ports as %s', async (_, options) => {
    const router = await clientFor();
    await router.client.portMapping(options);
    expect(tableOf(router)).toEqual(['udp 2000 -> 3000']);
    const leftMs = (router.embedded.table[0]?.expiresAtMs ?? 0) - Date.now();
    expect(leftMs).toBeGreaterThan(590_000);
    expect(leftMs).toBeLessThanOrEqual(600_000);
  });

  test('lets one remote host in alone where the public side names it', async () => {
    const { embedded, client } = await clientFor();
    await client.portMapping({ public: { port: 2000, host: '192.0.2.7' }, private: 3000 });
    expect(embedded.table[0]?.remotePeers).toEqual([{ address: '192.0.2.7', prefixLength: 32, port: 0 }]);
  });

  test('calls back with null and the mapping, and not before it returned', async () => {
    const { client } = await clientFor();
    const heard: unknown[] = [];
    const returned = client.portMapping({ public: 2000, private: 3000 }, (...all) => heard.push(...all));
    expect(returned).toBeUndefined();
    expect(heard).toEqual([]);
    await vi.waitFor(() => expect(heard).not.toEqual([]), 5_000);
    expect(heard).toEqual([
      null,
      {
        public: { host: '', port: 2000 },
        private: { host: '127.0.0.1', port: 3000 },
        protocol: 'tcp',
        enabled: true,
        description: 'node:nat:upnp',
        ttl: 1800,
        local: true,
      },
    ]);
  });

  test.each([
    ['no port', {}],
    ['port 0', { public: 0, private: 80 }],
    ['a port that is none', { public: 'http', private: 80 }],
    ['a protocol that is none', { public: 80, private: 80, protocol: 'sctp' }],
    ['a ttl below 0', { public: 80, private: 80, ttl: -1 }],
    ['a host that is no address', { public: 80, private: { port: 80, host: 'localhost' } }],
    ['nothing at all', undefined],
  ])('calls back with an error for %s, and throws nothing', async (_, options) => {
    const { client } = await clientFor();
    const error = await new Promise((resolve) => client.portMapping(options as never, resolve));
    expect(error).toMatchObject({ code: 'USAGE' });
  });

  test('fails where the port is another host’s, and takes no other instead', async () => {
    const router = await clientFor();
    await router.embedded.give('tcp', 2000, { address: '127.0.0.9', port: 1 });
    await expect(router.client.portMapping({ public: 2000, private: 3000 })).rejects.toThrow(/2000/);
    expect(tableOf(router)).toEqual(['tcp 2000 -> 1']);
  });

  test('nobody has to look at the promise of a call that failed', async () => {
    const { client } = await clientFor();
    const unhandled = vi.fn<(reason: unknown) => void>();
    process.on('unhandledRejection', unhandled);
    void client.portMapping({ public: 0, private: 0 });
    void client.portUnmapping({ public: 0 });
    await client.close();
    await new Promise((resolve) => setImmediate(resolve));
    process.off('unhandledRejection', unhandled);
    expect(unhandled).not.toHaveBeenCalled();
  });

  test('what is asked of one port is done in order', async () => {
    const router = await clientFor();
    const { client } = router;
    await Promise.all([
      client.portMapping({ public: 2000, private: 3000 }),
      client.portUnmapping({ public: 2000 }),
      client.portMapping({ public: 2000, private: 4000 }),
    ]);
    expect(tableOf(router)).toEqual(['tcp 2000 -> 4000']);
  });
});

describe('a mapping without an end (ttl 0)', () => {
  test('is renewed while the client is open', async () => {
    const { embedded, client } = await clientFor({ ...UPNP_ALONE, maxLifetimeSeconds: 2 });
    await client.portMapping({ public: 2000, private: 3000, ttl: 0 });
    const first = embedded.table[0]?.expiresAtMs ?? 0;
    await vi.waitFor(() => expect(embedded.table[0]?.expiresAtMs).toBeGreaterThan(first), 5_000);
    await client.close();
  });

  test('is not renewed any more when it is unmapped', async () => {
    const router = await clientFor({ ...UPNP_ALONE, maxLifetimeSeconds: 1 });
    const { client } = router;
    await client.portMapping({ public: 2000, private: 3000, ttl: 0 });
    await client.portUnmapping({ public: 2000 });
    // Another one's renewal shows that the time of the first has passed.
    await client.portMapping({ public: 2001, private: 3000, ttl: 0 });
    const first = router.embedded.table[0]?.expiresAtMs ?? 0;
    await vi.waitFor(() => expect(router.embedded.table[0]?.expiresAtMs).toBeGreaterThan(first), 5_000);
    expect(tableOf(router)).toEqual(['tcp 2001 -> 3000']);
    await client.close();
  });
});

describe('portUnmapping', () => {
  test('takes away what another client of this host mapped, by its external port', async () => {
    const router = await clientFor();
    await router.client.portMapping({ public: 2000, private: 3000 });
    await createClient(router.options).portUnmapping({ public: 2000 });
    expect(tableOf(router)).toEqual([]);
  });

  test('knows protocols apart', async () => {
    const router = await clientFor();
    await router.client.portMapping({ public: 2000, private: 3000, protocol: 'udp' });
    await expect(router.client.portUnmapping({ public: 2000 })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(tableOf(router)).toEqual(['udp 2000 -> 3000']);
  });

  test('calls back with an error where there is nothing', async () => {
    const { client } = await clientFor();
    const error = await new Promise((resolve) => client.portUnmapping({ public: 2000 }, resolve));
    expect(error).toBeInstanceOf(Error);
  });
});

describe('getMappings', () => {
  async function three(): Promise<Client> {
    const { client, embedded } = await clientFor();
    await client.portMapping({ public: 2000, private: 3000, ttl: 600, description: 'one of mine' });
    await client.portMapping({ public: 2001, private: 3001, protocol: 'UDP', description: 'two' });
    await embedded.give('tcp', 2002, { address: '192.0.2.9', port: 9 });
    return client;
  }

  function portsOf(mappings: readonly { readonly public: { readonly port: number } }[]): number[] {
    return mappings.map((mapping) => mapping.public.port).sort((a, b) => a - b);
  }

  test('lists the whole table', async () => {
    const client = await three();
    const all = await client.getMappings();
    expect(portsOf(all)).toEqual([2000, 2001, 2002]);
    const mine = all.find((mapping) => mapping.public.port === 2000);
    expect(mine).toEqual({
      public: { host: '', port: 2000 },
      private: { host: '127.0.0.1', port: 3000 },
      protocol: 'tcp',
      enabled: true,
      description: 'one of mine',
      ttl: expect.any(Number),
      local: true,
    });
    expect(mine?.ttl).toBeGreaterThan(590);
    expect(all.find((mapping) => mapping.public.port === 2002)).toMatchObject({ local: false, ttl: 0 });
  });

  test.each([
    ['what leads to this host', { local: true }, [2000, 2001]],
    ['a description in part', { description: 'of mi' }, [2000]],
    ['a description by a pattern', { local: true, description: /^TW/i }, [2001]],
    ['nothing', null, [2000, 2001, 2002]],
  ])('looks for %s', async (_, filter, ports) => {
    const client = await three();
    expect(portsOf(await client.getMappings(filter))).toEqual(ports);
  });

  test('takes the callback alone, or after a filter', async () => {
    const client = await three();
    const alone = await new Promise((resolve) => client.getMappings((_, list) => resolve(list?.length)));
    const after = await new Promise((resolve) =>
      client.getMappings({ local: true }, (_, list) => resolve(list?.length)),
    );
    expect([alone, after]).toEqual([3, 2]);
  });

  test('what it lists can be unmapped as it is', async () => {
    const client = await three();
    for (const mapping of await client.getMappings({ local: true })) await client.portUnmapping(mapping);
    expect(portsOf(await client.getMappings())).toEqual([2002]);
  });
});

describe('externalIp', () => {
  test('tells the address, by callback and by promise', async () => {
    const { client } = await clientFor({ ...UPNP_ALONE, externalAddress: '198.51.100.7' });
    expect(await client.externalIp()).toBe('198.51.100.7');
    expect(await new Promise((resolve) => client.externalIp((_, ip) => resolve(ip)))).toBe('198.51.100.7');
  });

  test('fails where the gateway has none', async () => {
    const { client } = await clientFor({ ...UPNP_ALONE, externalAddress: '0.0.0.0' });
    await expect(client.externalIp()).rejects.toMatchObject({ code: 'NETWORK_DOWN' });
  });
});

test('a router that speaks NAT-PMP alone will do', async () => {
  const router = await clientFor({ protocols: ['natpmp'] });
  const { client } = router;
  await client.portMapping({ public: 2000, private: 3000 });
  expect(tableOf(router)).toEqual(['tcp 2000 -> 3000']);
  expect(await client.externalIp()).toMatch(/^127\./);
  expect(await client.getMappings()).toMatchObject([{ public: { port: 2000 }, local: true }]);
  await client.portUnmapping({ public: 2000 });
  expect(tableOf(router)).toEqual([]);
});

test('where no router answers every call fails', async () => {
  const { client } = await clientFor({ protocols: [] });
  await expect(client.externalIp()).rejects.toMatchObject({ code: 'NO_GATEWAY' });
});

test('IGD:1 and WANPPPConnection are as good', async () => {
  for (const settings of [{ igdVersion: 1 }, { connectionService: 'WANPPPConnection' }] as const) {
    const router = await clientFor({ ...UPNP_ALONE, ...settings });
    await router.client.portMapping({ public: 2000, private: 3000, ttl: 0 });
    expect(tableOf(router)).toEqual(['tcp 2000 -> 3000']);
    await router.client.close();
  }
});

test('what a callback throws is the program’s, not swallowed', async () => {
  const { client } = await clientFor();
  const thrown = new Error('of the callback');
  const caught = new Promise((resolve) => {
    const others = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.once('uncaughtException', (error) => {
      for (const other of others) process.on('uncaughtException', other);
      resolve(error);
    });
  });
  client.externalIp(() => {
    throw thrown;
  });
  expect(await caught).toBe(thrown);
});

describe('close', () => {
  test('lets what was asked for be done, leaves it mapped, and answers nothing more', async () => {
    const router = await clientFor();
    const { client } = router;
    const mapped = client.portMapping({ public: 2000, private: 3000 });
    await client.close();
    await mapped;
    expect(tableOf(router)).toEqual(['tcp 2000 -> 3000']);
    await expect(client.externalIp()).rejects.toMatchObject({ code: 'USAGE' });
    await client.close();
  });
});

describe('ssdp', () => {
  test('finds the gateway, with its description and this host’s address', async () => {
    const { embedded, options } = await routerFor(UPNP_ALONE);
    const finder = natUpnp.ssdp.create(options);
    const search = finder.search('urn:schemas-upnp-org:device:InternetGatewayDevice:1');
    const found = await new Promise<readonly unknown[]>((resolve) =>
      search.on('device', (...all) => resolve(all)),
    );
    search.emit('end');
    finder.close();
    expect(found).toEqual([
      { location: embedded.location, st: 'urn:schemas-upnp-org:device:InternetGatewayDevice:1' },
      '127.0.0.1',
    ]);
  });
});

test('the module is what import and require want of it', async () => {
  const module = await import('../../src/drop-in/nat-upnp.ts');
  expect(module.default).toBe(module['module.exports']);
  expect(module.default.createClient).toBe(module.createClient);
});
