/** A rule's line, word by word, and the description at its end. */

import { NatwardError } from '../errors.ts';

export const MAX_RULE_LENGTH = 8192;
const MAX_DESCRIPTION = 250;
export const ARROW = '->';

/** What stands in quotes at the end is the description. */
export class Words {
  readonly description: string;
  readonly #words: readonly string[];
  #at = 0;
  #within = '';

  constructor(text: string) {
    if (text.length > MAX_RULE_LENGTH) throw usage(`a rule has at most ${MAX_RULE_LENGTH} characters`);
    const { body, quoted } = inTwo(text.trim());
    if (body === '') throw usage('the rule is empty');
    this.#words = body.match(/->|(?:(?!->)\S)+/g) ?? [];
    this.description = quoted === undefined ? '' : parseDescription(quoted);
  }

  peek(): string | undefined {
    return this.#words[this.#at];
  }

  /** Throws USAGE where the line is over, or the arrow comes instead. */
  next(expected: string): string {
    const word = this.#words[this.#at];
    if (word === undefined || (word === ARROW && expected !== ARROW)) {
      throw usage(
        `${this.#within}${expected} is missing${word === undefined ? ' at the end' : ` before ${ARROW}`}`,
      );
    }
    this.#at++;
    return word;
  }

  /** What is missing in here is said of this clause. */
  within<T>(clause: string, read: () => T): T {
    this.#within = `${clause}: `;
    const value = read();
    this.#within = '';
    return value;
  }
}

function inTwo(text: string): { readonly body: string; readonly quoted: string | undefined } {
  if (!text.includes('"')) return { body: text, quoted: undefined };
  const [all, body = '', quoted] = /^([^"]*)("(?:[^"\\]|\\.)*")?$/su.exec(text) ?? [];
  if (all === undefined) throw usage('a quote in the rule is not closed, or not at its end');
  return { body, quoted };
}

function parseDescription(quoted: string): string {
  let description: unknown;
  try {
    description = JSON.parse(quoted);
  } catch {
    throw usage(
      `the description ${quoted} has an unknown escape: write \\" for a quote and \\\\ for a backslash`,
    );
  }
  return checkDescription(String(description));
}

/** Throws USAGE for what no description may be. */
export function checkDescription(description: string): string {
  if (description.length > MAX_DESCRIPTION) throw usage(`description: at most ${MAX_DESCRIPTION} characters`);
  // A text that turns the reading direction, or ends the line, is as bad as a control character.
  if (/[\p{Cc}\p{Cs}\p{Bidi_Control}\u2028\u2029]/u.test(description)) {
    throw usage('description: no control characters');
  }
  return description;
}

function usage(message: string): NatwardError {
  return new NatwardError('USAGE', message);
}
