/** The rules of another program's configuration, or of a file of natward's own, on their way into a table. */

import type { EditOptions, EditReport, RuleDocument, RuleKeeping } from '../agent/rule-keeping.ts';
import { isNatwardError, NatwardError } from '../errors.ts';
import { importRules } from '../forwarder/import/import.ts';
import { checkDesired, parseDesired } from './desired.ts';

export interface ImportedRules {
  readonly rules: readonly RuleDocument[];
  /** Of each rule: `rinetd.conf:12`. */
  readonly places: readonly string[];
  /** What was read and has no counterpart, or another meaning: the place, then a full sentence. */
  readonly notes: readonly string[];
}

/** What a table says of a rule that it does not take. */
const OF_A_RULE = ['USAGE', 'CONFLICT', 'UNSUPPORTED'] as const;
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
  checkDesired(text, file);
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

/** Adds all of them at the table's end, or none. Throws what the table says, with the place of the rule at fault. */
export async function addImported(
  steering: Pick<RuleKeeping, 'edit'>,
  imported: ImportedRules,
  options: EditOptions,
): Promise<EditReport> {
  try {
    return await steering.edit({ kind: 'add', rules: imported.rules }, options);
  } catch (error) {
    if (!isNatwardError(error, ...OF_A_RULE)) throw error;
    throw (await placed(imported, steering)) ?? error;
  }
}

/**
 * The rule at fault is the last of the fewest, from the top, that the table does not take. Undefined where it would
 * take them all: what only the doing shows has no place.
 */
async function placed(
  { rules, places }: ImportedRules,
  steering: Pick<RuleKeeping, 'edit'>,
): Promise<NatwardError | undefined> {
  const refusalOf = async (count: number): Promise<NatwardError | undefined> => {
    try {
      const edit = { kind: 'add', rules: rules.slice(0, count) } as const;
      await steering.edit(edit, { conversations: 'drain', dryRun: true });
      return undefined;
    } catch (error) {
      if (!isNatwardError(error, ...OF_A_RULE)) throw error;
      return error;
    }
  };
  let [taken, refused] = [0, rules.length];
  let refusal = await refusalOf(refused);
  while (refusal !== undefined && refused - taken > 1) {
    const middle = (taken + refused) >>> 1;
    const why = await refusalOf(middle);
    if (why === undefined) taken = middle;
    else [refused, refusal] = [middle, why];
  }
  if (refusal === undefined) return undefined;
  const { code, message, advice } = refusal;
  const details = { cause: refusal, ...(advice === undefined ? {} : { advice }) };
  return new NatwardError(code, `${places[refused - 1]}: ${message}`, details);
}
