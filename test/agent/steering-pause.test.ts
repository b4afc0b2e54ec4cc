import { expect, test } from 'vitest';
import { NatwardError } from '../../src/errors.ts';
import { CONVERSATION } from '../control/support/fake-agent.ts';
import { DRY, type Scene, sceneOf, statusOf, tableOf, TestRules, wanted } from './steering-scene.ts';

const A = 'a: in tcp 80 -> 10.0.0.5:8080';
const B = 'b: in tcp 81 -> 10.0.0.5:8081';
const STOPPED = 'rules: natward rule panic has stopped all rules';

/** One that had its rules off when it ended. */
function paused(...lines: readonly string[]): Scene {
  const memory = new TestRules(tableOf(...lines));
  memory.isPaused = true;
  return sceneOf({ memory });
}

test('panic has the engine carry nothing out and end all conversations, and is remembered', async () => {
  const scene = sceneOf();
  await scene.add(A, { id: 'off', rule: 'in tcp 90 -> :91', enabled: false });
  expect(await scene.steering.pause()).toEqual({ isPaused: true, isNew: true, rules: 1, ended: 0 });
  expect(scene.engine.applied.at(-1)).toEqual({ ids: [], conversations: 'cut' });
  expect(scene.memory).toMatchObject({ isPaused: true, table: [{ id: 'a' }, { id: 'off' }] });
  expect(scene.warned).toEqual(['rules file: well', STOPPED, 'rules file: well']);
  expect(await statusOf(scene, 'a')).toMatchObject({ waiting: 'natward rule panic has stopped all rules' });
  expect(await statusOf(scene, 'off')).toMatchObject({ waiting: null });
});

test('a second panic is as good as one, and so is a second resume', async () => {
  const scene = sceneOf();
  await scene.add(A);
  await scene.steering.pause();
  expect(await scene.steering.pause()).toMatchObject({ isPaused: true, isNew: false });
  expect(scene.engine.ids).toEqual([]);
  expect(await scene.steering.resume()).toEqual({ isPaused: false, isNew: true, rules: 1, ended: 0 });
  const { tries } = scene.engine;
  expect(await scene.steering.resume()).toMatchObject({ isPaused: false, isNew: false });
  expect([scene.engine.ids, scene.engine.tries]).toEqual([['a'], tries]);
  expect(scene.memory.isPaused).toBe(false);
  expect(scene.warned.at(-1)).toBe('rules: well');
});

test('an agent that starts with its rules off carries nothing out until resume', async () => {
  const scene = paused(A);
  await scene.steering.configure(wanted(B));
  expect(scene.steering.isPaused).toBe(true);
  expect(scene.engine.applied).toEqual([{ ids: [], conversations: 'drain' }]);
  expect(scene.warned).toContain(STOPPED);
  await scene.steering.resume();
  expect(scene.engine.ids).toEqual(['b', 'a']);
});

test('edits are taken and remembered meanwhile, and carried out afterwards', async () => {
  const scene = paused(A);
  await scene.steering.configure([]);
  const report = await scene.add(B);
  expect(report.rules).toMatchObject([{ id: 'b', waiting: expect.any(String) }]);
  await scene.edit({ kind: 'remove', names: ['a'] });
  expect(scene.memory).toMatchObject({ isPaused: true, table: [{ id: 'b' }] });
  expect(scene.engine.ids).toEqual([]);
  await scene.steering.resume();
  expect(scene.engine.ids).toEqual(['b']);
});

test('what the engine could never carry out is refused meanwhile as well', async () => {
  const scene = paused(A);
  await scene.steering.configure([]);
  const out = { kind: 'add', rules: [{ rule: 'out tcp 25 -> 10.0.0.5:8025' }] } as const;
  await expect(scene.edit(out)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  await expect(scene.edit(out, DRY)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  await expect(scene.add('c: in tcp 80 -> 10.0.0.7:80')).rejects.toMatchObject({ code: 'CONFLICT' });
  expect(await scene.table()).toHaveLength(1);
});

test('leases get their ports meanwhile, and what carries them starts with resume', async () => {
  const scene = sceneOf();
  await scene.steering.pause();
  const target = { address: '10.0.0.8', port: 80 };
  const carriage = { protocols: ['tcp'], port: 8080, isFixed: false, target, description: 'x' } as const;
  expect(await scene.steering.carry('k', carriage)).toBe(8080);
  expect(scene.engine.ids).toEqual([]);
  await scene.steering.resume();
  expect(scene.engine.ids).toEqual(['lease-k']);
});

test('what waits is not tried again while rules are off', async () => {
  const scene = sceneOf();
  scene.engine.taken.add(80);
  await scene.steering.configure(wanted(A));
  await scene.steering.pause();
  await scene.clock.advance(5000);
  const { tries } = scene.engine;
  await scene.clock.advance(60_000);
  expect(scene.engine.tries).toBe(tries);
  await scene.steering.resume();
  scene.engine.taken.clear();
  await scene.clock.advance(60_000);
  expect(scene.engine.ids).toEqual(['a']);
});

test('where the engine fails to stop, that is said, and nothing is begun again', async () => {
  const scene = sceneOf();
  await scene.add(A);
  scene.engine.failure = new NatwardError('FAILED', 'nft does not answer');
  await expect(scene.steering.pause()).rejects.toThrow('nft does not answer');
  expect(scene.memory.isPaused).toBe(true);
  await scene.add(B);
  expect(scene.engine.ids).toEqual([]);
});

test('an explanation names the rule, and that it is off', async () => {
  const scene = paused(A);
  const { client: source, protocol } = CONVERSATION;
  const packet = {
    direction: 'in',
    protocol,
    source,
    destination: { address: '192.0.2.1', port: 80 },
  } as const;
  expect(await scene.steering.explain(packet)).toMatchObject({
    rule: { id: 'a', waiting: 'natward rule panic has stopped all rules' },
  });
});
