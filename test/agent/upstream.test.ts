import { describe, expect, test } from 'vitest';
import type { Carriage, Carrier } from '../../src/agent/carrier.ts';
import { RESPONDER_OWNER } from '../../src/agent/lease.ts';
import { LeaseUpstream } from '../../src/agent/upstream.ts';
import type { Restored, UpstreamNews, UpstreamWish } from '../../src/responder/upstream.ts';
import { keeperFor, type KeeperScene } from './keeping.ts';

const NEVER_OVER = new AbortController().signal;
const CLIENT = '10.0.0.5';
const WISH: UpstreamWish = {
  protocol: 'udp',
  internalClient: CLIENT,
  internalPort: 6881,
  suggestedExternalPort: 0,
  exact: false,
  lifetimeSeconds: 3600,
  description: 'libtorrent',
  remotePeer: undefined,
  via: 'pcp',
  nonce: new Uint8Array(12).fill(7),
  isEndless: false,
};

/** Carries from port 20000, 20001 and so on. */
class CountingCarrier implements Carrier {
  readonly rules = new Map<string, string>();
  #next = 20_000;

  async carry(key: string, { target }: Carriage): Promise<number> {
    const port = this.#next++;
    this.rules.set(key, `${port} -> ${target.address}:${target.port}`);
    return port;
  }

  release(key: string): void {
    this.rules.delete(key);
  }

  settle(): void {}
}

async function sceneFor(settings: Parameters<typeof keeperFor>[0] = {}, over: AbortSignal = NEVER_OVER) {
  const carrier = new CountingCarrier();
  const scene = await keeperFor(settings, { carrier });
  return { scene, carrier, upstream: new LeaseUpstream(scene.keeper, scene.clock, over) };
}

function rowsOf({ embedded, gateway }: KeeperScene): string[] {
  return embedded.table.map(({ externalPort, internalClient, internalPort }) => {
    const client = internalClient === gateway.localAddress ? 'here' : internalClient;
    return `${externalPort} -> ${client}:${internalPort}`;
  });
}

describe('a wish of the responder’s client', () => {
  test('is a mapping to this host and a rule to the client, until it is released', async () => {
    const { scene, carrier, upstream } = await sceneFor();
    const outcome = await scene.clock.settle(upstream.hold(WISH, () => undefined));
    expect(outcome).toMatchObject({ kind: 'granted', grant: { lifetimeSeconds: 3600 } });
    expect(rowsOf(scene)).toEqual([expect.stringMatching(/^\d+ -> here:20000$/)]);
    expect([...carrier.rules.values()]).toEqual(['20000 -> 10.0.0.5:6881']);
    const { leases } = await scene.keeper.status();
    expect(leases).toMatchObject([{ owner: RESPONDER_OWNER, target: { address: CLIENT, port: 6881 } }]);
    if (outcome.kind === 'granted') await scene.clock.settle(outcome.holding.release());
    expect([rowsOf(scene), [...carrier.rules.values()]]).toEqual([[], []]);
  });

  test('may be for the same internal port as another client’s, and as a port of this host', async () => {
    const { scene, upstream } = await sceneFor();
    const both = [CLIENT, '10.0.0.6'].map((internalClient) =>
      upstream.hold({ ...WISH, internalClient }, () => undefined),
    );
    expect(await scene.clock.settle(Promise.all(both))).toMatchObject([
      { kind: 'granted' },
      { kind: 'granted' },
    ]);
    expect(rowsOf(scene)).toHaveLength(2);
  });

  test('for a port that is taken outside is refused, and nothing is kept', async () => {
    const { scene, upstream } = await sceneFor();
    await scene.embedded.give('udp', 6881, { address: '127.0.0.77', port: 1 });
    const wish = { ...WISH, suggestedExternalPort: 6881, exact: true };
    expect(await scene.clock.settle(upstream.hold(wish, () => undefined))).toEqual({
      kind: 'refused',
      refusal: 'taken',
    });
    expect(scene.keeper.intents).toEqual([]);
  });

  test.each([
    ['no answer', { silent: true }, 'network-down'],
    ['a refusal by its user', { forbiddenByUser: true }, 'not-authorized'],
  ] as const)('that gets %s is refused', async (_what, quirks, refusal) => {
    const { scene, upstream } = await sceneFor({ protocols: ['upnp'], quirks });
    expect(await scene.clock.settle(upstream.hold(WISH, () => undefined))).toEqual({
      kind: 'refused',
      refusal,
    });
    expect(scene.keeper.intents).toEqual([]);
  });

  test('that somebody drops is no longer had', async () => {
    const { scene, upstream } = await sceneFor();
    const news: UpstreamNews[] = [];
    await scene.clock.settle(upstream.hold(WISH, (one) => void news.push(one)));
    const [intent] = scene.keeper.intents;
    await scene.drop(intent?.id ?? '');
    expect(news).toEqual([{ kind: 'refused', refusal: 'not-authorized' }]);
  });

  test('is given back once where the agent ends', async () => {
    const over = new AbortController();
    const { scene, upstream } = await sceneFor({}, over.signal);
    // As a responder does with what it may no longer have.
    const release: (() => Promise<void>)[] = [];
    const outcome = await scene.clock.settle(upstream.hold(WISH, () => void release[0]?.()));
    if (outcome.kind === 'granted') release.push(() => outcome.holding.release());
    scene.told();
    over.abort();
    expect(await scene.clock.settle(scene.keeper.close('release', NEVER_OVER))).toEqual([]);
    expect(scene.told()).toEqual(['released udp 20000']);
    expect(rowsOf(scene)).toEqual([]);
  });

  test('hears that it is lost, and that it is there again', async () => {
    const { scene, upstream } = await sceneFor();
    const news: UpstreamNews['kind'][] = [];
    await scene.clock.settle(upstream.hold(WISH, ({ kind }) => void news.push(kind)));
    await scene.pass(60_000);
    await scene.embedded.wipe();
    await scene.pass(15_000);
    expect(news).toEqual(['lost', 'held']);
  });
});

test('the external address is known without any lease, and not while nobody answers', async () => {
  const { scene, upstream } = await sceneFor();
  const heard: (string | undefined)[] = [];
  upstream.onExternalAddress((address) => void heard.push(address));
  const knows = async (address: unknown) => {
    await scene.clock.settle(expect.poll(() => upstream.externalAddress, { timeout: 5000 }).toEqual(address));
  };
  await knows(expect.any(String));
  scene.embedded.set({ silent: true });
  await knows(undefined);
  scene.embedded.set({ silent: false });
  scene.embedded.changeExternalAddress('198.51.100.99');
  await knows('198.51.100.99');
  expect(heard.at(-1)).toBe('198.51.100.99');
});

describe('an agent that was killed', () => {
  async function killed() {
    const { scene, upstream, carrier } = await sceneFor();
    await scene.clock.settle(upstream.hold(WISH, () => undefined));
    const before = rowsOf(scene);
    const next = await scene.rerun();
    return { before, carrier, next, upstream: new LeaseUpstream(next.keeper, next.clock, NEVER_OVER) };
  }

  test('has its clients’ mappings again, as they asked for them', async () => {
    const { next, upstream } = await killed();
    const taken: Restored[] = [];
    upstream.restore((restored) => taken.push(restored) > 0);
    await next.clock.settle(expect.poll(() => taken, { timeout: 5000 }).toHaveLength(1));
    expect(taken[0]?.wish).toEqual(WISH);
    if (taken[0] !== undefined) await next.clock.settle(taken[0].holding.release());
    expect(rowsOf(next)).toEqual([]);
  });

  test('gives back after a while what nobody knows the client of', async () => {
    const { next, upstream } = await killed();
    upstream.restore(() => false);
    await next.pass(590_000);
    expect(rowsOf(next)).toHaveLength(1);
    await next.pass(3_600_000);
    expect([rowsOf(next), next.keeper.intents]).toEqual([[], []]);
  });

  test('gives a client that is sooner with its question the same port', async () => {
    const { next, upstream, before } = await killed();
    const taken: Restored[] = [];
    upstream.restore((restored) => taken.push(restored) > 0);
    const suggested = { ...WISH, suggestedExternalPort: Number(before[0]?.split(' ')[0]) };
    const outcome = await next.clock.settle(upstream.hold(suggested, () => undefined));
    expect(outcome).toMatchObject({ grant: { externalPort: suggested.suggestedExternalPort } });
    expect([taken, next.keeper.intents.length]).toEqual([[], 1]);
  });
});
