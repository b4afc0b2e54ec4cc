import 'conf'; // Loaded late by the store: here already, so that its first use is as quick as any.
import { existsSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ForegroundMemory } from '../../src/agent/foreground-memory.ts';
import type { Holding } from '../../src/agent/lease-record.ts';
import { NOTHING } from '../../src/agent/ledger.ts';
import { FileStore } from '../../src/agent/file-store.ts';
import type { RememberedMapping } from '../../src/agent/store.ts';
import { TestClock } from '../support/test-clock.ts';
import { remembered } from './remembered.ts';
import { temporaryDirectory } from './support.ts';

const LIFETIME_MS = 7_200_000;

interface Scene {
  readonly directory: string;
  readonly clock: TestClock;
  readonly memory: ForegroundMemory;
  /** Another keeper in another terminal. */
  another(): ForegroundMemory;
  /** What a later command finds. */
  found(): number[];
}

async function memoryAt(): Promise<Scene> {
  const directory = join(await temporaryDirectory(), 'home');
  const clock = new TestClock();
  const another = () => new ForegroundMemory(new FileStore(directory, clock), clock);
  const found = () => new FileStore(directory, clock).read().mappings.map(({ externalPort }) => externalPort);
  return { directory, clock, memory: another(), another, found };
}

function holding(clock: TestClock, externalPort: number, change: Partial<RememberedMapping> = {}): Holding {
  const mapping = remembered({ externalPort, expiresAtMs: clock.now() + LIFETIME_MS, ...change });
  return { leaseKey: `0123abcd/${externalPort}`, interface: 'eth0', hardwareAddress: null, mapping };
}

async function save(
  memory: ForegroundMemory,
  holdings: readonly Holding[],
  when: 'soon' | 'later' = 'soon',
): Promise<void> {
  memory.save(() => ({ intents: [], holdings }), when);
  await memory.flush();
}

describe('a keeper in somebody’s terminal', () => {
  test('begins with nothing, whatever another one has left', async () => {
    const { memory, another, clock, found } = await memoryAt();
    await save(memory, [holding(clock, 1)]);
    expect(another().load()).toEqual(NOTHING);
    expect(found()).toEqual([1]);
  });

  test('that holds nothing writes nothing', async () => {
    const { memory, directory } = await memoryAt();
    await save(memory, []);
    expect(existsSync(directory)).toBe(false);
  });

  test('writes down what it holds, so that natward unmap can take it back', async () => {
    const { memory, clock, directory } = await memoryAt();
    const { mapping } = holding(clock, 1);
    await save(memory, [holding(clock, 1)]);
    expect(new FileStore(directory, clock).read().mappings).toEqual([mapping]);
  });

  test('forgets what it no longer holds, and what has moved', async () => {
    const { memory, clock, found } = await memoryAt();
    await save(memory, [holding(clock, 1), holding(clock, 2)]);
    await save(memory, [holding(clock, 3)]);
    expect(found()).toEqual([3]);
    await save(memory, []);
    expect(found()).toEqual([]);
  });

  test('leaves what others have written alone', async () => {
    const { memory, another, clock, directory, found } = await memoryAt();
    await new FileStore(directory, clock).update((state) => ({
      ...state,
      mappings: [remembered({ externalPort: 90 })],
    }));
    const other = another();
    await Promise.all([save(memory, [holding(clock, 1)]), save(other, [holding(clock, 2)])]);
    await save(memory, [holding(clock, 3)]);
    expect(found().sort((a, b) => a - b)).toEqual([2, 3, 90]);
    await save(memory, []);
    expect(found().sort((a, b) => a - b)).toEqual([2, 90]);
  });

  test('does not write for times of expiry that have moved a little', async () => {
    const { memory, clock, directory } = await memoryAt();
    await save(memory, [holding(clock, 1)]);
    const { mappings } = new FileStore(directory, clock).read();
    await clock.advance(10_000);
    await save(memory, [holding(clock, 1)], 'later');
    expect(new FileStore(directory, clock).read().mappings).toEqual(mappings);
  });

  test('is found after days of renewals: what it has written never ends before it is renewed', async () => {
    const { memory, clock, found } = await memoryAt();
    await save(memory, [holding(clock, 1)]);
    for (let renewal = 0; renewal < 50; renewal++) {
      await clock.advance(LIFETIME_MS / 2);
      const renewed = holding(clock, 1);
      memory.save(() => ({ intents: [], holdings: [renewed] }), 'later');
      await clock.advance(LIFETIME_MS / 8);
      expect(found()).toEqual([1]);
    }
    await memory.flush();
  });

  test.each([
    [60, 100],
    [7200, 60],
    [604_800, 150],
  ])(
    'leases of %i s, renewed one after the other, are all found, for %i writes at the most',
    async (lifetimeSeconds, limit) => {
      const { memory, clock, directory, found } = await memoryAt();
      const grant = (port: number) =>
        holding(clock, port, { lifetimeSeconds, expiresAtMs: clock.now() + lifetimeSeconds * 1000 });
      const ports = Array.from({ length: 50 }, (_, at) => at + 1);
      const holdings = ports.map((port) => grant(port));
      const state = () => ({ intents: [], holdings });
      memory.save(state, 'soon');
      await memory.flush();
      let writes = 0;
      let last = '';
      for (let round = 0; round < 3; round++) {
        await clock.advance(lifetimeSeconds * 500);
        for (const [at, port] of ports.entries()) {
          await clock.advance((lifetimeSeconds * 125) / ports.length);
          holdings[at] = grant(port);
          memory.save(state, 'later');
          const text = JSON.stringify(new FileStore(directory, clock).read());
          if (text !== last) writes++;
          last = text;
          expect(found()).toHaveLength(ports.length);
        }
      }
      await memory.flush();
      expect(found()).toHaveLength(ports.length);
      expect(writes).toBeLessThanOrEqual(limit);
    },
  );

  test('thousands of grants that come one by one are written in no time', async () => {
    const { memory, clock, found } = await memoryAt();
    const holdings: Holding[] = [];
    const startMs = performance.now();
    for (let port = 1; port <= 4000; port++) {
      holdings.push(holding(clock, port));
      memory.save(() => ({ intents: [], holdings: [...holdings] }), 'soon');
      if (port % 100 === 0) await clock.advance(10);
    }
    await memory.flush();
    expect(found()).toHaveLength(4000);
    expect(performance.now() - startMs).toBeLessThan(5000);
  });

  test('remembers what it could not write: it is its own when it can', async () => {
    const { memory, clock, directory, found } = await memoryAt();
    await save(memory, [holding(clock, 1)]);
    await rename(directory, `${directory}.away`);
    await writeFile(directory, '');
    await save(memory, [holding(clock, 2)]);
    await rm(directory);
    await rename(`${directory}.away`, directory);
    await save(memory, [holding(clock, 3)]);
    expect(found()).toEqual([3]);
  });

  test('writes what has no end once', async () => {
    const { memory, clock, directory, found } = await memoryAt();
    const endless = holding(clock, 1, { expiresAtMs: null, lifetimeSeconds: 0 });
    await save(memory, [endless]);
    await rm(join(directory, 'state.json'));
    await save(memory, [endless], 'later');
    expect(found()).toEqual([]);
  });

  test('says what is in its way, and no longer when it is gone', async () => {
    const { memory, clock, directory, found } = await memoryAt();
    expect(memory.trouble).toBeUndefined();
    await writeFile(directory, 'a file where the directory should be');
    await save(memory, [holding(clock, 1)]);
    expect(memory.trouble).toMatchObject({ code: 'FAILED', message: expect.stringContaining(directory) });
    await rm(directory);
    await save(memory, [holding(clock, 1)]);
    expect(memory.trouble).toBeUndefined();
    expect(found()).toEqual([1]);
  });

  test('that has nothing under way has nothing to flush', async () => {
    const { memory } = await memoryAt();
    await expect(memory.flush()).resolves.toBeUndefined();
  });
});
