/**
 * The agent's configuration file: TOML, checked whole. What is wrong is said with its line, and all of it at once; the
 * configuration that was good before stays.
 */

import { readFileSync, statSync } from 'node:fs';
import { type AST, getStaticTOMLValue, ParseError, parseTOML } from 'toml-eslint-parser';
import * as v from 'valibot';
import { isNatwardError, NatwardError } from '../errors.ts';
import { MAX_LIFETIME_SECONDS } from '../mapping/mapping.ts';
import { type IpAddress, parseAddress } from '../net/address.ts';
import { parseDuration } from '../net/duration.ts';
import { MAPPING_PROTOCOLS } from '../net/protocol.ts';
import type { Clock } from '../system/clock.ts';
import type { Hook } from './hooks/hook.ts';
import { hookDocumentSchema } from './hooks/parse.ts';
import type { KeepRequest } from './lease.ts';
import { parseSpec, type Spec } from './spec.ts';

/** A request whose host may still be a name. */
export interface ConfiguredKeep extends Omit<KeepRequest, 'host'> {
  readonly host: string | undefined;
}

export interface Config {
  /** What the agent's end does with the mappings. */
  readonly onExit: 'release' | 'keep';
  /** See KeeperOptions; undefined: the usual. */
  readonly checkMs: number | undefined;
  readonly keeps: readonly ConfiguredKeep[];
  /** For all leases. */
  readonly hooks: readonly Hook[];
}

export const NO_CONFIG: Config = { onExit: 'release', checkMs: undefined, keeps: [], hooks: [] };

const MAX_BYTES = 2 ** 20;
const MAX_KEEPS = 10_000;
const MAX_HOOKS = 64;
const ERRORS_SHOWN = 20;
const DEFAULT_LIFETIME = '2h';
/** `fs.watch` misses what editors and network file systems do; a look at the file's date costs nothing. */
const LOOK_MS = 2000;
const CHECK_SECONDS = { min: 2, max: 3600 } as const;

/** Text that a function makes something of, or throws USAGE. */
function read<T>(what: (text: string) => T): v.GenericSchema<unknown, T> {
  return v.pipe(
    v.string('write it as text, in quotes'),
    v.rawTransform(({ dataset, addIssue, NEVER }) => {
      try {
        return what(dataset.value);
      } catch (error) {
        if (!isNatwardError(error)) throw error;
        addIssue({ message: error.message });
        return NEVER;
      }
    }),
  );
}

function duration(minSeconds: number, maxSeconds: number): v.GenericSchema<unknown, number> {
  return read((text) => {
    const seconds = parseDuration(text);
    if (seconds === undefined) throw usage(`"${text}" is no duration: write 90s, 30m, 2h or 7d`);
    if (seconds < minSeconds || seconds > maxSeconds) {
      throw usage(`"${text}" is out of range: ${minSeconds} s to ${maxSeconds} s`);
    }
    return seconds;
  });
}

const address: v.GenericSchema<unknown, IpAddress> = read((text) => {
  const parsed = parseAddress(text);
  if (parsed === undefined) throw usage(`"${text}" is not an IP address`);
  return parsed;
});

const keepSchema: v.GenericSchema<unknown, ConfiguredKeep> = v.pipe(
  v.strictObject({
    spec: read<Spec>(parseSpec),
    lifetime: v.optional(duration(1, MAX_LIFETIME_SECONDS), DEFAULT_LIFETIME),
    description: v.optional(v.pipe(v.string(), v.maxLength(250, 'at most 250 characters'))),
    exact: v.optional(v.boolean('write true or false'), false),
    via: v.optional(v.picklist(MAPPING_PROTOCOLS, 'write "pcp", "natpmp" or "upnp"')),
    gateway: v.optional(address),
    interface: v.optional(v.pipe(v.string(), v.maxLength(256))),
    family: v.optional(v.picklist([4, 6], 'write 4 or 6')),
    hook: v.optional(v.pipe(v.array(hookDocumentSchema), v.maxLength(MAX_HOOKS)), []),
  }),
  v.transform(({ spec, lifetime, exact, hook, ...rest }) => ({
    ...spec,
    ...rest,
    lifetimeSeconds: lifetime,
    choice: exact ? ('exact' as const) : ('any' as const),
    hooks: hook,
  })),
);

const configSchema: v.GenericSchema<unknown, Config> = v.pipe(
  v.strictObject({
    onExit: v.optional(v.picklist(['release', 'keep'], 'write "release" or "keep"'), 'release'),
    checkInterval: v.optional(duration(CHECK_SECONDS.min, CHECK_SECONDS.max)),
    keep: v.optional(v.pipe(v.array(keepSchema), v.maxLength(MAX_KEEPS, `at most ${MAX_KEEPS} of them`)), []),
    hook: v.optional(v.pipe(v.array(hookDocumentSchema), v.maxLength(MAX_HOOKS)), []),
  }),
  v.transform(({ onExit, checkInterval, keep, hook }) => ({
    onExit,
    checkMs: checkInterval === undefined ? undefined : checkInterval * 1000,
    keeps: keep,
    hooks: hook,
  })),
);

/** Throws USAGE with every error's place: `config.toml:7:12: keep[1].lifetime: ...`. `file` is what it is called. */
export function parseConfig(text: string, file: string): Config {
  let ast: AST.TOMLProgram;
  try {
    ast = parseTOML(text);
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    throw usage(`${file}:${error.lineNumber}:${error.column + 1}: ${error.message}`);
  }
  const result = v.safeParse(configSchema, getStaticTOMLValue(ast));
  if (result.success) return result.output;
  const places = placesOf(ast);
  const errors = result.issues.map((issue) => {
    const path = (issue.path ?? []).map(({ key }) => key as string | number);
    const { line, column } = placeOf(places, path);
    return `${file}:${line}:${column}: ${wordsOf(path)}${reasonOf(issue)}`;
  });
  const more = errors.length - ERRORS_SHOWN;
  const shown = errors.slice(0, ERRORS_SHOWN).join('; ');
  throw usage(more > 0 ? `${shown}; and ${more} more` : shown);
}

function reasonOf({ type, expected, message }: v.BaseIssue<unknown>): string {
  if (type === 'strict_object' && expected === 'never') return 'there is no such key';
  if (type === 'strict_object' || type === 'object') return 'it is missing, or not what it should be';
  return message;
}

function wordsOf(path: readonly (string | number)[]): string {
  if (path.length === 0) return '';
  const words = path.map((key) => (typeof key === 'number' ? `[${key}]` : `.${key}`)).join('');
  return `${words.replace(/^\./, '')}: `;
}

interface Place {
  readonly line: number;
  readonly column: number;
}

/** Of the nearest thing around it that stands in the file: what is missing stands nowhere. */
function placeOf(places: ReadonlyMap<string, Place>, path: readonly (string | number)[]): Place {
  for (let length = path.length; length > 0; length--) {
    const place = places.get(JSON.stringify(path.slice(0, length)));
    if (place !== undefined) return place;
  }
  return { line: 1, column: 1 };
}

/** Where each key and element stands. */
function placesOf(ast: AST.TOMLProgram): ReadonlyMap<string, Place> {
  const places = new Map<string, Place>();
  const note = (path: readonly (string | number)[], { loc }: AST.TOMLNode) => {
    const key = JSON.stringify(path);
    if (!places.has(key)) places.set(key, { line: loc.start.line, column: loc.start.column + 1 });
  };
  const value = (path: readonly (string | number)[], node: AST.TOMLContentNode) => {
    if (node.type === 'TOMLArray') {
      for (const [at, element] of node.elements.entries()) {
        note([...path, at], element);
        value([...path, at], element);
      }
    } else if (node.type === 'TOMLInlineTable') {
      for (const pair of node.body) keyValue(path, pair);
    }
  };
  const keyValue = (path: readonly (string | number)[], node: AST.TOMLKeyValue) => {
    const full = [...path];
    for (const key of node.key.keys) {
      full.push(key.type === 'TOMLBare' ? key.name : key.value);
      note(full, node.key);
    }
    value(full, node.value);
  };
  for (const node of ast.body[0].body) {
    if (node.type === 'TOMLKeyValue') keyValue([], node);
    else {
      note(node.resolvedKey, node);
      for (const pair of node.body) keyValue(node.resolvedKey, pair);
    }
  }
  return places;
}

/** A file that is not there is an empty one. Throws USAGE, or FAILED where it cannot be read. */
export function readConfig(path: string): Config {
  let text: string;
  try {
    const { size } = statSync(path);
    if (size > MAX_BYTES) throw usage(`${path} is larger than ${MAX_BYTES} bytes`);
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    if (isNatwardError(cause)) throw cause;
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return NO_CONFIG;
    throw new NatwardError('FAILED', `cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  return parseConfig(text, path);
}

export interface ConfigListener {
  /** A good configuration, other than the last. */
  readonly changed: (config: Config) => void;
  /** What the file says cannot be used; undefined when it can again. */
  readonly trouble: (error: NatwardError | undefined) => void;
}

/** The file, and what becomes of it while the agent runs. */
export class ConfigFile implements AsyncDisposable {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #listener: ConfigListener;
  readonly #over = new AbortController();
  readonly #watching: Promise<void>;
  #seen: string;

  /** Looks from now on; what is there already is `readConfig`'s. */
  constructor(path: string, clock: Clock, listener: ConfigListener) {
    this.#path = path;
    this.#clock = clock;
    this.#listener = listener;
    this.#seen = stampOf(path);
    this.#watching = this.#watch();
  }

  /** Reads it now, changed or not. */
  reload(): void {
    this.#seen = stampOf(this.#path);
    try {
      const config = readConfig(this.#path);
      this.#listener.trouble(undefined);
      this.#listener.changed(config);
    } catch (error) {
      if (!isNatwardError(error)) throw error;
      this.#listener.trouble(error);
    }
  }

  async #watch(): Promise<void> {
    try {
      for (;;) {
        await this.#clock.sleep(LOOK_MS, this.#over.signal);
        if (stampOf(this.#path) !== this.#seen) this.reload();
      }
    } catch (error) {
      if (!isNatwardError(error, 'ABORTED')) throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    await this.#watching;
  }
}

/** Another one each time that the file is written or replaced. */
function stampOf(path: string): string {
  try {
    const { ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return `${ino} ${size} ${mtimeNs} ${ctimeNs}`;
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}

function usage(message: string): NatwardError {
  return new NatwardError('USAGE', message);
}
