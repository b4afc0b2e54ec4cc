import { describe, expect, onTestFinished, test } from 'vitest';
import type { Carriage, Carrier } from '../../src/agent/carrier.ts';
import { FOREGROUND_RULES } from '../../src/agent/rule-memory.ts';
import { Steering } from '../../src/agent/steering.ts';
import { NatwardError } from '../../src/errors.ts';
import { tableOf } from '../mapping/support.ts';
import { keeperFor, type KeeperScene, NEVER, requestOf, selectorOf } from './keeping.ts';
import { TestEngine } from './test-engine.ts';

const HOST = '127.0.0.9';
const NO_SIGNAL = new AbortController().signal;
const OPTIONS = { owner: 'user', timeoutMs: 10_000, signal: NO_SIGNAL } as const;
const SYNC = { kind: 'sync', client: 'qbittorrent', url: 'http://127.0.0.1:8080' } as const;

/** Carries from the port that is asked for, or from 20000 on where it is taken. */
class TestCarrier implements Carrier {
  readonly carried = new Map<string, Carriage & { readonly from: number }>();
  readonly asked: Carriage[] = [];
  readonly released: string[] = [];
  readonly taken = new Set<number>();
  /** Answers are late until this resolves. */
  held: Promise<void> = Promise.resolve();

  async carry(key: string, carriage: Carriage): Promise<number> {
    this.asked.push(carriage);
    await this.held;
    const known = this.carried.get(key)?.from;
    const wanted = (carriage.isFixed ? carriage.port : (known ?? carriage.port)) ?? 20_000;
    if (this.taken.has(wanted) && carriage.isFixed) {
      throw new NatwardError('CONFLICT', `another program listens on TCP ${wanted}`, { advice: 'End it.' });
    }
    const from = this.taken.has(wanted) ? 20_000 + this.carried.size : wanted;
    this.carried.set(key, { ...carriage, from });
    return from;
  }

  release(key: string): void {
    this.released.push(key);
    this.carried.delete(key);
  }

  /** What `settle` was called with. */
  settled: readonly string[] | undefined;

  settle(keys: Iterable<string>): void {
    this.settled = [...keys];
  }

  /** The agent was killed: its rules were its own. */
  forget(): void {
    this.carried.clear();
    this.asked.length = 0;
    this.released.length = 0;
  }

  /** `8080 -> 127.0.0.9:8080` */
  get rules(): string[] {
    return [...this.carried.values()].map(
      ({ from, target: { address, port } }) => `${from} -> ${address}:${port}`,
    );
  }
}

type Settings = Parameters<typeof keeperFor>[0];
type More = Parameters<typeof keeperFor>[1];

async function carryingScene(
  settings: Settings = {},
  more: More = {},
): Promise<KeeperScene & { readonly carrier: TestCarrier }> {
  const carrier = new TestCarrier();
  const scene = await keeperFor(settings, { ...NEVER, carrier, ...more });
  return { ...scene, carrier };
}

/** The table in short, without this host's address. */
function mapped(scene: KeeperScene): string[] {
  return tableOf(scene).map((row) => row.replace(`${scene.gateway.localAddress}:`, ':'));
}

describe('a gateway that maps to nobody but who asks', () => {
  test('maps to this host, and a rule takes it on', async () => {
    const scene = await carryingScene();
    const [lease] = await scene.keep(['443:8080'], { host: HOST });
    expect(lease).toMatchObject({
      state: 'held',
      externalPort: 443,
      internalClient: scene.gateway.localAddress,
      internalPort: 8080,
      target: { address: HOST, port: 8080 },
      error: null,
    });
    expect(mapped(scene)).toEqual(['tcp 443 -> :8080']);
    expect(scene.carrier.asked).toEqual([
      {
        protocols: ['tcp'],
        port: 8080,
        isFixed: false,
        target: { address: HOST, port: 8080 },
        description: '443:8080',
      },
    ]);
    expect(scene.told()).toEqual(['gateway-up', 'granted tcp 8080']);
  });

  test('over any protocol, and both of a port by one rule', async () => {
    for (const via of ['pcp', 'upnp'] as const) {
      const scene = await carryingScene({ protocols: [via] });
      const leases = await scene.keep(['8080/tcp+udp'], { host: HOST });
      expect(leases.map(({ state, via: by }) => [state, by])).toEqual([
        ['held', via],
        ['held', via],
      ]);
      expect(scene.carrier.asked).toMatchObject([{ protocols: ['tcp', 'udp'] }]);
    }
  });

  test('leads to another port of this host where that one is taken', async () => {
    const scene = await carryingScene();
    scene.carrier.taken.add(8080);
    const [lease] = await scene.keep(['443:8080'], { host: HOST });
    expect(lease).toMatchObject({ id: expect.stringMatching(/\/tcp\/8080$/), internalPort: 20_000 });
    expect(mapped(scene)).toEqual(['tcp 443 -> :20000']);
    expect(scene.carrier.rules).toEqual([`20000 -> ${HOST}:8080`]);
  });

  test('is not asked for the other host again when the lease is renewed', async () => {
    const scene = await carryingScene();
    await scene.keep(['8080'], { host: HOST });
    const refused = scene.embedded.counters['pcp map'];
    await scene.pass(7_000_000);
    expect((await scene.leases())[0]).toMatchObject({ state: 'held', target: { address: HOST } });
    expect((scene.embedded.counters['pcp map'] ?? 0) - (refused ?? 0)).toBeLessThan(4);
    expect(scene.carrier.rules).toEqual([`8080 -> ${HOST}:8080`]);
  });

  test('without anybody who carries refuses as before', async () => {
    const scene = await keeperFor({}, NEVER);
    const [lease] = await scene.keep(['8080'], { host: HOST });
    expect(lease).toMatchObject({ state: 'refused', target: null });
  });

  test('that refuses this host as well leaves no rule behind, and is asked for the other host again', async () => {
    const scene = await carryingScene({ quirks: { forbiddenByUser: true } });
    const [lease] = await scene.keep(['8080'], { host: HOST });
    expect(lease).toMatchObject({ state: 'refused', target: null, error: { code: 'NOT_AUTHORIZED' } });
    expect(scene.carrier.rules).toEqual([]);
    scene.embedded.set({ forbiddenByUser: false });
    await scene.pass(60_000);
    expect((await scene.leases())[0]).toMatchObject({ state: 'held', target: { address: HOST } });
    expect(scene.carrier.rules).toEqual([`8080 -> ${HOST}:8080`]);
  });

  test('that answers to nobody is asked for no other mapping', async () => {
    const scene = await carryingScene({ protocols: ['pcp'], quirks: { silentOn: ['pcp map'] } });
    await scene.keep(['8080'], { host: HOST });
    expect(scene.carrier.asked).toEqual([]);
  });

  test('one that does map to others is asked for just that', async () => {
    const scene = await carryingScene({ secureMode: false });
    const [lease] = await scene.keep(['8080'], { host: HOST });
    expect(lease).toMatchObject({ state: 'held', internalClient: HOST, target: null });
    expect(scene.carrier.asked).toEqual([]);
  });
});

describe('a gateway that maps only to the same port', () => {
  const SAME: Settings = { protocols: ['upnp'], quirks: { samePortsRequired: true } };

  test('maps to that one, and a rule takes it on', async () => {
    const scene = await carryingScene(SAME);
    const [lease] = await scene.keep(['443:8443']);
    expect(lease).toMatchObject({
      id: expect.stringMatching(/\/tcp\/8443$/),
      state: 'held',
      externalPort: 443,
      internalPort: 443,
      target: { address: '127.0.0.1', port: 8443 },
    });
    expect(scene.carrier.asked).toMatchObject([{ port: 443, isFixed: true }]);
    expect(mapped(scene)).toEqual(['tcp 443 -> :443']);
  });

  test('needs no rule where both ports are the same, or any will do', async () => {
    const scene = await carryingScene(SAME);
    const leases = await scene.keep(['8080', '*:9090']);
    expect(leases.map(({ state }) => state)).toEqual(['held', 'held']);
    expect(scene.carrier.asked).toEqual([]);
  });

  test('where that port is taken refuses the lease, says why, and is asked again', async () => {
    const scene = await carryingScene(SAME);
    scene.carrier.taken.add(443);
    const [lease] = await scene.keep(['443:8443']);
    expect(lease).toMatchObject({
      state: 'refused',
      target: null,
      error: {
        code: 'CONFLICT',
        message: `${scene.gateway.address} maps only to the same port of this host, 443, and nothing carries it on to 127.0.0.1:8443: another program listens on TCP 443`,
        advice: 'End it.',
      },
    });
    expect(scene.told()).toEqual(['gateway-up', 'refused tcp 8443']);
    scene.carrier.taken.clear();
    await scene.pass(60_000);
    expect((await scene.leases())[0]).toMatchObject({ state: 'held', error: null });
    expect(scene.told()).toEqual(['granted tcp 443']);
  });

  test('is the only port also after a restart', async () => {
    const scene = await carryingScene(SAME);
    await scene.keep(['443:8443']);
    scene.carrier.forget();
    scene.carrier.taken.add(443);
    const next = await scene.rerun();
    await next.pass(10_000);
    expect((await next.leases())[0]).toMatchObject({ error: { code: 'CONFLICT' } });
    expect(scene.carrier.asked.every(({ isFixed, port }) => isFixed && port === 443)).toBe(true);
    scene.carrier.taken.clear();
    await next.pass(900_000);
    expect((await next.leases())[0]).toMatchObject({
      state: 'held',
      internalPort: 443,
      target: { address: '127.0.0.1', port: 8443 },
    });
    expect(mapped(next)).toEqual(['tcp 443 -> :443']);
  });
});

describe('after a restart', () => {
  test('the lease is carried from the port that it is mapped to, before the gateway is asked', async () => {
    const scene = await carryingScene();
    scene.carrier.taken.add(8080);
    await scene.keep(['443:8080'], { host: HOST });
    scene.carrier.forget();
    scene.carrier.taken.clear();
    const next = await scene.rerun();
    await next.pass(5000);
    expect((await next.leases())[0]).toMatchObject({
      state: 'held',
      internalPort: 20_000,
      target: { address: HOST, port: 8080 },
    });
    expect(scene.carrier.asked[0]).toMatchObject({ port: 20_000, isFixed: false, target: { port: 8080 } });
    expect(scene.carrier.settled).toEqual([...scene.carrier.carried.keys()]);
    expect(mapped(next)).toEqual(['tcp 443 -> :20000']);
    expect(next.told()).not.toContainEqual(expect.stringContaining('changed'));
  });

  test('from another port where that one is taken: the mapping goes with it', async () => {
    const scene = await carryingScene();
    await scene.keep(['443:8080'], { host: HOST });
    scene.carrier.forget();
    scene.carrier.taken.add(8080);
    const next = await scene.rerun();
    await next.pass(30_000);
    expect((await next.leases())[0]).toMatchObject({ state: 'held', externalPort: 443 });
    expect(scene.carrier.rules).toEqual([`20000 -> ${HOST}:8080`]);
    expect(mapped(next)).toEqual(['tcp 443 -> :20000']);
  });

  test.each([
    ['a lease of this host', '443:8080', {}],
    ['a lease that the gateway maps to another host itself', '443:8080', { host: HOST }],
  ])('%s is not carried', async (_what, spec, options) => {
    const scene = await carryingScene({ secureMode: false });
    await scene.keep([spec], options);
    const next = await scene.rerun();
    await next.pass(10_000);
    expect((await next.leases())[0]).toMatchObject({ state: 'held', target: null });
    expect(scene.carrier.asked).toEqual([]);
  });

  test('a lease that followed the external port and no longer does is not carried', async () => {
    const scene = await carryingScene({
      protocols: ['natpmp'],
      deniedExternalPorts: [{ first: 6881, last: 6881 }],
    });
    const config = (more: Parameters<typeof requestOf>[1]) => [requestOf('*:6881', more)];
    const first = await scene.rerun(undefined, config({ hooks: [SYNC] }));
    await first.pass(10_000);
    const [lease] = await first.leases();
    expect(lease?.internalPort).toBe(lease?.externalPort);
    expect(lease?.internalPort).not.toBe(6881);
    const next = await first.rerun(undefined, config({}));
    await next.pass(10_000);
    expect((await next.leases())[0]).toMatchObject({ state: 'held', internalPort: 6881, target: null });
    expect(scene.carrier.asked).toEqual([]);
  });
});

describe('the end of a lease', () => {
  test('ends its rule', async () => {
    const scene = await carryingScene();
    await scene.keep(['8080', '8081'], { host: HOST });
    await scene.drop((await scene.leases())[0]?.intentId ?? '');
    expect(scene.carrier.rules).toEqual([`8081 -> ${HOST}:8081`]);
    expect(mapped(scene)).toEqual(['tcp 8081 -> :8081']);
  });

  test('with the agent ends its rule', async () => {
    const scene = await carryingScene();
    await scene.keep(['8080'], { host: HOST });
    await scene.clock.settle(scene.keeper.close('release', NO_SIGNAL));
    expect(scene.carrier.rules).toEqual([]);
    expect(scene.embedded.table).toEqual([]);
  });

  test('while it is about to be carried leaves no rule', async () => {
    const scene = await carryingScene({ protocols: ['pcp'] });
    let letGo: () => void = () => undefined;
    const { carrier } = scene;
    carrier.held = new Promise((resolve) => (letGo = resolve));
    const keeping = scene.keeper.keep([requestOf('8080', { host: HOST })], OPTIONS);
    await scene.clock.settle(scene.clock.sleep(2000));
    expect(carrier.asked).toHaveLength(1);
    const [intent] = scene.keeper.intents;
    const { id = '' } = intent ?? {};
    const dropping = scene.keeper.drop([selectorOf(id)], { signal: NO_SIGNAL });
    // As it is with Steering, what is asked first is done first.
    expect(carrier.released).toHaveLength(1);
    letGo();
    await scene.clock.settle(Promise.all([keeping, dropping]));
    expect(scene.embedded.table).toEqual([]);
  });

  test('while the gateway is asked for the other host has nothing carried', async () => {
    const scene = await carryingScene({ protocols: ['pcp'], quirks: { delayMs: { pcp: 200 } } });
    const keeping = scene.keeper.keep([requestOf('8080', { host: HOST })], OPTIONS);
    while (!scene.asked.some(({ what }) => what === 'pcp map 8080')) await scene.pass(10);
    const [intent] = scene.keeper.intents;
    const dropping = scene.keeper.drop([selectorOf(intent?.id ?? '')], { signal: NO_SIGNAL });
    await scene.clock.settle(Promise.all([keeping, dropping]));
    await scene.pass(10_000);
    expect(scene.carrier.rules).toEqual([]);
    expect(scene.embedded.table).toEqual([]);
  });
});

describe('with the real rule table', () => {
  async function steeredScene(
    settings: Settings = {},
  ): Promise<KeeperScene & { readonly engine: TestEngine; readonly steering: Steering }> {
    const engine = new TestEngine();
    let steering: Steering | undefined;
    const carrier: Carrier = {
      carry: (key, carriage) => (steering as Steering).carry(key, carriage),
      release: (key) => (steering as Steering).release(key),
      settle: (keys) => steering?.settle(keys),
    };
    const scene = await keeperFor(settings, { ...NEVER, carrier });
    let random = 0;
    steering = new Steering({
      engine,
      memory: FOREGROUND_RULES,
      clock: scene.clock,
      fillRandom: (bytes) => void bytes.fill(++random),
      ownAddresses: () => [scene.gateway.localAddress],
      addressesOf: async () => [],
      ownPorts: [],
      tidy: () => undefined,
      isTaken: () => false,
      warn: () => undefined,
    });
    const own = steering;
    onTestFinished(() => own[Symbol.asyncDispose]());
    return { ...scene, engine, steering };
  }

  test('a lease to another host is a rule while it is kept', async () => {
    const { keep, drop, steering, engine, pass } = await steeredScene();
    const [lease] = await keep(['443:8080/tcp+udp'], { host: HOST });
    expect(await steering.rules()).toMatchObject([
      { owner: 'lease', text: `in tcp+udp 8080 -> ${HOST}:8080 "443:8080/tcp+udp"`, waiting: null },
    ]);
    await drop(lease?.intentId ?? '');
    await pass(1000);
    expect(engine.table).toEqual([]);
  });

  test('a hundred leases are a hundred rules', async () => {
    const { keep, leases, engine } = await steeredScene({ maxMappings: 1000 });
    await keep(['7000-7099'], { host: HOST });
    expect((await leases()).filter(({ state }) => state === 'held')).toHaveLength(100);
    expect(engine.table).toHaveLength(100);
  });
});
