/** What works inside the caller's own process: the agent of a one-shot command, and the keeper of a terminal. */

import { FileStore } from '../agent/file-store.ts';
import type { LeaseKeeping } from '../agent/keeping.ts';
import { OneShot } from '../agent/one-shot.ts';
import { FOREGROUND_RULES } from '../agent/rule-memory.ts';
import type { RuleKeeping } from '../agent/rule-keeping.ts';
import type { NatwardError } from '../errors.ts';
import type { EngineChoice } from '../forwarder/engine-choice.ts';
import { realSystem, type System } from '../system/system.ts';
import { stateDirectory } from './place.ts';

/**
 * Starts one that remembers under NATWARD_HOME or, where that is not set, under the platform's own place.
 * Nothing runs until it is asked for something, so there is nothing to stop.
 */
export async function localAgent(system: System = realSystem): Promise<OneShot> {
  const directory = await stateDirectory();
  return new OneShot(system, new FileStore(directory, system.clock), directory);
}

export interface ForegroundKeeper extends LeaseKeeping, Pick<RuleKeeping, 'edit'> {
  /** Gives everything back, for at most so long, and resolves with what could not be. */
  close(limitMs: number): Promise<readonly NatwardError[]>;
}

/** Starts a keeper that runs until it is closed and keeps nothing afterwards. Throws UNSUPPORTED where it cannot have that engine. */
export async function foregroundKeeper(
  version: string,
  engine: EngineChoice,
  system: System = realSystem,
): Promise<ForegroundKeeper> {
  // One-shot commands, which start in milliseconds, have no use for these.
  const [{ Keeper }, { ForegroundMemory }, { runHooks }, { startSteering }] = await Promise.all([
    import('../agent/keeper.ts'),
    import('../agent/foreground-memory.ts'),
    import('./hooked.ts'),
    import('./steered.ts'),
  ]);
  const store = new FileStore(await stateDirectory(), system.clock);
  const steering = await startSteering(
    system,
    FOREGROUND_RULES,
    (key, error) => keeper.warn(key, error),
    engine,
  );
  const memory = new ForegroundMemory(store, system.clock);
  const keeper = new Keeper(system, { memory, store, carrier: steering });
  const hooks = runHooks(system, keeper, version, () => []);
  keeper.configure([]);
  return {
    keep: (requests, options) => keeper.keep(requests, options),
    drop: (selectors, options) => keeper.drop(selectors, options),
    status: () => keeper.status(),
    wanted: () => keeper.wanted(),
    events: (signal, since) => keeper.events(signal, since),
    edit: (edit, options) => steering.edit(edit, options),
    async close(limitMs) {
      const limit = new AbortController();
      const timer = setTimeout(() => limit.abort(), limitMs);
      try {
        const [errors] = await Promise.all([
          keeper.close('release', limit.signal),
          hooks.close(limit.signal),
          steering.close(limitMs),
        ]);
        return errors;
      } finally {
        clearTimeout(timer);
      }
    },
  };
}
