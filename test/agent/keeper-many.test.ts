import { describe, expect, test } from 'vitest';
import { intentOf } from '../../src/agent/intent.ts';
import type { LeaseStatus } from '../../src/agent/lease.ts';
import type { Holding } from '../../src/agent/lease-record.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import type { IpAddress } from '../../src/net/address.ts';
import type { MappingProtocol } from '../../src/net/protocol.ts';
import { freshInnerAddress, keeperFor, type KeeperScene, NEVER, requestOf, TestMemory } from './keeping.ts';
import { remembered } from './remembered.ts';

const HOUR_MS = 3_600_000;
/** As many requests as each protocol's gateways take at once. */
const WINDOW = { pcp: 4, natpmp: 1, upnp: 4 } as const;
/** What UPnP's gateway is asked beside: its address, and whether it did what it said. */
const BESIDE = { pcp: 0, natpmp: 0, upnp: 2 } as const;

async function manyOver(
  protocol: MappingProtocol,
  count: number,
  settings: Partial<GatewaySettings> = {},
): Promise<{ readonly scene: KeeperScene; readonly leases: readonly LeaseStatus[] }> {
  const scene = await keeperFor({ protocols: [protocol], maxMappings: 65_535, ...settings }, NEVER);
  await scene.keep(['9999']);
  scene.mostAtOnce();
  const { signal } = new AbortController();
  const request = requestOf(`10000-${9999 + count}`);
  const keeping = scene.keeper.keep([request], { owner: 'user', timeoutMs: 1e9, signal });
  return { scene, leases: await scene.clock.settle(keeping) };
}

describe.each<[MappingProtocol, number]>([
  ['pcp', 300],
  ['natpmp', 300],
  ['upnp', 100],
])('over %s, %i leases', (protocol, count) => {
  test('are all held, and given back, as many asked for at once as the gateway takes', async () => {
    const { scene, leases } = await manyOver(protocol, count);
    const [least, most] = [WINDOW[protocol], WINDOW[protocol] + BESIDE[protocol]];
    expect(new Set(leases.map(({ state }) => state))).toEqual(new Set(['held']));
    expect(scene.embedded.table).toHaveLength(count + 1);
    const asking = scene.mostAtOnce();
    const { released } = await scene.drop(`10000-${9999 + count}`);
    expect(released.filter(({ error }) => error === null)).toHaveLength(count);
    expect(scene.embedded.table).toHaveLength(1);
    for (const atOnce of [asking, scene.mostAtOnce()]) {
      expect(atOnce).toBeGreaterThanOrEqual(least);
      expect(atOnce).toBeLessThanOrEqual(most);
    }
  });
});

describe('many leases', () => {
  test('that were lost together are each told of once, and made again a few at a time', async () => {
    const { scene } = await manyOver('pcp', 300);
    await scene.pass(60_000);
    scene.told();
    scene.mostAtOnce();
    await scene.embedded.wipe();
    await scene.embedded.announce('pcp');
    await scene.pass(10_000);
    const words = scene.told();
    expect(words.filter((word) => word.startsWith('lost'))).toHaveLength(301);
    expect(words.filter((word) => word.startsWith('granted'))).toHaveLength(301);
    expect(scene.embedded.table).toHaveLength(301);
    // Four for leases, and whether the gateway is there.
    expect(scene.mostAtOnce()).toBeLessThanOrEqual(WINDOW.pcp + 1);
  });

  test('that were granted together are renewed over an eighth of their lifetime', async () => {
    const { scene } = await manyOver('pcp', 400);
    await scene.pass(10_000);
    const from = scene.asked.length;
    const startMs = scene.clock.now();
    await scene.pass(1.3 * HOUR_MS);
    const renewals = scene.asked.slice(from).filter(({ what }) => what.startsWith('pcp map'));
    expect(renewals).toHaveLength(401);
    const minutes = new Map<number, number>();
    for (const { atMs } of renewals) {
      const minute = Math.floor((atMs - startMs) / 60_000);
      minutes.set(minute, (minutes.get(minute) ?? 0) + 1);
    }
    // 15 minutes; each has its share, give or take what chance does.
    expect(minutes.size).toBeGreaterThanOrEqual(15);
    expect(Math.max(...minutes.values())).toBeLessThan(80);
  });

  test('that wait for a slow gateway while this host’s clock is set back are all renewed', async () => {
    const { scene } = await manyOver('pcp', 100);
    await scene.keep(['20000-20099'], { lifetimeSeconds: 120 });
    scene.embedded.set({ delayMs: { pcp: 900 } });
    await scene.pass(72_000);
    scene.machine.setClock(-HOUR_MS);
    for (let minute = 0; minute < 3; minute++) {
      await scene.pass(60_000);
      expect(scene.embedded.table).toHaveLength(201);
    }
    expect(scene.told().filter((word) => word.startsWith('lost'))).toEqual([]);
  });

  test('of which a part is refused: those are asked for again, and the others left in peace', async () => {
    const { scene, leases } = await manyOver('pcp', 200, {
      deniedExternalPorts: [{ first: 1, last: 10_099 }],
    });
    const request = requestOf('2000-2049');
    const { signal } = new AbortController();
    const refused = await scene.clock.settle(
      scene.keeper.keep([{ ...request, choice: 'exact' }], { owner: 'user', timeoutMs: 1e9, signal }),
    );
    expect(leases.filter(({ state }) => state === 'held')).toHaveLength(200);
    expect(new Set(refused.map(({ state }) => state))).toEqual(new Set(['refused']));
    await scene.pass(20_000);
    const from = scene.asked.length;
    await scene.pass(15_000);
    const asked = new Set(scene.asked.slice(from).map(({ what }) => what));
    expect(asked.size).toBe(50);
    expect([...asked].every((what) => /^pcp map 20\d\d$/.test(what))).toBe(true);
  });
});

/** What an agent that was killed has left of an intent for `count` ports from 10000 on. */
function leftOf(address: IpAddress, id: string, count: number): Holding[] {
  return Array.from({ length: count }, (_, at) => {
    const port = 10_000 + at;
    const mapping = remembered({
      gateway: address,
      internalClient: address,
      internalPort: port,
      externalPort: port,
      requestedExternalPort: port,
      nonce: port.toString(16).padStart(24, '0'),
    });
    return { leaseKey: `${id}/${port}`, interface: 'lo', hardwareAddress: null, mapping };
  });
}

describe('leases that a killed agent has left', () => {
  test.each([
    [10_000, 'for what is kept still', undefined],
    [500, 'for the same ports, kept in other words', '0123abcd'],
  ])('%i of them are claimed with their nonces, a few at a time, %s', async (count, _how, otherId) => {
    const address = freshInnerAddress();
    const intent = intentOf(requestOf(`10000-${9999 + count}`), 'user');
    const holdings = leftOf(address, otherId ?? intent.id, count);
    const scene = await keeperFor(
      { address, externalAddress: '198.51.100.7', protocols: ['pcp'], maxMappings: 65_535 },
      { ...NEVER, memory: new TestMemory({ intents: [intent], holdings }) },
    );
    const startMs = performance.now();
    await scene.pass(1400);
    const leases = await scene.leases();
    expect(leases.filter(({ state }) => state === 'held')).toHaveLength(count);
    expect(scene.asked.filter(({ what }) => what.startsWith('pcp map'))).toHaveLength(count);
    expect(scene.mostAtOnce()).toBe(WINDOW.pcp);
    const nonces = scene.embedded.table.map(
      ({ externalPort, nonce }) => [externalPort, Buffer.from(nonce ?? []).toString('hex')] as const,
    );
    expect(nonces.filter(([port, nonce]) => port !== Number.parseInt(nonce, 16))).toEqual([]);
    expect(scene.memory.load().holdings).toHaveLength(count);
    expect(scene.told().filter((word) => !word.startsWith('granted'))).toEqual(['gateway-up']);
    expect(performance.now() - startMs).toBeLessThan(15_000);
  });
});
