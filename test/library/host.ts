/** A natward agent of this host, before an embedded gateway: its keeper, its steering and its socket. */

import { join } from 'node:path';
import { onTestFinished, vi } from 'vitest';
import { Keeper } from '../../src/agent/keeper.ts';
import { FOREGROUND_RULES } from '../../src/agent/rule-memory.ts';
import { MemoryStore } from '../../src/agent/store.ts';
import { startControlServer } from '../../src/control/server.ts';
import { startSteering } from '../../src/control/steered.ts';
import type { connect } from '../../src/library/connect.ts';
import { systemClock } from '../../src/system/clock.ts';
import { TestMemory } from '../agent/keeping.ts';
import { temporaryHome } from '../cli/natward.ts';
import { type RealScene, realSceneFor } from './support.ts';

export interface Host extends RealScene {
  /** As NATWARD_HOME says, which this process has as well. */
  readonly home: string;
  readonly keeper: Keeper;
  readonly options: Parameters<typeof connect>[0];
  /** Ends the agent, and starts another with the same memory. */
  restart(): Promise<void>;
}

/** Runs until the test is over. */
export async function hostFor(): Promise<Host> {
  const home = await temporaryHome();
  vi.stubEnv('NATWARD_HOME', home);
  onTestFinished(() => void vi.unstubAllEnvs());
  const scene = await realSceneFor();
  const { system: real, ports } = scene;
  const memory = new TestMemory();
  const start = async () => {
    const keeper = new Keeper(real, {
      memory,
      store: new MemoryStore(systemClock),
      ports,
      checkMs: 300,
    });
    keeper.resume();
    const steering = await startSteering(real, FOREGROUND_RULES, () => undefined, 'relay');
    const server = await startControlServer({
      keeping: keeper,
      steering,
      responding: { statuses: () => [] },
      place: join(home, 'control.sock'),
      facts: { version: '0.0.0', pid: process.pid, startedAt: new Date().toISOString(), directory: home },
      clock: systemClock,
      onError: () => undefined,
      limits: { graceMs: 100 },
    });
    const stop = async () => {
      await server[Symbol.asyncDispose]();
      await keeper[Symbol.asyncDispose]();
      await steering[Symbol.asyncDispose]();
    };
    return { keeper, stop };
  };
  let running = await start();
  onTestFinished(() => running.stop());
  return {
    ...scene,
    home,
    get keeper() {
      return running.keeper;
    },
    options: { name: 'a test', system: real, ports },
    async restart() {
      await running.stop();
      running = await start();
    },
  };
}
