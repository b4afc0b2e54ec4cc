/** The rules that leases need: by id, and by the ports of this host that they carry from, which no two of them share. */

import type { Rule } from '../forwarder/rule.ts';
import type { Table } from '../forwarder/table.ts';
import { portRanges } from '../net/port-set.ts';
import type { TransportProtocol } from '../net/protocol.ts';

export class LeaseTable {
  readonly #rules = new Map<string, Rule>();
  readonly #ports = new Map<number, Rule>();
  #table: Table | undefined;

  constructor(rules: Table) {
    for (const rule of rules) this.put(rule);
  }

  get rules(): Table {
    this.#table ??= [...this.#rules.values()];
    return this.#table;
  }

  get size(): number {
    return this.#rules.size;
  }

  get(id: string): Rule | undefined {
    return this.#rules.get(id);
  }

  at(protocol: TransportProtocol, port: number): Rule | undefined {
    return this.#ports.get(placeOf(protocol, port));
  }

  /** In the place of the one with this id, or at the end. */
  put(rule: Rule): void {
    const before = this.#rules.get(rule.id);
    if (before !== undefined) this.#forgetPorts(before);
    this.#rules.set(rule.id, rule);
    for (const place of placesOf(rule)) this.#ports.set(place, rule);
    this.#table = undefined;
  }

  /** Reports whether it was there. */
  delete(id: string): boolean {
    const before = this.#rules.get(id);
    if (before === undefined) return false;
    this.#forgetPorts(before);
    this.#table = undefined;
    return this.#rules.delete(id);
  }

  #forgetPorts(rule: Rule): void {
    for (const place of placesOf(rule)) if (this.#ports.get(place) === rule) this.#ports.delete(place);
  }
}

/** The one port that a lease's rule carries from. */
export function carriedFrom(rule: Rule): number {
  return portRanges(rule.to.ports)[0]?.first as number;
}

function placesOf(rule: Rule): readonly number[] {
  return rule.protocols.map((protocol) => placeOf(protocol, carriedFrom(rule)));
}

/** A number costs less than a text. */
function placeOf(protocol: TransportProtocol, port: number): number {
  return protocol === 'tcp' ? port : 65_536 + port;
}
