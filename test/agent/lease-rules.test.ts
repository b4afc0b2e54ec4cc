import { describe, expect, test, vi } from 'vitest';
import type { Carriage } from '../../src/agent/carrier.ts';
import { NatwardError } from '../../src/errors.ts';
import { type Scene, sceneOf, tableOf, TestRules } from './steering-scene.ts';

const WEB: Carriage = {
  protocols: ['tcp'],
  port: 8080,
  isFixed: false,
  target: { address: '10.0.0.9', port: 80 },
  description: '',
};

/** The engine is busy with another rule until the returned function is called. */
async function busy(scene: Scene): Promise<() => Promise<void>> {
  let letGo: () => void = () => undefined;
  const { tries } = scene.engine;
  scene.engine.held = new Promise((resolve) => (letGo = resolve));
  const first = scene.steering.carry('busy/1', { ...WEB, port: 7 });
  await vi.waitFor(() => expect(scene.engine.tries).toBe(tries + 1));
  return async () => {
    letGo();
    await first;
  };
}

/** How often the table has changed since `busy`. */
function changes({ engine }: Scene): number {
  return engine.applied.length - 1;
}

describe('carrying several at once', () => {
  test('is one change of the table, and each has its port', async () => {
    const scene = sceneOf();
    const letGo = await busy(scene);
    const ports = [8080, 8081, 8082, 8083].map((port, at) =>
      scene.steering.carry(`k/${at}`, { ...WEB, port }),
    );
    await letGo();
    expect(await Promise.all(ports)).toEqual([8080, 8081, 8082, 8083]);
    expect(changes(scene)).toBe(1);
    expect(scene.engine.ids).toEqual(['lease-busy-1', 'lease-k-0', 'lease-k-1', 'lease-k-2', 'lease-k-3']);
  });

  test('that want one port gives it to the first, and each of the others another', async () => {
    const scene = sceneOf();
    const letGo = await busy(scene);
    const asked = Array.from({ length: 20 }, (_, at) => scene.steering.carry(`k/${at}`, WEB));
    await letGo();
    const ports = await Promise.all(asked);
    expect(ports[0]).toBe(8080);
    expect(new Set(ports).size).toBe(20);
    expect(changes(scene)).toBe(1);
  });

  test('fails for the one that does not go with the table, alone', async () => {
    const scene = sceneOf();
    await scene.add('in tcp 8081 -> 10.0.0.5:80');
    const letGo = await busy(scene);
    const asked = [8080, 8081, 8082].map((port, at) =>
      scene.steering.carry(`k/${at}`, { ...WEB, port, isFixed: true }),
    );
    const settled = Promise.allSettled(asked);
    await letGo();
    expect(await settled).toEqual([
      { status: 'fulfilled', value: 8080 },
      { status: 'rejected', reason: expect.objectContaining({ code: 'CONFLICT' }) },
      { status: 'fulfilled', value: 8082 },
    ]);
    expect(scene.engine.ids).toContain('lease-k-2');
    expect(scene.engine.ids).not.toContain('lease-k-1');
  });

  test('fails for those that the engine refuses, alone, or finds them another port', async () => {
    const scene = sceneOf();
    const letGo = await busy(scene);
    for (const port of [8083, 8086]) scene.engine.taken.add(port);
    const asked = Array.from({ length: 8 }, (_, at) =>
      scene.steering.carry(`k/${at}`, { ...WEB, port: 8080 + at, isFixed: at !== 6 }),
    );
    const settled = Promise.allSettled(asked);
    await letGo();
    const results = await settled;
    expect(results.map((one) => (one.status === 'fulfilled' ? one.value : one.reason.code))).toEqual([
      8080,
      8081,
      8082,
      'CONFLICT',
      8084,
      8085,
      expect.any(Number),
      8087,
    ]);
    expect(scene.engine.table).toHaveLength(8);
    expect((await scene.steering.rules()).map(({ id }) => id)).toEqual(scene.engine.ids);
  });

  test('fails for all where it is no matter of one rule, after one try', async () => {
    const scene = sceneOf();
    await scene.steering.carry('old/1', { ...WEB, port: 9 });
    const letGo = await busy(scene);
    await letGo();
    const { tries } = scene.engine;
    scene.engine.failure = new NatwardError('FAILED', 'nft is gone');
    const asked = [1, 2, 3].map((at) => scene.steering.carry(`k/${at}`, { ...WEB, port: 8080 + at }));
    for (const result of await Promise.allSettled(asked)) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'FAILED' } });
    }
    expect(scene.engine.tries).toBe(tries + 1);
    expect(scene.engine.ids).toEqual(['lease-old-1', 'lease-busy-1']);
    expect((await scene.steering.rules()).map(({ id }) => id)).toEqual(scene.engine.ids);
  });

  test('stands where it stood when the change of a rule is refused', async () => {
    const scene = sceneOf();
    for (const at of [1, 2, 3]) await scene.steering.carry(`k/${at}`, { ...WEB, port: 8080 + at });
    const before = await scene.table();
    scene.engine.taken.add(9);
    const moved = scene.steering.carry('k/2', { ...WEB, port: 9, isFixed: true });
    await expect(moved).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(await scene.table()).toEqual(before);
    expect(await scene.steering.carry('k/9', { ...WEB, port: 8082 })).toBeGreaterThanOrEqual(20_000);
  });

  test('ends for all where the agent does', async () => {
    const scene = sceneOf();
    const letGo = await busy(scene);
    const asked = Promise.allSettled([1, 2].map((at) => scene.steering.carry(`k/${at}`, WEB)));
    scene.steering.release('k/3');
    const closing = scene.steering.close(0);
    await letGo();
    for (const result of await asked) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'ABORTED' } });
    }
    await closing;
  });
});

describe('releasing', () => {
  test('several at once is one change of the table', async () => {
    const scene = sceneOf();
    for (const at of [1, 2, 3]) await scene.steering.carry(`k/${at}`, { ...WEB, port: 8080 + at });
    const before = scene.engine.applied.length;
    for (const at of [1, 3, 4]) scene.steering.release(`k/${at}`);
    await scene.steering.configure([]);
    expect(scene.engine.applied.slice(before).map(({ ids }) => ids)).toEqual([['lease-k-2'], ['lease-k-2']]);
  });

  test('goes with carrying what waits beside it, and gives its port up first', async () => {
    const scene = sceneOf();
    await scene.steering.carry('k/1', WEB);
    const letGo = await busy(scene);
    const { length } = scene.engine.applied;
    const next = scene.steering.carry('k/2', { ...WEB, isFixed: true });
    scene.steering.release('k/1');
    await letGo();
    expect(await next).toBe(8080);
    expect(scene.engine.applied.slice(length + 1).map(({ ids }) => ids)).toEqual([
      ['lease-busy-1', 'lease-k-2'],
    ]);
  });

  test('is done also where what would be carried beside it cannot be', async () => {
    const scene = sceneOf();
    await scene.steering.carry('k/1', WEB);
    const letGo = await busy(scene);
    scene.engine.taken.add(9);
    const next = scene.steering.carry('k/2', { ...WEB, port: 9, isFixed: true });
    scene.steering.release('k/1');
    const refused = expect(next).rejects.toMatchObject({ code: 'CONFLICT' });
    await letGo();
    await refused;
    expect(scene.engine.ids).toEqual(['lease-busy-1']);
  });

  test('while a call for the same lease waits comes after it, and a call after that carries it again', async () => {
    const scene = sceneOf();
    const letGo = await busy(scene);
    const first = scene.steering.carry('k/1', WEB);
    scene.steering.release('k/1');
    const target = { address: '10.0.0.10', port: 80 };
    const second = scene.steering.carry('k/1', { ...WEB, target });
    await letGo();
    expect(await Promise.all([first, second])).toEqual([8080, 8080]);
    expect(scene.engine.applied.slice(1).map(({ ids }) => ids)).toEqual([
      ['lease-busy-1', 'lease-k-1'],
      ['lease-busy-1'],
      ['lease-busy-1', 'lease-k-1'],
    ]);
    expect(await scene.table()).toContainEqual('lease-k-1 in tcp 8080 -> 10.0.0.10:80');
  });

  test('one of thousands is no great change, wherever it stood', async () => {
    let tidied = 0;
    const memory = new TestRules();
    memory.leases = tableOf(
      ...Array.from({ length: 6000 }, (_, at) => `lease-k-${at}: in tcp ${1000 + at} -> 10.0.0.5:80`),
    );
    const scene = sceneOf({ memory, tidy: () => void tidied++ });
    await scene.steering.configure([]);
    await scene.clock.advance(2000);
    expect(tidied).toBe(1);
    scene.steering.release('k/0');
    await scene.steering.carry('more/1', { ...WEB, port: 7 });
    await scene.clock.advance(10_000);
    expect(tidied).toBe(1);
  });

  test('before anything was carried out carries out no more than goes together', async () => {
    const lines = ['a: in tcp 1 -> 10.0.0.5:80', 'b: in tcp 1 -> 10.0.0.6:80'];
    const memory = new TestRules(tableOf(...lines));
    memory.leases = tableOf('lease-k-1: in tcp 2 -> 10.0.0.5:80');
    const scene = sceneOf({ memory });
    scene.steering.release('k/1');
    await scene.steering.configure([]);
    expect(scene.engine.applied.map(({ ids }) => ids)).toEqual([['a'], ['a']]);
  });

  test('frees what waits for the port', async () => {
    const scene = sceneOf({ memory: new TestRules(tableOf('a: in udp 192.0.2.1:9 -> 10.0.0.5:80')) });
    scene.engine.taken.add(9);
    await scene.steering.configure([]);
    await scene.steering.carry('k/1', WEB);
    scene.engine.taken.clear();
    scene.steering.release('k/1');
    await vi.waitFor(() => expect(scene.engine.ids).toEqual(['a']));
  });
});

test('an edit that waits is passed by no lease that is asked for later', async () => {
  const scene = sceneOf();
  const letGo = await busy(scene);
  const before = scene.steering.carry('k/1', { ...WEB, port: 8081 });
  const edit = scene.add('a: in tcp 8080 -> 10.0.0.5:80');
  const after = scene.steering.carry('k/2', WEB);
  await letGo();
  expect(await before).toBe(8081);
  expect((await edit).added).toEqual(['a']);
  expect(await after).toBeGreaterThanOrEqual(20_000);
});

test('two leases never share a port, whatever protocols each is for', async () => {
  const scene = sceneOf();
  expect(await scene.steering.carry('k/1', { ...WEB, protocols: ['tcp', 'udp'] })).toBe(8080);
  expect(await scene.steering.carry('k/2', WEB)).toBeGreaterThanOrEqual(20_000);
  await expect(scene.steering.carry('k/3', { ...WEB, isFixed: true })).rejects.toMatchObject({
    code: 'CONFLICT',
    message: 'TCP 8080 of this host is carried for another lease, by rule lease-k-1',
  });
});

test('a port beyond a taken one is found even where nearly all are taken', async () => {
  const leases = tableOf(
    ...Array.from({ length: 12_000 }, (_, at) => `lease-k-${at}: in tcp ${20_000 + at} -> 10.0.0.5:80`),
  );
  const memory = new TestRules();
  memory.leases = leases;
  const scene = sceneOf({ memory });
  await scene.steering.configure([]);
  expect(await scene.steering.carry('more/1', { ...WEB, port: 20_000 })).toBe(32_000);
  await expect(scene.steering.carry('more/2', { ...WEB, port: 20_000 })).rejects.toMatchObject({
    code: 'CONFLICT',
  });
});
