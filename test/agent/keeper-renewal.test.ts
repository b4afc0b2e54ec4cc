import { describe, expect, test } from 'vitest';
import type { AgentEvent } from '../../src/agent/events.ts';
import type { Quirks } from '../../src/responder/quirks/quirks.ts';
import { tableOf } from '../mapping/support.ts';
import { keeperFor, type KeeperScene, NEVER, networkOf, RARELY } from './keeping.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const YEAR_MS = 365 * DAY_MS;

/** What is left of the events where nothing but renewals happens. */
function news(scene: KeeperScene): string[] {
  return scene.told().filter((word) => !word.startsWith('renewed'));
}

function renewals(events: readonly AgentEvent[]): number[] {
  return events
    .filter(({ type }) => type === 'granted' || type === 'renewed')
    .map(({ at }) => Date.parse(at));
}

/** When something was asked, in seconds after the first time. */
function times({ asked }: KeeperScene, what: string): number[] {
  const all = asked.filter((one) => one.what === what).map(({ atMs }) => atMs / 1000);
  return all.map((at) => at - (all[0] ?? 0));
}

function mapped(scene: KeeperScene): string[] {
  return tableOf(scene).map((row) => row.replace(`${scene.gateway.localAddress}:`, ':'));
}

describe('a lease', () => {
  test('is held for a year: renewed in its windows, never lost, one mapping', async () => {
    const scene = await keeperFor({ protocols: ['pcp'] }, NEVER);
    await scene.keep(['8443'], { lifetimeSeconds: 604_800 });
    const nonce = scene.embedded.table[0]?.nonce;
    // The first look is seconds after the beginning; its answer counts as the grant.
    await scene.pass(5000);
    await scene.pass(YEAR_MS);
    expect(news(scene)).toEqual(['gateway-up', 'granted tcp 8443']);
    expect(scene.embedded.table).toMatchObject([{ externalPort: 8443, nonce }]);
    const at = renewals(scene.events).slice(1);
    // A day is what PCP grants (RFC 6887, section 15).
    const gaps = at.slice(1).map((ms, index) => (ms - (at[index] as number)) / DAY_MS);
    expect(gaps.length).toBeGreaterThan(365 / (5 / 8) - 3);
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(1 / 2);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(5 / 8 + 0.0001);
    expect(scene.embedded.counters['pcp map']).toBeLessThan(735);
  });

  test('does not come at the same part of its window each time', async () => {
    const scene = await keeperFor({ protocols: ['pcp'] }, NEVER);
    await scene.keep(['1-4']);
    await scene.pass(2 * DAY_MS);
    const at = renewals(scene.events);
    expect(new Set(at).size).toBeGreaterThan(at.length / 2);
  });

  test('is held for two days where the gateway is looked at as well, over each protocol', async () => {
    for (const protocol of ['pcp', 'natpmp', 'upnp'] as const) {
      const scene = await keeperFor({ protocols: [protocol] }, RARELY);
      await scene.keep(['8443/tcp+udp']);
      await scene.pass(2 * DAY_MS);
      expect(news(scene)).toEqual(['gateway-up', 'granted tcp 8443', 'granted udp 8443']);
      expect(mapped(scene)).toEqual(['tcp 8443 -> :8443', 'udp 8443 -> :8443']);
    }
  });

  test('at the pace that people have is held for hours, and its gateway asked no more than needed', async () => {
    const scene = await keeperFor();
    await scene.keep(['8443']);
    await scene.pass(2 * HOUR_MS);
    expect(news(scene)).toEqual(['gateway-up', 'granted tcp 8443']);
    const { counters } = scene.embedded;
    // One request each ten seconds for the epoch, one look in the table.
    expect(counters['natpmp address']).toBeLessThan(2 * 360 * 1.15);
    expect(counters['soap GetSpecificPortMappingEntry']).toBeLessThan(2 * 360 * 1.15);
    expect(counters['pcp map']).toBeLessThan(5);
    expect(counters['http GET /rootDesc.xml']).toBe(1);
  });

  test('of a minute is held over hours, as VPN providers grant it: 45 seconds never go by without a request', async () => {
    const quirks: Quirks = { vpnHabits: { internalPortInAnswer: 'zero' } };
    const scene = await keeperFor({ protocols: ['natpmp'], quirks }, NEVER);
    const { localAddress, address } = scene.gateway;
    scene.machine.network = networkOf(localAddress, address, { prefixLength: 32 });
    const [lease] = await scene.keep(['*:6881/tcp+udp']);
    expect(lease).toMatchObject({ lifetimeSeconds: 60, internalPort: lease?.externalPort });
    await scene.pass(6 * HOUR_MS);
    const port = lease?.externalPort;
    expect(news(scene)).toEqual(['gateway-up', `granted tcp ${port}`, `granted udp ${port}`]);
    expect(mapped(scene)).toEqual([`tcp ${port} -> :${port}`, `udp ${port} -> :${port}`]);
    const at = times(scene, 'natpmp map 6881');
    const gaps = at.slice(1).map((seconds, index) => seconds - (at[index] as number));
    expect(Math.max(...gaps)).toBeLessThanOrEqual(38);
    expect(at.length).toBeLessThan((2 * 6 * 3600) / 30 + 10);
  });

  test('without an end is asked for again all the same, every hour or so', async () => {
    const scene = await keeperFor({ protocols: ['upnp'], quirks: { onlyPermanentLeases: true } }, NEVER);
    const [lease] = await scene.keep(['8443']);
    expect(lease).toMatchObject({ lifetimeSeconds: 0, expiresAt: null, notes: [expect.any(String)] });
    await scene.pass(DAY_MS);
    expect(news(scene)).toEqual(['gateway-up', 'granted tcp 8443']);
    const at = renewals(scene.events);
    expect(at.length).toBeGreaterThanOrEqual(24 / 1.25);
    expect(at.length).toBeLessThanOrEqual(26);
  });
});

describe('a gateway that does not answer a renewal', () => {
  async function deaf(protocol: 'pcp' | 'natpmp', lifetimeSeconds: number): Promise<KeeperScene> {
    const scene = await keeperFor({ protocols: [protocol] }, NEVER);
    await scene.keep(['8443'], { lifetimeSeconds });
    await scene.pass(10_000);
    // It says that it is there, and does not answer to what it is asked for.
    scene.embedded.set({ silentOn: [`${protocol} map`] });
    return scene;
  }

  test('PCP: is asked again after 3 s, doubling, a tenth more or less (RFC 6887, section 8.1.1), from half of the lifetime on', async () => {
    const scene = await deaf('pcp', 7200);
    const from = scene.asked.length;
    const grantedAtMs = scene.clock.now() - 10_000;
    await scene.pass(4_600_000);
    const maps = scene.asked.slice(from).filter(({ what }) => what === 'pcp map 8443');
    const [first = 0, ...later] = maps.map(({ atMs }) => (atMs - grantedAtMs) / 1000);
    expect(first).toBeGreaterThanOrEqual(3600);
    expect(first).toBeLessThanOrEqual(4500);
    for (const [at, seconds] of [3, 9, 21].entries()) {
      expect((later[at] ?? 0) - first).toBeGreaterThan(seconds * 0.85);
      expect((later[at] ?? 0) - first).toBeLessThan(seconds * 1.15);
    }
  });

  test('NAT-PMP: is asked again after 250 ms, doubling, nine times (RFC 6886, section 3.1)', async () => {
    const scene = await deaf('natpmp', 7200);
    const from = scene.asked.length;
    await scene.pass(4_600_000);
    const maps = scene.asked.slice(from).filter(({ what }) => what === 'natpmp map 8443');
    const at = maps.map(({ atMs }) => atMs - (maps[0]?.atMs ?? 0));
    expect(at.slice(0, 9)).toEqual([0, 250, 750, 1750, 3750, 7750, 15_750, 31_750, 63_750]);
  });

  test('is asked no more than a few times a minute, until the lease ends and after', async () => {
    const scene = await deaf('pcp', 1200);
    const from = scene.asked.length;
    await scene.pass(HOUR_MS);
    // Four packets a try, one try a minute, and whether it is there.
    expect(scene.asked.length - from).toBeLessThan(60 * 12);
    expect(scene.told().filter((word) => word === 'gateway-up').length).toBeLessThan(15);
  });

  test('is lost when its lifetime ends and not before, and held again when it answers', async () => {
    const scene = await deaf('pcp', 3600);
    const endsAt = (await scene.leases())[0]?.expiresAt;
    await scene.pass(HOUR_MS + 60_000);
    const lost = scene.events.filter(({ type }) => type === 'lost');
    expect(lost).toMatchObject([{ lease: { state: 'lost' }, reason: expect.stringContaining('lifetime') }]);
    expect(Date.parse(lost[0]?.at ?? '') - Date.parse(endsAt ?? '')).toBeLessThan(60_000);
    expect(lost[0]?.at && lost[0].at >= (endsAt ?? '')).toBe(true);
    scene.embedded.set({ silentOn: [] });
    await scene.pass(120_000);
    expect(await scene.leases()).toMatchObject([{ state: 'held', error: null }]);
    expect(scene.told().at(-1)).toBe('granted tcp 8443');
  });

  test('and loses answers now and then keeps its leases', async () => {
    const scene = await keeperFor({ protocols: ['pcp'] }, NEVER);
    await scene.keep(['8443']);
    for (let hour = 0; hour < 24; hour++) {
      scene.embedded.set({ loseAnswers: { 'pcp map': 2 } });
      await scene.pass(HOUR_MS);
    }
    expect(news(scene)).toEqual(['gateway-up', 'granted tcp 8443']);
    expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
  });
});

describe('a gateway that refuses a renewal', () => {
  test('is asked again in the later windows, told of once, and the lease lost at its end', async () => {
    const scene = await keeperFor({ protocols: ['pcp'] }, NEVER);
    await scene.keep(['8443']);
    await scene.pass(10_000);
    const grantedAtMs = scene.clock.now() - 10_000;
    const from = scene.asked.length;
    scene.embedded.set({ forbiddenByUser: true });
    await scene.pass(7_150_000);
    expect(await scene.leases()).toMatchObject([{ state: 'held', error: { code: 'NOT_AUTHORIZED' } }]);
    const maps = scene.asked.slice(from).filter(({ what }) => what === 'pcp map 8443');
    const parts = maps.map(({ atMs }) => (atMs - grantedAtMs) / 7_200_000);
    const windows = [1, 2, 3, 4, 5, 6].map((at) => [1 - 0.5 ** at, 1 - 0.75 * 0.5 ** at] as const);
    for (const [at, [from_, until]] of windows.entries()) {
      expect(parts[at]).toBeGreaterThanOrEqual(from_ - 0.001);
      expect(parts[at]).toBeLessThanOrEqual(until + 0.001);
    }
    await scene.pass(120_000);
    expect(news(scene)).toEqual(['gateway-up', 'granted tcp 8443', 'refused tcp 8443', 'lost tcp 8443']);
    expect(await scene.leases()).toMatchObject([{ state: 'refused' }]);
    scene.embedded.set({ forbiddenByUser: false });
    await scene.pass(300_000);
    expect(news(scene)).toEqual(['granted tcp 8443']);
  });
});

describe('the habits of routers, over hours', () => {
  /** Looks often enough, and not at every second of many hours. */
  const NOW_AND_THEN = { checkMs: 300_000, networkLookMs: 300_000 };

  test.each<[string, Quirks]>([
    ['quirk 1: grants only mappings without an end: 725', { onlyPermanentLeases: true }],
    ['quirk 2: means the same and says 402', { onlyPermanentLeasesAs402: true }],
    ['quirk 3: refuses a mapping without an end: 402', { permanentLeaseRefusedAs402: true }],
    ['quirk 4: lets leased mappings end at once', { leasesExpireInstantly: true }],
    ['quirk 5: shortens the lifetime to ten minutes', { leaseClampedTo: 600 }],
    ['quirk 5: ignores the lifetime', { leaseIgnored: true }],
    ['quirk 6: takes a refresh, does not extend', { refreshDoesNotExtend: true }],
    ['quirk 8: 501 instead of 718', { conflictAs501: true }],
    ['quirk 23: resets the connection at an action it does not know', { unknownActionResets: true }],
    ['quirk 24: reports 0.0.0.0 as its external address', { externalAddressReported: '0.0.0.0' }],
    ['quirk 25: says "Disconnected" and works', { disconnectedYetWorking: true }],
  ])('%s: the lease is held, and is in the table whenever somebody looks', async (_what, quirks) => {
    const scene = await keeperFor({ protocols: ['upnp'], igdVersion: 1, quirks }, NOW_AND_THEN);
    const [lease] = await scene.keep(['8443']);
    expect(lease).toMatchObject({ state: 'held', via: 'upnp' });
    for (let passed = 0; passed < 3 * HOUR_MS; passed += 600_000) {
      await scene.pass(600_000);
      expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
    }
    expect(await scene.leases()).toMatchObject([{ state: 'held', error: null }]);
    expect(news(scene)).toEqual(['gateway-up', 'granted tcp 8443']);
  });

  test('quirk 7: what is pruned is made again within one check, and told of', async () => {
    const scene = await keeperFor({ protocols: ['upnp'], quirks: { prunesIdleMappings: 600 } });
    await scene.keep(['8443']);
    await scene.pass(620_000);
    expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
    expect(scene.told()).toEqual(['gateway-up', 'granted tcp 8443', 'lost tcp 8443', 'granted tcp 8443']);
    expect(scene.events[2]).toMatchObject({ reason: 'the gateway no longer has it' });
  });

  test('quirk 12: says yes, maps nothing: is refused, asked again, and held when there is room', async () => {
    const scene = await keeperFor({ protocols: ['upnp'], quirks: { saysYesMapsNothing: true } });
    const [lease] = await scene.keep(['8443']);
    expect(lease).toMatchObject({ state: 'refused', error: { code: 'NOT_MAPPED' } });
    await scene.pass(300_000);
    expect(scene.told()).toEqual(['gateway-up', 'refused tcp 8443']);
    scene.embedded.set({ saysYesMapsNothing: false });
    await scene.pass(900_000);
    expect(await scene.leases()).toMatchObject([{ state: 'held' }]);
    expect(scene.told()).toEqual(['granted tcp 8443']);
  });

  test('quirk 12 at a renewal: what the gateway has no more is lost, and held again when there is room', async () => {
    const scene = await keeperFor({ protocols: ['upnp'] }, NEVER);
    await scene.keep(['8443']);
    await scene.pass(10_000);
    await scene.embedded.remove('tcp', 8443);
    scene.embedded.set({ saysYesMapsNothing: true });
    await scene.pass(5_000_000);
    expect(news(scene)).toEqual(['gateway-up', 'granted tcp 8443', 'lost tcp 8443', 'refused tcp 8443']);
    scene.embedded.set({ saysYesMapsNothing: false });
    await scene.pass(900_000);
    expect(news(scene)).toEqual(['granted tcp 8443']);
  });

  test('quirk 26: keeps 8 bits of a NAT-PMP port: nothing is held, and the gateway is not flooded', async () => {
    const scene = await keeperFor({ protocols: ['natpmp'], quirks: { natpmpTruncatesPorts: true } });
    const [lease] = await scene.keep(['8443']);
    expect(lease?.state).not.toBe('held');
    const from = scene.asked.length;
    await scene.pass(600_000);
    expect(scene.asked.length - from).toBeLessThan(400);
    expect(scene.told().filter((word) => word === 'gateway-up').length).toBeLessThan(8);
  });

  test('one port that a gateway never answers for does not trouble the others', async () => {
    const scene = await keeperFor(
      { protocols: ['pcp'] },
      {
        ...NEVER,
        system: (system) => ({
          ...system,
          openUdp: async (options) => {
            const socket = await system.openUdp(options);
            return {
              local: socket.local,
              send: (data, to) => {
                // RFC 6887, section 11.1: the internal port.
                const isDeaf = data[0] === 2 && data.length >= 44 && data[40] === 0x24 && data[41] === 0x00;
                if (!isDeaf) socket.send(data, to);
              },
              [Symbol.asyncDispose]: () => socket[Symbol.asyncDispose](),
            };
          },
        }),
      },
    );
    const leases = await scene.keep(['9210-9219']);
    expect(leases.filter(({ state }) => state === 'held')).toHaveLength(9);
    const from = scene.asked.length;
    await scene.pass(600_000);
    expect(scene.told().filter((word) => word === 'gateway-up').length).toBeLessThan(8);
    expect(scene.asked.length - from).toBeLessThan(300);
    expect((await scene.leases()).filter(({ state }) => state === 'held')).toHaveLength(9);
  });
});

describe('a grant for a moment', () => {
  test.each([1, 2, 5])('of %i s is not asked for in a flood', async (seconds) => {
    const scene = await keeperFor({ protocols: ['natpmp'], quirks: { leaseClampedTo: seconds } }, NEVER);
    await scene.keep(['8443']);
    await scene.pass(60_000);
    expect(times(scene, 'natpmp map 8443').length).toBeLessThanOrEqual(17);
  });
});
