/**
 * A rule as one line, both ways: `in tcp 2000-5000,~3000-3010 from 192.168.0.0/16 on eth0 -> 10.0.0.5:+0 idle 60s`.
 * Before the arrow stands which traffic, after it what it becomes. Each clause is a word and its value (clauses.ts); one
 * that is left out means "any" or "the usual".
 */

import { NatwardError } from '../errors.ts';
import { ANY_PORT, formatPortSet, isAnyPort, parsePortSet } from '../net/port-set.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import { CLAUSES, type Clause, type Clauses, isWord, takeOne, type Word, WORDS } from './clauses.ts';
import { formatPattern, parsePatterns } from './pattern.ts';
import { NO_ACCESS, NO_LIMITS, type Rule, type RuleSpec, type Target, type Verdict } from './rule.ts';
import { readOnce } from './read-once.ts';
import { formatTarget, parseTarget, splitEndpoint, targetTrouble } from './target.ts';
import { ARROW, checkDescription, MAX_RULE_LENGTH, Words } from './words.ts';

const MAX_TARGETS = 16;
/** No text grows by more when it is read and written again: `10.` becomes `10.0.0.0/8`. */
const MAX_GROWTH = 16;
const NONE: readonly never[] = [];
const ANYBODY: RuleSpec['from'] = { clients: undefined, ports: ANY_PORT };
const TCP: readonly TransportProtocol[] = ['tcp'];
const UDP: readonly TransportProtocol[] = ['udp'];
const BOTH: readonly TransportProtocol[] = ['tcp', 'udp'];
const VERDICTS: readonly Verdict[] = ['monitor', 'refuse', 'drop'];
/** What only leaves another way keeps its target. */
const WITHOUT_TARGET: ReadonlySet<Word> = new Set(['as', 'via', 'source-mac', 'target-mac', 'reflect']);

/** Thousands of rules may name the same. */
const TARGETS = readOnce(parseTarget);
const PATTERNS = readOnce(parsePatterns);

/**
 * `description` stands instead of the one at the line's end. Throws USAGE, names the clause and what is wrong with it.
 */
export function parseRule(text: string, description?: string): RuleSpec {
  const words = new Words(text);
  const direction = words.next('where the traffic comes from: in or out').toLowerCase();
  if (direction !== 'in' && direction !== 'out') {
    throw usage(`a rule begins with "in" or "out", not with "${direction}"`);
  }
  const protocols = parseProtocols(words.next('a protocol: tcp, udp or tcp+udp'));
  const to = isEndpoint(words)
    ? parseDestination(words.next('a port'))
    : { addresses: NONE, ports: ANY_PORT };
  const clauses: Clauses = {};
  while (words.peek() !== ARROW) readClause(words, 'selector', clauses);
  words.next(ARROW);
  const { verdict, target } = readVerdict(words);
  while (words.peek() !== undefined) readClause(words, 'action', clauses);
  const said = description === undefined ? words.description : checkDescription(description);
  const rule = ruleOf({ direction, protocols, to, verdict, target, description: said }, clauses);
  // What is read must be read again.
  const most = (text.length + said.length) * MAX_GROWTH;
  if (most <= MAX_RULE_LENGTH || written(rule).length <= MAX_RULE_LENGTH) return rule;
  throw usage(`a rule has at most ${MAX_RULE_LENGTH} characters, with its addresses written out`);
}

export function formatRule(rule: RuleSpec): string {
  return rule instanceof IdentifiedRule ? rule.written() : written(rule);
}

/** The rule that says this, by this id. */
export function identify(spec: RuleSpec, id: string, enabled: boolean): Rule {
  return new IdentifiedRule(spec, id, enabled);
}

/** A rule is a value, and written once; a copy that is changed is another one, and no instance of this. */
class IdentifiedRule implements Rule {
  declare readonly id: string;
  declare readonly enabled: boolean;
  declare readonly direction: RuleSpec['direction'];
  declare readonly protocols: RuleSpec['protocols'];
  declare readonly to: RuleSpec['to'];
  declare readonly from: RuleSpec['from'];
  declare readonly adapters: RuleSpec['adapters'];
  declare readonly macs: RuleSpec['macs'];
  declare readonly schedule: RuleSpec['schedule'];
  declare readonly verdict: RuleSpec['verdict'];
  declare readonly targets: RuleSpec['targets'];
  declare readonly source: RuleSpec['source'];
  declare readonly via: RuleSpec['via'];
  declare readonly reflection: RuleSpec['reflection'];
  declare readonly clone: RuleSpec['clone'];
  declare readonly proxy: RuleSpec['proxy'];
  declare readonly acceptProxy: RuleSpec['acceptProxy'];
  declare readonly access: RuleSpec['access'];
  declare readonly limits: RuleSpec['limits'];
  declare readonly idleSeconds: RuleSpec['idleSeconds'];
  declare readonly connectSeconds: RuleSpec['connectSeconds'];
  declare readonly description: RuleSpec['description'];
  #text: string | undefined;

  /** Field by field: there may be tens of thousands, and any other way is slower. */
  constructor(spec: RuleSpec, id: string, enabled: boolean) {
    this.id = id;
    this.enabled = enabled;
    this.direction = spec.direction;
    this.protocols = spec.protocols;
    this.to = spec.to;
    this.from = spec.from;
    this.adapters = spec.adapters;
    this.macs = spec.macs;
    this.schedule = spec.schedule;
    this.verdict = spec.verdict;
    this.targets = spec.targets;
    this.source = spec.source;
    this.via = spec.via;
    this.reflection = spec.reflection;
    this.clone = spec.clone;
    this.proxy = spec.proxy;
    this.acceptProxy = spec.acceptProxy;
    this.access = spec.access;
    this.limits = spec.limits;
    this.idleSeconds = spec.idleSeconds;
    this.connectSeconds = spec.connectSeconds;
    this.description = spec.description;
    if (spec instanceof IdentifiedRule) this.#text = spec.#text;
  }

  written(): string {
    return (this.#text ??= written(this));
  }
}

const SELECTORS = WORDS.filter((word) => CLAUSES[word].side === 'selector');
const ACTIONS = WORDS.filter((word) => CLAUSES[word].side === 'action');

function written(rule: RuleSpec): string {
  const [target] = rule.targets;
  const verdict =
    rule.verdict !== 'forward' ? [rule.verdict] : target === undefined ? [] : [formatFirst(target)];
  return [
    rule.direction,
    rule.protocols.join('+'),
    ...formatDestination(rule),
    ...formatClauses(SELECTORS, rule),
    ARROW,
    ...verdict,
    ...formatClauses(ACTIONS, rule),
    ...(rule.description === '' ? [] : [JSON.stringify(rule.description)]),
  ].join(' ');
}

/** A host by the name of a clause or a verdict keeps its colon, and so is read as a host. */
function formatFirst(target: Target): string {
  const text = formatTarget(target);
  return isActionWord(text) || VERDICTS.some((one) => one === text) ? `${text}:` : text;
}

function formatClauses(words: readonly Word[], rule: RuleSpec): readonly string[] {
  const texts: string[] = [];
  for (const word of words) {
    const value = SAID[word](rule);
    const clause: Clause<unknown> = CLAUSES[word];
    if (value !== undefined) texts.push(word, clause.format(value));
  }
  return texts;
}

interface Head {
  readonly direction: RuleSpec['direction'];
  readonly protocols: readonly TransportProtocol[];
  readonly to: RuleSpec['to'];
  readonly verdict: Verdict;
  readonly target: Target | undefined;
  readonly description: string;
}

function ruleOf(head: Head, clauses: Clauses): RuleSpec {
  const { target } = head;
  const { via, 'source-mac': sourceMac, 'target-mac': targetMac } = clauses;
  if (via === undefined && (sourceMac ?? targetMac) !== undefined) {
    throw usage('source-mac and target-mac need "via INTERFACE"');
  }
  const first = target === undefined ? NONE : [target];
  const targets = clauses.else === undefined ? first : [...first, ...clauses.else];
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
  for (const one of targets) refuseTrouble(head, one);
  if (clauses.clone !== undefined) refuseTrouble(head, clauses.clone);
  const { allow, deny, hosts, new: newPerSecond, open, rate, quota, 'per-client': openPerClient } = clauses;
  const isAnybody = clauses.from === undefined && clauses.port === undefined;
  const isOpen = (allow ?? deny ?? hosts) === undefined;
  const isUnlimited = (newPerSecond ?? open ?? openPerClient ?? rate ?? quota) === undefined;
  // There are tens of thousands of rules that say none of it: what is alike is one object.
  return {
    direction: head.direction,
    protocols: head.protocols,
    to: head.to,
    from: isAnybody ? ANYBODY : { clients: clauses.from, ports: clauses.port ?? ANY_PORT },
    adapters: clauses.on ?? NONE,
    macs: clauses.mac ?? NONE,
    schedule: clauses.when,
    verdict: head.verdict,
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
    access: isOpen ? NO_ACCESS : { allow, deny, hosts },
    limits: isUnlimited
      ? NO_LIMITS
      : { newPerSecond, open, openPerClient, bytesPerSecond: rate, quotaBytes: quota },
    idleSeconds: clauses.idle,
    connectSeconds: clauses.connect,
    description: head.description,
  };
}

function refuseTrouble(head: Head, target: Target): void {
  const trouble = targetTrouble(head, target);
  if (trouble !== undefined) throw usage(`${formatTarget(target)}: ${trouble}`);
}

/** What a rule says by each word; undefined: nothing. */
const SAID: { readonly [W in Word]: (rule: RuleSpec) => Clauses[W] | undefined } = {
  from: ({ from }) => from.clients,
  port: ({ from }) => (isAnyPort(from.ports) ? undefined : from.ports),
  on: ({ adapters }) => some(adapters),
  mac: ({ macs }) => some(macs),
  when: ({ schedule }) => schedule,
  else: ({ targets }) => (targets.length < 2 ? undefined : targets.slice(1)),
  as: ({ source }) => source,
  via: ({ via }) => via?.adapter,
  'source-mac': ({ via }) => via?.sourceMac,
  'target-mac': ({ via }) => via?.targetMac,
  reflect: ({ reflection }) => reflection,
  clone: ({ clone }) => clone,
  proxy: ({ proxy }) => proxy,
  'accept-proxy': ({ acceptProxy }) => acceptProxy,
  allow: ({ access }) => access.allow,
  deny: ({ access }) => access.deny,
  hosts: ({ access }) => access.hosts,
  idle: ({ idleSeconds }) => idleSeconds,
  connect: ({ connectSeconds }) => connectSeconds,
  new: ({ limits }) => limits.newPerSecond,
  open: ({ limits }) => limits.open,
  'per-client': ({ limits }) => limits.openPerClient,
  rate: ({ limits }) => limits.bytesPerSecond,
  quota: ({ limits }) => limits.quotaBytes,
};

function some<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length === 0 ? undefined : list;
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
  return { verdict: 'forward', target: TARGETS(word) };
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
    (clauses as Record<Word, unknown>)[word] = clause.parse(text);
  } catch (error) {
    if (!(error instanceof NatwardError)) throw error;
    throw usage(`${word}: ${error.message}`);
  }
}

function isActionWord(word: string): word is Word {
  return isWord(word) && CLAUSES[word].side === 'action';
}

function parseProtocols(text: string): readonly TransportProtocol[] {
  switch (text.toLowerCase()) {
    case 'tcp':
      return TCP;
    case 'udp':
      return UDP;
    case 'tcp+udp':
    case 'udp+tcp':
    case 'both':
      return BOTH;
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
  if (/^[\d~,*-]+$/.test(text)) return { addresses: NONE, ports: parsePortSet(text) };
  const { host, port } = splitEndpoint(text);
  return {
    addresses: host === '' || host === '*' ? NONE : PATTERNS(host),
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

function usage(message: string): NatwardError {
  return new NatwardError('USAGE', message);
}
