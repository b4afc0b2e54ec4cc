/**
 * Rules of iptables-nft. Some of their matches and targets are nft's own, the others are iptables' ("xt"), of which
 * nft's JSON has the name alone. The plain listing has more: nft prints what iptables translates. That translation
 * loses words (`! --dst-type`, `! --ctstate DNAT`), so only forms that were seen to be right are taken. Pure.
 *
 * What the older iptables-legacy has set is in no listing of nft's, and nothing here can see it.
 */

import { type Answer, meets, type Question } from './foreign-match.ts';
import type { Json } from './foreign-ruleset.ts';

/** What a target does with a packet. */
export type TargetVerdict = 'drop' | 'accept' | 'queue' | 'mark' | 'continue' | 'unknown';

/** Of packets of other protocols, or with headers that nothing opens a conversation with. */
const NEVER: ReadonlySet<string> = new Set([
  'icmp',
  'icmp6',
  'esp',
  'ah',
  'sctp',
  'dccp',
  'udplite',
  'ipcomp',
  'rt',
  'frag',
  'mh',
  'srh',
]);
const ALWAYS: ReadonlySet<string> = new Set(['comment', 'limit']);

const TARGETS: Readonly<Record<string, TargetVerdict>> = {
  DROP: 'drop',
  REJECT: 'drop',
  TARPIT: 'drop',
  ACCEPT: 'accept',
  MASQUERADE: 'accept',
  SNAT: 'accept',
  DNAT: 'accept',
  REDIRECT: 'accept',
  NETMAP: 'accept',
  NFQUEUE: 'queue',
  QUEUE: 'queue',
  MARK: 'mark',
  CONNMARK: 'mark',
  AUDIT: 'continue',
  CHECKSUM: 'continue',
  CLASSIFY: 'continue',
  CT: 'continue',
  DSCP: 'continue',
  HL: 'continue',
  LOG: 'continue',
  NFLOG: 'continue',
  NOTRACK: 'continue',
  SET: 'continue',
  TCPMSS: 'continue',
  TCPOPTSTRIP: 'continue',
  TEE: 'continue',
  TOS: 'continue',
  TRACE: 'continue',
  TTL: 'continue',
};

export function targetVerdict(name: string): TargetVerdict {
  return (Object.hasOwn(TARGETS, name) ? TARGETS[name] : undefined) ?? 'unknown';
}

/** Whether the packet meets the match of that name; `text` is the whole rule, as nft prints it. */
export function meetsXt(name: string, text: string | undefined, question: Question): Answer {
  if (NEVER.has(name)) return 'no';
  if (ALWAYS.has(name)) return 'yes';
  if ((name === 'tcp' || name === 'udp') && name !== question.packet.protocol) return 'no';
  if (text === undefined) return 'maybe';
  // What is quoted is a comment, a log's prefix or a name.
  const words = text.replace(/"[^"]*"/g, '""');
  switch (name) {
    case 'conntrack':
    case 'state':
      return conntrackAnswer(words, question);
    case 'addrtype': {
      const [, type] = only(words, /\bfib (?:daddr type ([a-z]+)(?= ))?/g) ?? [];
      if (type === undefined) return 'maybe';
      return meets({ op: '==', left: { fib: { result: 'type', flags: ['daddr'] } }, right: type }, question);
    }
    case 'multiport': {
      const [, protocol, field, unlike, ports] =
        only(words, /\b(tcp|udp) ([sd]port) (!= )?\{ ([\d, -]+) \}/g) ?? [];
      if (ports === undefined) return 'maybe';
      const set = ports.split(', ').map((port): unknown => {
        const [first, last] = port.split('-').map(Number);
        return last === undefined ? first : { range: [first, last] };
      });
      const match: Json = {
        op: unlike ? '!=' : '==',
        left: { payload: { protocol, field } },
        right: { set },
      };
      return meets(match, question);
    }
    default:
      return 'maybe';
  }
}

function conntrackAnswer(words: string, question: Question): Answer {
  const [, key, unlike, list] = only(words, /\bct (?:(state|status) (! |!= )?([a-z,-]+)(?= ))?/g) ?? [];
  if (key === undefined || list === undefined) return 'maybe';
  const answer = meets({ op: unlike ? '!' : 'in', left: { ct: { key } }, right: list.split(',') }, question);
  if (key === 'state') return answer;
  // `--ctstate NEW,DNAT` and `! --ctstate DNAT` both come out as `ct status dnat`; nobody accepts what the latter is.
  return answer === 'yes' && words.endsWith(' accept') ? 'yes' : 'maybe';
}

/** The match, where there is exactly one. */
function only(text: string, pattern: RegExp): RegExpExecArray | undefined {
  const [match, another] = text.matchAll(pattern);
  return another === undefined ? match : undefined;
}
