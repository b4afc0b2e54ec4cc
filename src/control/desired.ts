/**
 * The desired state as a file: the `rule` and `keep` tables of the configuration file, as TOML or as JSON. What the file
 * does not speak of stays as it is, so an empty list and no list are two things.
 */

import { createReadStream } from 'node:fs';
import * as v from 'valibot';
import { checkConfig, type ConfiguredKeep } from '../agent/config.ts';
import type { RuleDocument } from '../agent/rule-keeping.ts';
import { parseToml, type TomlDocument } from '../agent/toml.ts';
import { isNatwardError, NatwardError } from '../errors.ts';
import { ruleDocumentsSchema } from './rule-schema.ts';

export interface DesiredState {
  /** All of the user's rules, from the top, each line as it is written. Undefined: the file has no `rule`. */
  readonly rules: readonly RuleDocument[] | undefined;
  /** All that the user wants kept. Undefined: the file has no `keep`. */
  readonly keeps: readonly ConfiguredKeep[] | undefined;
}

/** Where nothing has places, the file alone is named. */
type Document = Pick<TomlDocument, 'value'> & Partial<TomlDocument>;

/** Keys of the configuration file that are not of this one. */
const SETTINGS = new Set(['onExit', 'checkInterval', 'hook', 'respond', 'respondMaxMappings']);
/** As much as the agent takes for a table of rules. */
const MAX_BYTES = 16 * 2 ** 20;
const MAX_DEPTH = 32;
const MAX_PROBLEM_LENGTH = 300;

/** What messages call the file. */
export function nameOfFile(file: string): string {
  return file === '-' ? 'stdin' : file;
}

/** The file's text; `-` is stdin. Throws FAILED where it cannot be read, USAGE where it is no text or too much of it. */
export async function readText(file: string): Promise<string> {
  const name = nameOfFile(file);
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    const source: AsyncIterable<Buffer> = file === '-' ? process.stdin : createReadStream(file);
    for await (const chunk of source) {
      bytes += chunk.length;
      if (bytes > MAX_BYTES) throw usage(`${name} is larger than ${MAX_BYTES} bytes`);
      chunks.push(chunk);
    }
  } catch (cause) {
    if (isNatwardError(cause)) throw cause;
    throw new NatwardError('FAILED', `cannot read ${name}: ${(cause as Error).message}`, { cause });
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
  } catch (cause) {
    throw new NatwardError('USAGE', `${name} is not UTF-8 text`, { cause });
  }
}

/**
 * Throws USAGE with every error's place, a line in TOML, a path in JSON. What the rules' lines say is not looked at:
 * there may be tens of thousands, and whoever takes them reads them. `file` is what messages call the file.
 */
export function parseDesired(text: string, file: string): DesiredState {
  const document = documentIn(text, file);
  const { rule, ...others } = document.value as Readonly<Record<string, unknown>>;
  try {
    const { keeps } = checkConfig({ ...document, value: others }, file);
    return {
      rules: rule === undefined ? undefined : documentsOf(rule, file),
      keeps: 'keep' in others ? keeps : undefined,
    };
  } catch (error) {
    // All that is wrong is said at once.
    checkConfig(document, file);
    throw error;
  }
}

/** As parseDesired, with what the rules' lines say. */
export function checkDesired(text: string, file: string): void {
  checkConfig(documentIn(text, file), file);
}

function documentIn(text: string, file: string): Document {
  return text.trimStart().startsWith('{') ? jsonIn(text, file) : tablesIn(text, file);
}

function tablesIn(text: string, file: string): Document {
  const document = parseToml(text, file);
  refuseSettings(Object.keys(document.value as object), (key) => {
    const { line, column } = document.placeOf([key]);
    return `${file}:${line}:${column}`;
  });
  return document;
}

function jsonIn(text: string, file: string): Document {
  const value = jsonOf(text, file);
  refuseSettings(Object.keys(value), () => file);
  return { value };
}

function jsonOf(text: string, file: string): object {
  let value: unknown;
  try {
    value = JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch (cause) {
    const what = (cause as Error).message.slice(0, MAX_PROBLEM_LENGTH);
    throw new NatwardError('USAGE', `${file}: not JSON: ${what}`, { cause });
  }
  checkValue(value, '', 0, file);
  return value as object;
}

function checkValue(value: unknown, path: string, depth: number, file: string): void {
  if (value === null) throw usage(`${file}: ${path}: it is null: leave it out`);
  if (typeof value !== 'object') return;
  if (depth >= MAX_DEPTH) throw usage(`${file}: ${path}: it is more than ${MAX_DEPTH} levels deep`);
  for (const [key, inner] of Object.entries(value)) {
    const step = Array.isArray(value) ? `[${key}]` : `${path === '' ? '' : '.'}${key}`;
    checkValue(inner, path + step, depth + 1, file);
  }
}

/** What the agent is to do by itself is not what its user wants of it. */
function refuseSettings(keys: readonly string[], placeOf: (key: string) => string): void {
  const key = keys.find((one) => SETTINGS.has(one));
  if (key === undefined) return;
  throw new NatwardError('USAGE', `${placeOf(key)}: ${key} is a setting of the agent, and not of this file`, {
    advice: `It belongs in the agent's own configuration file: config.toml.`,
  });
}

function documentsOf(rule: unknown, file: string): readonly RuleDocument[] {
  const { success, output, issues } = v.safeParse(ruleDocumentsSchema, rule, { abortEarly: true });
  if (success) return output;
  throw usage(`${file}: rule: ${issues[0].message}`);
}

function usage(message: string): NatwardError {
  return new NatwardError('USAGE', message);
}
