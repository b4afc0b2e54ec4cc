/**
 * `/etc/hosts.allow` and `/etc/hosts.deny` (hosts_access(5), with the options of hosts_options(5)), read from
 * their text under one daemon's name: which rules are its own, and what they decide about a client.
 *
 * Rules of other daemons are passed over, whatever they say of clients. A rule of this daemon that cannot be
 * taken at its word is an error and never left out: without it, somebody would be let in or kept out whom the
 * file does not mean. Options that only change how a daemon runs are left out, and noted. Two things are
 * read as they are meant where libwrap (7.6) drops the rule: a last line without its end, and `0.0.0.0/0`.
 */

import { NatwardError } from '../errors.ts';
import { type AccessList, parseAccessList } from './access.ts';

export type HostsFile = 'hosts.allow' | 'hosts.deny';

export interface HostsRule {
  readonly verdict: 'allow' | 'deny';
  readonly clients: AccessList;
  /** Where it stands, with the line from 1 on; undefined for what is decided where no rule is. */
  readonly origin: { readonly file: HostsFile; readonly line: number } | undefined;
  /** Options that were left out, a sentence each. */
  readonly notes: readonly string[];
}

interface Line {
  readonly number: number;
  readonly text: string;
}

const DEFAULT_VERDICT: Readonly<Record<HostsFile, HostsRule['verdict']>> = {
  'hosts.allow': 'allow',
  'hosts.deny': 'deny',
};
const MAX_LENGTH = 1_000_000;

/** They change nothing of who is let in, and natward has no process, no log line and no user for them to change. */
const LEFT_OUT = new Set([
  'banners',
  'group',
  'keepalive',
  'linger',
  'nice',
  'rfc931',
  'setenv',
  'severity',
  'spawn',
  'umask',
  'user',
]);

/**
 * What both files say, in the order in which it counts: the first rule that has the client decides. The last
 * has everybody and allows, as hosts_access(5) does. A file that is not there is an empty text. Throws USAGE.
 */
export function decideHostsAccess(allowText: string, denyText: string, daemon: string): readonly HostsRule[] {
  return [
    ...parseHostsAccess(allowText, daemon, 'hosts.allow'),
    ...parseHostsAccess(denyText, daemon, 'hosts.deny'),
    { verdict: 'allow', clients: parseAccessList('ALL'), origin: undefined, notes: [] },
  ];
}

/** The rules for `daemon` in one file. Throws USAGE with the file, the line and the reason. */
export function parseHostsAccess(text: string, daemon: string, file: HostsFile): readonly HostsRule[] {
  if (text.length > MAX_LENGTH) throw new NatwardError('USAGE', `${file} is longer than a megabyte`);
  return linesOf(text).flatMap((line): HostsRule[] => {
    try {
      return parseLine(line, daemon, file);
    } catch (cause) {
      if (!(cause instanceof NatwardError)) throw cause;
      throw new NatwardError('USAGE', `${file} line ${line.number}: ${cause.message}`, { cause });
    }
  });
}

/** A backslash at its end joins a line to the next, before anything else is looked at. */
function linesOf(text: string): Line[] {
  const lines: Line[] = [];
  let number = 1;
  for (const [raw] of text.matchAll(/(?:\\\n|[^\n])+|\n/g)) {
    const line = raw.replaceAll('\\\n', '');
    // Only a `#` in the first column makes a comment.
    if (!line.startsWith('#') && line.trim() !== '') lines.push({ number, text: line });
    number += raw.split('\n').length - 1;
  }
  return lines;
}

function parseLine({ number, text }: Line, daemon: string, file: HostsFile): HostsRule[] {
  // A colon within brackets is part of an IPv6 address.
  const colons = [...text.matchAll(/\[[^\]]*\]|:/g)].filter(([found]) => found === ':');
  const [first, second] = colons.map(({ index }) => index);
  if (first === undefined) throw usage('there is no ":" between daemons and clients');
  if (!listsDaemon(text.slice(0, first), daemon)) return [];
  const clients = parseClients(text.slice(first + 1, second), { cut: second !== undefined });
  const options = second === undefined ? [] : optionsOf(text.slice(second + 1));
  return [{ ...parseOptions(options, DEFAULT_VERDICT[file]), clients, origin: { file, line: number } }];
}

/** As with clients: `a EXCEPT b EXCEPT c` is `a EXCEPT (b EXCEPT c)`. */
function listsDaemon(text: string, daemon: string): boolean {
  const words = text.split(/[\s,]+/).filter((word) => word !== '');
  const lists: string[][] = [[]];
  for (const word of words) {
    if (/^EXCEPT$/i.test(word)) lists.push([]);
    else lists.at(-1)?.push(word);
  }
  const without = lists.findIndex((list) => !list.some((word) => isDaemon(word, daemon)));
  return (without < 0 ? lists.length : without) % 2 === 1;
}

function isDaemon(word: string, daemon: string): boolean {
  const [process = '', host] = word.split('@', 2);
  if (!/^[\w+-][\w.+-]*$/.test(process) || /^(KNOWN|UNKNOWN)$/i.test(process)) {
    throw usage(`"${shortened(word)}" is no name of a daemon`);
  }
  const isMeant = /^ALL$/i.test(process) || process.toLowerCase() === daemon.toLowerCase();
  if (isMeant && host !== undefined) {
    throw usage(
      `"${shortened(word)}" is about the address that was called; natward reads rules by daemon alone`,
    );
  }
  return isMeant;
}

function parseClients(text: string, { cut }: { cut: boolean }): AccessList {
  try {
    return parseAccessList(text);
  } catch (cause) {
    // The bare `2001:db8::1` ends at its first colon.
    const isGroup = cut && /^\s*[\da-f]{0,4}\s*$/i.test(text) && cause instanceof NatwardError;
    throw isGroup ? usage(`${cause.message} (an IPv6 address stands in brackets here)`) : cause;
  }
}

/** What colons part, but for those after a backslash. */
function optionsOf(text: string): string[] {
  return [...text.matchAll(/(?:^|:)((?:\\:|[^:])*)/g)].map(([, option = '']) =>
    option.replaceAll('\\:', ':').trim(),
  );
}

/** hosts_options(5): in order, `allow` and `deny` at the end. */
function parseOptions(
  options: readonly string[],
  verdict: HostsRule['verdict'],
): Pick<HostsRule, 'verdict' | 'notes'> {
  const notes: string[] = [];
  for (const [at, option] of options.entries()) {
    const [, keyword = '', value = ''] = /^([^\s=]*)\s*=?\s*(.*)$/s.exec(option) ?? [];
    const word = keyword.toLowerCase();
    if (word === 'allow' || word === 'deny') {
      if (value !== '') throw usage(`the option "${word}" takes no value`);
      if (at < options.length - 1) throw usage(`the option "${word}" must be the last`);
      return { verdict: word, notes };
    }
    if (word === 'twist') {
      // The client would get this program and not the daemon. libwrap denies it to a daemon that stays.
      notes.push('the option "twist" runs no program here: the client is refused');
      return { verdict: 'deny', notes };
    }
    if (word === 'aclexec') throw usage('the option "aclexec" asks a program; natward runs none');
    if (!LEFT_OUT.has(word))
      throw usage(`"${shortened(option)}" is no option; natward runs no shell commands`);
    notes.push(`the option "${word}" is left out`);
  }
  return { verdict, notes };
}

function shortened(word: string): string {
  return word.length > 80 ? `${word.slice(0, 80)}...` : word;
}

function usage(what: string): NatwardError {
  return new NatwardError('USAGE', what);
}
