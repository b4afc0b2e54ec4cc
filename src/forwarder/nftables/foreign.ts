/**
 * What other programs' tables (ufw, docker, firewalld, a firewall by hand) do with a rule's traffic. An accept in
 * natward's table never overrides a drop in another one, so natward names what would drop it, and touches nothing.
 * Looked at is the first packet of a conversation. Pure.
 */

import type { Family, IpAddress } from '../../net/address.ts';
import type { TransportProtocol } from '../../net/protocol.ts';
import { advice } from './foreign-advice.ts';
import type { Packet } from './foreign-field.ts';
import { type BaseChain, type Hook, readRuleset, sees } from './foreign-ruleset.ts';
import { Walk } from './foreign-walk.ts';

/** A packet of a rule's conversation as it passes a hook, after rewriting. Undefined: not known, may be anything. */
export interface Passage {
  readonly hook: Hook;
  readonly family: Family;
  readonly protocol: TransportProtocol;
  readonly source?: IpAddress;
  readonly sourcePort?: number;
  readonly destination?: IpAddress;
  readonly destinationPort?: number;
  readonly inAdapter?: string;
  readonly outAdapter?: string;
  /** Its destination was rewritten: `ct status dnat`. */
  readonly isTranslated: boolean;
  /** The packet's (`meta mark`), not the connection's. */
  readonly mark?: number;
}

export interface Obstacle {
  /** `inet filter` */
  readonly table: string;
  readonly chain: string;
  /** What there drops it: `policy drop`, or the rule. */
  readonly what: string;
  /** `maybe`: it hangs on something that is not known, or that a listing does not show. */
  readonly certainty: 'sure' | 'maybe';
  /** What the user may do. */
  readonly advice: string;
}

const MAX_RULES = 100_000;
const MAX_ELEMENTS = 300_000;
const MAX_OBSTACLES = 100;
/** Where natward rewrites destinations. */
const REWRITES_AT = -105;

/**
 * `listing` is the parsed output of `nft -j list ruleset`. `plain`, the output of `nft -a list ruleset`, makes answers
 * about iptables' rules surer: of their matches the JSON has the names alone. Never throws, whatever they hold.
 */
export function obstacles(listing: unknown, passages: readonly Passage[], plain = ''): readonly Obstacle[] {
  const { baseChains } = readRuleset(listing, plain);
  const budget = { rules: MAX_RULES, elements: MAX_ELEMENTS };
  const found = new Map<string, Obstacle>();
  for (const passage of passages) {
    // Earlier chains of the same hook may mark it for the later ones.
    let mark = passage.mark;
    for (const base of baseChains) {
      if (base.hook !== passage.hook || !sees(base.table, passage.family) || isBound(base, passage)) continue;
      const packet: Packet = { ...packetAt(passage, base.priority), mark };
      new Walk(packet, budget, ({ chain, what, isSure }) => {
        const table = `${chain.table.family} ${chain.table.name}`;
        const key = JSON.stringify([table, chain.name, what]);
        const before = found.get(key);
        if (before === undefined ? found.size >= MAX_OBSTACLES : !isSure || before.certainty === 'sure')
          return;
        const certainty = isSure ? 'sure' : 'maybe';
        found.set(key, { table, chain: chain.name, what, certainty, advice: advice(base, packet) });
      }).base(base);
      mark = packet.mark;
    }
  }
  return [...found.values()];
}

// A conversation that is translated already passes no chains of nat any more.
function isBound({ type, priority, hook }: BaseChain, { isTranslated }: Passage): boolean {
  return (
    type === 'nat' && isTranslated && (hook === 'prerouting' || hook === 'output') && priority > REWRITES_AT
  );
}

function packetAt(passage: Passage, priority: number): Packet {
  const { hook, family, protocol, isTranslated } = passage;
  const isBefore = isTranslated && (hook === 'prerouting' || hook === 'output') && priority <= REWRITES_AT;
  return {
    hook,
    family,
    protocol,
    source: passage.source,
    sourcePort: passage.sourcePort,
    destination: isBefore ? undefined : passage.destination,
    destinationPort: isBefore ? undefined : passage.destinationPort,
    inAdapter: passage.inAdapter,
    outAdapter: passage.outAdapter,
    isTranslated: isTranslated && !isBefore,
    mark: passage.mark,
  };
}
