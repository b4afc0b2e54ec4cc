import { describe, expect, test } from 'vitest';
import { UpnpFault } from '../../src/discovery/soap-call.ts';
import { isTaken, withAcceptedLifetime } from '../../src/mapping/quirks.ts';
import type { Quirks } from '../../src/responder/quirks/quirks.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import { heldOf, type MapperAt, mapperAt, occupy, requestFor, tableOf } from './support.ts';

const IGD1: Partial<GatewaySettings> = { igdVersion: 1 };
const OURS = 'tcp 8080 -> 127.0.0.1:8080';

function withQuirks(quirks: Quirks, settings: Partial<GatewaySettings> = {}): Promise<MapperAt> {
  return mapperAt('upnp', { ...settings, quirks });
}

describe('quirks of leases', () => {
  test.each([
    ['quirk 1: 725 OnlyPermanentLeasesSupported (MikroTik, Netgear)', { onlyPermanentLeases: true }],
    ['quirk 2: 402 for the same (ARRIS NVG578LX)', { onlyPermanentLeasesAs402: true }],
  ])('%s: the mapping has no end, and says so', async (_name, quirks) => {
    const at = await withQuirks(quirks, IGD1);
    const mapping = await at.map();
    expect(mapping).toMatchObject({ lifetimeSeconds: 0, expiresAtMs: undefined });
    expect(mapping.notes).toEqual([expect.stringContaining('natward unmap')]);
    expect(at.embedded.table).toMatchObject([{ externalPort: 8080, expiresAtMs: undefined }]);
  });

  test('quirks 1 and 2: so it is where the gateway chooses the port', async () => {
    const at = await withQuirks({ onlyPermanentLeases: true });
    expect(await at.map({ suggestedExternalPort: 0 })).toMatchObject({ lifetimeSeconds: 0 });
    expect(at.embedded.table.length).toBe(1);
  });

  test('quirk 3: lease 0 refused with 402: the longest lease is asked for instead', async () => {
    const at = await withQuirks({ permanentLeaseRefusedAs402: true }, IGD1);
    expect(await at.map({ lifetimeSeconds: 0 })).toMatchObject({ lifetimeSeconds: 604_800 });
  });

  test('quirks 1 and 3: any other refusal is not asked again with another lifetime', async () => {
    const asked: number[] = [];
    const add = (lifetimeSeconds: number) => {
      asked.push(lifetimeSeconds);
      return Promise.reject(new UpnpFault('AddPortMapping', 606, ''));
    };
    await expect(withAcceptedLifetime(3600, add)).rejects.toMatchObject({ errorCode: 606 });
    expect(asked).toEqual([3600]);
  });

  test('quirk 4: leased mappings that expire instantly (DD-WRT) are made again without an end', async () => {
    const at = await withQuirks({ leasesExpireInstantly: true }, IGD1);
    const mapping = await at.map();
    expect(mapping.lifetimeSeconds).toBe(0);
    expect(mapping.notes.length).toBe(1);
    expect(tableOf(at)).toEqual([OURS]);
  });

  test('quirk 5: a lease that is clamped: the mapping tells the end that the gateway has', async () => {
    const at = await withQuirks({ leaseClampedTo: 300 }, IGD1);
    const mapping = await at.map();
    expect(mapping).toMatchObject({ lifetimeSeconds: 300, expiresAtMs: at.clock.now() + 300_000 });
  });

  test('quirk 5: a lease that is ignored: the mapping has no end, and says so', async () => {
    const at = await withQuirks({ leaseIgnored: true }, IGD1);
    const mapping = await at.map();
    expect(mapping).toMatchObject({ lifetimeSeconds: 0, expiresAtMs: undefined });
    expect(mapping.notes).toEqual([expect.stringContaining('ignores lifetimes')]);
  });

  test('quirk 6: a refresh that does not extend: deleted and added again before it ends', async () => {
    const at = await withQuirks({ refreshDoesNotExtend: true }, IGD1);
    const first = await at.map();
    await at.clock.advance(1_800_000);
    const again = await at.map({ held: heldOf(first) });
    expect(again.expiresAtMs).toBe(at.clock.now() + 3_600_000);
    expect(at.embedded.table).toMatchObject([{ externalPort: 8080, expiresAtMs: again.expiresAtMs }]);
    expect(at.embedded.counters['soap DeletePortMapping']).toBe(1);
  });

  test('quirk 6: a clamped lease is refreshed without deleting it', async () => {
    const at = await withQuirks({ leaseClampedTo: 300 }, IGD1);
    const first = await at.map();
    await at.clock.advance(150_000);
    await at.map({ held: heldOf(first) });
    expect(at.embedded.counters['soap DeletePortMapping']).toBeUndefined();
  });

  test('quirk 7: a mapping that was pruned early is found out by reading back', async () => {
    const at = await withQuirks({ prunesIdleMappings: 60 }, IGD1);
    const mapping = await at.map();
    await at.clock.advance(61_000);
    at.quirk({ saysYesMapsNothing: true });
    const looking = at.clock.settle(at.mapper.verify(requestFor(), mapping));
    await expect(looking).rejects.toMatchObject({ code: 'NOT_MAPPED' });
  });
});

describe.each([
  ['version 1', IGD1],
  ['version 2', {}],
] as const)('conflicts at a gateway of %s', (_name, settings) => {
  test.each([
    ['718', {}],
    ['quirk 8: 501 instead of it', { conflictAs501: true }],
  ])('%s: another external port is taken', async (_code, quirks) => {
    const at = await withQuirks({}, settings);
    await occupy(at, 8080);
    at.quirk(quirks);
    const { externalPort } = await at.map();
    expect(externalPort).not.toBe(8080);
    expect(tableOf(at)).toEqual(['tcp 8080 -> 127.0.0.200:8080', `tcp ${externalPort} -> 127.0.0.1:8080`]);
  });

  test('718 with --exact is CONFLICT, and nothing is mapped', async () => {
    const at = await withQuirks({}, settings);
    await occupy(at, 8080);
    await expect(at.map({ choice: 'exact' })).rejects.toMatchObject({
      code: 'CONFLICT',
      protocolCode: 'UPnP 718',
      advice: expect.stringContaining('--exact'),
    });
    expect(at.embedded.table.length).toBe(1);
  });

  test('quirk 8: 501 with --exact is an error, and nothing is mapped', async () => {
    const at = await withQuirks({}, settings);
    await occupy(at, 8080);
    at.quirk({ conflictAs501: true });
    await expect(at.map({ choice: 'exact' })).rejects.toMatchObject({ protocolCode: 'UPnP 501' });
    expect(at.embedded.table.length).toBe(1);
  });

  test('quirk 11: 729, a rule made by hand: another external port is taken, or CONFLICT with --exact', async () => {
    const at = await withQuirks({ conflictWithManualRule: [8080] }, settings);
    await expect(at.map({ choice: 'exact' })).rejects.toMatchObject({
      code: 'CONFLICT',
      protocolCode: 'UPnP 729',
    });
    expect((await at.map()).externalPort).not.toBe(8080);
    expect(at.embedded.table.length).toBe(1);
  });

  test('quirk 9: 718 against our own address of before: deleted, and mapped to the one of now', async () => {
    const stale = '127.0.0.77';
    const at = await withQuirks({ conflictWithOwnStaleAddress: stale }, settings);
    const held = { internalClient: stale, externalPort: 8080, lifetimeSeconds: 3600, pinholeId: undefined };
    const mapping = await at.map({ held });
    expect(mapping.externalPort).toBe(8080);
    expect(tableOf(at)).toEqual([OURS]);
  });

  test('quirk 9: another host’s mapping is not deleted for it', async () => {
    const at = await withQuirks({}, settings);
    await occupy(at, 8080);
    const held = {
      internalClient: '127.0.0.77',
      externalPort: 8080,
      lifetimeSeconds: 3600,
      pinholeId: undefined,
    };
    const mapping = await at.map({ held });
    expect(mapping.externalPort).not.toBe(8080);
    expect(tableOf(at)[0]).toBe('tcp 8080 -> 127.0.0.200:8080');
  });
});

describe('other quirks of a UPnP gateway', () => {
  test('quirk 10: 606 until the user permits it (FRITZ!Box) says where to', async () => {
    const at = await withQuirks({ forbiddenByUser: true });
    await expect(at.map()).rejects.toMatchObject({
      code: 'NOT_AUTHORIZED',
      protocolCode: 'UPnP 606',
      advice: expect.stringContaining('Permit independent port sharing'),
    });
  });

  test('606 for a port below 1024 says that a higher one may do', async () => {
    const at = await withQuirks({ forbiddenByUser: true });
    await expect(at.map({ suggestedExternalPort: 443 })).rejects.toMatchObject({
      advice: expect.stringContaining('8443:443'),
    });
  });

  test.each([
    ['version 1', IGD1],
    ['version 2', {}],
  ] as const)(
    'quirk 12: says success and maps nothing, its table full: NOT_MAPPED (%s)',
    async (_name, settings) => {
      const at = await withQuirks({ saysYesMapsNothing: true }, settings);
      await expect(at.map()).rejects.toMatchObject({
        code: 'NOT_MAPPED',
        advice: expect.stringContaining('natward list'),
      });
    },
  );

  test.each(['unescaped', 'unbound-prefix', 'wrong-namespace'] as const)(
    'quirk 21: malformed answers (%s) are read',
    async (malformedXml) => {
      const at = await withQuirks({ malformedXml });
      const { externalPort } = await at.map({ suggestedExternalPort: 0 });
      expect(at.embedded.table).toMatchObject([{ externalPort }]);
      expect(await at.clock.settle(at.mapper.list?.() ?? Promise.resolve([]))).toMatchObject([
        { externalPort },
      ]);
    },
  );

  test('quirk 23: an unknown action that resets the connection is not the end', async () => {
    const at = await withQuirks({ unknownActionResets: true }, IGD1);
    await occupy(at, 8080);
    const { externalPort } = await at.map();
    expect(externalPort).not.toBe(8080);
    expect(at.embedded.table.length).toBe(2);
  });

  test.each(['127.0.0.1', '0.0.0.0', 'not an address', ''])(
    'quirk 24: an external address of "%s" is none',
    async (externalAddressReported) => {
      const at = await withQuirks({ externalAddressReported });
      // A router is not on loopback: its 127.x is nonsense. The embedded gateway is, and its address is one.
      const told = await at.clock.settle(at.mapper.externalAddress());
      expect(told).toBe(externalAddressReported === '127.0.0.1' ? '127.0.0.1' : undefined);
    },
  );

  test('quirk 25: "Disconnected" yet working: the port is mapped', async () => {
    const at = await withQuirks({ disconnectedYetWorking: true });
    await at.map();
    expect(tableOf(at)).toEqual([OURS]);
  });

  test.each(['http-1.0', 'long-content-length', 'chunked', 'no-content-type'] as const)(
    'quirk 30: HTTP that is off (%s) carries everything that is asked',
    async (http) => {
      const at = await withQuirks({ http });
      const mapping = await at.map();
      expect(tableOf(at)).toEqual([OURS]);
      expect(await at.clock.settle(at.mapper.list?.() ?? Promise.resolve([]))).toHaveLength(1);
      await at.clock.settle(at.mapper.unmap(mapping));
      expect(at.embedded.table).toEqual([]);
    },
  );

  test('724 SamePortValuesRequired is UNSUPPORTED for other ports, and no matter for the same', async () => {
    const at = await withQuirks({ samePortsRequired: true });
    await expect(at.map({ suggestedExternalPort: 9090 })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await at.map();
    expect(tableOf(at)).toEqual([OURS]);
  });

  test('a gateway that redirects is HOSTILE, and is not followed', async () => {
    const at = await mapperAt('upnp');
    at.quirk({ redirect: 'http://127.0.0.66:9/' });
    await expect(at.map()).rejects.toMatchObject({ code: 'HOSTILE' });
  });

  test('a gateway that answers with 100 MB is HOSTILE', async () => {
    const at = await mapperAt('upnp');
    at.quirk({ hugeBody: true });
    await expect(at.map()).rejects.toMatchObject({ code: 'HOSTILE' });
  });

  test('isTaken: 718, 501 and 729, and no other', () => {
    const taken = [401, 402, 501, 606, 714, 718, 725, 728, 729].filter((code) =>
      isTaken(new UpnpFault('AddPortMapping', code, '')),
    );
    expect(taken).toEqual([501, 718, 729]);
  });
});

describe('the arguments', () => {
  test('map() to another host is asked for as it is, and refused by secure mode', async () => {
    const at = await mapperAt('upnp');
    await expect(at.map({ internalClient: '127.0.0.9' })).rejects.toMatchObject({ code: 'NOT_AUTHORIZED' });
    const open = await mapperAt('upnp', { secureMode: false });
    await open.map({ internalClient: '127.0.0.9' });
    expect(tableOf(open)).toEqual(['tcp 8080 -> 127.0.0.9:8080']);
  });

  test('AddAnyPortMapping is asked for where the choice is the gateway’s and it has it', async () => {
    const at = await mapperAt('upnp');
    await at.map({ suggestedExternalPort: 0 });
    expect(at.embedded.counters).toMatchObject({ 'soap AddAnyPortMapping': 1 });
    expect(at.embedded.counters['soap AddPortMapping']).toBeUndefined();
  });

  test('a description with markup comes back as it went', async () => {
    const at = await mapperAt('upnp');
    const description = 'a <b> & "c" ’';
    await at.map({ description });
    expect(at.embedded.table[0]?.description).toBe(description);
    expect((await at.clock.settle(at.mapper.list?.() ?? Promise.resolve([])))[0]?.description).toBe(
      description,
    );
  });

  test('the external address is asked for once', async () => {
    const at = await mapperAt('upnp');
    await at.map();
    await at.map({ protocol: 'udp' });
    expect(at.embedded.counters['soap GetExternalIPAddress']).toBe(1);
  });
});
