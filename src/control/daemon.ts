/**
 * The agent that runs in the background: a keeper with its ledger, its configuration, its hooks and its socket.
 * Starts them in an order in which nothing is missed, and ends them within three seconds: only conversations that rules
 * carry may take longer, up to eight.
 */

import { type Config, ConfigFile, NO_CONFIG, readConfig } from '../agent/config.ts';
import type { AgentEvent } from '../agent/events.ts';
import { Keeper } from '../agent/keeper.ts';
import type { KeepRequest } from '../agent/lease.ts';
import { Ledger } from '../agent/ledger.ts';
import { respondSections } from '../agent/respond-config.ts';
import type { Responding } from '../agent/responding.ts';
import { resolveSpec } from '../agent/spec.ts';
import { RuleBook } from '../agent/rule-book.ts';
import type { Steering } from '../agent/steering.ts';
import { FileStore } from '../agent/file-store.ts';
import { isNatwardError, NatwardError } from '../errors.ts';
import type { EngineChoice } from '../forwarder/engine-choice.ts';
import { fired } from '../system/clock.ts';
import { hurry, saveMemory } from '../system/memory.ts';
import { realSystem, type System } from '../system/system.ts';
import { runHooks } from './hooked.ts';
import { configFile, ownPlaces, stateDirectory } from './place.ts';
import { prepareResponding } from './responded.ts';
import { startControlServer } from './server.ts';
import { ServiceManager } from './service/notify.ts';
import { startSteering } from './steered.ts';

export interface DaemonOptions {
  readonly version: string;
  /** The usual one where nothing is said. */
  readonly config: string | undefined;
  /** What its end does with the mappings; as the configuration says where nothing is said. */
  readonly onExit: 'release' | 'keep' | undefined;
  /** What carries the rules out; as the configuration says where nothing is said. */
  readonly engine: EngineChoice | undefined;
  /** Interfaces on which it is a gateway for other programs, beside those of the configuration. */
  readonly respondOn: readonly string[];
  /** Ends it. */
  readonly signal: AbortSignal;
  /** Each event, from the first on. */
  readonly onEvent: (event: AgentEvent) => void;
  /** It answers on its socket. */
  readonly onReady: (place: string) => void;
}

/** What is left of three seconds closes files and sockets. */
const CLOSE_LIMIT_MS = 2300;
/** Conversations of TCP that run may end by themselves, for so long: systemd gives ten seconds. */
const DRAIN_LIMIT_MS = 8000;
/** What is said at its end to those whom it answers: it is a few datagrams. */
const FAREWELL_LIMIT_MS = 500;
/** What is being answered on the socket has so long. */
const SERVER_GRACE_MS = 300;
/** A name that does not resolve: at boot the network may not be there yet. */
const NAMES_RETRY_MS = 30_000;

/**
 * Runs until `signal` fires; resolves with what could not be released. Throws FAILED where another agent runs, UNSUPPORTED
 * where the engine that is asked for cannot be had.
 */
export async function runDaemon(options: DaemonOptions): Promise<readonly NatwardError[]> {
  const { version, signal, onEvent, onReady } = options;
  // A name that cannot be is said before anything is begun.
  respondSections([], options.respondOn);
  // A program that runs for months: a burst of ten thousand grants stays small.
  saveMemory();
  const system = realSystem;
  const directory = await stateDirectory();
  const path = options.config ?? (await configFile());
  const [place, ...rivals] = await ownPlaces();
  const keeping = deferred<Keeper>();
  const steered = deferred<Steering>();
  const answering = deferred<Responding>();
  let keeper: Keeper | undefined;
  // Whoever holds the socket is the one agent: before, nothing is read, asked or written.
  await using server = await startControlServer({
    keeping: keeping.promise,
    steering: steered.promise,
    responding: answering.promise,
    place,
    rivals,
    facts: { version, pid: process.pid, startedAt: new Date(system.clock.now()).toISOString(), directory },
    clock: system.clock,
    hurry,
    onError: (error) => keeper?.warn('control', unexpected(error)),
    limits: { graceMs: SERVER_GRACE_MS },
  });
  const early: NatwardError[] = [];
  let config = readOr(path, early);
  const isGood = early.length === 0;
  const warn = (key: string, error: NatwardError | undefined) => {
    if (keeper !== undefined) keeper.warn(key, error);
    else if (error !== undefined) early.push(error);
  };
  const engine = options.engine ?? config.engine;
  const book = new RuleBook(directory, (error) => early.push(error));
  const beginning = hurry();
  await using steering = await startSteering(system, book, warn, engine);
  const ledger = new Ledger(directory, system.clock, (error) => {
    if (keeper === undefined) early.push(error);
    // How it stands is in the ledger's own `trouble`.
    else keeper.log.emit({ type: 'warning', message: error.message, advice: error.advice ?? null });
  });
  keeper = new Keeper(system, {
    memory: ledger,
    store: new FileStore(directory, system.clock),
    checkMs: config.checkMs,
    carrier: steering,
  });
  keeper.log.listen(onEvent);
  // Names are resolved for it, and the network may not be there yet: leases do not wait.
  const steers = steering.configure(config.rules).finally(() => beginning[Symbol.dispose]());
  const leaving = new AbortController();
  await using responding = prepareResponding(system, keeper, directory, leaving.signal);
  const respond = ({ responds, respondMaxMappings }: Config) =>
    responding.configure(respondSections(responds, options.respondOn), respondMaxMappings);
  steered.resolve(steering);
  answering.resolve(responding);
  keeping.resolve(keeper);
  const hooks = runHooks(system, keeper, version, () => config.hooks);
  const manager = new ServiceManager(system, {
    env: process.env,
    isHealthy: () => keeper.isAlive,
    warn: (error) => keeper.warn('systemd', error),
  });
  for (const error of early) keeper.warn('start', error);
  // Of the configuration as it is now: a newer one ends what the older one still tries.
  let over = new AbortController();
  let applying = Promise.resolve();
  if (isGood) applying = apply(config, keeper, system, over.signal);
  else keeper.resume();
  // Where the file cannot be read, what clients have is kept.
  if (isGood || options.respondOn.length > 0) respond(config);
  const file = new ConfigFile(path, system.clock, {
    changed: (changed) => {
      config = changed;
      keeper.warn('engine', otherEngine(options.engine ?? config.engine, engine));
      void steering.configure(config.rules);
      respond(config);
      over.abort();
      over = new AbortController();
      applying = applying.then(() => apply(config, keeper, system, over.signal));
    },
    trouble: (error) => {
      keeper.warn('start', undefined);
      keeper.warn('config', error);
    },
  });
  const reload = () => file.reload();
  process.on('SIGHUP', reload);
  await Promise.all([applying, steers]);
  onReady(server.place);
  manager.ready(`keeps ${keeper.intents.length} requests`);
  await fired(signal);
  manager.stopping();
  over.abort();
  process.off('SIGHUP', reload);
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), CLOSE_LIMIT_MS);
  try {
    await file[Symbol.asyncDispose]();
    leaving.abort();
    await withinFarewell(responding.close());
    const [errors] = await Promise.all([
      keeper.close(options.onExit ?? config.onExit, limit.signal),
      hooks.close(limit.signal),
      steering.close(DRAIN_LIMIT_MS),
    ]);
    return errors;
  } finally {
    clearTimeout(timer);
    await manager[Symbol.asyncDispose]();
  }
}

/** Resolves also where `closing` takes too long: what is mapped waits to be given back. */
async function withinFarewell(closing: Promise<void>): Promise<void> {
  const cut = new AbortController();
  const over = closing.finally(() => cut.abort());
  await Promise.race([over, realSystem.clock.sleep(FAREWELL_LIMIT_MS, cut.signal).catch(() => undefined)]);
}

function deferred<T>(): { readonly promise: Promise<T>; readonly resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

/** The engine stays what it was at the start: another one could not take over the conversations that run. */
function otherEngine(wanted: EngineChoice, running: EngineChoice): NatwardError | undefined {
  if (wanted === running) return undefined;
  const what = `the configuration says engine = "${wanted}", and the agent has started with "${running}"`;
  return new NatwardError('FAILED', what, { advice: 'Start it again, and it has the other one.' });
}

/** Where the file is broken from the start, the agent keeps what it kept before. */
function readOr(path: string, errors: NatwardError[]): Config {
  try {
    return readConfig(path);
  } catch (error) {
    if (!isNatwardError(error)) throw error;
    errors.push(error);
    return NO_CONFIG;
  }
}

/** Has the keeper keep what the configuration says, as far as its names resolve; the others are tried again. */
async function apply(config: Config, keeper: Keeper, system: System, over: AbortSignal): Promise<void> {
  const unresolved = await applyOnce(config, keeper, system);
  if (unresolved.length === 0 || over.aborted) return;
  void system.clock.sleep(NAMES_RETRY_MS, over).then(
    () => apply(config, keeper, system, over),
    () => undefined,
  );
}

async function applyOnce(config: Config, keeper: Keeper, system: System): Promise<readonly string[]> {
  const requests: KeepRequest[] = [];
  const unresolved: string[] = [];
  for (const keep of config.keeps) {
    try {
      requests.push({ ...keep, ...(await resolveSpec(keep, system.resolve)), hooks: keep.hooks });
    } catch (error) {
      if (!isNatwardError(error)) throw error;
      unresolved.push(`${keep.spec}: ${error.message}`);
    }
  }
  keeper.warn(
    'names',
    unresolved.length === 0 ? undefined : new NatwardError('FAILED', unresolved.join('; ')),
  );
  try {
    keeper.configure(requests);
    keeper.warn('conflict', undefined);
  } catch (error) {
    if (!isNatwardError(error)) throw error;
    keeper.warn('conflict', error);
  }
  return unresolved;
}

function unexpected(error: unknown): NatwardError {
  const what = error instanceof Error ? error.message : String(error);
  return new NatwardError('FAILED', `an error that natward did not expect: ${what}`, { cause: error });
}
