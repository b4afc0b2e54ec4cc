import { describe, expect, test, vi } from 'vitest';
import NatAPI, { type NatAPIOptions } from '../../src/drop-in/nat-api.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import { routerFor, tableOf, type TestRouter } from './support.ts';

async function clientFor(
  options: NatAPIOptions = {},
  settings: Partial<GatewaySettings> = {},
): Promise<TestRouter & { readonly client: NatAPI }> {
  const router = await routerFor(settings);
  return { ...router, client: new NatAPI(options, router.options) };
}

describe('the options', () => {
  test('have the defaults that are known', () => {
    expect(new NatAPI()).toMatchObject({
      ttl: 7200,
      description: 'NatAPI',
      gateway: null,
      autoUpdate: true,
      enablePMP: true,
      enableUPNP: true,
      upnpPermanentFallback: false,
    });
  });

  test('keep the ttl at 20 minutes or more', () => {
    expect(new NatAPI({ ttl: 60 }).ttl).toBe(1200);
    expect(new NatAPI({ ttl: 0 }).ttl).toBe(7200);
    expect(new NatAPI({ ttl: 3600 }).ttl).toBe(3600);
  });

  test.each([
    [{ enablePMP: false }, 'upnp'],
    [{ enableUPNP: false }, 'natpmp'],
  ])('%o speaks %s', async (options, via) => {
    const { embedded, client } = await clientFor(options);
    expect(await client.map(1000)).toBe(true);
    expect(embedded.table.map((entry) => entry.via)).toEqual([via, via]);
    await client.destroy();
  });

  test('with both protocols switched off nothing is mapped', async () => {
    const router = await clientFor({ enablePMP: false, enableUPNP: false });
    expect(await router.client.map(1000)).toBe(false);
    expect(await router.client.unmap(1000)).toBe(false);
    expect(await router.client.externalIp()).toBe('');
    expect(tableOf(router)).toEqual([]);
  });
});

describe('map', () => {
  test('takes a number: the same port inside and outside, UDP and TCP', async () => {
    const router = await clientFor();
    expect(await router.client.map(1000)).toBe(true);
    expect(tableOf(router)).toEqual(['tcp 1000 -> 1000', 'udp 1000 -> 1000']);
    await router.client.destroy();
  });

  test('takes two numbers: outside, then inside', async () => {
    const router = await clientFor();
    expect(await router.client.map(2000, 3000)).toBe(true);
    expect(tableOf(router)).toEqual(['tcp 2000 -> 3000', 'udp 2000 -> 3000']);
    await router.client.destroy();
  });

  test('takes options, and leaves the caller’s object as it is', async () => {
    const router = await clientFor({ enablePMP: false });
    const options = { publicPort: 4000, privatePort: 5000, ttl: 1800, protocol: 'UDP', description: 'game' };
    const copy = { ...options };
    expect(await router.client.map(options)).toBe(true);
    expect(options).toEqual(copy);
    expect(tableOf(router)).toEqual(['udp 4000 -> 5000']);
    const [entry] = router.embedded.table;
    expect(entry?.description).toBe('game');
    const leftMs = (entry?.expiresAtMs ?? 0) - Date.now();
    expect(leftMs).toBeGreaterThan(1_790_000);
    expect(leftMs).toBeLessThanOrEqual(1_800_000);
    await router.client.destroy();
  });

  test.each([
    ['text', '1000'],
    ['nothing', undefined],
    ['null', null],
    ['a protocol that is none', { publicPort: 1, privatePort: 1, protocol: 'SCTP' }],
  ])('rejects %s', async (_, what) => {
    await expect(new NatAPI().map(what as never)).rejects.toMatchObject({ code: 'USAGE' });
  });

  test('answers false where the router gives another port or none, and leaves nothing behind', async () => {
    const router = await clientFor();
    await router.embedded.give('tcp', 1000, { address: '127.0.0.9', port: 1 });
    expect(await router.client.map(1000)).toBe(false);
    expect(tableOf(router)).toEqual(['tcp 1000 -> 1']);
    await router.client.destroy();
  });

  test('answers false for a port that cannot be', async () => {
    const { client } = await clientFor();
    expect(await client.map({ publicPort: 1000 })).toBe(false);
    expect(await client.map({ publicPort: 70_000, privatePort: 1 })).toBe(false);
    await client.destroy();
  });

  test('asked twice it is mapped once, and the last inside port counts', async () => {
    const router = await clientFor();
    expect(await Promise.all([router.client.map(1000), router.client.map(1000)])).toEqual([true, true]);
    expect(tableOf(router)).toEqual(['tcp 1000 -> 1000', 'udp 1000 -> 1000']);
    expect(await router.client.map({ publicPort: 1000, privatePort: 2000, protocol: 'tcp' })).toBe(true);
    expect(tableOf(router)).toEqual(['tcp 1000 -> 2000', 'udp 1000 -> 1000']);
    expect(await router.client.unmap(1000)).toBe(true);
    expect(tableOf(router)).toEqual([]);
    await router.client.destroy();
  });

  test('what is mapped is renewed, over NAT-PMP as well', async () => {
    const settings = { protocols: ['natpmp'], maxLifetimeSeconds: 4 } as const;
    const { embedded, client } = await clientFor({}, settings);
    await client.map({ publicPort: 1000, privatePort: 1000, protocol: 'TCP' });
    const first = embedded.table[0]?.expiresAtMs ?? 0;
    await vi.waitFor(() => expect(embedded.table[0]?.expiresAtMs).toBeGreaterThan(first), 10_000);
    await client.destroy();
  });

  test('without autoUpdate it is mapped once, for its time', async () => {
    const router = await clientFor({ autoUpdate: false });
    expect(await router.client.map(1000)).toBe(true);
    expect(await router.client.map(1000)).toBe(true);
    expect(tableOf(router)).toEqual(['tcp 1000 -> 1000', 'udp 1000 -> 1000']);
    expect(await router.client.unmap(1000)).toBe(true);
    expect(tableOf(router)).toEqual([]);
    await router.client.destroy();
  });

  test('what could only be mapped without an end is not, unless that is wanted', async () => {
    const settings = { protocols: ['upnp'], igdVersion: 1, quirks: { onlyPermanentLeases: true } } as const;
    const refused = await clientFor({}, settings);
    expect(await refused.client.map(1000)).toBe(false);
    expect(tableOf(refused)).toEqual([]);
    await refused.client.destroy();
    const taken = await clientFor({ upnpPermanentFallback: true }, settings);
    expect(await taken.client.map(1000)).toBe(true);
    expect(taken.embedded.table[0]?.expiresAtMs).toBeUndefined();
    await taken.client.destroy();
    expect(tableOf(taken)).toEqual([]);
  });
});

describe('unmap', () => {
  test('takes one protocol of two', async () => {
    const router = await clientFor();
    await router.client.map(1000);
    expect(await router.client.unmap({ publicPort: 1000, privatePort: 1000, protocol: 'UDP' })).toBe(true);
    expect(tableOf(router)).toEqual(['tcp 1000 -> 1000']);
    await router.client.destroy();
  });

  test('finds by either port where one number is given, by both where two are', async () => {
    const router = await clientFor();
    await router.client.map(2000, 3000);
    expect(await router.client.unmap(2000, 4000)).toBe(false);
    expect(tableOf(router)).toHaveLength(2);
    expect(await router.client.unmap(3000)).toBe(true);
    expect(tableOf(router)).toEqual([]);
    await router.client.destroy();
  });

  test('takes back what an earlier run of the program left', async () => {
    const router = await clientFor({ enablePMP: false });
    await new NatAPI({ enablePMP: false }, router.options).map(1000);
    expect(tableOf(router)).toHaveLength(2);
    expect(await new NatAPI({ enablePMP: false, autoUpdate: false }, router.options).unmap(1000)).toBe(true);
    expect(tableOf(router)).toEqual([]);
  });

  test('leaves alone what leads to another host', async () => {
    const router = await clientFor({ enablePMP: false }, { secureMode: false });
    await router.embedded.give('tcp', 1000, { address: '192.0.2.9', port: 1 });
    expect(await router.client.unmap(1000)).toBe(false);
    expect(tableOf(router)).toEqual(['tcp 1000 -> 1']);
  });

  test('waits for the map that it ends', async () => {
    const router = await clientFor();
    const [mapped, unmapped] = await Promise.all([router.client.map(1000), router.client.unmap(1000)]);
    expect([mapped, unmapped]).toEqual([true, true]);
    expect(tableOf(router)).toEqual([]);
  });
});

describe('externalIp', () => {
  test('tells the address', async () => {
    const { client } = await clientFor({}, { externalAddress: '198.51.100.7' });
    expect(await client.externalIp()).toBe('198.51.100.7');
  });

  test('is empty where no router answers', async () => {
    const { client } = await clientFor({}, { protocols: [] });
    expect(await client.externalIp()).toBe('');
    expect(await client.map(1000)).toBe(false);
  });
});

describe('destroy', () => {
  test('waits for what was asked for and unmaps everything', async () => {
    const router = await clientFor();
    const asked = [router.client.map(1000), router.client.map(2000, 3000)];
    expect(await router.client.destroy()).toBe(true);
    expect(await Promise.all(asked)).toEqual([true, true]);
    expect(tableOf(router)).toEqual([]);
  });

  test('ends the client: every call rejects from then on', async () => {
    const { client } = await clientFor();
    await client.destroy();
    await expect(client.map(1000)).rejects.toThrow('destroyed');
    await expect(client.unmap(1000)).rejects.toThrow('destroyed');
    await expect(client.externalIp()).rejects.toThrow('destroyed');
    await expect(client.destroy()).rejects.toThrow('destroyed');
  });
});

test('the module is what import and require want of it', async () => {
  const module = await import('../../src/drop-in/nat-api.ts');
  expect(module.default).toBe(NatAPI);
  expect(module['module.exports']).toBe(NatAPI);
});
