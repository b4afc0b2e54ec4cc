/**
 * A table of rules as an nftables ruleset. The first packet of a conversation is classified: it finds its rule
 * (dispatch.ts), passes its limits, and leaves the rule's mark in the upper half of the connection mark. All that is
 * done afterwards is looked up by that mark (action.ts). Pure: values in, a value out; change.ts makes text of it.
 */

import { type Family, isLoopback } from '../../net/address.ts';
import type { TransportProtocol } from '../../net/protocol.ts';
import { needsNames } from '../access.ts';
import type { Direction } from '../rule.ts';
import { type ActionInput, begin, go, idle, isFromHost } from './action.ts';
import type { Ruleset } from './change.ts';
import { type Candidate, dispatchOf } from './dispatch.ts';
import type { Feature } from './features.ts';
import { writtenIds } from './id-record.ts';
import type { KernelRule, Part } from './kernel-rule.ts';
import type { MarkedRule } from './mark-book.ts';
import { MarkRanges } from './mark-ranges.ts';
import { OTHER_BITS, OWN_BITS } from './marks.ts';
import { type Around, type ByFamily, type Rewrite, rewriteOf } from './rewrite.ts';
import { type Match, matchesOf } from './selector.ts';
import { interfaceName, macAddress, markLiteral, oneOf } from './syntax.ts';
import {
  Entries,
  FAMILY_WORDS,
  NFPROTO,
  RulesetBuilder,
  type SetName,
  type TableBuilder,
} from './table-builder.ts';

const TABLE = 'natward';
/** The one with the sets. */
export const MAIN_TABLE: string = `inet ${TABLE}`;
/** All that the kernel may have of natward's. */
export const TABLES: readonly string[] = ['inet', 'ip', 'ip6', 'netdev'].map(
  (family) => `${family} ${TABLE}`,
);

export interface RulesetInput extends ActionInput {
  /** Those that are enabled, and whose time it is, in their order. */
  readonly rules: readonly KernelRule[];
  /** Changed or removed while conversations run under them: what each of their packets needs stays. */
  readonly retired: readonly MarkedRule[];
  /** natward made these adapters forward what comes in: nothing else is to pass because of it. */
  readonly guardedForwarding: ByFamily<readonly string[]>;
  /** natward opened the loopback addresses to what is sent on: nothing else is to reach them from outside. */
  readonly guardsLoopback: boolean;
  /** Others mark connections, too. */
  readonly keepsMarks: boolean;
  /** What this kernel does not have: no rule needs it. */
  readonly missing: ReadonlySet<Feature>;
  /** What of the machine was changed, `NAME=WHAT IT WAS`: the kernel remembers it as long as the change lasts. */
  readonly records: readonly string[];
}

/** What the set of tallies counts beside the mark: conversations that have begun, and those that were refused, by reason. */
export const BEGUN = 1;
export const REFUSALS = {
  rule: { tally: 2, reason: 'its rule refuses' },
  access: { tally: 3, reason: 'it is not among those who may' },
  new: { tally: 4, reason: 'more begin in a second than may' },
  open: { tally: 5, reason: 'as many are open as may be' },
  client: { tally: 6, reason: 'as many of this client are open as may be' },
  quota: { tally: 7, reason: 'the quota is used up' },
} as const;

/** RFC 5382, section 5, and RFC 4787, section 4.3: how long the relay waits, too. */
const IDLE_SECONDS: Readonly<Record<TransportProtocol, number>> = { tcp: 7440, udp: 120 };
const MARK = `ct mark & ${OWN_BITS}`;
const COUNTED = 'size 131072; flags dynamic; counter;';
const NO_ELEMENTS: ReadonlyMap<string, string> = new Map();
const FAMILIES: readonly Family[] = [4, 6];
const LOOPBACK = { 4: 'ip daddr 127.0.0.0/8', 6: 'ip6 daddr ::1' } as const;

export function rulesetOf(input: RulesetInput): Ruleset {
  const ruleset = new RulesetBuilder(TABLE);
  const main = ruleset.table('inet');
  const parts = input.rules.map((one) => partOf(one, input));
  remember(main, input);
  const first = classify(main, input, parts);
  for (const { entries } of parts) ruleset.take(entries);
  masquerade(ruleset, input, parts);
  for (const one of input.retired) {
    ruleset.take(go(one.rule, one.mark, rewriteOf(one.rule, input.around), input));
  }
  admit(ruleset, input.missing);
  // Ways and copies are looked up before addresses are translated.
  if (main.has('map ways') || FAMILIES.some((of) => ruleset.has(FAMILY_WORDS[of]))) {
    main.base('classify_in', 'type filter hook prerouting priority -106', first.inbound);
    main.base('classify_out', 'type filter hook output priority -106', first.outbound);
  }
  translate(main, first);
  lead(ruleset, input);
  copy(ruleset);
  count(main);
  guard(main, input);
  return ruleset.value();
}

function partOf(one: KernelRule, input: RulesetInput): Part {
  // These depend on more: the number of a way, what of a quota is used.
  return one.isAttended
    ? workOut(one, rewriteOf(one.rule, input.around), input)
    : one.partIn(input.around, (rewrite) => workOut(one, rewrite, input));
}

function workOut(one: KernelRule, rewrite: Rewrite, input: RulesetInput): Part {
  const { rule, mark } = one;
  const elsewhere = rule.direction === 'in' ? 'fib daddr type local' : 'fib daddr type != local';
  const candidates = asked(one, rewrite.families, elsewhere, input.around);
  const { direction } = rule;
  if (mark === undefined) return { direction, candidates, isFromHost: false, entries: [] };
  const first = begin(rule, mark, rewrite);
  const each = go(rule, mark, rewrite, input);
  return {
    direction,
    candidates,
    isFromHost: isFromHost(rule, rewrite),
    // What is kept of tens of thousands of rules are copies: a list that has grown keeps room for more.
    entries: each.length === 0 ? first.slice() : [...first, ...each],
  };
}

/** As sysctl-record.ts keeps them. */
const RECORD = /^[\w.@-]{1,100}=[\w-]{1,16}>[\w-]{1,16}$/;

/** No packet looks here: which rule has which mark, and what the machine was like, for whoever comes after a crash. */
function remember(main: TableBuilder, { rules, records }: RulesetInput): void {
  main.set('set ids', { head: 'type mark', elements: writtenIds(rules) });
  const kept = records.map((record, at) => {
    if (!RECORD.test(record)) throw new Error(`no record that nft may be given: ${JSON.stringify(record)}`);
    return [String(at + 1), ` comment "${record}"`] as const;
  });
  main.set('set records', { head: 'type mark', elements: new Map(kept) });
}

/** What the hooks ask of what comes in, and of what this host sends. */
interface Classification {
  readonly inbound: readonly string[];
  readonly outbound: readonly string[];
}

/** The first packet of a conversation finds its rule. */
function classify(main: TableBuilder, input: RulesetInput, parts: readonly Part[]): Classification {
  const roots = new Set<string>();
  const all: Readonly<Record<Direction, Candidate[]>> = { in: [], out: [] };
  for (const { candidates, direction } of parts) for (const one of candidates) all[direction].push(one);
  for (const [root, candidates] of [
    ['out', all.out],
    ['in', all.in],
    ['loopback', loopbackCandidates(input)],
  ] as const) {
    const { chains, sets } = dispatchOf(root, candidates, input.keepsMarks);
    for (const [name, set] of sets) main.set(name, set);
    for (const [name, { lines }] of chains) main.chain(name, lines);
    if (chains.has(root)) roots.add(root);
  }
  // The first packet alone: of another one the kernel has decided where it goes, if nobody has answered yet.
  const isNew = `ct state new ct status & confirmed == 0 ${MARK} == 0`;
  const inbound = roots.has('in') ? [`${isNew} iifname != "lo" jump in`] : [];
  const outbound = roots.has('out') ? [`${isNew} jump out`] : [];
  if (roots.has('in') || roots.has('loopback')) {
    // What this host sends to itself comes in as well.
    outbound.push(`${isNew} fib daddr type local jump own`);
    const loopback = roots.has('loopback')
      ? FAMILIES.map((one) => `${LOOPBACK[one]} goto loopback`)
      : FAMILIES.map((one) => `${LOOPBACK[one]} return`);
    main.chain('own', [...loopback, ...(roots.has('in') ? ['goto in'] : [])]);
  }
  return { inbound, outbound };
}

/** It has its rule, and may pass or not. */
function admit(ruleset: RulesetBuilder, missing: ReadonlySet<Feature>): void {
  const main = ruleset.table('inet');
  const timeouts = new Entries();
  const protocols = missing.has('timeouts') ? [] : (['tcp', 'udp'] as const);
  const idles = protocols.flatMap((one) => idle(timeouts, one, IDLE_SECONDS[one]));
  ruleset.take(timeouts.all);
  const gates = main.has('map gates') ? [`${MARK} vmap @gates`] : [];
  main.chain('decided', [...idles, ...gates, 'goto begun']);
  main.set('set tallies', { head: `type mark . inet_service; ${COUNTED}`, elements: NO_ELEMENTS });
  main.chain('begun', [tallied(BEGUN)]);
  for (const [word, { tally }] of missing.has('rejects') ? [] : Object.entries(REFUSALS)) {
    main.chain(`refused_${word}`, [tallied(tally), 'meta l4proto tcp reject with tcp reset', 'reject']);
  }
  main.chain('dropped', [tallied(REFUSALS.rule.tally), 'drop']);
}

/** A line of its own: where the set is full it goes no further, and what follows is done all the same. */
function tallied(tally: number): string {
  return `update @tallies { ${MARK} . ${tally} counter }`;
}

/** A rule without an address takes nothing that is sent to a loopback address; the relay listens there. */
function loopbackCandidates(input: RulesetInput): readonly Candidate[] {
  const isFor = ({ rule, mark }: KernelRule) =>
    rule.direction === 'in' &&
    (rule.to.addresses.length === 0
      ? mark === undefined
      : rule.to.addresses.some((one) => one.kind === 'network' && isLoopback(one.address)));
  const rules = input.rules.filter(isFor);
  if (rules.every(({ mark }) => mark === undefined)) return [];
  const { around } = input;
  return rules.flatMap((one) => asked(one, rewriteOf(one.rule, around).families, '', around));
}

/** What the rule does not carry of what it takes, since its target is of another family, is left as it is. */
function asked(
  one: KernelRule,
  carriable: readonly Family[],
  elsewhere: string,
  around: Around,
): readonly Candidate[] {
  const { rule, mark } = one;
  const carried = mark === undefined || rule.verdict !== 'forward' ? FAMILIES : carriable;
  const { clients } = rule.from;
  // The relay knows the names of clients; all that stands beneath such a rule, for the same ports, is the relay's, too.
  const isNamed = clients !== undefined && needsNames(clients);
  const known = isNamed ? { ...rule, from: { ...rule.from, clients: undefined } } : rule;
  const matches = matchesOf(known, around);
  const told = carried.length === FAMILIES.length ? matches : matches.flatMap(ofOneFamily);
  return told.map(({ protocol, family, ports, conditions, destination, isOwnDestination }) => ({
    protocol,
    family,
    ports,
    conditions,
    address: destination,
    destination: isOwnDestination ? elsewhere : '',
    mark: family === undefined || carried.includes(family) ? mark : undefined,
    elements: undefined,
  }));
}

function ofOneFamily(match: Match): Match | readonly Match[] {
  return match.family === undefined ? FAMILIES.map((family) => ({ ...match, family })) : match;
}

/** In the order in which they are asked; an address with a port has to be told that there are ports. */
const TO_TARGET: readonly (readonly [SetName, string])[] = [
  ...FAMILIES.flatMap((of): (readonly [SetName, string])[] => {
    const words = FAMILY_WORDS[of];
    return [
      [`map to${of}`, `meta l4proto { tcp, udp } dnat ${words} to ${MARK} map @to${of}`],
      [`map host${of}`, `dnat ${words} to ${MARK} map @host${of}`],
      [`map moved${of}`, `meta l4proto { tcp, udp } dnat ${words} to ${MARK} . th dport map @moved${of}`],
      [
        'map turned_port',
        `meta l4proto { tcp, udp } dnat ${words} to ${words} saddr : ${MARK} map @turned_port`,
      ],
      ['set turned', `${MARK} @turned dnat ${words} to ${words} saddr`],
    ];
  }),
  ['map port', `meta l4proto { tcp, udp } dnat to : ${MARK} map @port`],
  ['map moved', `meta l4proto { tcp, udp } dnat to : ${MARK} . th dport map @moved`],
];

const TO_SOURCE: readonly (readonly [SetName, string])[] = FAMILIES.flatMap((of) => {
  const words = FAMILY_WORDS[of];
  return [
    [`map from${of}`, `snat ${words} to ${MARK} map @from${of}`],
    [`map from${of}_port`, `meta l4proto { tcp, udp } snat ${words} to ${MARK} map @from${of}_port`],
    ['set from_destination', `${MARK} @from_destination snat ${words} to ct original ${words} daddr`],
  ] as const;
});
/** Of what leaves by an interface. */
const TO_HOST: readonly (readonly [SetName, string])[] = [
  ['set from_host', `${MARK} @from_host masquerade`],
  ['map from_host_port', `meta l4proto { tcp, udp } masquerade to : ${MARK} map @from_host_port`],
];
const TO_SOURCE_PORT: readonly [SetName, string] = [
  'map from_port',
  `meta l4proto { tcp, udp } snat to : ${MARK} map @from_port`,
];

/**
 * The chains of nat stay as long as the table: without a chain of theirs, the kernel forgets what it translates. They
 * see the first packet alone: those that follow are not asked for their rule. One that has been classified before, or
 * would have been before the table was changed, goes its way all the same.
 */
function translate(main: TableBuilder, { inbound, outbound }: Classification): void {
  const there = (lines: readonly (readonly [SetName, string])[]) =>
    lines.flatMap(([set, line]) => (main.has(set) ? [line] : []));
  main.chain('to_target', there(TO_TARGET));
  const onward = `${MARK} != 0 jump to_target`;
  main.base('nat_in', 'type nat hook prerouting priority -105', [...inbound, onward]);
  main.base('nat_out', 'type nat hook output priority -105', [...outbound, onward]);
  const sources = there([...TO_SOURCE, TO_SOURCE_PORT]);
  main.base('nat_post', 'type nat hook postrouting priority 95', [...sources, ...there(TO_HOST)]);
  main.base('nat_input', 'type nat hook input priority 95', sources);
}

/** Of retired rules as well: a conversation may bring about another, which has its mark. */
function masquerade(ruleset: RulesetBuilder, input: RulesetInput, parts: readonly Part[]): void {
  const { rules, retired, around } = input;
  const fromHost = new MarkRanges();
  for (let at = 0; at < rules.length; at++) {
    const mark = rules[at]?.mark;
    if (mark !== undefined) fromHost.put(mark, parts[at]?.isFromHost === true);
  }
  for (const { rule, mark } of retired) fromHost.put(mark, isFromHost(rule, rewriteOf(rule, around)));
  const entries = new Entries();
  for (const range of fromHost.elements) entries.element('set from_host', range);
  ruleset.take(entries.all);
}

/** What takes a way of its own bears the way's number as its firewall mark, which a rule of `ip rule` asks for. */
function lead(ruleset: RulesetBuilder, { ways }: RulesetInput): void {
  const main = ruleset.table('inet');
  if (!main.has('map ways')) return;
  for (const { way, number } of ways.values()) {
    const key = markLiteral(number);
    main.chain(`way_${number}`, [`meta mark set meta mark & ${OTHER_BITS} | ${key}`]);
    if (way.sourceMac === undefined) continue;
    const device = interfaceName(way.adapter);
    ruleset
      .table('netdev')
      .base(
        `leave_${number}_${way.adapter.replaceAll(/\W/g, '_')}`,
        `type filter hook egress device ${device} priority 0`,
        [`meta mark & ${OWN_BITS} == ${key} ether saddr set ${macAddress(way.sourceMac)}`],
      );
  }
  const line = `ct direction original ${MARK} vmap @ways`;
  main.base('ways_in', 'type filter hook prerouting priority -103', [line]);
  main.base('ways_out', 'type route hook output priority -103', [line]);
}

function copy(ruleset: RulesetBuilder): void {
  for (const of of FAMILIES) {
    const words = FAMILY_WORDS[of];
    if (!ruleset.has(words)) continue;
    const table = ruleset.table(words);
    const line = `ct direction original ${MARK} vmap @copies`;
    table.base('copies_in', 'type filter hook prerouting priority -104', [line]);
    table.base('copies_out', 'type filter hook output priority -104', [
      ...(table.has('map copied') ? [`ct state untracked meta mark & ${OWN_BITS} vmap @copied`] : []),
      line,
    ]);
  }
}

function count(main: TableBuilder): void {
  main.set('set counts', { head: `type mark . ct_dir; ${COUNTED}`, elements: NO_ELEMENTS });
  const [ours, counted] = [`${MARK} != 0`, `update @counts { ${MARK} . ct direction counter }`];
  // What this host sends to itself has been counted when it left.
  main.base('count_in', 'type filter hook input priority 300', [`${ours} iifname != "lo" ${counted}`]);
  main.base('count_out', 'type filter hook postrouting priority 300', [`${ours} ${counted}`]);
  if (!main.has('map police')) return;
  // What tells of an end passes: resets, and errors (ICMP), for those who may not where a quota is used up.
  const ends = ['tcp flags rst accept', 'ct state related accept'];
  const police = `${MARK} vmap @police`;
  main.base('police_in', 'type filter hook input priority 299', [...ends, `iifname != "lo" ${police}`]);
  main.base('police_out', 'type filter hook postrouting priority 299', [...ends, police]);
}

/** What leads IPv6 elsewhere than its sender knows. */
const TRANSLATED6: readonly SetName[] = ['map to6', 'map host6', 'map moved6', 'map ways'];

function guard(main: TableBuilder, { guardedForwarding, guardsLoopback }: RulesetInput): void {
  const guards = FAMILIES.flatMap((of) => {
    const adapters = guardedForwarding[of] ?? [];
    const from = adapters.length === 0 ? '' : oneOf(adapters.map(interfaceName));
    return from === '' ? [] : [`${MARK} == 0 ${NFPROTO[of]} iifname ${from} drop`];
  });
  if (guards.length > 0) main.base('guard_forwarding', 'type filter hook forward priority 0', guards);
  // Two hosts on one cable would go on without what stands between them. Of IPv4 the kernel does not tell them.
  if (TRANSLATED6.some((set) => main.has(set))) {
    main.base('guard_redirects', 'type filter hook output priority 0', ['icmpv6 type nd-redirect drop']);
  }
  if (guardsLoopback) {
    main.base('guard_loopback', 'type filter hook prerouting priority -310', [
      'ip daddr 127.0.0.0/8 iifname != "lo" drop',
      'ip saddr 127.0.0.0/8 iifname != "lo" drop',
    ]);
  }
}
