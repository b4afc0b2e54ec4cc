/**
 * What is wrong with a table of rules as a whole, before an engine has it: rules that can never match, that listen
 * twice, that contradict each other, that send traffic in a circle, that take natward's own ports. Pure.
 */

import { family } from '../net/address.ts';
import { formatPortRange, type PortRange } from '../net/port-range.ts';
import { hasPort, type PortSet, portRanges } from '../net/port-set.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import { formatAccessList } from './access.ts';
import { Crowds } from './crowds.ts';
import { portsOf } from './decide.ts';
import { Loops, type Step } from './loop.ts';
import { type OwnHost, ownTargets, portMoves } from './own-target.ts';
import { networkKey } from './pattern.ts';
import type { AddressPattern, Rule } from './rule.ts';
import { type Placed, PortIndex } from './rule-index.ts';
import { formatSchedule } from './schedule.ts';
import { Shadows } from './shadow.ts';
import { MAX_RULES, type Table } from './table.ts';
import { formatRule } from './text.ts';

export interface Finding {
  readonly severity: 'error' | 'warning';
  readonly ruleId: string;
  /** From 1. */
  readonly position: number;
  /** The clause that it is about: `to` is where the traffic goes first, `target` what it becomes. */
  readonly field: string;
  readonly message: string;
  readonly advice?: string;
}

/** A port that natward itself has: "UDP 5350 is natward's own port: " and `what`. */
export interface OwnPort {
  readonly protocol: TransportProtocol;
  readonly port: number;
  readonly what: string;
}

export interface ValidationSurroundings extends OwnHost {
  readonly ownPorts: readonly OwnPort[];
}

/** The steps of a circle that its message names. */
const STEPS_NAMED = 4;
/** To look at all the ports that there are would take longer than to compare so many. */
const FEW = 1000;

/** In the order of the rules. Disabled rules are not looked at. */
export function validate(table: Table, around: ValidationSurroundings): readonly Finding[] {
  const surplus = table[MAX_RULES];
  if (surplus !== undefined) {
    const message = `there are ${table.length} rules: at most ${MAX_RULES} can be run`;
    return [found('error', { rule: surplus, position: MAX_RULES + 1 }, 'rules', message)];
  }
  return findingsOf(
    table.flatMap((rule, at) => (rule.enabled ? [{ rule, position: at + 1 }] : [])),
    around,
  );
}

/** What is wrong with these enabled rules, from the top: some of a table, or all of it. */
export function findingsOf(rules: readonly Placed[], around: ValidationSurroundings): readonly Finding[] {
  const findings: Finding[] = [];
  const ofOwnPorts: Finding[] = [];
  const incoming: Placed[] = [];
  const selectors = new Map<string | number, Placed>();
  const shadows = new Shadows(around);
  const crowds = rules.length < FEW ? undefined : new Crowds(rulesOf(rules));
  const circles = new Loops(around);
  let isProxied = false;
  // One walk: most of what many thousands of rules cost is to bring each into the processor's memory.
  for (const placed of rules) {
    const { rule } = placed;
    const isCrowded = crowds === undefined || crowds.has(rule);
    const by = isCrowded ? shadows.next(placed) : undefined;
    if (rule.direction !== 'in') {
      if (by !== undefined) findings.push(shadowed(placed, by));
      continue;
    }
    const key = isCrowded ? selectorKey(rule) : undefined;
    const same = key === undefined ? undefined : selectors.get(key);
    if (key !== undefined && same === undefined) selectors.set(key, placed);
    if (same !== undefined) findings.push(listensTwice(placed, same));
    else if (by !== undefined) findings.push(shadowed(placed, by));
    incoming.push(placed);
    circles.add(placed);
    if (rule.acceptProxy !== undefined) isProxied = true;
    for (const own of around.ownPorts) {
      if (rule.protocols.includes(own.protocol)) ofOwnPorts.push(...takesOwnPort(placed, own, around));
    }
  }
  if (isProxied) findings.push(...proxyConflicts(incoming, around));
  return [...findings, ...circles.found().map(circle), ...ofOwnPorts].sort((a, b) => a.position - b.position);
}

function* rulesOf(placed: readonly Placed[]): Iterable<Rule> {
  for (const { rule } of placed) yield rule;
}

function found(
  severity: Finding['severity'],
  { rule, position }: Placed,
  field: string,
  message: string,
  advice?: string,
): Finding {
  const finding = { severity, ruleId: rule.id, position, field, message };
  return advice === undefined ? finding : { ...finding, advice };
}

function shadowed(placed: Placed, by: Placed): Finding {
  return found(
    'warning',
    placed,
    'to',
    `rule ${placed.position} can never match: rule ${by.position} takes all of it`,
    `Move it above rule ${by.position}, or remove it.`,
  );
}

function listensTwice(placed: Placed, before: Placed): Finding {
  const both = `rule ${placed.position} and rule ${before.position}`;
  const message = `${both} listen for the same traffic (${formatSelector(placed.rule)})`;
  return found('error', placed, 'to', message, 'Remove one of them, or disable it.');
}

/** Equal where the selectors mean the same, in whatever order their lists are written. */
function selectorKey(rule: Rule): string | number {
  const { protocols, to, from, adapters, macs, schedule } = rule;
  const ranges = portsOf(rule);
  const isPlain = adapters.length + macs.length === 0 && (from.clients ?? schedule) === undefined;
  const range = ranges[0];
  // Nearly all rules are like that: one port, anybody, and one address at the most.
  if (isPlain && range !== undefined && ranges.length === 1 && isEveryPort(from.ports)) {
    const scope = protocols.length > 1 ? 2 : protocols[0] === 'tcp' ? 1 : 0;
    const place = (scope * 65_536 + range.first) * 65_536 + range.last;
    const [address, other] = to.addresses;
    if (address === undefined) return place;
    if (other === undefined && isOneAddress(address)) return `${place} ${address.address}`;
  }
  return JSON.stringify([
    sorted(protocols),
    rangesKey(ranges),
    to.addresses.map(patternKey).sort(),
    from.clients === undefined ? '' : formatAccessList(from.clients),
    rangesKey(portRanges(from.ports)),
    sorted(adapters),
    sorted(macs),
    schedule === undefined ? '' : formatSchedule(schedule),
  ]);
}

function sorted(words: readonly string[]): string {
  return words.length === 1 ? (words[0] as string) : [...words].sort().join();
}

function rangesKey(ranges: readonly PortRange[]): string {
  return ranges.map(formatPortRange).join();
}

function isEveryPort(ports: PortSet): boolean {
  const [range] = portRanges(ports);
  return range?.first === 1 && range.last === 65_535;
}

function isOneAddress(pattern: AddressPattern): pattern is Extract<AddressPattern, { kind: 'network' }> {
  return pattern.kind === 'network' && pattern.prefixLength === (family(pattern.address) === 4 ? 32 : 128);
}

function patternKey(pattern: AddressPattern): string {
  if (pattern.kind === 'name') return pattern.name;
  return networkKey(pattern.address, pattern.prefixLength);
}

function formatSelector(rule: Rule): string {
  const line = formatRule(rule);
  return line.slice(0, line.indexOf(' ->'));
}

/** Of each rule with the first above it: who listens must know whether a header comes before the first byte. */
function proxyConflicts(rules: readonly Placed[], around: OwnHost): Finding[] {
  const believed = new Map(
    rules.map((placed) => {
      const { acceptProxy } = placed.rule;
      return [placed, acceptProxy === undefined ? '' : formatAccessList(acceptProxy)] as const;
    }),
  );
  if (new Set(believed.values()).size < 2) return [];
  const conflicts = new Map<Placed, Placed>();
  for (const protocol of ['tcp', 'udp'] as const) {
    const carriers = rules.filter(({ rule }) => rule.protocols.includes(protocol));
    const index = new PortIndex<Placed>();
    for (const placed of carriers) {
      for (const range of portsOf(placed.rule)) index.add(range, placed);
    }
    // Of two ranges that overlap, one holds the first port of the other.
    for (const placed of carriers) {
      for (const { first } of portsOf(placed.rule)) {
        for (const other of index.at(first)) {
          if (
            believed.get(other) === believed.get(placed) ||
            !shareListener(placed.rule, other.rule, around)
          ) {
            continue;
          }
          const [above, below] = other.position < placed.position ? [other, placed] : [placed, other];
          const known = conflicts.get(below);
          if (known === undefined || above.position < known.position) conflicts.set(below, above);
        }
      }
    }
  }
  return [...conflicts].map(([below, above]) =>
    found(
      'error',
      below,
      'accept-proxy',
      `rule ${below.position} and rule ${above.position} share a listening port and differ in accept-proxy`,
      'Say the same accept-proxy in both, or give them different ports or addresses.',
    ),
  );
}

/** Whether one connection can come to both, as far as its address and its interface go. */
function shareListener(a: Rule, b: Rule, around: OwnHost): boolean {
  const apart =
    a.adapters.length > 0 && b.adapters.length > 0 && !a.adapters.some((one) => b.adapters.includes(one));
  if (apart) return false;
  if (a.to.addresses.length === 0 || b.to.addresses.length === 0) return true;
  const others = b.to.addresses.flatMap((one) => networksOf(one, around));
  return a.to.addresses
    .flatMap((one) => networksOf(one, around))
    .some((one) => others.some((other) => one.startsWith(other) || other.startsWith(one)));
}

/** As keys; of a name also the name, as nobody may know its addresses. */
function networksOf(pattern: AddressPattern, { addressesOf }: OwnHost): readonly string[] {
  if (pattern.kind === 'network') return [networkKey(pattern.address, pattern.prefixLength)];
  const addresses = addressesOf(pattern.name);
  return [`${pattern.name} `, ...addresses.map((one) => networkKey(one, family(one) === 4 ? 32 : 128))];
}

function circle(steps: readonly Step[]): Finding {
  const [{ placed, clause }] = steps as [Step];
  const advice = 'Send it to another host or port, or say the addresses that the rule listens on.';
  return found('error', placed, clause, formatLoop(steps), advice);
}

function formatLoop(steps: readonly Step[]): string {
  const [first] = steps as [Step];
  const sends = ({ placed, nextPort }: Step) => `rule ${placed.position} sends to ${nextPort}`;
  const named = steps.slice(1, STEPS_NAMED).map((step) => `, which ${sends(step)}`);
  const [start, port] = [`rule ${first.placed.position}`, `${first.protocol.toUpperCase()} ${first.port}`];
  const end =
    steps.length === 1
      ? ', where it takes it again'
      : steps.length > STEPS_NAMED
        ? `, and so on, until ${start} has it again`
        : '';
  return `loop: ${start} sends ${port} to ${first.nextPort} of this host${named.join('')}${end}`;
}

function takesOwnPort(
  placed: Placed,
  { protocol, port, what }: OwnPort,
  around: OwnHost,
): readonly Finding[] {
  const { rule } = placed;
  const ranges = portsOf(rule);
  const listens = hasPort(ranges, port);
  const field = listens ? 'to' : sentTo(port, rule, around);
  if (field === undefined) return [];
  const advice = listens ? `Leave it out: ~${port} among the ports.` : 'Send it to another port.';
  const message = `${protocol.toUpperCase()} ${port} is natward's own port: ${what}`;
  return [found('error', placed, field, message, advice)];
}

/** By which clause the rule sends to this port of this host. */
function sentTo(port: number, rule: Rule, around: OwnHost): string | undefined {
  const sends = ownTargets(rule, around).find((target) =>
    portMoves(target.port, portsOf(rule)).some(({ to }) => hasPort([to], port)),
  );
  return sends?.clause;
}
