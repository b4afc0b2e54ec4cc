/**
 * The agent's configuration file: TOML, checked whole. What is wrong is said with its line, and all of it at once; the
 * configuration that was good before stays.
 */

import { readFileSync, statSync } from 'node:fs';
import * as v from 'valibot';
import { isNatwardError, NatwardError } from '../errors.ts';
import { type EngineChoice, parseEngineChoice } from '../forwarder/engine-choice.ts';
import type { RuleSpec } from '../forwarder/rule.ts';
import { MAX_RULES, parseRuleId, type WantedRule } from '../forwarder/table.ts';
import { parseRule } from '../forwarder/text.ts';
import { checkDescription } from '../forwarder/words.ts';
import { MAX_LIFETIME_SECONDS } from '../mapping/mapping.ts';
import { parseDuration } from '../net/duration.ts';
import { MAPPING_PROTOCOLS } from '../net/protocol.ts';
import type { Clock } from '../system/clock.ts';
import { address, read, usage, whole, yesOrNo } from './config-value.ts';
import type { Hook } from './hooks/hook.ts';
import { hookDocumentSchema } from './hooks/parse.ts';
import type { KeepRequest } from './lease.ts';
import {
  DEFAULT_MAX_MAPPINGS,
  HIGHEST_MAX_MAPPINGS,
  interfacesOnce,
  RESPOND_KEYS,
  respondSchema,
  type RespondSection,
} from './respond-config.ts';
import { parseSpec, type Spec } from './spec.ts';
import { parseToml, type TomlDocument } from './toml.ts';

/** A request whose host may still be a name. */
export interface ConfiguredKeep extends Omit<KeepRequest, 'host'> {
  readonly host: string | undefined;
}

export interface Config {
  /** What the agent's end does with the mappings. */
  readonly onExit: 'release' | 'keep';
  /** See KeeperOptions; undefined: the usual. */
  readonly checkMs: number | undefined;
  /** What carries the rules out, from the agent's start to its end. */
  readonly engine: EngineChoice;
  readonly keeps: readonly ConfiguredKeep[];
  /** For all leases. */
  readonly hooks: readonly Hook[];
  /** From the top. */
  readonly rules: readonly WantedRule[];
  /** Where the agent is a gateway for other programs: no interface twice. */
  readonly responds: readonly RespondSection[];
  /** Of the clients of all those together. */
  readonly respondMaxMappings: number;
}

export const NO_CONFIG: Config = {
  onExit: 'release',
  checkMs: undefined,
  engine: 'auto',
  keeps: [],
  hooks: [],
  rules: [],
  responds: [],
  respondMaxMappings: DEFAULT_MAX_MAPPINGS,
};

const MAX_BYTES = 2 ** 20;
const MAX_KEEPS = 10_000;
const MAX_HOOKS = 64;
const MAX_RESPONDS = 64;
const ERRORS_SHOWN = 20;
const DEFAULT_LIFETIME = '2h';
/** `fs.watch` misses what editors and network file systems do; a look at the file's date costs nothing. */
const LOOK_MS = 1500;
/** A file that is being written stands still for so long when it is whole. */
const STILL_MS = 500;
const CHECK_SECONDS = { min: 2, max: 3600 } as const;

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

const keepEntries = {
  spec: read<Spec>(parseSpec),
  lifetime: v.optional(duration(1, MAX_LIFETIME_SECONDS), DEFAULT_LIFETIME),
  description: v.optional(v.pipe(v.string(), v.maxLength(250, 'at most 250 characters'))),
  exact: v.optional(yesOrNo, false),
  via: v.optional(v.picklist(MAPPING_PROTOCOLS, 'write "pcp", "natpmp" or "upnp"')),
  gateway: v.optional(address),
  interface: v.optional(v.pipe(v.string(), v.maxLength(256))),
  family: v.optional(v.picklist([4, 6], 'write 4 or 6')),
  hook: v.optional(v.pipe(v.array(hookDocumentSchema), v.maxLength(MAX_HOOKS)), []),
};

const keepSchema: v.GenericSchema<unknown, ConfiguredKeep> = v.pipe(
  v.strictObject(keepEntries),
  v.transform(({ spec, lifetime, exact, hook, ...rest }) => ({
    ...spec,
    ...rest,
    lifetimeSeconds: lifetime,
    choice: exact ? ('exact' as const) : ('any' as const),
    hooks: hook,
  })),
);

const ruleEntries = {
  rule: read<RuleSpec>(parseRule),
  id: v.optional(read(parseRuleId)),
  enabled: v.optional(yesOrNo, true),
  description: v.optional(read(checkDescription)),
};

const ruleSchema: v.GenericSchema<unknown, WantedRule> = v.pipe(
  v.strictObject(ruleEntries),
  v.transform(({ rule, id, enabled, description }) => ({
    id,
    enabled,
    spec: description === undefined ? rule : { ...rule, description },
  })),
);

const idsOnce = v.rawCheck<WantedRule[]>(({ dataset, addIssue }) => {
  if (!dataset.typed) return;
  const seen = new Set<string>();
  for (const [key, value] of dataset.value.entries()) {
    if (value.id === undefined) continue;
    const path = { type: 'array', origin: 'value', input: dataset.value, key, value } as const;
    if (seen.has(value.id)) addIssue({ message: `another rule has the id ${value.id}`, path: [path] });
    seen.add(value.id);
  }
});

const configEntries = {
  onExit: v.optional(v.picklist(['release', 'keep'], 'write "release" or "keep"'), 'release'),
  checkInterval: v.optional(duration(CHECK_SECONDS.min, CHECK_SECONDS.max)),
  engine: v.optional(read(parseEngineChoice), 'auto'),
  keep: v.optional(v.pipe(v.array(keepSchema), v.maxLength(MAX_KEEPS, `at most ${MAX_KEEPS} of them`)), []),
  hook: v.optional(v.pipe(v.array(hookDocumentSchema), v.maxLength(MAX_HOOKS)), []),
  rule: v.optional(
    v.pipe(v.array(ruleSchema), v.maxLength(MAX_RULES, `at most ${MAX_RULES} of them`), idsOnce),
    [],
  ),
  respond: v.optional(
    v.pipe(
      v.array(respondSchema),
      v.maxLength(MAX_RESPONDS, `at most ${MAX_RESPONDS} of them`),
      interfacesOnce,
    ),
    [],
  ),
  respondMaxMappings: v.optional(whole(1, HIGHEST_MAX_MAPPINGS), DEFAULT_MAX_MAPPINGS),
};

const configSchema: v.GenericSchema<unknown, Config> = v.pipe(
  v.strictObject(configEntries),
  v.transform(({ onExit, checkInterval, engine, keep, hook, rule, respond, respondMaxMappings }) => ({
    onExit,
    engine,
    checkMs: checkInterval === undefined ? undefined : checkInterval * 1000,
    keeps: keep,
    hooks: hook,
    rules: rule,
    responds: respond,
    respondMaxMappings,
  })),
);

/** What may stand in each table, for hints. */
const KEYS: ReadonlyMap<string, readonly string[]> = new Map(
  Object.entries({
    '': Object.keys(configEntries),
    keep: Object.keys(keepEntries),
    rule: Object.keys(ruleEntries),
    hook: ['on', 'timeoutSeconds', 'run', 'shell', 'webhook', 'sync', 'dyndns'],
    dyndns: ['url', 'hostname'],
    ...RESPOND_KEYS,
  }),
);
const LONGEST_KEY = 18;

/** Throws USAGE with every error's place: `config.toml:7:12: keep[1].lifetime: ...`. `file` is what it is called. */
export function parseConfig(text: string, file: string): Config {
  return checkConfig(parseToml(text, file), file);
}

/** As parseConfig, of what is read already; where there are no places the file alone is named. */
export function checkConfig(
  { value, placeOf }: Pick<TomlDocument, 'value'> & Partial<TomlDocument>,
  file: string,
): Config {
  const result = v.safeParse(configSchema, value);
  if (result.success) return result.output;
  const errors = result.issues.map((issue) => {
    const path = (issue.path ?? []).map(({ key }) => key as string | number);
    const place = placeOf?.(path);
    const where = place === undefined ? file : `${file}:${place.line}:${place.column}`;
    return `${where}: ${wordsOf(path)}${reasonOf(issue, path)}`;
  });
  const more = errors.length - ERRORS_SHOWN;
  const shown = errors.slice(0, ERRORS_SHOWN).join('; ');
  throw usage(more > 0 ? `${shown}; and ${more} more` : shown);
}

function reasonOf(
  { type, expected, message }: v.BaseIssue<unknown>,
  path: readonly (string | number)[],
): string {
  if (type === 'strict_object' && expected === 'never') return `there is no such key${hintOf(path)}`;
  if (type === 'strict_object' || type === 'object') return 'it is missing, or not what it should be';
  return message;
}

function wordsOf(path: readonly (string | number)[]): string {
  if (path.length === 0) return '';
  const words = path.map((key) => (typeof key === 'number' ? `[${key}]` : `.${key}`)).join('');
  return `${words.replace(/^\./, '')}: `;
}

/** The key that was probably meant, of those that the table has. */
function hintOf(path: readonly (string | number)[]): string {
  const around = path.slice(0, -1).findLast((key) => typeof key === 'string') ?? '';
  const wrong = plain(String(path.at(-1)));
  const meant = KEYS.get(around)?.find((key) => distance(plain(key), wrong) <= Math.min(2, wrong.length / 3));
  return meant === undefined ? '' : `: did you mean ${meant}?`;
}

/** `on-exit`, `on_exit` and `onexit` all mean onExit. */
function plain(key: string): string {
  return key.replace(/[-_]/g, '').toLowerCase();
}

/** So many letters are to be put in, taken out or changed; what is longer than any key is far from all of them. */
function distance(a: string, b: string): number {
  if (b.length > 2 * LONGEST_KEY) return b.length;
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (const [at, letter] of Array.from(a).entries()) {
    const next = [at + 1];
    for (let to = 1; to <= b.length; to++) {
      const changed = (row[to - 1] ?? 0) + (b[to - 1] === letter ? 0 : 1);
      next.push(Math.min(changed, (row[to] ?? 0) + 1, (next[to - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}

/** A file that is not there is an empty one. Throws USAGE, or FAILED where it cannot be read. */
export function readConfig(path: string): Config {
  let text: string;
  try {
    const found = statSync(path);
    // Reading a pipe or a device may never end; this one is how people write "none".
    if (path === '/dev/null') return NO_CONFIG;
    if (!found.isFile() && !found.isDirectory()) throw usage(`${path} is not a file`);
    if (found.size > MAX_BYTES) throw usage(`${path} is larger than ${MAX_BYTES} bytes`);
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
        if (stampOf(this.#path) === this.#seen) continue;
        // Half a file is good TOML as well, and asks for less: every lease it leaves out would be given back.
        let stamp: string;
        do {
          stamp = stampOf(this.#path);
          await this.#clock.sleep(STILL_MS, this.#over.signal);
        } while (stampOf(this.#path) !== stamp);
        this.reload();
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
