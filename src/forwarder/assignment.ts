/**
 * Which engine carries which rule of one table: the kernel what it can, the relay the rest. The kernel sees every packet
 * first and leaves the relay's to it, each at its place, so that one order holds. Where names decide whether a rule is
 * for a client, only the relay can tell; so what stands beneath such a rule, for the same ports, is the relay's as well.
 * Pure.
 */

import type { TransportProtocol } from '../net/protocol.ts';
import { needsNames } from './access.ts';
import { portsOf } from './decide.ts';
import type { EngineName, Shortcoming } from './engine.ts';
import { RELAY } from './nftables/shortcoming.ts';
import type { Rule } from './rule.ts';
import type { Table } from './table.ts';

export type ShortcomingOf = (rule: Rule) => Shortcoming | undefined;

export interface Engines {
  readonly kernel: ShortcomingOf;
  readonly relay: ShortcomingOf;
}

/** One that neither can carry, beside what stands above it. */
export type Assigned = EngineName | Shortcoming;

/** By id, of the rules that are enabled. */
export function assign(table: Table, engines: Engines): ReadonlyMap<string, Assigned> {
  const named = new NamedPorts();
  return new Map(
    table
      .filter(({ enabled }) => enabled)
      .map((rule) => {
        const assigned = assignOne(rule, engines, named);
        if (assigned === 'relay') named.add(rule);
        return [rule.id, assigned] as const;
      }),
  );
}

function assignOne(rule: Rule, engines: Engines, named: NamedPorts): Assigned {
  const isBeneath = named.has(rule);
  if (!isBeneath && engines.kernel(rule) === undefined) return 'nftables';
  const short = engines.relay(rule);
  if (short === undefined) return 'relay';
  if (!isBeneath) return shortcomingOf(rule, engines) as Shortcoming;
  return {
    ...short,
    reason: `a rule above it goes by the names of clients, which only the relay knows, and ${short.reason}`,
    advice: 'Move it above that rule, or let that rule go by addresses.',
  };
}

/** What of the rule is too much for both. */
export function shortcomingOf(rule: Rule, { kernel, relay }: Engines): Shortcoming | undefined {
  const [first, second] = [kernel(rule), relay(rule)];
  if (first === undefined || second === undefined) return undefined;
  const advice = first.advice.includes(RELAY)
    ? 'Each engine lacks something for it: split it into two rules, or leave one clause out.'
    : first.advice;
  return { field: first.field, reason: `${first.reason}, and ${second.reason}`, advice };
}

/** The ports of rules that go by names. */
class NamedPorts {
  readonly #ports = new Map<TransportProtocol, Uint8Array>();

  add(rule: Rule): void {
    if (rule.from.clients === undefined || !needsNames(rule.from.clients)) return;
    for (const protocol of rule.protocols) {
      let ports = this.#ports.get(protocol);
      if (ports === undefined) this.#ports.set(protocol, (ports = new Uint8Array(65_536)));
      for (const { first, last } of portsOf(rule)) ports.fill(1, first, last + 1);
    }
  }

  has(rule: Rule): boolean {
    if (this.#ports.size === 0 || rule.direction === 'out') return false;
    return rule.protocols.some((protocol) => {
      const ports = this.#ports.get(protocol);
      return (
        ports !== undefined &&
        portsOf(rule).some(({ first, last }) => ports.subarray(first, last + 1).includes(1))
      );
    });
  }
}
