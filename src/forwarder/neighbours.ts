/**
 * Which rules of a table the traffic of one rule may meet: those that take the same ports, those that take what these
 * send to this host, and so on. What can be wrong with one rule more can be seen from them alone.
 */

import type { TransportProtocol } from '../net/protocol.ts';
import { portsOf } from './decide.ts';
import { type OwnHost, ownTargets } from './own-target.ts';
import type { Rule } from './rule.ts';
import { type Placed, PortIndex } from './rule-index.ts';
import type { Table } from './table.ts';
import { targetPortOf } from './target.ts';

export class Neighbours {
  readonly #host: OwnHost;
  readonly #index: Readonly<Record<TransportProtocol, PortIndex<Placed>>> = {
    tcp: new PortIndex(),
    udp: new PortIndex(),
  };

  constructor(table: Table, host: OwnHost) {
    this.#host = host;
    for (const [at, rule] of table.entries()) {
      if (!rule.enabled || rule.direction !== 'in') continue;
      const placed = { rule, position: at + 1 };
      for (const protocol of rule.protocols) {
        for (const range of portsOf(rule)) this.#index[protocol].add(range, placed);
      }
    }
  }

  /** Those of a rule with one port, from the top, and itself. `below` has the rules beneath the table, by their ports. */
  of(placed: Placed, below: (protocol: TransportProtocol, port: number) => Placed | undefined): Placed[] {
    const found = new Map<Rule, Placed>([[placed.rule, placed]]);
    const [range] = portsOf(placed.rule);
    if (range === undefined) return [placed];
    for (const protocol of placed.rule.protocols) {
      const ports = [range.first];
      const seen = new Set(ports);
      for (let port = ports.pop(); port !== undefined; port = ports.pop()) {
        const beneath = below(protocol, port);
        const takers = [...this.#index[protocol].at(port), ...(beneath === undefined ? [] : [beneath])];
        if (port === range.first) takers.push(placed);
        for (const taker of takers) {
          found.set(taker.rule, taker);
          for (const next of this.#sentTo(taker.rule, port)) {
            if (seen.has(next)) continue;
            seen.add(next);
            ports.push(next);
          }
        }
      }
    }
    return [...found.values()].sort((a, b) => a.position - b.position);
  }

  /** The ports of this host that what comes to this one is sent to. */
  #sentTo(rule: Rule, port: number): readonly number[] {
    return ownTargets(rule, this.#host).map((target) => targetPortOf(target.port, portsOf(rule), port));
  }
}
