import { describe, expect, test } from 'vitest';
import { heldOf, mapperAt } from './support.ts';

const V6 = { address: '::1' } as const;

describe('an IPv6 pinhole over UPnP', () => {
  test('is opened for this host’s own address and port', async () => {
    const at = await mapperAt('upnp', V6);
    const mapping = await at.map();
    expect(mapping).toMatchObject({
      externalAddress: '::1',
      externalPort: 8080,
      internalClient: '::1',
      lifetimeSeconds: 3600,
      pinholeId: at.embedded.pinholes[0]?.uniqueId,
    });
    expect(at.embedded.pinholes).toMatchObject([{ internalClient: '::1', internalPort: 8080, protocol: 6 }]);
    expect(at.embedded.table).toEqual([]);
  });

  test('that is held is extended, and keeps its number', async () => {
    const at = await mapperAt('upnp', V6);
    const first = await at.map();
    await at.clock.advance(1_800_000);
    const again = await at.map({ held: heldOf(first) });
    expect(again.pinholeId).toBe(first.pinholeId);
    expect(at.embedded.pinholes).toMatchObject([{ expiresAtMs: again.expiresAtMs }]);
    expect(at.embedded.counters).toMatchObject({ 'soap AddPinhole': 1, 'soap UpdatePinhole': 1 });
  });

  test('that was held and is gone is opened anew', async () => {
    const at = await mapperAt('upnp', V6);
    const first = await at.map();
    await at.embedded.wipe();
    await at.map({ held: heldOf(first) });
    expect(at.embedded.pinholes.length).toBe(1);
  });

  test('is closed; one that is gone already is no error', async () => {
    const at = await mapperAt('upnp', V6);
    const mapping = await at.map();
    await at.clock.settle(at.mapper.unmap(mapping));
    expect(at.embedded.pinholes).toEqual([]);
    await at.clock.settle(at.mapper.unmap(mapping));
  });

  test('has at most a day', async () => {
    const at = await mapperAt('upnp', V6);
    expect((await at.map({ lifetimeSeconds: 604_800 })).lifetimeSeconds).toBe(86_400);
  });

  test('keeps its port: another one is UNSUPPORTED, and nothing is asked', async () => {
    const at = await mapperAt('upnp', V6);
    await expect(at.map({ suggestedExternalPort: 9090 })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    expect(at.embedded.counters['soap AddPinhole']).toBeUndefined();
  });

  test('is NOT_AUTHORIZED where the firewall takes none, with where to allow it', async () => {
    const at = await mapperAt('upnp', { ...V6, firewall: { inboundPinholeAllowed: false } });
    await expect(at.map()).rejects.toMatchObject({
      code: 'NOT_AUTHORIZED',
      advice: expect.stringContaining('IPv6 firewall'),
    });
  });

  test('quirk 27: 606 unless the InternalClient itself asks: it is asked from there', async () => {
    const at = await mapperAt('upnp', {
      ...V6,
      trustedClients: ['::1'],
      quirks: { pinholeOnlyFromClient: true },
    });
    await at.map();
    expect(at.embedded.pinholes.length).toBe(1);
  });

  test('is UNSUPPORTED at a gateway of version 1, which has no such service', async () => {
    const at = await mapperAt('upnp', { ...V6, igdVersion: 1 });
    await expect(at.map()).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  test('quirk 10: 606 until the user permits it is NOT_AUTHORIZED', async () => {
    const at = await mapperAt('upnp', { ...V6, quirks: { forbiddenByUser: true } });
    await expect(at.map()).rejects.toMatchObject({ code: 'NOT_AUTHORIZED' });
  });
});
