/**
 * What the kernel does with the conversations of one rule, as entries by the rule's mark: once, for the first packet
 * (who may pass, where it goes, from whom it comes), and for every packet of it (its way, copies, limits of bytes). Pure.
 */

import { type Family, family, parseAddress } from '../../net/address.ts';
import type { TransportProtocol } from '../../net/protocol.ts';
import type { Rule } from '../rule.ts';
import { OTHER_BITS } from './marks.ts';
import { type Around, keepsPort, portPairs, type Rewrite, type Way, wayKey } from './rewrite.ts';
import { refusedBy } from './selector.ts';
import { address, interfaceName, markLiteral } from './syntax.ts';
import { Entries, type Entry, FAMILY_WORDS, NFPROTO } from './table-builder.ts';

export interface ActionInput {
  /** The same value as long as nothing in it changes: what was worked out with it is kept. */
  readonly around: Around;
  /** Of each way its number, by wayKey. */
  readonly ways: ReadonlyMap<string, { readonly way: Way; readonly number: number }>;
  /** Bytes of the quota of a rule that are used up already, by mark. */
  readonly used: ReadonlyMap<number, number>;
}

const FAMILIES: readonly Family[] = [4, 6];
const NOTHING: readonly Entry[] = [];
/** RFC 9293, section 3.3.2: one side has finished. The relay waits as long. */
const HALF_CLOSED_SECONDS = 600;
/** Of a rate, beside a second's worth, which the kernel always lets pass at once: packets that it has put together fit. */
const BURST_BYTES = 65_536;
/** Clients that are counted for one rule at once. */
const MAX_CLIENTS = 65_535;

/** For the first packet of a conversation of the rule. */
export function begin(rule: Rule, mark: number, rewrite: Rewrite): readonly Entry[] {
  const entries = new Entries();
  const key = markLiteral(mark);
  admit(entries, rule, mark, key);
  if (rule.verdict === 'forward') {
    aim(entries, rule, key, rewrite);
    disguise(entries, key, rewrite);
  }
  return entries.all;
}

/** Reports whether its targets see this host, at any port of it: most rules to other hosts share that. */
export function isFromHost({ verdict }: Rule, { source, sourcePort }: Rewrite): boolean {
  return verdict === 'forward' && source.kind === 'host' && sourcePort === undefined;
}

/** For every packet of a conversation of the rule. */
export function go(rule: Rule, mark: number, { way }: Rewrite, input: ActionInput): readonly Entry[] {
  if (!isAttended(rule, way)) return NOTHING;
  const entries = new Entries();
  const key = markLiteral(mark);
  const number = way === undefined ? undefined : input.ways.get(wayKey(way))?.number;
  if (number !== undefined) entries.element('map ways', key, ` : goto way_${number}`);
  meter(entries, rule, mark, key, input.used.get(mark) ?? 0);
  if (rule.clone !== undefined) copy(entries, rule, mark, key, input);
  if (rule.reflection === 'plain' && rule.direction === 'in') sendBack(entries, rule, mark, key);
  return entries.all;
}

/** Reports whether the kernel does something with every packet of the rule, beside what it does with all. */
export function isAttended({ limits, clone, reflection }: Rule, way: Way | undefined): boolean {
  const { bytesPerSecond, quotaBytes } = limits;
  return [way, bytesPerSecond, quotaBytes, clone, reflection].some((one) => one !== undefined);
}

function sendBack(entries: Entries, { adapters: [adapter] }: Rule, mark: number, key: string): void {
  if (adapter === undefined) return;
  for (const of of FAMILIES) {
    const [words, chain] = [FAMILY_WORDS[of], `back_${mark}`];
    entries.chain(chain, [`dup to ${words} saddr device ${interfaceName(adapter)}`, 'drop'], words);
    entries.element('map copies', key, ` : goto ${chain}`, words);
  }
}

/** Who may pass. */
function admit(entries: Entries, rule: Rule, mark: number, key: string): void {
  if (rule.verdict === 'refuse') return entries.element('map gates', key, ' : goto refused_rule');
  if (rule.verdict === 'drop') return entries.element('map gates', key, ' : goto dropped');
  const lines = [...gateLines(entries, rule, mark), ...idleLines(entries, rule)];
  if (lines.length === 0) return;
  entries.chain(`gate_${mark}`, [...lines, 'goto begun']);
  entries.element('map gates', key, ` : goto gate_${mark}`);
}

function gateLines(entries: Entries, { access, limits }: Rule, mark: number): readonly string[] {
  const { newPerSecond, open, openPerClient, quotaBytes } = limits;
  const lines =
    access.allow === undefined && access.deny === undefined
      ? []
      : refusedBy(access).map(({ family: of, condition }) => {
          const asked = condition === '' && of !== undefined ? NFPROTO[of] : condition;
          return `${asked} goto refused_access`.trim();
        });
  if (quotaBytes !== undefined) lines.push(`quota name "quota_${mark}" goto refused_quota`);
  if (open !== undefined) lines.push(`ct count over ${open} goto refused_open`);
  if (openPerClient !== undefined) {
    for (const of of FAMILIES) {
      const [set, words] = [`clients${of}_${mark}`, FAMILY_WORDS[of]];
      const head = `type ${of === 4 ? 'ipv4_addr' : 'ipv6_addr'}; size ${MAX_CLIENTS}; flags dynamic;`;
      entries.set(`set ${set}`, { head, elements: new Map() });
      lines.push(`add @${set} { ${words} saddr ct count over ${openPerClient} } goto refused_client`);
      // As many clients as can be counted have come: who is not among them is not let past the limit.
      lines.push(`${words} saddr != @${set} goto refused_client`);
    }
  }
  if (newPerSecond !== undefined) {
    lines.push(`limit rate over ${newPerSecond}/second burst ${newPerSecond} packets goto refused_new`);
  }
  return lines;
}

function idleLines(entries: Entries, { idleSeconds, protocols }: Rule): readonly string[] {
  return idleSeconds === undefined ? [] : protocols.flatMap((one) => idle(entries, one, idleSeconds));
}

/** Lines that let a conversation end after so long without a packet, with what they refer to. */
export function idle(entries: Entries, protocol: TransportProtocol, seconds: number): readonly string[] {
  const half = Math.min(seconds, HALF_CLOSED_SECONDS);
  const policy =
    protocol === 'tcp'
      ? `established : ${seconds}, fin_wait : ${half}, close_wait : ${half}`
      : `unreplied : ${seconds}, replied : ${seconds}`;
  return FAMILIES.map((of) => {
    const name = `idle_${protocol}${of}_${seconds}`;
    entries.object(
      `ct timeout ${name}`,
      `protocol ${protocol}; l3proto ${FAMILY_WORDS[of]}; policy = { ${policy} };`,
    );
    return `${NFPROTO[of]} meta l4proto ${protocol} ct timeout set "${name}"`;
  });
}

/** Where it goes. */
function aim(entries: Entries, rule: Rule, key: string, { destination, port }: Rewrite): void {
  const one = port.kind === 'one' ? port.port : undefined;
  switch (destination.kind) {
    case 'sender':
      if (one === undefined) entries.element('set turned', key);
      else entries.element('map turned_port', key, ` : ${one}`);
      return;
    case 'kept':
      if (keepsPort(port)) return;
      if (one !== undefined) entries.element('map port', key, ` : ${one}`);
      else
        for (const [from, to] of portPairs(rule, port))
          entries.element('map moved', `${key} . ${from}`, ` : ${to}`);
      return;
    case 'address':
      for (const of of FAMILIES) {
        const value = destination.addresses[of];
        if (value === undefined) continue;
        const host = address(value);
        if (keepsPort(port)) entries.element(`map host${of}`, key, ` : ${host}`);
        else if (one !== undefined) entries.element(`map to${of}`, key, ` : ${host} . ${one}`);
        else {
          for (const [from, to] of portPairs(rule, port)) {
            entries.element(`map moved${of}`, `${key} . ${from}`, ` : ${host} . ${to}`);
          }
        }
      }
  }
}

/** From whom it comes, as its target sees it. */
function disguise(entries: Entries, key: string, { source, sourcePort }: Rewrite): void {
  switch (source.kind) {
    case 'kept':
      if (sourcePort !== undefined) entries.element('map from_port', key, ` : ${sourcePort}`);
      return;
    case 'host':
      if (sourcePort !== undefined) entries.element('map from_host_port', key, ` : ${sourcePort}`);
      return;
    case 'destination':
      entries.element('set from_destination', key);
      return;
    case 'address': {
      const of = family(source.address);
      const host = address(source.address);
      if (sourcePort === undefined) entries.element(`map from${of}`, key, ` : ${host}`);
      else entries.element(`map from${of}_port`, key, ` : ${host} . ${sourcePort}`);
    }
  }
}

/** Bytes: so many in a second, so many in all. */
function meter(entries: Entries, { limits }: Rule, mark: number, key: string, used: number): void {
  const { bytesPerSecond, quotaBytes } = limits;
  const lines: string[] = [];
  if (quotaBytes !== undefined) {
    entries.object(`quota quota_${mark}`, `over ${quotaBytes} bytes used ${used} bytes`);
    lines.push(`quota name "quota_${mark}" drop`);
  }
  if (bytesPerSecond !== undefined) {
    lines.push(`limit rate over ${bytesPerSecond} bytes/second burst ${BURST_BYTES} bytes drop`);
  }
  if (lines.length === 0) return;
  entries.chain(`police_${mark}`, lines);
  entries.element('map police', key, ` : goto police_${mark}`);
}

/**
 * A copy of what the client sends. As it is, for one who listens on the wire; where a port is said it is sent to that
 * host and port, which takes a datagram. The copy goes through the output hook, untracked, and is told by its mark.
 */
function copy(entries: Entries, { clone }: Rule, mark: number, key: string, { around }: ActionInput): void {
  const { host = '', port } = clone ?? {};
  const literal = parseAddress(host);
  const addresses = literal === undefined ? around.addressesOf(host) : [literal];
  for (const of of FAMILIES) {
    const to = addresses.find((one) => family(one) === of);
    if (to === undefined) continue;
    const words = FAMILY_WORDS[of];
    const send = `dup to ${address(to)}`;
    entries.element('map copies', key, ` : goto copy_${mark}`, words);
    if (port?.kind !== 'one') {
      entries.chain(`copy_${mark}`, [send], words);
      continue;
    }
    const others = `meta mark & ${OTHER_BITS}`;
    const marked = `meta mark set ${others} | ${key} ${send} meta mark set ${others}`;
    entries.chain(`copy_${mark}`, [marked], words);
    const sent = `${words} daddr set ${address(to)} udp dport set ${port.port} meta mark set ${others} accept`;
    entries.chain(`copied_${mark}`, [sent], words);
    entries.element('map copied', key, ` : goto copied_${mark}`, words);
  }
}
