/**
 * What the agent must not forget: what people and apps asked it to keep, and what gateways granted for it, with
 * the nonces that PCP wants to see again. One file, written by one agent, atomically; a file that cannot be
 * written leaves the one before as it is, and is tried again.
 */

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { NatwardError } from '../errors.ts';
import type { Clock } from '../system/clock.ts';
import { loadConf } from './conf-file.ts';
import type { Intent } from './lease.ts';
import type { Holding } from './lease-record.ts';
import { intentSchema } from './intent-schema.ts';
import { freeName, mappingSchema } from './file-store.ts';

export interface LedgerState {
  /** The configuration's own as well: its file may be broken when the agent starts again. */
  readonly intents: readonly Intent[];
  readonly holdings: readonly Holding[];
}

/** Where a keeper remembers. */
export interface Memory {
  load(): LedgerState;
  /**
   * `soon`: what a crash must not lose is on disk within a moment. `later`: the file is right enough as it is,
   * only times of expiry have moved.
   */
  save(state: () => LedgerState, when: 'soon' | 'later'): void;
  /** Resolves when all that was to be saved is. */
  flush(): Promise<void>;
  /** What went wrong last, until it goes well again. */
  readonly trouble: NatwardError | undefined;
}

export const NOTHING: LedgerState = { intents: [], holdings: [] };

/** Takes a document of one version to the next. */
export type Migration = (document: unknown) => unknown;

/** The first one takes version 1 to version 2. */
const MIGRATIONS: readonly Migration[] = [];

const NAME = 'ledger';
/** Many grants come together; they are written together. */
const SOON_MS = 50;
/** A write that took so long is left so many times as long alone, on a slow disk as well not for longer. */
const WRITE_SHARE = 30;
const LONGEST_GAP_MS = 2000;
const LATER_MS = 600_000;
const FIRST_RETRY_MS = 5000;
const LONGEST_RETRY_MS = 300_000;
const MAX_ENTRIES = 262_144;

const holdingSchema: v.GenericSchema<unknown, Holding> = v.object({
  leaseKey: v.pipe(v.string(), v.maxLength(64)),
  interface: v.pipe(v.string(), v.maxLength(256)),
  hardwareAddress: v.nullable(v.pipe(v.string(), v.maxLength(64))),
  mapping: mappingSchema,
});

const ledgerSchema = v.object({
  version: v.number(),
  intents: v.pipe(v.array(intentSchema), v.maxLength(MAX_ENTRIES)),
  holdings: v.pipe(v.array(holdingSchema), v.maxLength(MAX_ENTRIES)),
});

function ledgerFile(directory: string): string {
  return join(directory, `${NAME}.json`);
}

/** The state in a document of any version up to ours. Throws where it is none. */
export function parseLedger(text: string, migrations: readonly Migration[] = MIGRATIONS): LedgerState {
  const current = migrations.length + 1;
  let document: unknown = JSON.parse(text);
  const { version } = v.parse(
    v.object({ version: v.pipe(v.number(), v.integer(), v.minValue(1)) }),
    document,
  );
  if (version > current) {
    throw new NatwardError('FAILED', `it is of version ${version}, and this natward knows up to ${current}`, {
      advice: 'A newer natward wrote it: run that one.',
    });
  }
  for (const migrate of migrations.slice(version - 1)) document = migrate(document);
  const { intents, holdings } = v.parse(ledgerSchema, document);
  return { intents, holdings };
}

/** What an agent that remembers in `directory` holds, for those who only look. None where its ledger cannot be read. */
export function readHoldings(directory: string): readonly Holding[] {
  try {
    return parseLedger(readFileSync(ledgerFile(directory), 'utf8')).holdings;
  } catch {
    return [];
  }
}

export class Ledger implements Memory {
  trouble: NatwardError | undefined;
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #warn: (error: NatwardError) => void;
  #pending: (() => LedgerState) | undefined;
  #timer: { readonly dueMs: number; readonly cut: AbortController; readonly done: Promise<void> } | undefined;
  #retryMs = FIRST_RETRY_MS;
  #lastWrite = { endedAtMs: Number.NEGATIVE_INFINITY, tookMs: 0 };
  #conf: { store: object } | undefined;
  /** One after the other. */
  #writing: Promise<void> = Promise.resolve();

  /** `directory` need not exist yet. */
  constructor(directory: string, clock: Clock, warn: (error: NatwardError) => void) {
    this.#directory = directory;
    this.#clock = clock;
    this.#warn = warn;
  }

  get #file(): string {
    return ledgerFile(this.#directory);
  }

  /**
   * Throws FAILED where the file is of a newer natward or may not be read; one that is broken is set aside as
   * `ledger.json.broken`, and said so.
   */
  load(): LedgerState {
    this.#sweep();
    if (!existsSync(this.#file)) return NOTHING;
    let text: string;
    try {
      text = readFileSync(this.#file, 'utf8');
    } catch (cause) {
      throw new NatwardError('FAILED', `cannot read ${this.#file}: ${(cause as Error).message}`, { cause });
    }
    try {
      return parseLedger(text);
    } catch (cause) {
      if (cause instanceof NatwardError) {
        throw new NatwardError(cause.code, `cannot use ${this.#file}: ${cause.message}`, {
          cause,
          ...(cause.advice === undefined ? {} : { advice: cause.advice }),
        });
      }
      const aside = freeName(`${this.#file}.broken`);
      renameSync(this.#file, aside);
      this.#warn(
        new NatwardError('FAILED', `${this.#file} is broken and was set aside as ${aside}`, {
          cause,
          advice:
            'What was kept by natward keep has to be asked for again; its mappings end by their lifetimes.',
        }),
      );
      return NOTHING;
    }
  }

  /** What an agent was writing when it was killed. */
  #sweep(): void {
    try {
      for (const name of readdirSync(this.#directory)) {
        if (name.startsWith(`${NAME}.json.tmp-`)) rmSync(join(this.#directory, name));
      }
    } catch {
      // There is no directory yet, or nothing can be removed from it: it is in nobody's way.
    }
  }

  save(state: () => LedgerState, when: 'soon' | 'later'): void {
    this.#pending = state;
    this.#schedule(when === 'later' ? LATER_MS : this.trouble === undefined ? this.#soonMs() : this.#retryMs);
  }

  /** While ten thousand leases are granted one after the other, writing takes a small part of the time. */
  #soonMs(): number {
    const { endedAtMs, tookMs } = this.#lastWrite;
    const gapMs = Math.min(WRITE_SHARE * tookMs, LONGEST_GAP_MS);
    return Math.max(SOON_MS, endedAtMs + gapMs - this.#clock.steady());
  }

  #schedule(delayMs: number): void {
    const dueMs = this.#clock.steady() + delayMs;
    if (this.#timer !== undefined && this.#timer.dueMs <= dueMs) return;
    this.#timer?.cut.abort();
    const cut = new AbortController();
    const timer = {
      dueMs,
      cut,
      done: this.#clock.sleep(delayMs, cut.signal).then(
        async () => {
          if (this.#timer === timer) this.#timer = undefined;
          await this.#write();
        },
        () => undefined,
      ),
    };
    this.#timer = timer;
  }

  #write(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#writeNow());
    return this.#writing;
  }

  async #writeNow(): Promise<void> {
    const pending = this.#pending;
    this.#pending = undefined;
    if (pending === undefined) return;
    const state = pending();
    try {
      this.#conf ??= await this.#open();
      const startMs = this.#clock.steady();
      this.#conf.store = { version: MIGRATIONS.length + 1, ...state };
      this.trouble = undefined;
      this.#retryMs = FIRST_RETRY_MS;
      const endedAtMs = this.#clock.steady();
      this.#lastWrite = { endedAtMs, tookMs: endedAtMs - startMs };
    } catch (cause) {
      const first = this.trouble === undefined;
      this.trouble = new NatwardError('FAILED', `cannot write ${this.#file}: ${(cause as Error).message}`, {
        cause,
        advice: 'What was there before is as it was. Make room, or make it writable: it is tried again.',
      });
      if (first) this.#warn(this.trouble);
      this.#pending ??= () => state;
      this.#schedule(this.#retryMs);
      this.#retryMs = Math.min(2 * this.#retryMs, LONGEST_RETRY_MS);
    }
  }

  async #open(): Promise<{ store: object }> {
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    const Conf = await loadConf();
    return new Conf<Record<string, unknown>>({
      cwd: this.#directory,
      configName: NAME,
      configFileMode: 0o600,
      // Ten thousand leases in tabs are half as long again.
      serialize: (value) => JSON.stringify(value),
    });
  }

  async flush(): Promise<void> {
    await this.#stop();
    await this.#write();
    await this.#stop(); // Where it could not be written it would be tried again.
  }

  async #stop(): Promise<void> {
    const timer = this.#timer;
    this.#timer = undefined;
    timer?.cut.abort();
    await timer?.done;
  }
}
