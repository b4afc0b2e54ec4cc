/** The clauses of a rule: the word that begins each, what it takes, how that is read and written. docs/rules.md lists them. */

import { NatwardError } from '../errors.ts';
import { parseAddress } from '../net/address.ts';
import { parseDuration } from '../net/duration.ts';
import { formatPortSet, type PortSet, parsePortSet } from '../net/port-set.ts';
import { type AccessList, formatAccessList, parseAccessList } from './access.ts';
import { formatAmount, parseAmount } from './amount.ts';
import type { Reflection, Source, Target } from './rule.ts';
import { formatSchedule, parseSchedule, type Schedule } from './schedule.ts';
import { formatSource, formatTarget, parseHostName, parseSource, parseTarget } from './target.ts';
import type { Words } from './words.ts';

/** Every clause by its word, with what it takes. */
export interface Clauses {
  from?: AccessList;
  port?: PortSet;
  on?: readonly string[];
  mac?: readonly string[];
  when?: Schedule;
  else?: readonly Target[];
  as?: Source;
  via?: string;
  'source-mac'?: string;
  'target-mac'?: string;
  reflect?: Reflection;
  clone?: Target;
  proxy?: 'v1' | 'v2';
  'accept-proxy'?: AccessList;
  allow?: AccessList;
  deny?: AccessList;
  hosts?: string;
  idle?: number;
  connect?: number;
  new?: number;
  open?: number;
  'per-client'?: number;
  rate?: number;
  quota?: number;
}
export type Word = keyof Clauses;

export interface Clause<T> {
  readonly side: 'selector' | 'action';
  /** The words of its value; the first one where nothing is said. */
  readonly take?: (words: Words) => string;
  parse(text: string): T;
  format(value: T): string;
}

const accessClause = (side: 'selector' | 'action'): Clause<AccessList> => ({
  side,
  take: takeList,
  parse: parseAccessList,
  format: formatAccessList,
});

const durationClause = (max: number): Clause<number> => ({
  side: 'action',
  parse: (text) => {
    const seconds = parseDuration(text);
    if (seconds === undefined || seconds < 1 || seconds > max) {
      throw usage(`"${text}" is no time from 1s to ${max}s: write 30s, 10m or 2h`);
    }
    return seconds;
  },
  format: (seconds) => `${seconds}s`,
});

const countClause = (suffix: string, max: number): Clause<number> => ({
  side: 'action',
  parse: (text) => {
    const digits = text.endsWith(suffix) ? text.slice(0, text.length - suffix.length) : text;
    const count = /^\d{1,9}$/.test(digits) ? Number(digits) : 0;
    if (count < 1 || count > max) throw usage(`"${text}" is no number from 1 to ${max}`);
    return count;
  },
  format: (count) => `${count}${suffix}`,
});

const amountClause = (suffix: string): Clause<number> => ({
  side: 'action',
  parse: (text) => parseAmount(text.endsWith(suffix) ? text.slice(0, text.length - suffix.length) : text),
  format: (bytes) => `${formatAmount(bytes)}${suffix}`,
});

function wordClause<const T extends string>(what: string, words: readonly T[]): Clause<T> {
  return {
    side: 'action',
    parse: (text) => {
      const word = words.find((one) => one === text.toLowerCase());
      if (word === undefined) throw usage(`"${text}" is no ${what}: write ${words.join(', ')}`);
      return word;
    },
    format: (word) => word,
  };
}

const macClause: Clause<string> = { side: 'action', parse: parseMac, format: (mac) => mac };
const adapterClause: Clause<string> = { side: 'action', parse: parseAdapter, format: (name) => name };

/** In the order in which they are written. */
export const CLAUSES: { readonly [W in Word]: Clause<Required<Clauses>[W]> } = {
  from: accessClause('selector'),
  port: { side: 'selector', parse: parsePortSet, format: formatPortSet },
  on: { side: 'selector', parse: listOf(parseAdapter), format: (names) => names.join(',') },
  mac: { side: 'selector', parse: listOf(parseMac), format: (macs) => macs.join(',') },
  when: { side: 'selector', take: takeSchedule, parse: parseSchedule, format: formatSchedule },
  else: {
    side: 'action',
    parse: listOf(parseTarget),
    format: (targets) => targets.map(formatTarget).join(','),
  },
  as: { side: 'action', parse: parseSource, format: formatSource },
  via: adapterClause,
  'source-mac': macClause,
  'target-mac': macClause,
  reflect: wordClause('reflection', ['plain', 'mirror', 'route']),
  clone: { side: 'action', parse: parseTarget, format: formatTarget },
  proxy: wordClause('version of the PROXY protocol', ['v1', 'v2']),
  'accept-proxy': accessClause('action'),
  allow: accessClause('action'),
  deny: accessClause('action'),
  hosts: { side: 'action', parse: parseDaemon, format: (name) => name },
  idle: durationClause(604_800),
  connect: durationClause(300),
  new: countClause('/s', 1_000_000),
  open: countClause('', 1_000_000),
  'per-client': countClause('', 1_000_000),
  rate: amountClause('/s'),
  quota: amountClause(''),
};
export const WORDS: readonly Word[] = Object.keys(CLAUSES) as Word[];

const KNOWN: ReadonlySet<string> = new Set(WORDS);

export function isWord(word: string): word is Word {
  return KNOWN.has(word);
}

export function takeOne(words: Words): string {
  return words.next('a value');
}

/** Items by commas, which may have blanks after them, and EXCEPT between lists. */
function takeList(words: Words): string {
  const list = [words.next('a list of addresses or names')];
  for (;;) {
    if (list.at(-1)?.endsWith(',')) list.push(words.next('an address or a name'));
    else if (words.peek()?.toUpperCase() === 'EXCEPT') list.push(words.next('EXCEPT'), words.next('a list'));
    else return list.join(' ');
  }
}

function takeSchedule(words: Words): string {
  const list = [words.next('days'), words.next('hours')];
  while (words.peek()?.toLowerCase() === 'and') {
    list.push(words.next('and'), words.next('days'), words.next('hours'));
  }
  return list.join(' ');
}

function listOf<T>(parse: (item: string) => T): (text: string) => readonly T[] {
  return (text) => text.split(',').map((item) => parse(item));
}

function parseMac(text: string): string {
  const mac = text.toLowerCase().replaceAll('-', ':');
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac)) {
    throw usage(`"${text}" is no MAC address: write aa:bb:cc:dd:ee:ff`);
  }
  return mac;
}

/** Linux takes up to 15 bytes without blanks and slashes; Windows and macOS are asked for the same. */
function parseAdapter(text: string): string {
  if (!/^[\w.@-]{1,32}$/.test(text) || /^\.{1,2}$/.test(text))
    throw usage(`"${text}" is no name of an interface`);
  return text;
}

function parseDaemon(text: string): string {
  if (parseHostName(text) === undefined || parseAddress(text) !== undefined) {
    throw usage(`"${text}" is no name of a daemon as /etc/hosts.allow has it`);
  }
  return text;
}

function usage(message: string): NatwardError {
  return new NatwardError('USAGE', message);
}
