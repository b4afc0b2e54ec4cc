/** The rules of another program's configuration, or of a file of natward's own, on their way into a table. */

import type { RuleDocument } from '../agent/rule-keeping.ts';
import { NatwardError } from '../errors.ts';
import { importRules } from '../forwarder/import/import.ts';
import { parseDesired } from './desired.ts';

export interface ImportedRules {
  readonly rules: readonly RuleDocument[];
  /** Of each rule: `rinetd.conf:12`. */
  readonly places: readonly string[];
  /** What was read and has no counterpart, or another meaning: the place, then a full sentence. */
  readonly notes: readonly string[];
}

/** JSON, a table's head, or a key that stands before any: other programs' files have none of them. */
const OWN = /^(?:\{.*|\[\[?[\w ."'-]+\]\]?(?:\s*#.*)?|(?:rule|keep|hook|onExit|checkInterval)\s*=.*)$/;

/** `file` is what messages call it. Throws USAGE with every error's place. */
export function importText(text: string, file: string): ImportedRules {
  return isOwn(text) ? importOwn(text, file) : importOther(text, file);
}

function isOwn(text: string): boolean {
  const lines = text.replace(/^\uFEFF/, '').matchAll(/^[^\S\n]*(\S.*)$/gm);
  for (const [, line = ''] of lines) if (!line.startsWith('#')) return OWN.test(line.trimEnd());
  return false;
}

function importOwn(text: string, file: string): ImportedRules {
  const { rules = [], keeps = [] } = parseDesired(text, file);
  const places = rules.map((_, at) => `${file}: rule[${at}]`);
  const notes = keeps.length === 0 ? [] : [`${file}: keep is left out: natward apply takes it`];
  return { rules, places, notes };
}

function importOther(text: string, file: string): ImportedRules {
  const { rules, notes } = importRules(text, file);
  return {
    rules: rules.map((one) => ({ rule: one.text })),
    places: rules.map(({ line }) => `${file}:${line}`),
    notes: notes.map(({ line, message }) => `${file}:${line}: ${message}`),
  };
}

/**
 * What a table says of these rules, put at its end after `before` others, with the place in the file: it names a rule
 * by its position (`rule 7: ...`) or by what it says.
 */
export function placed(error: NatwardError, { rules, places }: ImportedRules, before: number): NatwardError {
  const { code, message, advice } = error;
  const position = /^rule (\d+): /.exec(message);
  const at =
    position === null
      ? rules.findIndex(({ rule }) => message.startsWith(`${rule}: `))
      : Number(position[1]) - 1 - before;
  const place = places[at];
  if (place === undefined) return error;
  const reason = message.slice(position?.[0].length ?? 0);
  const details = { cause: error, ...(advice === undefined ? {} : { advice }) };
  return new NatwardError(code, `${place}: ${reason}`, details);
}
