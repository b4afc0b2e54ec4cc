/**
 * The agent that runs in the background: a keeper with its ledger, its configuration, its hooks and its socket.
 * Starts them in an order in which none is missed, and ends them within a limit.
 */

import type { Hook } from '../agent/hooks/hook.ts';
import { Keeper } from '../agent/keeper.ts';
import { Ledger } from '../agent/ledger.ts';
import { Store } from '../agent/store.ts';
import type { AgentEvent } from '../agent/events.ts';
import type { NatwardError } from '../errors.ts';
import { fired } from '../system/clock.ts';
import { realSystem } from '../system/system.ts';
import { runHooks } from './hooked.ts';
import { ownPlaces, stateDirectory } from './place.ts';
import { startControlServer } from './server.ts';

export interface DaemonOptions {
  readonly version: string;
  /** What SIGTERM does with the mappings; as the configuration says where nothing is said. */
  readonly onExit: 'release' | 'keep' | undefined;
  /** Ends it. */
  readonly signal: AbortSignal;
  /** Each event, from the first on. */
  readonly onEvent: (event: AgentEvent) => void;
  /** It answers on its socket. */
  readonly onReady: (place: string) => void;
}

/** With what is left of three seconds after that, everything is closed. */
const RELEASE_LIMIT_MS = 2500;

/** Runs until `signal` fires. Throws FAILED where another agent runs, or the ledger cannot be used. */
export async function runDaemon(options: DaemonOptions): Promise<readonly NatwardError[]> {
  const { version, signal, onEvent, onReady } = options;
  const system = realSystem;
  const directory = await stateDirectory();
  const hooks: readonly Hook[] = [];
  const [place, ...rivals] = await ownPlaces();
  let keeper: Keeper | undefined;
  const ledger = new Ledger(directory, system.clock, (error) => keeper?.warn('ledger', error));
  keeper = new Keeper(system, { memory: ledger, store: new Store(directory, system.clock) });
  keeper.log.listen(onEvent);
  // Whoever holds the socket is the one agent: before, nothing is asked of a gateway and nothing is written.
  const server = await startControlServer({
    keeping: keeper,
    place,
    rivals,
    facts: { version, pid: process.pid, startedAt: new Date(system.clock.now()).toISOString(), directory },
    clock: system.clock,
    onError: (error) => {
      throw error;
    },
  });
  const runner = runHooks(system, keeper, version, () => hooks);
  keeper.configure([]);
  onReady(place);
  await fired(signal);
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), RELEASE_LIMIT_MS);
  try {
    return await keeper.close(options.onExit ?? 'release', limit.signal);
  } finally {
    clearTimeout(timer);
    await Promise.all([server[Symbol.asyncDispose](), runner[Symbol.asyncDispose]()]);
  }
}
