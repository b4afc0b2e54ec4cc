/**
 * A rule as one line, both ways: `in tcp 2000-5000,~3000-3010 from 192.168.0.0/16 on eth0 -> 10.0.0.5:+0 idle 60s`.
 * Before the arrow stands which traffic, after it what it becomes. Each clause is a word and its value; a clause
 * that is left out means "any" or "the usual". docs/rules.md lists them all.
 */

import { NatwardError } from '../errors.ts';
import { parseAddress } from '../net/address.ts';
import { parseDuration } from '../net/duration.ts';
import { ANY_PORT, formatPortSet, isAnyPort, type PortSet, parsePortSet } from '../net/port-set.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import { type AccessList, formatAccessList, parseAccessList } from './access.ts';
import { formatAmount, parseAmount } from './amount.ts';
import { formatPattern, parsePatterns } from './pattern.ts';
import type { Reflection, RuleSpec, Source, Target, Verdict } from './rule.ts';
import { formatSchedule, parseSchedule, type Schedule } from './schedule.ts';
import {
  formatSource,
  formatTarget,
  parseHostName,
  parseSource,
  parseTarget,
  splitEndpoint,
  targetTrouble,
} from './target.ts';

const MAX_LENGTH = 8192;
const MAX_TARGETS = 16;
const MAX_DESCRIPTION = 250;
const ARROW = '->';

/** Every clause by its word, with what it takes. */
interface Clauses {
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
type Word = keyof Clauses;

interface Clause<T> {
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
const CLAUSES: { readonly [W in Word]: Clause<Required<Clauses>[W]> } = {
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
const VERDICTS: readonly Verdict[] = ['monitor', 'refuse', 'drop'];
const WORDS = Object.keys(CLAUSES) as Word[];
/** What only leaves another way keeps its target. */
const WITHOUT_TARGET: ReadonlySet<Word> = new Set(['as', 'via', 'source-mac', 'target-mac', 'reflect']);

/** Throws USAGE, names the clause and what is wrong with it. */
export function parseRule(text: string): RuleSpec {
  const words = new Words(text);
  const direction = words.next('where the traffic comes from: in or out').toLowerCase();
  if (direction !== 'in' && direction !== 'out') {
    throw usage(`a rule begins with "in" or "out", not with "${direction}"`);
  }
  const protocols = parseProtocols(words.next('a protocol: tcp, udp or tcp+udp'));
  const to = isEndpoint(words) ? parseDestination(words.next('a port')) : { addresses: [], ports: ANY_PORT };
  const clauses: Clauses = {};
  while (words.peek() !== ARROW) readClause(words, 'selector', clauses);
  words.next(ARROW);
  const { verdict, target } = readVerdict(words);
  while (words.peek() !== undefined) readClause(words, 'action', clauses);
  const { description } = words;
  const rule = ruleOf({ direction, protocols, to, verdict, target, description }, clauses);
  // `10.` is written `10.0.0.0/8`: what is read must be read again.
  if (formatRule(rule).length <= MAX_LENGTH) return rule;
  throw usage(`a rule has at most ${MAX_LENGTH} characters, with its addresses written out`);
}

export function formatRule(rule: RuleSpec): string {
  const clauses = clausesOf(rule);
  const written = (side: 'selector' | 'action') =>
    WORDS.filter((word) => CLAUSES[word].side === side).flatMap((word) => formatClause(word, clauses));
  const [target] = rule.targets;
  const verdict =
    rule.verdict !== 'forward' ? [rule.verdict] : target === undefined ? [] : [formatFirst(target)];
  return [
    rule.direction,
    rule.protocols.join('+'),
    ...formatDestination(rule),
    ...written('selector'),
    ARROW,
    ...verdict,
    ...written('action'),
    ...(rule.description === '' ? [] : [JSON.stringify(rule.description)]),
  ].join(' ');
}

/** A host by the name of a clause or a verdict keeps its colon, and so is read as a host. */
function formatFirst(target: Target): string {
  const text = formatTarget(target);
  return isActionWord(text) || VERDICTS.some((one) => one === text) ? `${text}:` : text;
}

function formatClause(word: Word, clauses: Clauses): string[] {
  const value = clauses[word];
  const clause: Clause<unknown> = CLAUSES[word];
  return value === undefined ? [] : [word, clause.format(value)];
}

interface Head {
  readonly direction: RuleSpec['direction'];
  readonly protocols: readonly TransportProtocol[];
  readonly to: RuleSpec['to'];
  readonly verdict: Verdict;
  readonly target: Target | undefined;
  readonly description: string;
}

function ruleOf({ target, ...head }: Head, clauses: Clauses): RuleSpec {
  const { via, 'source-mac': sourceMac, 'target-mac': targetMac } = clauses;
  if (via === undefined && (sourceMac ?? targetMac) !== undefined) {
    throw usage('source-mac and target-mac need "via INTERFACE"');
  }
  const targets = [...(target === undefined ? [] : [target]), ...(clauses.else ?? [])];
  if (targets.length > MAX_TARGETS) throw usage(`else: more than ${MAX_TARGETS} targets`);
  if (head.verdict !== 'forward') {
    const wrong = (['else', 'as', 'via', 'reflect', 'proxy'] as const).find(
      (word) => clauses[word] !== undefined,
    );
    if (wrong !== undefined) throw usage(`${wrong}: ${head.verdict} sends the traffic nowhere else`);
    if (head.verdict !== 'monitor' && clauses.clone !== undefined) {
      throw usage(`clone: ${head.verdict} leaves nothing to copy`);
    }
  } else if (target === undefined && clauses.else !== undefined) {
    throw usage('else: there is no target before it');
  }
  for (const one of [...targets, ...(clauses.clone === undefined ? [] : [clauses.clone])]) {
    const trouble = targetTrouble(head, one);
    if (trouble !== undefined) throw usage(`${formatTarget(one)}: ${trouble}`);
  }
  return {
    ...head,
    from: { clients: clauses.from, ports: clauses.port ?? ANY_PORT },
    adapters: clauses.on ?? [],
    macs: clauses.mac ?? [],
    schedule: clauses.when,
    targets,
    source: clauses.as,
    via:
      via === undefined
        ? undefined
        : {
            adapter: via,
            ...(sourceMac === undefined ? {} : { sourceMac }),
            ...(targetMac === undefined ? {} : { targetMac }),
          },
    reflection: clauses.reflect,
    clone: clauses.clone,
    proxy: clauses.proxy,
    acceptProxy: clauses['accept-proxy'],
    access: { allow: clauses.allow, deny: clauses.deny, hosts: clauses.hosts },
    limits: {
      newPerSecond: clauses.new,
      open: clauses.open,
      openPerClient: clauses['per-client'],
      bytesPerSecond: clauses.rate,
      quotaBytes: clauses.quota,
    },
    idleSeconds: clauses.idle,
    connectSeconds: clauses.connect,
  };
}

function clausesOf(rule: RuleSpec): Clauses {
  const { from, via, access, limits } = rule;
  const some = <T>(list: readonly T[]) => (list.length === 0 ? undefined : list);
  const all: { [W in Word]: Clauses[W] | undefined } = {
    from: from.clients,
    port: isAnyPort(from.ports) ? undefined : from.ports,
    on: some(rule.adapters),
    mac: some(rule.macs),
    when: rule.schedule,
    else: some(rule.targets.slice(1)),
    as: rule.source,
    via: via?.adapter,
    'source-mac': via?.sourceMac,
    'target-mac': via?.targetMac,
    reflect: rule.reflection,
    clone: rule.clone,
    proxy: rule.proxy,
    'accept-proxy': rule.acceptProxy,
    allow: access.allow,
    deny: access.deny,
    hosts: access.hosts,
    idle: rule.idleSeconds,
    connect: rule.connectSeconds,
    new: limits.newPerSecond,
    open: limits.open,
    'per-client': limits.openPerClient,
    rate: limits.bytesPerSecond,
    quota: limits.quotaBytes,
  };
  return all as Clauses;
}

function readVerdict(words: Words): { readonly verdict: Verdict; readonly target: Target | undefined } {
  const word = words.peek();
  if (word === undefined)
    throw usage(
      `nothing is said after ${ARROW}: a target such as :8080 or 10.0.0.5:80, or ${VERDICTS.join(', ')}`,
    );
  const verdict = VERDICTS.find((one) => one === word.toLowerCase());
  const clause = word.toLowerCase();
  if (verdict === undefined && isActionWord(clause)) {
    if (!WITHOUT_TARGET.has(clause)) throw usage(`${clause}: there is no target before it`);
    return { verdict: 'forward', target: undefined };
  }
  words.next(ARROW);
  if (verdict !== undefined) return { verdict, target: undefined };
  return { verdict: 'forward', target: parseTarget(word) };
}

function readClause(words: Words, side: 'selector' | 'action', clauses: Clauses): void {
  const word = words.next(side === 'selector' ? `"${ARROW}"` : 'a clause').toLowerCase();
  if (!isWord(word)) {
    const known = WORDS.filter((one) => CLAUSES[one].side === side).join(', ');
    throw usage(`"${word}" is not known ${side === 'selector' ? 'before' : 'after'} ${ARROW}: ${known}`);
  }
  if (CLAUSES[word].side !== side) {
    throw usage(`"${word}" stands ${side === 'selector' ? 'after' : 'before'} ${ARROW}`);
  }
  if (clauses[word] !== undefined) throw usage(`"${word}" is said twice`);
  readValue(words, word, clauses);
}

function readValue(words: Words, word: Word, clauses: Clauses): void {
  const clause: Clause<unknown> = CLAUSES[word];
  const { take = takeOne } = clause;
  const text = words.within(word, () => take(words));
  try {
    Object.assign(clauses, { [word]: clause.parse(text) });
  } catch (error) {
    if (!(error instanceof NatwardError)) throw error;
    throw usage(`${word}: ${error.message}`);
  }
}

function isWord(word: string): word is Word {
  return Object.hasOwn(CLAUSES, word);
}

function isActionWord(word: string): word is Word {
  return isWord(word) && CLAUSES[word].side === 'action';
}

function takeOne(words: Words): string {
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

function parseProtocols(text: string): readonly TransportProtocol[] {
  switch (text.toLowerCase()) {
    case 'tcp':
      return ['tcp'];
    case 'udp':
      return ['udp'];
    case 'tcp+udp':
    case 'udp+tcp':
    case 'both':
      return ['tcp', 'udp'];
    default:
      throw usage(`"${text}" is no protocol: write tcp, udp or tcp+udp`);
  }
}

function isEndpoint(words: Words): boolean {
  const word = words.peek();
  return word !== undefined && word !== ARROW && !isWord(word.toLowerCase());
}

/** `80`, `ADDRESSES:80`, `:80`, `ADDRESSES`. */
function parseDestination(text: string): RuleSpec['to'] {
  if (/^[\d~,*-]+$/.test(text)) return { addresses: [], ports: parsePortSet(text) };
  const { host, port } = splitEndpoint(text);
  return {
    addresses: host === '' || host === '*' ? [] : parsePatterns(host),
    ports: port === undefined ? ANY_PORT : parsePortSet(port),
  };
}

function formatDestination({ direction, to: { addresses, ports } }: RuleSpec): string[] {
  const any = isAnyPort(ports);
  if (addresses.length === 0) {
    if (any) return [];
    return [direction === 'in' ? formatPortSet(ports) : `:${formatPortSet(ports)}`];
  }
  const hosts = addresses.map(formatPattern).join(',');
  return [`${hosts}:${formatPortSet(ports)}`];
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

/** The line, word by word; what stands in quotes at its end is the description. */
class Words {
  readonly description: string;
  readonly #words: readonly string[];
  #at = 0;
  #within = '';

  constructor(text: string) {
    if (text.length > MAX_LENGTH) throw usage(`a rule has at most ${MAX_LENGTH} characters`);
    const [all, body = '', quoted] = /^([^"]*)("(?:[^"\\]|\\.)*")?$/su.exec(text.trim()) ?? [];
    if (all === undefined) throw usage('a quote in the rule is not closed, or not at its end');
    if (body === '') throw usage('the rule is empty');
    this.#words = body
      .replaceAll(ARROW, ` ${ARROW} `)
      .split(/\s+/)
      .filter((word) => word !== '');
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
