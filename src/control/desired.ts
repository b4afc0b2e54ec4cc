/**
 * The desired state as a file: the `rule` and `keep` tables of the configuration file, as TOML or as JSON. What the file
 * does not speak of stays as it is, so an empty list and no list are two things.
 */

import { createReadStream } from 'node:fs';
import { checkConfig, type Config, type ConfiguredKeep } from '../agent/config.ts';
import type { RuleDocument } from '../agent/rule-keeping.ts';
import { parseToml } from '../agent/toml.ts';
import { isNatwardError, NatwardError } from '../errors.ts';
import type { WantedRule } from '../forwarder/table.ts';
import { formatRule } from '../forwarder/text.ts';

export interface DesiredState {
  /** All of the user's rules, from the top. Undefined: the file has no `rule`. */
  readonly rules: readonly RuleDocument[] | undefined;
  /** All that the user wants kept. Undefined: the file has no `keep`. */
  readonly keeps: readonly ConfiguredKeep[] | undefined;
}

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

/** Throws USAGE with every error's place: a line in TOML, a path in JSON. `file` is what messages call it. */
export function parseDesired(text: string, file: string): DesiredState {
  return text.trimStart().startsWith('{') ? parseJson(text, file) : parseTables(text, file);
}

function parseTables(text: string, file: string): DesiredState {
  const document = parseToml(text, file);
  const keys = Object.keys(document.value as object);
  refuseSettings(keys, (key) => {
    const { line, column } = document.placeOf([key]);
    return `${file}:${line}:${column}`;
  });
  return desiredOf(checkConfig(document, file), keys);
}

/** Checked by the schema of the configuration file. */
function parseJson(text: string, file: string): DesiredState {
  const value = jsonOf(text, file);
  const keys = Object.keys(value);
  refuseSettings(keys, () => file);
  return desiredOf(checkConfig({ value }, file), keys);
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

function desiredOf({ rules, keeps }: Config, keys: readonly string[]): DesiredState {
  return {
    rules: keys.includes('rule') ? rules.map(documentOf) : undefined,
    keeps: keys.includes('keep') ? keeps : undefined,
  };
}

function documentOf({ id, enabled, spec }: WantedRule): RuleDocument {
  return { id, rule: formatRule(spec), enabled };
}

function usage(message: string): NatwardError {
  return new NatwardError('USAGE', message);
}
