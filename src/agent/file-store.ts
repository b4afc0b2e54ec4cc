/**
 * Remembers in one file, readable by its owner alone: see store.ts.
 *
 * `conf` writes it, atomically. Reading is a plain parse and check: conf takes 25 ms to load, a mapping over
 * PCP takes 2 (docs/decisions/0004-state.md).
 */

import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import * as v from 'valibot';
import { NatwardError } from '../errors.ts';
import { parseAddress } from '../net/address.ts';
import type { Clock } from '../system/clock.ts';
import { loadConf } from './conf-file.ts';
import { EMPTY, type RememberedMapping, type State, type Store, swept } from './store.ts';

const address = v.pipe(
  v.string(),
  v.check((text) => parseAddress(text) !== undefined, 'not an address'),
);
const port = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65_535));

export const mappingSchema: v.GenericSchema<unknown, RememberedMapping> = v.object({
  gateway: address,
  via: v.picklist(['pcp', 'natpmp', 'upnp']),
  protocol: v.picklist(['tcp', 'udp']),
  internalClient: address,
  internalPort: port,
  externalPort: port,
  externalAddress: v.nullable(address),
  requestedExternalPort: port,
  lifetimeSeconds: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** 32 - 1)),
  expiresAtMs: v.nullable(v.number()),
  description: v.pipe(v.string(), v.maxLength(1024)),
  nonce: v.nullable(v.pipe(v.string(), v.regex(/^[0-9a-f]{24}$/))),
  pinholeId: v.nullable(v.pipe(v.number(), v.integer())),
  remotePeer: v.optional(
    v.object({
      address,
      prefixLength: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(128)),
      port,
    }),
  ),
  arrivesOnPort: v.optional(port),
});

const stateSchema: v.GenericSchema<unknown, State> = v.object({
  version: v.literal(1),
  // Two protocols, every port, and as much again for a second gateway.
  mappings: v.pipe(v.array(mappingSchema), v.maxLength(262_144)),
  gateways: v.pipe(
    v.array(
      v.object({
        address,
        interface: v.pipe(v.string(), v.maxLength(256)),
        location: v.pipe(v.string(), v.maxLength(1024)),
      }),
    ),
    v.maxLength(64),
  ),
});

const NAME = 'state';
/** A change takes milliseconds: a lock as old as this was left by a process that died. */
const STALE_LOCK_MS = 10_000;
const LOCK_RETRY_MS = 10;
const LOCK_TRIES = 300;

export class FileStore implements Store {
  readonly #directory: string;
  readonly #clock: Clock;
  #cached: State | undefined;
  #broken = false;
  readonly #unwritten: ((state: State) => State)[] = [];
  #writing: Promise<void> | undefined;

  /** `directory` need not exist yet. */
  constructor(directory: string, clock: Clock) {
    this.#directory = directory;
    this.#clock = clock;
  }

  get #file(): string {
    return join(this.#directory, `${NAME}.json`);
  }

  /** What is remembered, without what has ended. A file that cannot be read counts as empty: see `update`. */
  read(): State {
    this.#cached ??= this.#load();
    return swept(this.#cached, this.#clock.now());
  }

  #load(): State {
    let text: string;
    try {
      text = readFileSync(this.#file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return EMPTY;
      throw new NatwardError('FAILED', `cannot read ${this.#file}: ${(error as Error).message}`, {
        cause: error,
      });
    }
    try {
      return v.parse(stateSchema, JSON.parse(text));
    } catch {
      this.#broken = true;
      return EMPTY;
    }
  }

  /**
   * Changes what is remembered: at once for `read`, then on disk, one process at a time, sweeping what has
   * ended. Changes that come while one is being written go together. A file that could not be read is set
   * aside as `state.json.broken`, never overwritten. Rejects with FAILED where nothing can be written.
   */
  async update(change: (state: State) => State): Promise<void> {
    this.#cached = change(this.read());
    this.#unwritten.push(change);
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined;
    });
    await this.#writing;
  }

  async #write(): Promise<void> {
    try {
      // Whoever has asked for the change gets his answer before conf, which takes its time, is loaded.
      await new Promise((resolve) => setImmediate(resolve));
      mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
      const Conf = await loadConf();
      while (this.#unwritten.length > 0) {
        const unlock = await this.#lock();
        try {
          const before = swept(this.#load(), this.#clock.now());
          if (this.#broken) renameSync(this.#file, freeName(`${this.#file}.broken`));
          this.#broken = false;
          const conf = new Conf<State>({ cwd: this.#directory, configName: NAME, configFileMode: 0o600 });
          const changed = this.#unwritten.splice(0).reduce((state, change) => change(state), before);
          conf.store = changed;
          this.#cached = changed;
        } finally {
          unlock();
        }
      }
    } catch (cause) {
      this.#unwritten.length = 0;
      throw new NatwardError('FAILED', `cannot write ${this.#file}: ${(cause as Error).message}`, {
        cause,
        advice: 'Without it a later natward unmap cannot take a PCP mapping back: it ends by its lifetime.',
      });
    }
  }

  async #lock(): Promise<() => void> {
    const lock = join(dirname(this.#file), `${NAME}.lock`);
    for (let tries = 0; ; tries++) {
      try {
        closeSync(openSync(lock, 'wx', 0o600));
        return () => rmSync(lock, { force: true });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || tries === LOCK_TRIES) throw error;
        const held = statSync(lock, { throwIfNoEntry: false });
        if (held === undefined) continue; // Given back meanwhile; by now it may be somebody else's.
        if (this.#clock.now() - held.mtimeMs > STALE_LOCK_MS) rmSync(lock, { force: true });
        else await this.#clock.sleep(LOCK_RETRY_MS);
      }
    }
  }
}

/** What was set aside before stays: `state.json.broken`, then `state.json.broken-2` and so on. */
export function freeName(path: string): string {
  let name = path;
  for (let count = 2; existsSync(name); count++) name = `${path}-${count}`;
  return name;
}
