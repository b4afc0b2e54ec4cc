/**
 * Which rules share a port with another one of the same direction and protocol. In most tables hardly any does, and those
 * that have their ports for themselves are in nobody's way: they need not be compared with thousands of others.
 */

import type { TransportProtocol } from '../net/protocol.ts';
import { portsOf } from './decide.ts';
import type { Direction, Rule } from './rule.ts';

const PORTS = 65_536;
type Scope = `${Direction} ${TransportProtocol}`;

export class Crowds {
  /** By port, how many of the ports beneath it are taken by two rules or more. */
  readonly #shared: ReadonlyMap<Scope, Uint32Array>;

  constructor(rules: Iterable<Rule>) {
    // By port, how many more rules take it than the port beneath it.
    const changes = new Map<Scope, Int32Array>();
    for (const rule of rules) {
      for (const protocol of rule.protocols) {
        const scope: Scope = `${rule.direction} ${protocol}`;
        let change = changes.get(scope);
        if (change === undefined) changes.set(scope, (change = new Int32Array(PORTS + 1)));
        for (const { first, last } of portsOf(rule)) {
          change[first] = (change[first] as number) + 1;
          change[last + 1] = (change[last + 1] as number) - 1;
        }
      }
    }
    this.#shared = new Map([...changes].map(([scope, change]) => [scope, sharedOf(change)] as const));
  }

  has(rule: Rule): boolean {
    return rule.protocols.some((protocol) => {
      const shared = this.#shared.get(`${rule.direction} ${protocol}`);
      if (shared === undefined) return false;
      return portsOf(rule).some(({ first, last }) => shared[last + 1] !== shared[first]);
    });
  }
}

function sharedOf(change: Int32Array): Uint32Array {
  const shared = new Uint32Array(PORTS + 1);
  let [takers, count] = [0, 0];
  for (let port = 0; port < PORTS; port++) {
    takers += change[port] as number;
    if (takers > 1) count++;
    shared[port + 1] = count;
  }
  return shared;
}
