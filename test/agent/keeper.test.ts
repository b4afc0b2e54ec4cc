import { describe, expect, test } from 'vitest';
import type { LedgerState } from '../../src/agent/ledger.ts';
import { NatwardError } from '../../src/errors.ts';
import { occupy, tableOf } from '../mapping/support.ts';
import { keeperFor, type KeeperScene, NEVER, networkOf, requestOf, selectorOf } from './keeping.ts';

const NO_SIGNAL = new AbortController().signal;
const OPTIONS = { owner: 'user', timeoutMs: 10_000, signal: NO_SIGNAL } as const;
const SYNC = { kind: 'sync', client: 'qbittorrent', url: 'http://127.0.0.1:8080' } as const;

/** The table in short, without this host's address, which is another one in each test. */
function mapped(scene: KeeperScene): string[] {
  return tableOf(scene).map((row) => row.replace(`${scene.gateway.localAddress}:`, ':'));
}

/** When the gateway was asked to map something over PCP, in seconds from now on. */
function asksFrom({ clock, asked: all }: KeeperScene): () => number[] {
  const startMs = clock.now();
  const from = all.length;
  return () => {
    const maps = all.slice(from).filter(({ what }) => what.startsWith('pcp map'));
    return maps.map(({ atMs }) => Math.round((atMs - startMs) / 1000));
  };
}

function asked({ embedded }: KeeperScene): number {
  return embedded.counters['pcp map'] ?? 0;
}

function statesOf(leases: readonly { readonly id: string; readonly state: string }[]): string[] {
  return leases.map(({ id, state }) => `${id.slice(9)} ${state}`);
}

describe('keep()', () => {
  test('resolves with the lease that the gateway granted', async () => {
    const scene = await keeperFor({ externalAddress: '203.0.113.5' });
    const { gateway, clock, keep } = scene;
    const [lease] = await keep(['8443']);
    expect(lease).toMatchObject({
      id: expect.stringMatching(/^[0-9a-f]{8}\/tcp\/8443$/),
      intentId: lease?.id.slice(0, 8),
      owner: 'user',
      spec: '8443',
      state: 'held',
      protocol: 'tcp',
      family: 4,
      requestedExternalPort: 8443,
      externalAddress: '203.0.113.5',
      externalPort: 8443,
      internalClient: gateway.localAddress,
      internalPort: 8443,
      lifetimeSeconds: 7200,
      expiresAt: new Date(clock.now() + 7_200_000).toISOString(),
      via: 'pcp',
      gateway: gateway.address,
      description: 'natward 8443/tcp',
      notes: [],
      error: null,
    });
    const renewsInMs = Date.parse(lease?.renewsAt ?? '') - clock.now();
    expect(renewsInMs).toBeGreaterThanOrEqual(3_600_000 - 1);
    expect(renewsInMs).toBeLessThanOrEqual(4_500_000);
    expect(scene.told()).toEqual(['gateway-up', 'granted tcp 8443']);
  });

  test('holds TCP and UDP of a port together, on one external port', async () => {
    const scene = await keeperFor();
    await occupy(scene, 8080, 'tcp');
    const leases = await scene.keep(['8080/tcp+udp']);
    expect(statesOf(leases)).toEqual(['tcp/8080 held', 'udp/8080 held']);
    expect(leases[0]?.intentId).toBe(leases[1]?.intentId);
    expect(leases[0]?.externalPort).toBe(leases[1]?.externalPort);
  });

  test('holds every port of a range, and of several specs', async () => {
    const scene = await keeperFor();
    const leases = await scene.keep(['9000-9002:6000-6002/udp', '*:8080']);
    expect(leases.map(({ requestedExternalPort }) => requestedExternalPort)).toEqual([
      9000,
      9001,
      9002,
      null,
    ]);
    expect(mapped(scene)).toEqual([
      'udp 9000 -> :6000',
      'udp 9001 -> :6001',
      'udp 9002 -> :6002',
      'tcp 8080 -> :8080',
    ]);
  });

  test('of what is kept already resolves at once, and asks nobody', async () => {
    const scene = await keeperFor({}, NEVER);
    const [first] = await scene.keep(['8443']);
    const startMs = scene.clock.now();
    const [again] = await scene.keep(['8443']);
    expect(again).toEqual(first);
    expect([asked(scene), scene.clock.now() - startMs]).toEqual([1, 0]);
    expect(scene.keeper.intents).toHaveLength(1);
  });

  test.each<[string, Parameters<KeeperScene['keep']>[1]]>([
    ['another lifetime', { lifetimeSeconds: 3600 }],
    ['another description', { description: 'mine' }],
    ['this port or none', { choice: 'exact' }],
    ['one remote peer alone', { remotePeer: { address: '198.51.100.7', prefixLength: 32, port: 0 } }],
  ])('with %s asks for it anew; it is one mapping', async (_what, options) => {
    const scene = await keeperFor({}, NEVER);
    await scene.keep(['8443']);
    await scene.keep(['8443'], options);
    await scene.pass(1000);
    expect(asked(scene)).toBe(2);
    expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
    const [row] = scene.embedded.table;
    expect(row?.remotePeers).toHaveLength(options?.remotePeer === undefined ? 0 : 1);
    expect(statesOf(await scene.leases())).toEqual(['tcp/8443 held']);
  });

  test('waits for the first answer as long as it is told to, and keeps it all the same', async () => {
    const scene = await keeperFor({ protocols: ['pcp'], quirks: { silentOn: ['pcp map'] } }, NEVER);
    const startMs = scene.clock.now();
    const keeping = scene.keeper.keep([requestOf('8443')], { ...OPTIONS, timeoutMs: 1500 });
    expect(statesOf(await scene.clock.settle(keeping))).toEqual(['tcp/8443 asking']);
    expect(scene.clock.now() - startMs).toBe(1500);
    scene.embedded.set({ silentOn: [] });
    await scene.pass(5000);
    expect(statesOf(await scene.leases())).toEqual(['tcp/8443 held']);
  });

  test('does not wait for what is dropped meanwhile', async () => {
    const scene = await keeperFor({ quirks: { silent: true } }, NEVER);
    const keeping = scene.keeper.keep([requestOf('8443')], { ...OPTIONS, timeoutMs: 60_000 });
    const startMs = scene.clock.now();
    const dropping = scene.keeper.drop([selectorOf('8443')], { signal: NO_SIGNAL });
    await scene.clock.settle(Promise.all([keeping, dropping]));
    expect(scene.clock.now() - startMs).toBeLessThan(60_000);
    expect(await scene.leases()).toEqual([]);
  });

  test('ends when its signal fires, or has; what was asked for is still kept', async () => {
    const scene = await keeperFor({ quirks: { silent: true } }, NEVER);
    const stop = new AbortController();
    void scene.clock.sleep(100).then(() => stop.abort());
    const startMs = scene.clock.now();
    await scene.clock.settle(scene.keeper.keep([requestOf('1')], { ...OPTIONS, signal: stop.signal }));
    expect(scene.clock.now() - startMs).toBe(100);
    await scene.clock.settle(scene.keeper.keep([requestOf('2')], { ...OPTIONS, signal: stop.signal }));
    expect(scene.clock.now() - startMs).toBe(100);
    expect(await scene.leases()).toHaveLength(2);
    scene.embedded.set({ silent: false });
    await scene.pass(30_000);
    expect(statesOf(await scene.leases())).toEqual(['tcp/1 held', 'tcp/2 held']);
  });

  test('of nothing is nothing, at once', async () => {
    const scene = await keeperFor();
    expect(await scene.keep([])).toEqual([]);
    expect(scene.embedded.counters).toEqual({});
  });

  test('many at once are all answered', async () => {
    const scene = await keeperFor({}, NEVER);
    const keeping = Array.from({ length: 20 }, (_, at) =>
      scene.keeper.keep([requestOf(String(9000 + at))], { ...OPTIONS, owner: `app-${at}` }),
    );
    const leases = (await scene.clock.settle(Promise.all(keeping))).flat();
    expect(leases.map(({ state }) => state)).toEqual(Array(20).fill('held'));
    expect(scene.embedded.table).toHaveLength(20);
  });
});

describe('a gateway that refuses', () => {
  test('is told of once, with what to do; it is asked again ever more rarely, and what it then grants is held', async () => {
    const scene = await keeperFor({ protocols: ['pcp'], quirks: { forbiddenByUser: true } }, NEVER);
    const [lease] = await scene.keep(['8443']);
    expect(lease).toMatchObject({
      state: 'refused',
      externalPort: null,
      expiresAt: null,
      renewsAt: null,
      error: { code: 'NOT_AUTHORIZED', message: expect.stringMatching(/PCP 2/), advice: expect.any(String) },
    });
    const asks = asksFrom(scene);
    await scene.pass(4_000_000);
    expect(asks()).toEqual([30, 90, 210, 450, 930, 1830, 2730, 3630]);
    expect(scene.told()).toEqual(['gateway-up', 'refused tcp 8443']);
    scene.embedded.set({ forbiddenByUser: false });
    await scene.pass(900_000);
    expect((await scene.leases())[0]).toMatchObject({ state: 'held', error: null });
    expect(scene.told()).toEqual(['granted tcp 8443']);
  });

  test('one port of many keeps the others as they are', async () => {
    const scene = await keeperFor({ deniedExternalPorts: [{ first: 80, last: 80 }] });
    const leases = await scene.keep(['79-81'], { choice: 'exact' });
    expect(statesOf(leases)).toEqual(['tcp/79 held', 'tcp/80 refused', 'tcp/81 held']);
    await scene.pass(120_000);
    expect(scene.told().sort()).toEqual(['gateway-up', 'granted tcp 79', 'granted tcp 81', 'refused tcp 80']);
  });

  test('the second protocol of a port: neither is held', async () => {
    const scene = await keeperFor({ protocols: ['pcp'] });
    await scene.embedded.give('udp', 8080, { address: '127.0.0.200', port: 8080 });
    const leases = await scene.keep(['8080/tcp+udp'], { choice: 'exact' });
    expect(statesOf(leases)).toEqual(['tcp/8080 refused', 'udp/8080 refused']);
    expect(mapped(scene)).toEqual(['udp 8080 -> 127.0.0.200:8080']);
  });
});

describe('without a gateway', () => {
  test('what is kept waits for one, says why, and is held when there is one', async () => {
    const scene = await keeperFor();
    const { network } = scene.machine;
    scene.machine.network = { defaultRoutes: [], addresses: [] };
    const [lease] = await scene.keep(['8443']);
    expect(lease).toMatchObject({ state: 'no-gateway', error: { code: 'NO_ROUTE' } });
    expect((await scene.keeper.status()).gateways).toEqual([]);
    scene.machine.network = network;
    await scene.pass(3000);
    expect(statesOf(await scene.leases())).toEqual(['tcp/8443 held']);
    expect(scene.told()).toEqual(['gateway-up', 'granted tcp 8443']);
  });

  test('that answers, keep() resolves with NO_GATEWAY before its time is over', async () => {
    const scene = await keeperFor({ quirks: { silent: true } });
    const [lease] = await scene.keep(['8443']);
    expect(lease).toMatchObject({ state: 'no-gateway', error: { code: 'NO_GATEWAY' } });
  });

  test('that was named where nobody is, others are kept all the same', async () => {
    const scene = await keeperFor();
    const leases = await scene.clock.settle(
      scene.keeper.keep([requestOf('1'), requestOf('2', { gateway: '127.0.0.77' })], OPTIONS),
    );
    expect(statesOf(leases)).toEqual(['tcp/1 held', 'tcp/2 no-gateway']);
  });

  test('a machine that does not tell its network is told of once, and nothing is held up for longer', async () => {
    const scene = await keeperFor();
    const { network } = scene.machine;
    scene.machine.network = new NatwardError('FAILED', 'no routing table');
    expect(statesOf(await scene.keep(['8443']))).toEqual(['tcp/8443 asking']);
    expect(await scene.keeper.status()).toMatchObject({ warnings: ['no routing table'] });
    await scene.pass(60_000);
    expect(scene.told()).toEqual(['warning']);
    scene.machine.network = network;
    await scene.pass(3000);
    expect(await scene.keeper.status()).toMatchObject({ warnings: [], leases: [{ state: 'held' }] });
  });
});

describe('two that want the same', () => {
  test.each<[string, string, string, Parameters<KeeperScene['keep']>[1]]>([
    ['the same port', '8443', '8443', {}],
    ['the same internal port on another external one', '8443', '443:8443', {}],
    ['one port of a range', '8440-8450', '8443', {}],
    ['ranges that overlap', '8440-8443', '8443-8450', {}],
    ['one of two protocols', '8443/tcp+udp', '8443/udp', {}],
    ['one of two families', '8443', '8443', { family: undefined }],
  ])('%s: the second is refused as CONFLICT, and nothing changes', async (_what, first, second, options) => {
    const scene = await keeperFor({ maxMappings: 1000 }, NEVER);
    const [lease] = await scene.keep([first]);
    const before = await scene.keeper.status();
    const keeping = scene.keeper.keep([requestOf('1'), requestOf(second, options)], {
      ...OPTIONS,
      owner: 'an-app',
    });
    await expect(keeping).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining(`user has ${first} kept already (${lease?.intentId})`),
      advice: expect.stringContaining(`natward drop ${lease?.intentId}`),
    });
    expect(await scene.keeper.status()).toEqual(before);
    expect(scene.keeper.intents).toHaveLength(1);
  });

  test('in one request contradict each other', async () => {
    const scene = await keeperFor();
    const both = [requestOf('8443'), requestOf('443:8443')];
    await expect(scene.keeper.keep(both, OPTIONS)).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(scene.keeper.intents).toEqual([]);
  });

  test.each<[string, string, Parameters<KeeperScene['keep']>[1]]>([
    ['of the other protocol', '8443/udp', {}],
    ['beside it', '8444', {}],
    ['to another host', '8443', { host: '127.0.0.9' }],
    ['on another gateway', '8443', { gateway: '127.0.0.77' }],
    ['on another interface', '8443', { interface: 'eth7' }],
    ['in the other family', '8443', { family: 6 }],
  ])('but %s do not', async (_what, second, options) => {
    const scene = await keeperFor({}, NEVER);
    await scene.keep(['8443']);
    await scene.keep([second], options);
    expect(scene.keeper.intents).toHaveLength(2);
  });
});

describe('drop()', () => {
  test('by its spec takes the mapping back, and tells how it stood', async () => {
    const scene = await keeperFor();
    const [lease] = await scene.keep(['8443']);
    scene.told();
    expect(await scene.drop('8443')).toEqual({ released: [lease], failures: [] });
    expect(scene.embedded.table).toEqual([]);
    expect(scene.told()).toEqual(['released tcp 8443']);
    expect(await scene.leases()).toEqual([]);
    expect(scene.keeper.intents).toEqual([]);
    expect(scene.memory.load()).toEqual({ intents: [], holdings: [] });
  });

  test('by its id ends all ports of an intent, and no other', async () => {
    const scene = await keeperFor();
    const [first] = await scene.keep(['6000-6002/tcp+udp', '8080']);
    const { released } = await scene.drop(first?.intentId ?? '');
    expect(released).toHaveLength(6);
    expect(mapped(scene)).toEqual(['tcp 8080 -> :8080']);
  });

  test('of what nobody keeps is NOT_FOUND, and ends what else was named', async () => {
    const scene = await keeperFor();
    await scene.keep(['8443']);
    const { released, failures } = await scene.drop('1234', 'ffffffff', '8443', '8443');
    expect(released).toHaveLength(1);
    expect(failures).toEqual([
      { selector: '1234', code: 'NOT_FOUND', message: expect.any(String), advice: expect.any(String) },
      { selector: 'ffffffff', code: 'NOT_FOUND', message: expect.any(String), advice: expect.any(String) },
    ]);
  });

  test.each(['8443/udp', '443:8443', '*:8443', '8443-8444'])('of %s does not mean 8443', async (text) => {
    const scene = await keeperFor();
    await scene.keep(['8443']);
    expect(await scene.drop(text)).toMatchObject({ released: [], failures: [{ code: 'NOT_FOUND' }] });
    expect(scene.embedded.table).toHaveLength(1);
  });

  test('of what was never held releases nothing, and says that it is over', async () => {
    const scene = await keeperFor({ quirks: { forbiddenByUser: true } });
    await scene.keep(['8443']);
    scene.told();
    const { released } = await scene.drop('8443');
    expect(released).toMatchObject([{ state: 'refused' }]);
    expect(scene.told()).toEqual(['released tcp 8443']);
    expect(scene.embedded.counters['pcp unmap']).toBeUndefined();
  });

  test('while it is being asked for leaves nothing behind', async () => {
    const scene = await keeperFor({ protocols: ['pcp'], quirks: { delayMs: { pcp: 200 } } }, NEVER);
    const keeping = scene.keeper.keep([requestOf('8443')], OPTIONS);
    // The first answer is on its way, and the question for the port after it.
    await scene.clock.settle(scene.clock.sleep(300));
    expect(statesOf(await scene.leases())).toEqual(['tcp/8443 asking']);
    const { released } = await scene.drop('8443');
    expect(released).toMatchObject([{ error: null }]);
    await scene.clock.settle(keeping);
    await scene.pass(10_000);
    expect(scene.embedded.table).toEqual([]);
    expect(scene.memory.load().holdings).toEqual([]);
  });

  test('and keep() of the same at once: it is held, and it is there', async () => {
    const scene = await keeperFor({}, NEVER);
    await scene.keep(['8443']);
    const dropping = scene.keeper.drop([selectorOf('8443')], { signal: NO_SIGNAL });
    const keeping = scene.keeper.keep([requestOf('8443')], OPTIONS);
    await scene.clock.settle(Promise.all([dropping, keeping]));
    await scene.pass(60_000);
    expect(statesOf(await scene.leases())).toEqual(['tcp/8443 held']);
    expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
  });

  test('and keep() of the same while it is asked for: it is held, and it is there', async () => {
    const scene = await keeperFor({ protocols: ['pcp'], quirks: { delayMs: { pcp: 200 } } }, NEVER);
    const first = scene.keeper.keep([requestOf('8443')], OPTIONS);
    await scene.clock.settle(scene.clock.sleep(500));
    const dropping = scene.keeper.drop([selectorOf('8443')], { signal: NO_SIGNAL });
    const again = scene.keeper.keep([requestOf('8443')], OPTIONS);
    await scene.clock.settle(Promise.all([first, dropping, again]));
    await scene.pass(120_000);
    expect(statesOf(await scene.leases())).toEqual(['tcp/8443 held']);
    expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
  });

  test('of two hundred is done, some at a time', async () => {
    const scene = await keeperFor({}, NEVER);
    await scene.keep(['2000-2099/tcp+udp']);
    expect(scene.embedded.table).toHaveLength(200);
    const { released } = await scene.drop('2000-2099/tcp+udp');
    expect(released).toHaveLength(200);
    expect(scene.embedded.table).toEqual([]);
  });
});

describe('keep() and drop(), again and again', () => {
  test('leave nothing behind: no mapping, no gateway that is watched, no timer', async () => {
    const scene = await keeperFor({}, NEVER);
    for (let time = 0; time < 10; time++) {
      await scene.keep(['8443', '9000/udp']);
      await scene.drop('8443');
      await scene.drop('9000/udp');
    }
    expect(scene.embedded.table).toEqual([]);
    expect(await scene.keeper.status()).toMatchObject({ gateways: [], leases: [], warnings: [] });
    expect(scene.memory.load()).toEqual({ intents: [], holdings: [] });
    // The keeper's own, and the gateway's that waits for the end of mappings.
    expect(scene.clock.pending).toBeLessThanOrEqual(2);
  });

  test('of many in any order end with what was asked for last', async () => {
    const scene = await keeperFor({}, NEVER);
    const specs = ['8443', '8444/udp', '*:8445', '8446-8448'];
    const wanted = new Set<string>();
    const under: Promise<unknown>[] = [];
    // No chance: each is kept and dropped some times, while the ones before are still on their way.
    for (let step = 0; step < 60; step++) {
      const spec = specs[(step * 7) % specs.length] as string;
      if ((step * 5) % 3 === 0) {
        wanted.delete(spec);
        under.push(scene.keeper.drop([selectorOf(spec)], { signal: NO_SIGNAL }));
      } else {
        wanted.add(spec);
        under.push(scene.keeper.keep([requestOf(spec)], OPTIONS));
      }
      if (step % 4 === 0) await scene.pass(1);
    }
    await scene.clock.settle(Promise.all(under));
    await scene.pass(120_000);
    const leases = await scene.leases();
    expect(new Set(leases.map(({ spec }) => spec.split('/')[0]?.split('-')[0]))).toEqual(
      new Set([...wanted].map((spec) => spec.split('/')[0]?.split('-')[0])),
    );
    expect(new Set(leases.map(({ state }) => state))).toEqual(new Set(['held']));
    expect(scene.embedded.table).toHaveLength(leases.length);
    expect(scene.memory.load().holdings).toHaveLength(leases.length);
  });
});

describe('the configuration', () => {
  test('is kept from the start, and cannot be dropped', async () => {
    const scene = await keeperFor({}, { config: [requestOf('8443')] });
    await scene.pass(3000);
    const [lease] = await scene.leases();
    expect(lease).toMatchObject({ state: 'held', owner: 'config' });
    const { released, failures } = await scene.drop('8443', lease?.intentId ?? '');
    expect(released).toEqual([]);
    expect(failures).toMatchObject([
      { selector: '8443', code: 'NOT_OWN', advice: expect.any(String) },
      { selector: lease?.intentId, code: 'NOT_OWN' },
    ]);
    expect(scene.embedded.table).toHaveLength(1);
  });

  test('read again as it was changes nothing', async () => {
    const scene = await keeperFor({}, { ...NEVER, config: [requestOf('8443'), requestOf('*:9000/udp')] });
    await scene.pass(3000);
    const before = await scene.leases();
    const count = asked(scene);
    scene.keeper.configure([requestOf('8443'), requestOf('*:9000/udp')]);
    await scene.pass(1000);
    expect(await scene.leases()).toEqual(before);
    expect(asked(scene)).toBe(count);
  });

  test('read again gives back what is no longer in it, and holds what is new', async () => {
    const scene = await keeperFor({}, { config: [requestOf('1'), requestOf('2')] });
    await scene.pass(3000);
    scene.keeper.configure([requestOf('2'), requestOf('3')]);
    await scene.pass(3000);
    expect(mapped(scene)).toEqual(['tcp 2 -> :2', 'tcp 3 -> :3']);
    expect(statesOf(await scene.leases())).toEqual(['tcp/2 held', 'tcp/3 held']);
  });

  test('read again leaves what people keep alone', async () => {
    const scene = await keeperFor({}, { config: [requestOf('1')] });
    await scene.keep(['8443']);
    scene.keeper.configure([]);
    await scene.pass(3000);
    expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
  });

  test('takes over what people keep on the same port', async () => {
    const scene = await keeperFor();
    await scene.keep(['8443']);
    scene.keeper.configure([requestOf('8443')]);
    await scene.pass(30_000);
    expect(await scene.leases()).toMatchObject([{ owner: 'config', state: 'held' }]);
    expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
    expect(scene.keeper.intents).toHaveLength(1);
  });

  test('that contradicts itself is refused, and all is as before', async () => {
    const scene = await keeperFor({}, { config: [requestOf('1')] });
    await scene.keep(['8443']);
    expect(() => scene.keeper.configure([requestOf('2'), requestOf('80:2')])).toThrow(
      expect.objectContaining({ code: 'CONFLICT' }),
    );
    await scene.pass(3000);
    expect(statesOf(await scene.leases())).toEqual(['tcp/1 held', 'tcp/8443 held']);
  });

  test('is remembered: where it cannot be read at the next start, what it said last is kept', async () => {
    const scene = await keeperFor({}, { config: [requestOf('8443')] });
    await scene.keep(['9000']);
    const again = await scene.rerun(undefined, 'broken');
    await again.pass(30_000);
    expect(await again.leases()).toMatchObject([
      { spec: '8443', owner: 'config', state: 'held' },
      { spec: '9000', owner: 'user', state: 'held' },
    ]);
    expect(mapped(again)).toEqual(['tcp 8443 -> :8443', 'tcp 9000 -> :9000']);
  });

  test('that cannot be read does not stop the agent from giving back what nobody wants', async () => {
    const scene = await keeperFor({}, { config: [requestOf('8443'), requestOf('8444')] });
    await scene.pass(3000);
    const forgotten = (state: LedgerState) => ({ ...state, intents: state.intents.slice(1) });
    const again = await scene.rerun(forgotten, 'broken');
    await again.pass(30_000);
    expect(mapped(again)).toEqual(['tcp 8444 -> :8444']);
  });

  test('that can be read again is what counts, and not what is remembered of it', async () => {
    const scene = await keeperFor({}, { config: [requestOf('8443'), requestOf('8444')] });
    await scene.pass(3000);
    const again = await scene.rerun(undefined, [requestOf('8444'), requestOf('8445')]);
    await again.pass(30_000);
    expect(mapped(again)).toEqual(['tcp 8444 -> :8444', 'tcp 8445 -> :8445']);
    expect(again.memory.load().intents.map(({ spec }) => spec)).toEqual(['8444', '8445']);
  });

  test('of the same port as an app’s is refused to the app', async () => {
    const scene = await keeperFor({}, { config: [requestOf('8443')] });
    const keeping = scene.keeper.keep([requestOf('8443')], { ...OPTIONS, owner: 'an-app' });
    await expect(keeping).rejects.toMatchObject({ message: expect.stringContaining('config has 8443') });
  });
});

describe('close()', () => {
  test('release: gives all back, and says so', async () => {
    const scene = await keeperFor();
    await scene.keep(['8443/tcp+udp', '9000-9009']);
    scene.told();
    expect(await scene.clock.settle(scene.keeper.close('release', NO_SIGNAL))).toEqual([]);
    expect(scene.embedded.table).toEqual([]);
    expect(scene.told().sort()).toEqual(
      [
        'released tcp 8443',
        'released udp 8443',
        ...Array.from({ length: 10 }, (_, at) => `released tcp ${9000 + at}`),
      ].sort(),
    );
    expect(scene.memory.load().holdings).toEqual([]);
  });

  test('release: what people asked for is kept again by the next agent', async () => {
    const scene = await keeperFor();
    await scene.keep(['8443']);
    await scene.clock.settle(scene.keeper.close('release', NO_SIGNAL));
    const again = await scene.rerun();
    await again.pass(5000);
    expect(statesOf(await again.leases())).toEqual(['tcp/8443 held']);
  });

  test('keep: leaves all as it is for whoever runs next', async () => {
    const scene = await keeperFor();
    await scene.keep(['8443']);
    scene.told();
    expect(await scene.clock.settle(scene.keeper.close('keep', NO_SIGNAL))).toEqual([]);
    expect(scene.embedded.table).toHaveLength(1);
    expect(scene.told()).toEqual([]);
    expect(scene.memory.load()).toMatchObject({ intents: [{}], holdings: [{}] });
  });

  test('release: before a dead gateway ends at its limit, with what went wrong, and remembers what is left', async () => {
    const scene = await keeperFor();
    await scene.keep(['8443', '9000-9009']);
    scene.embedded.set({ silent: true });
    const limit = new AbortController();
    void scene.clock.sleep(2000).then(() => limit.abort());
    const startMs = scene.clock.now();
    const errors = await scene.clock.settle(scene.keeper.close('release', limit.signal));
    expect(scene.clock.now() - startMs).toBe(2000);
    expect(errors.length).toBeGreaterThan(0);
    expect(scene.memory.load().holdings).toHaveLength(11);
  });

  test('release: before a gateway that is known to be dead ends at once', async () => {
    const scene = await keeperFor();
    await scene.keep(['8443']);
    scene.embedded.set({ silent: true });
    await scene.pass(30_000);
    const startMs = scene.clock.now();
    const errors = await scene.clock.settle(scene.keeper.close('release', NO_SIGNAL));
    expect(scene.clock.now() - startMs).toBeLessThan(5000);
    expect(errors).toMatchObject([{ code: 'UNREACHABLE' }]);
  });

  test('while nothing answers ends all the same, and leaves no timer', async () => {
    const scene = await keeperFor({ quirks: { silent: true } });
    void scene.keeper.keep([requestOf('8443')], { ...OPTIONS, timeoutMs: 1000 });
    await scene.pass(1500);
    await scene.clock.settle(scene.keeper.close('keep', NO_SIGNAL));
    expect(scene.clock.pending).toBe(0);
  });

  test('twice is once', async () => {
    const scene = await keeperFor();
    await scene.keep(['8443']);
    await scene.clock.settle(scene.keeper.close('release', NO_SIGNAL));
    expect(await scene.clock.settle(scene.keeper.close('release', NO_SIGNAL))).toEqual([]);
  });
});

describe('what nobody asked for by name', () => {
  const both = { family: undefined } as const;

  test('IPv6 where there is none is not shown, and not told of', async () => {
    const scene = await keeperFor();
    expect(statesOf(await scene.keep(['8443'], both))).toEqual(['tcp/8443 held']);
    await scene.pass(60_000);
    expect(statesOf(await scene.leases())).toEqual(['tcp/8443 held']);
    expect(scene.told()).toEqual(['gateway-up', 'granted tcp 8443']);
    await scene.drop('8443');
    expect(scene.told()).toEqual(['released tcp 8443']);
  });

  test('IPv6 by name is shown, with what is in its way', async () => {
    const scene = await keeperFor();
    const leases = await scene.keep(['8443'], { family: 6 });
    expect(leases).toMatchObject([{ family: 6, state: 'no-gateway', error: { code: 'NO_ROUTE' } }]);
  });

  async function withIpv6(settings: object): Promise<KeeperScene> {
    const scene = await keeperFor({ otherAddress: '::1', ...settings });
    const ipv4 = networkOf(scene.gateway.localAddress, scene.gateway.address);
    const ipv6 = networkOf('::1', '::1', { prefixLength: 128 });
    scene.machine.network = {
      defaultRoutes: [...ipv4.defaultRoutes, ...ipv6.defaultRoutes],
      addresses: [...ipv4.addresses, ...ipv6.addresses],
    };
    return scene;
  }

  test('IPv6 where it can be had is a pinhole, shown and released with the mapping', async () => {
    const scene = await withIpv6({});
    const leases = await scene.keep(['443:8443'], both);
    expect(statesOf(leases)).toEqual(['tcp/8443 held', 'tcp/8443/ipv6 held']);
    expect(leases[1]).toMatchObject({ family: 6, externalAddress: '::1', externalPort: 8443, via: 'pcp' });
    expect(scene.embedded.pinholes).toHaveLength(1);
    expect(scene.told().sort()).toEqual([
      'gateway-up',
      'gateway-up',
      'granted tcp 8443',
      'granted tcp 8443 over IPv6',
    ]);
    await scene.drop('443:8443');
    expect([scene.embedded.table, scene.embedded.pinholes]).toEqual([[], []]);
  });

  test('IPv6 that the gateway refuses is not shown, and not told of', async () => {
    const scene = await withIpv6({ firewall: { inboundPinholeAllowed: false } });
    expect(statesOf(await scene.keep(['8443'], both))).toEqual(['tcp/8443 held']);
    await scene.pass(60_000);
    expect(scene.told().filter((word) => word !== 'gateway-up')).toEqual(['granted tcp 8443']);
    await scene.drop('8443');
    expect(scene.told()).toEqual(['released tcp 8443']);
  });

  test('IPv6 that is lost is told of, since it was shown', async () => {
    const scene = await withIpv6({});
    await scene.keep(['8443'], both);
    await scene.pass(60_000);
    scene.told();
    await scene.embedded.wipe();
    await scene.pass(60_000);
    expect(scene.told()).toContain('lost tcp 8443 over IPv6');
    expect(scene.embedded.pinholes).toHaveLength(1);
  });
});

describe('a lease that follows its external port', () => {
  const follows = { hooks: [SYNC] } as const;

  test('leads to the port of the same number, where it can be had', async () => {
    const scene = await keeperFor();
    const [lease] = await scene.keep(['*:6881'], follows);
    expect(lease).toMatchObject({
      externalPort: 6881,
      internalPort: 6881,
      id: expect.stringMatching(/6881$/),
    });
  });

  test.each(['pcp', 'natpmp', 'upnp'] as const)(
    'leads to another one, inside as outside, where that is somebody else’s (%s)',
    async (protocol) => {
      const scene = await keeperFor();
      await occupy(scene, 6881, 'tcp');
      await occupy(scene, 6881, 'udp');
      const leases = await scene.keep(['*:6881/tcp+udp'], { ...follows, via: protocol });
      const port = leases[0]?.externalPort as number;
      expect(port).not.toBe(6881);
      for (const lease of leases) {
        expect(lease).toMatchObject({ state: 'held', externalPort: port, internalPort: port });
        expect(lease.id).toMatch(/6881$/);
      }
      const own = mapped(scene).filter((row) => !row.includes('127.0.0.200'));
      expect(own).toEqual([`tcp ${port} -> :${port}`, `udp ${port} -> :${port}`]);
      expect(scene.told().filter((word) => !word.startsWith('gateway'))).toEqual([
        `granted tcp ${port}`,
        `granted udp ${port}`,
      ]);
    },
  );

  test.each(['pcp', 'natpmp', 'upnp'] as const)(
    'stays where it is over hours, and over the end of its agent (%s)',
    async (protocol) => {
      const scene = await keeperFor({}, { checkMs: 120_000 });
      await occupy(scene, 6881);
      const [lease] = await scene.keep(['*:6881'], { ...follows, via: protocol });
      const port = lease?.externalPort as number;
      await scene.pass(9_000_000);
      const again = await scene.rerun();
      await again.pass(60_000);
      expect(await again.leases()).toMatchObject([{ state: 'held', externalPort: port, internalPort: port }]);
      expect(mapped(again).filter((row) => !row.includes('127.0.0.200'))).toEqual([
        `tcp ${port} -> :${port}`,
      ]);
      expect([...scene.told(), ...again.told()].filter((word) => word.startsWith('changed'))).toEqual([]);
    },
  );

  test('of another number inside is one that the client did not want: both are the outer one', async () => {
    const scene = await keeperFor();
    const [lease] = await scene.keep(['7000:6881'], follows);
    expect(lease).toMatchObject({ externalPort: 7000, internalPort: 7000 });
    expect(mapped(scene)).toEqual(['tcp 7000 -> :7000']);
  });

  test('is on one number for both protocols, where UDP alone is somebody else’s', async () => {
    const scene = await keeperFor();
    await occupy(scene, 6881, 'udp');
    const [tcp, udp] = await scene.keep(['*:6881/tcp+udp'], follows);
    expect(tcp?.externalPort).toBe(udp?.externalPort);
    expect([tcp?.internalPort, udp?.internalPort]).toEqual([udp?.externalPort, udp?.externalPort]);
    expect(scene.embedded.table).toHaveLength(3);
  });

  test('begins to follow when it is kept again with a client', async () => {
    const scene = await keeperFor({}, NEVER);
    await occupy(scene, 6881);
    const [before] = await scene.keep(['*:6881']);
    expect(before?.externalPort).not.toBe(before?.internalPort);
    await scene.keep(['*:6881'], follows);
    await scene.pass(1000);
    const [lease] = await scene.leases();
    expect(lease?.internalPort).toBe(lease?.externalPort);
  });

  test.each(['zero', 'one', 'echo'] as const)(
    'at a VPN provider’s gateway (%s) arrives on the outer number already: nothing is mapped twice',
    async (internalPortInAnswer) => {
      const scene = await keeperFor(
        { protocols: ['natpmp'], quirks: { vpnHabits: { internalPortInAnswer } } },
        NEVER,
      );
      const { localAddress, address } = scene.gateway;
      scene.machine.network = networkOf(localAddress, address, { prefixLength: 32 });
      const [lease] = await scene.keep(['*:6881'], follows);
      expect(lease).toMatchObject({ state: 'held', lifetimeSeconds: 60, via: 'natpmp' });
      expect(lease?.internalPort).toBe(lease?.externalPort);
      expect(scene.embedded.counters).toMatchObject({ 'natpmp map': 1 });
      expect(scene.embedded.counters['natpmp unmap']).toBeUndefined();
      await scene.pass(3_600_000);
      expect(await scene.leases()).toMatchObject([{ state: 'held', externalPort: lease?.externalPort }]);
      expect(scene.embedded.counters['natpmp unmap']).toBeUndefined();
      expect(new Set(scene.told())).toEqual(
        new Set(['gateway-up', `granted tcp ${lease?.externalPort}`, `renewed tcp ${lease?.externalPort}`]),
      );
    },
  );
});
