/** Commands as a shell's user writes them, cut into words: quotes, backslashes, comments, lines that go on. */

import { type Findings, quoted, usage } from './findings.ts';

export interface Word {
  readonly text: string;
  readonly line: number;
}

const TOKEN =
  /\\\r?\n|[ \t]+|\r?\n|#[^\n]*|&&|\|\||[;&|]|'[^']*'|"(?:\\[^]|[^"\\])*"|\\[^]|[^\s'"\\;&|]+|[^]/g;
const IN_DOUBLE_QUOTES = /\\(\r?\n|["\\$`])/g;

/** What a shell would put something else in place of is an error of its line. */
export function commandsOf(text: string, findings: Findings): readonly (readonly Word[])[] {
  const commands: Word[][] = [];
  let words: Word[] = [];
  /** The word being read, of pieces with and without quotes. */
  let word: Word | undefined;
  let line = 1;
  const end = () => {
    if (word !== undefined) words.push(word);
    word = undefined;
  };
  for (const [token] of text.matchAll(TOKEN)) {
    if (/^\\\r?\n$/.test(token)) {
      // The word goes on in the next line.
    } else if (/^[ \t]+$/.test(token)) end();
    else if (token.startsWith('#') && word === undefined) end();
    else if (/^(\r?\n|&&|\|\||[;&|])$/.test(token)) {
      end();
      if (words.length > 0) commands.push(words);
      words = [];
    } else {
      const at = line;
      const piece = findings.attempt(at, () => unquoted(token)) ?? '';
      word = { text: (word?.text ?? '') + piece, line: word?.line ?? at };
    }
    line += token.split('\n').length - 1;
  }
  end();
  return words.length > 0 ? [...commands, words] : commands;
}

function unquoted(token: string): string {
  if (token.startsWith("'") && token.length > 1) return token.slice(1, -1);
  const isQuoted = token.startsWith('"') && token.length > 1;
  const isEscaped = token.startsWith('\\') && token.length > 1;
  if (/^['"\\]$/.test(token)) throw usage(`${token} has no end here; close it, or leave it out`);
  if (isEscaped) return token.slice(1);
  const replaced = (isQuoted ? /[$`]/ : /[$`<>()]/).exec(token.replace(/\\[^]/g, ''))?.[0];
  // A lone one is a prompt, copied along.
  if (replaced !== undefined && token !== '$') {
    throw usage(
      `${quoted(token)} has a ${replaced}, which only a shell can follow; write out what it stands for`,
    );
  }
  return isQuoted
    ? token.slice(1, -1).replace(IN_DOUBLE_QUOTES, (_, one: string) => (/\n/.test(one) ? '' : one))
    : token;
}
