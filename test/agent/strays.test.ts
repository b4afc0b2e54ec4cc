import { describe, expect, test } from 'vitest';
import type { Holding } from '../../src/agent/lease-record.ts';
import { occupy, tableOf } from '../mapping/support.ts';
import { keeperFor, type KeeperScene, NEVER, requestOf, selectorOf, TestMemory } from './keeping.ts';
import { remembered } from './remembered.ts';

/** The table in short, without this host's address, which is another one in each test. */
function mapped(scene: KeeperScene): string[] {
  return tableOf(scene).map((row) => row.replace(`${scene.gateway.localAddress}:`, ':'));
}

function statesOf(leases: readonly { readonly id: string; readonly state: string }[]): string[] {
  return leases.map(({ id, state }) => `${id.slice(9)} ${state}`);
}

describe('what cannot be given back', () => {
  test.each(['pcp', 'natpmp'] as const)(
    'since %s never answers to that: the gateway is asked now and then until it does, and not all the time',
    async (protocol) => {
      const scene = await keeperFor({ protocols: [protocol], quirks: { silentOn: [`${protocol} unmap`] } });
      await scene.keep(['8443', '9000']);
      expect(await scene.drop('8443')).toMatchObject({ released: [{ error: { code: 'TIMEOUT' } }] });
      const from = scene.asked.length;
      await scene.pass(600_000);
      const unmaps = scene.asked.slice(from).filter(({ what }) => what === `${protocol} unmap 8443`);
      expect(unmaps.length).toBeLessThan(50);
      expect(scene.told()).not.toContain('gateway-down');
      scene.embedded.set({ silentOn: [] });
      await scene.pass(330_000);
      expect(mapped(scene)).toEqual(['tcp 9000 -> :9000']);
      expect(scene.memory.load().holdings).toHaveLength(1);
    },
  );

  test('since the gateway refuses: it is not asked again, and forgotten when it has ended', async () => {
    const scene = await keeperFor({ protocols: ['pcp'] });
    await scene.keep(['8443', '9000']);
    // Somebody has taken it over with another nonce.
    const again = await scene.rerun(({ intents, holdings }) => ({
      intents: intents.filter(({ spec }) => spec === '9000'),
      holdings: holdings.map((holding) => ({
        ...holding,
        mapping: {
          ...holding.mapping,
          nonce: holding.mapping.internalPort === 8443 ? 'f'.repeat(24) : holding.mapping.nonce,
        },
      })),
    }));
    await again.pass(600_000);
    expect(again.asked.filter(({ what }) => what === 'pcp unmap 8443')).toHaveLength(1);
    expect(mapped(again)).toEqual(['tcp 8443 -> :8443', 'tcp 9000 -> :9000']);
    await again.pass(7_200_000);
    expect(again.memory.load().holdings).toHaveLength(1);
  });
});

describe('drop() before a gateway that is dead', () => {
  test('ends at once where that is known, and says what stays; it is given back when the gateway is there again', async () => {
    const scene = await keeperFor();
    await scene.keep(['8443']);
    scene.embedded.set({ silent: true });
    await scene.pass(20_000);
    expect(scene.told()).toEqual(['gateway-up', 'granted tcp 8443', 'gateway-down']);
    const startMs = scene.clock.now();
    const { released, failures } = await scene.drop('8443');
    expect(scene.clock.now() - startMs).toBeLessThan(3000);
    expect(failures).toEqual([]);
    expect(released).toMatchObject([{ state: 'held', error: { code: 'UNREACHABLE' } }]);
    expect(scene.events.at(-1)).toMatchObject({
      type: 'released',
      reason: expect.stringContaining('lifetime'),
    });
    expect(await scene.leases()).toEqual([]);
    expect(scene.memory.load().holdings).toHaveLength(1);
    scene.embedded.set({ silent: false });
    await scene.pass(60_000);
    expect(scene.embedded.table).toEqual([]);
    expect(scene.memory.load().holdings).toEqual([]);
  });

  test('ends before long where that is not known yet', async () => {
    const scene = await keeperFor();
    await scene.keep(['8443']);
    scene.embedded.set({ silent: true });
    const startMs = scene.clock.now();
    const { released } = await scene.drop('8443');
    expect(scene.clock.now() - startMs).toBeLessThan(20_000);
    expect(released).toMatchObject([{ error: { code: expect.stringMatching(/TIMEOUT|UNREACHABLE/) } }]);
  });

  test('ends when its signal fires', async () => {
    const scene = await keeperFor();
    await scene.keep(['8443']);
    scene.embedded.set({ silent: true });
    const stop = new AbortController();
    void scene.clock.sleep(500).then(() => stop.abort());
    const startMs = scene.clock.now();
    const dropping = scene.keeper.drop([selectorOf('8443')], { signal: stop.signal });
    const { released } = await scene.clock.settle(dropping);
    expect(scene.clock.now() - startMs).toBe(500);
    expect(released).toMatchObject([{ error: { code: 'ABORTED' } }]);
    expect(scene.memory.load().holdings).toHaveLength(1);
  });

  test('and keep() of something else on the same port: what is then granted is there', async () => {
    const scene = await keeperFor({ protocols: ['upnp'] });
    await scene.keep(['8443']);
    scene.embedded.set({ silent: true });
    await scene.pass(30_000);
    await scene.drop('8443');
    await scene.keep(['8443'], { via: 'upnp' });
    scene.embedded.set({ silent: false });
    await scene.pass(120_000);
    expect(statesOf(await scene.leases())).toEqual(['tcp/8443 held']);
    expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
    expect(scene.memory.load().holdings).toHaveLength(1);
  });
});

describe('an agent that was killed', () => {
  test('is followed by one that asks with the same nonces for the same ports: nothing moves', async () => {
    const scene = await keeperFor({}, { config: [requestOf('9000')] });
    await occupy(scene, 8443);
    const [lease] = await scene.keep(['8443/tcp+udp']);
    const before = scene.embedded.table;
    const again = await scene.rerun();
    await again.pass(5000);
    expect(again.embedded.table.map(({ externalPort, nonce }) => [externalPort, nonce])).toEqual(
      before.map(({ externalPort, nonce }) => [externalPort, nonce]),
    );
    const leases = await again.leases();
    expect(leases.map(({ state }) => state)).toEqual(['held', 'held', 'held']);
    expect(leases.find(({ id }) => id === lease?.id)?.externalPort).toBe(lease?.externalPort);
    expect(again.told().filter((word) => word.startsWith('changed'))).toEqual([]);
  });

  test('knows what was kept, by the same ids', async () => {
    const scene = await keeperFor();
    const [lease] = await scene.keep(['8443']);
    const again = await scene.rerun();
    expect((await again.keeper.status()).leases).toMatchObject([{ id: lease?.id, state: 'asking' }]);
    expect(await again.drop(lease?.intentId ?? '')).toMatchObject({ failures: [] });
    await again.pass(5000);
    expect(again.embedded.table).toEqual([]);
  });

  test('claims what it held when the gateway is only there later', async () => {
    const scene = await keeperFor();
    await scene.keep(['*:8443']);
    const [row] = scene.embedded.table;
    scene.embedded.set({ silent: true });
    const again = await scene.rerun();
    await again.pass(60_000);
    expect(again.embedded.table[0]?.nonce).toEqual(row?.nonce);
    again.embedded.set({ silent: false });
    await again.pass(30_000);
    expect(statesOf(await again.leases())).toEqual(['tcp/8443 held']);
    expect(again.embedded.table).toHaveLength(1);
  });

  test('what nobody wants any more is given back', async () => {
    const scene = await keeperFor({}, { config: [requestOf('1')] });
    await scene.keep(['8443', '9000']);
    const again = await scene.rerun(({ intents, holdings }) => ({
      intents: intents.filter(({ spec }) => spec === '8443'),
      holdings,
    }));
    await again.pass(30_000);
    expect(mapped(again)).toEqual(['tcp 1 -> :1', 'tcp 8443 -> :8443']);
    expect(again.memory.load().holdings).toHaveLength(2);
  });

  test('what nobody wants is given back although nothing at all is kept', async () => {
    const scene = await keeperFor();
    await scene.keep(['8443']);
    const again = await scene.rerun(({ holdings }) => ({ intents: [], holdings }));
    await again.pass(30_000);
    expect(again.embedded.table).toEqual([]);
    expect(again.memory.load().holdings).toEqual([]);
  });

  test('what has ended meanwhile is forgotten, and its port asked for again', async () => {
    const scene = await keeperFor({}, NEVER);
    await scene.keep(['8443'], { lifetimeSeconds: 600 });
    const before = scene.memory.load();
    await scene.drop('8443');
    scene.clock.sleepThrough(3_600_000);
    const again = await scene.rerun(() => before);
    await again.pass(5000);
    expect(statesOf(await again.leases())).toEqual(['tcp/8443 held']);
    expect(again.embedded.table).toMatchObject([{ nonce: expect.any(Uint8Array) }]);
  });
});

describe('a keeper never deletes what it did not make', () => {
  function holdingOf(scene: KeeperScene, change: object): Holding {
    const { address, localAddress, interface: name } = scene.gateway;
    const mapping = remembered({ gateway: address, internalClient: localAddress, ...change });
    return { leaseKey: '01234567/8443', interface: name, hardwareAddress: null, mapping };
  }

  test('a mapping of another host stays, whatever is kept and dropped beside it', async () => {
    const scene = await keeperFor();
    await occupy(scene, 8443);
    await occupy(scene, 8444);
    await scene.keep(['8443-8444', '8445']);
    await scene.pass(60_000);
    await scene.drop('8443-8444');
    await scene.drop('8445');
    expect(mapped(scene)).toEqual(['tcp 8443 -> 127.0.0.200:8443', 'tcp 8444 -> 127.0.0.200:8444']);
  });

  test.each(['pcp', 'natpmp', 'upnp'] as const)(
    'what it held over %s and is another host’s now stays',
    async (via) => {
      const first = await keeperFor();
      await first.embedded.give('tcp', 8443, { address: '127.0.0.200', port: 8443 });
      const nonce = via === 'pcp' ? '00112233445566778899aabb' : null;
      const stray = holdingOf(first, { via, nonce, externalPort: 8443, internalPort: 8443 });
      const again = await first.rerun(() => ({ intents: [], holdings: [stray] }));
      await again.keep(['9000']);
      await again.pass(60_000);
      expect(mapped(again)).toEqual(['tcp 8443 -> 127.0.0.200:8443', 'tcp 9000 -> :9000']);
    },
  );

  test('what it remembers of another gateway at the same address is not asked of this one', async () => {
    const scene = await keeperFor({}, { memory: new TestMemory() });
    scene.machine.hardwareAddress = '02:00:00:00:00:01';
    await scene.keep(['8443', '9000']);
    const { holdings } = scene.memory.load();
    const other = holdings.map((holding) => ({ ...holding, hardwareAddress: '02:00:00:00:00:99' }));
    const again = await scene.rerun(() => ({ intents: [], holdings: other }));
    await again.pass(60_000);
    expect(again.embedded.table).toHaveLength(2);
    expect(again.memory.load().holdings).toEqual(other);
  });
});
