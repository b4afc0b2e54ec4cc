import { describe, expect, test } from 'vitest';
import { NatwardError } from '../../src/errors.ts';
import { sceneOf, statusOf, tableOf, TestRules, wanted } from './steering-scene.ts';

const A = 'a: in tcp 1001 -> 10.0.0.5:80';

describe('carry', () => {
  const TARGET = { address: '10.0.0.9', port: 8080 };
  const WEB = {
    protocols: ['tcp'],
    port: 8080,
    isFixed: false,
    target: TARGET,
    description: '443:8080',
  } as const;

  test('makes a rule at the end, of the lease’s name, and keeps to its port', async () => {
    const scene = sceneOf();
    await scene.add(A);
    expect(await scene.steering.carry('3fa94c01/8080', WEB)).toBe(8080);
    const { applied } = scene.engine;
    const count = applied.length;
    expect(await scene.steering.carry('3fa94c01/8080', WEB)).toBe(8080);
    expect(applied).toHaveLength(count);
    expect((await scene.steering.rules()).at(-1)).toMatchObject({
      id: 'lease-3fa94c01-8080',
      owner: 'lease',
      text: 'in tcp 8080 -> 10.0.0.9:8080 "443:8080"',
    });
  });

  test('of both protocols and of IPv6 is one rule', async () => {
    const scene = sceneOf();
    const target = { address: '2001:db8::9', port: 1 };
    await scene.steering.carry('k/1', { ...WEB, protocols: ['tcp', 'udp'], target });
    expect(await scene.table()).toEqual(['lease-k-1 in tcp+udp 8080 -> [2001:db8::9]:1 "443:8080"']);
  });

  test('is not remembered: leases carry anew', async () => {
    const scene = sceneOf();
    await scene.steering.carry('k/1', WEB);
    await scene.add(A);
    expect(scene.memory.table.map(({ id }) => id)).toEqual(['a']);
  });

  test('from a port that is taken, or another rule’s, goes to another one, and stays there', async () => {
    const scene = sceneOf();
    scene.engine.taken.add(8080);
    const port = await scene.steering.carry('k/1', WEB);
    expect(port).toBeGreaterThanOrEqual(20_000);
    expect(port).toBeLessThanOrEqual(32_000);
    scene.engine.taken.clear();
    expect(await scene.steering.carry('k/1', WEB)).toBe(port);
    await scene.add('in tcp 9090 -> 10.0.0.5:80');
    expect(await scene.steering.carry('k/2', { ...WEB, port: 9090 })).toBeGreaterThanOrEqual(20_000);
    expect(scene.engine.table).toHaveLength(3);
  });

  test('from a port that needs privileges goes to another one', async () => {
    const scene = sceneOf();
    scene.engine.privileged.add(443);
    expect(await scene.steering.carry('k/1', { ...WEB, port: 443 })).toBeGreaterThanOrEqual(20_000);
  });

  test('where no other port will do throws why, and takes nothing', async () => {
    const scene = sceneOf();
    scene.engine.taken.add(8080);
    await expect(scene.steering.carry('k/1', { ...WEB, isFixed: true })).rejects.toMatchObject({
      code: 'CONFLICT',
      message: 'another program listens on TCP 8080',
    });
    expect(await scene.table()).toEqual([]);
    expect(scene.engine.tries).toBe(1);
  });

  test('where every port is taken throws why', async () => {
    const scene = sceneOf();
    for (let port = 1; port < 65_536; port++) scene.engine.taken.add(port);
    await expect(scene.steering.carry('k/1', WEB)).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(scene.engine.tries).toBe(17);
  });

  test('throws what is no matter of the port at once', async () => {
    const scene = sceneOf();
    scene.engine.failure = new NatwardError('NO_RESOURCES', 'no file handle is left');
    await expect(scene.steering.carry('k/1', WEB)).rejects.toMatchObject({ code: 'NO_RESOURCES' });
    expect(scene.engine.tries).toBe(1);
  });

  test('goes elsewhere from the same port when the lease does', async () => {
    const scene = sceneOf();
    scene.engine.taken.add(8080);
    const port = await scene.steering.carry('k/1', WEB);
    scene.engine.taken.clear();
    const target = { address: '10.0.0.10', port: 80 };
    expect(await scene.steering.carry('k/1', { ...WEB, target })).toBe(port);
    expect(await scene.table()).toEqual([`lease-k-1 in tcp ${port} -> 10.0.0.10:80 "443:8080"`]);
  });

  test('makes no circle with another rule', async () => {
    const scene = sceneOf();
    await scene.add('a: in tcp 8080 -> :8000');
    const back = { ...WEB, port: 8000, isFixed: true, target: { address: '127.0.0.1', port: 8080 } };
    await expect(scene.steering.carry('k/1', back)).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('loop'),
    });
    expect(scene.engine.ids).toEqual(['a']);
  });

  test('where a person gave the lease’s rule id away throws', async () => {
    const scene = sceneOf();
    await scene.add('lease-k-1: in tcp 5 -> :6');
    await expect(scene.steering.carry('k/1', WEB)).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(scene.engine.table).toHaveLength(1);
  });

  test('beside a rule that waits is carried out alone', async () => {
    const scene = sceneOf({ memory: new TestRules(tableOf(A)) });
    scene.engine.taken.add(1001);
    await scene.steering.configure([]);
    expect(await scene.steering.carry('k/1', WEB)).toBe(8080);
    expect(scene.engine.ids).toEqual(['lease-k-1']);
    expect((await statusOf(scene, 'a'))?.waiting).not.toBeNull();
  });

  test('of a lease whose rule waits finds another port', async () => {
    const scene = sceneOf();
    await scene.steering.carry('k/1', WEB);
    await scene.steering.configure(wanted('x: in tcp 8080 -> 10.0.0.7:80'));
    expect((await statusOf(scene, 'lease-k-1'))?.waiting).toMatch(/listen for the same/);
    expect(scene.engine.ids).toEqual(['x']);
    const port = await scene.steering.carry('k/1', WEB);
    expect(port).toBeGreaterThanOrEqual(20_000);
    expect(scene.engine.ids).toEqual(['x', 'lease-k-1']);
    expect((await statusOf(scene, 'lease-k-1'))?.waiting).toBeNull();
    expect(scene.warned.at(-1)).toBe('rules: well');
  });

  test('ends with its release, and others go on', async () => {
    const scene = sceneOf();
    await scene.steering.carry('k/1', WEB);
    await scene.steering.carry('k/2', { ...WEB, port: 8081 });
    scene.steering.release('k/1');
    scene.steering.release('nobody');
    await scene.add(A);
    expect(scene.engine.ids).toEqual(['a', 'lease-k-2']);
    scene.steering.release('k/2');
    await scene.steering.configure([]);
    expect(scene.engine.ids).toEqual(['a']);
  });

  test('and release at once leave nothing behind', async () => {
    const scene = sceneOf();
    const carrying = scene.steering.carry('k/1', WEB);
    scene.steering.release('k/1');
    await carrying;
    await scene.steering.configure([]);
    expect(scene.engine.ids).toEqual([]);
  });
});
