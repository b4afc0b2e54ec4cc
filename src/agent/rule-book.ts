/** The rules that people made, and those that leases need, on disk: `rules.json`, written whole after each change. */

import { mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { isNatwardError, NatwardError } from '../errors.ts';
import type { Rule } from '../forwarder/rule.ts';
import { MAX_RULES, parseRuleId, type Table } from '../forwarder/table.ts';
import { formatRule, identify, parseRule } from '../forwarder/text.ts';
import { loadConf } from './conf-file.ts';
import type { RuleMemory, RuleRecord } from './rule-memory.ts';
import { freeName } from './file-store.ts';

const NAME = 'rules';
const VERSION = 1;
/** Rules that are written at a stretch: a millisecond. */
const SLICE = 500;

const pausedSchema = v.object({ paused: v.optional(v.boolean(), false) });
const rulesSchema = v.pipe(
  v.array(v.object({ id: v.string(), enabled: v.boolean(), rule: v.string() })),
  v.maxLength(MAX_RULES),
  v.check((rules) => new Set(rules.map(({ id }) => id)).size === rules.length, 'two rules have one id'),
);
type WrittenRule = v.InferOutput<typeof rulesSchema>[number];
const bookSchema = v.object({
  version: v.literal(VERSION),
  rules: rulesSchema,
  leases: v.optional(rulesSchema, []),
});

export class RuleBook implements RuleMemory {
  readonly #directory: string;
  readonly #warn: (error: NatwardError) => void;
  #conf: Promise<{ store: object }> | undefined;
  /** Of tables that may be saved next. */
  readonly #lines = new WeakMap<Table, readonly string[]>();

  /** `directory` need not exist yet. */
  constructor(directory: string, warn: (error: NatwardError) => void) {
    this.#directory = directory;
    this.#warn = warn;
  }

  get file(): string {
    return join(this.#directory, `${NAME}.json`);
  }

  load(): RuleRecord {
    let text: string;
    let isPaused = false;
    try {
      text = readFileSync(this.file, 'utf8');
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return { rules: [], leases: [], isPaused };
      throw new NatwardError('FAILED', `cannot read ${this.file}: ${(cause as Error).message}`, { cause });
    }
    try {
      const document: unknown = JSON.parse(text);
      this.#refuseNewer(document);
      isPaused = v.parse(pausedSchema, document).paused;
      const { rules, leases } = v.parse(bookSchema, document);
      return { rules: rules.map(readRule), leases: leases.map(readRule), isPaused };
    } catch (cause) {
      if (isNatwardError(cause, 'FAILED')) throw cause;
      const aside = this.#setAside();
      const what = `${this.file} is broken and was set aside as ${aside}: ${(cause as Error).message}`;
      const advice =
        'Mend it and put it back, or make the rules again: natward import reads them one by one.';
      this.#warn(new NatwardError('FAILED', what, { cause, advice }));
      return { rules: [], leases: [], isPaused };
    }
  }

  #refuseNewer(document: unknown): void {
    const found = v.safeParse(v.object({ version: v.number() }), document);
    if (!found.success || found.output.version <= VERSION) return;
    const { version } = found.output;
    throw new NatwardError(
      'FAILED',
      `cannot read ${this.file}: it is of version ${version}, and this natward knows up to ${VERSION}`,
      { advice: 'A newer natward wrote it: run that one.' },
    );
  }

  #setAside(): string {
    const aside = freeName(`${this.file}.broken`);
    try {
      renameSync(this.file, aside);
    } catch (cause) {
      const what = `${this.file} is broken, and cannot be set aside: ${(cause as Error).message}`;
      throw new NatwardError('FAILED', what, { cause, advice: 'Move it away, or make it writable.' });
    }
    return aside;
  }

  /** Others have their turn in between. */
  async prepare(rules: Table): Promise<void> {
    const lines: string[] = [];
    for (let at = 0; at < rules.length; at += SLICE) {
      await new Promise((resolve) => setImmediate(resolve));
      for (const rule of rules.slice(at, at + SLICE)) lines.push(lineOf(rule));
    }
    this.#lines.set(rules, lines);
  }

  async save(record: RuleRecord): Promise<void> {
    try {
      this.#conf ??= this.#open();
      const rules = this.#lines.get(record.rules) ?? record.rules.map(lineOf);
      this.#lines.delete(record.rules);
      const leases = record.leases.map(writtenRule);
      const head = { version: VERSION, ...(record.isPaused && { paused: true }) };
      (await this.#conf).store = { ...head, ...(leases.length > 0 && { leases }), rules };
    } catch (cause) {
      this.#conf = undefined;
      throw new NatwardError('FAILED', `cannot write ${this.file}: ${(cause as Error).message}`, {
        cause,
        advice: 'The rules run, and are forgotten when the agent ends. Make room, or make it writable.',
      });
    }
  }

  async #open(): Promise<{ store: object }> {
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    const Conf = await loadConf();
    return new Conf<Record<string, unknown>>({
      cwd: this.#directory,
      configName: NAME,
      configFileMode: 0o600,
      // A line each: there may be tens of thousands.
      serialize: ({ rules, ...head }) =>
        `${JSON.stringify(head).slice(0, -1)},"rules":[\n${(rules as readonly string[]).join(',\n')}\n]}\n`,
      // It would read all of it before each writing, for something of its own that is not there.
      deserialize: () => ({}),
    });
  }
}

function readRule({ id, enabled, rule }: WrittenRule): Rule {
  return identify(parseRule(rule), parseRuleId(id), enabled);
}

function lineOf(rule: Rule): string {
  return JSON.stringify(writtenRule(rule));
}

function writtenRule(rule: Rule): WrittenRule {
  return { id: rule.id, enabled: rule.enabled, rule: formatRule(rule) };
}
