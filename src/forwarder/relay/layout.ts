/**
 * The places where a table has the relay listen, and what another table changes of them: only the ports of rules that
 * come or go are looked at, as there may be tens of thousands of others.
 */

import { NatwardError } from '../../errors.ts';
import { portCount } from '../../net/port-range.ts';
import type { TransportProtocol } from '../../net/protocol.ts';
import type { InterfaceAddress } from '../../system/routes.ts';
import { portsOf } from '../decide.ts';
import type { ApplyReport } from '../engine.ts';
import type { Rule } from '../rule.ts';
import type { Exchange, Table } from '../table.ts';
import { absence, ListeningHost, type Place, placesAt, type Taker } from './places.ts';

/** What becomes of a layout; until it is committed, nothing has. */
export interface LayoutChange {
  /** By `tcp 80`: all places of the ports that rules come to or go from. */
  readonly ports: ReadonlyMap<string, readonly Place[]>;
  /** Why a rule that comes listens nowhere. */
  readonly waiting: ReadonlyMap<Rule, string>;
  readonly gone: readonly Rule[];
  /** Rules at ports, and places, in all. */
  readonly work: number;
  readonly size: number;
}

interface Listening {
  readonly protocol: TransportProtocol;
  readonly port: number;
  readonly kept: readonly Rule[];
  readonly takers: Taker[];
}

/** Of sockets, and of rules at ports: a table that asks for more is a mistake. */
const MAX_PLACES = 131_072;
const MAX_WORK = 4_000_000;
const NO_PLACES: readonly Place[] = [];

export class Layout {
  readonly #host: ListeningHost;
  readonly #ports = new Map<string, readonly Place[]>();
  readonly #waiting = new Map<Rule, string>();
  #work = 0;
  #size = 0;

  /** Of no rule yet, on the host with these addresses. */
  constructor(own: readonly InterfaceAddress[]) {
    this.#host = new ListeningHost(own);
  }

  *places(): Generator<Place> {
    for (const places of this.#ports.values()) yield* places;
  }

  placesAt(portKey: string): readonly Place[] {
    return this.#ports.get(portKey) ?? NO_PLACES;
  }

  /** Rules of the table that have no address to listen on. */
  waiting(table: Table): ApplyReport['waiting'] {
    if (this.#waiting.size === 0) return [];
    return table.flatMap((rule) => {
      const reason = this.#waiting.get(rule);
      return reason === undefined ? [] : [{ ruleId: rule.id, reason }];
    });
  }

  /** `exchange` is what the table has instead of the one before. Throws CONFLICT, or NO_RESOURCES for too much. */
  changeTo(table: Table, { gone, come }: Exchange): LayoutChange {
    const leaving = new Set(gone);
    const touched = new Map<string, Listening>();
    const waiting = new Map<Rule, string>();
    let work = this.#work;
    const listeningAt = (protocol: TransportProtocol, port: number): Listening => {
      const key = `${protocol} ${port}`;
      let listening = touched.get(key);
      if (listening === undefined) {
        const rules = rulesOf(this.placesAt(key));
        const kept = rules.length === 0 ? rules : rules.filter((rule) => !leaving.has(rule));
        touched.set(key, (listening = { protocol, port, kept, takers: [] }));
      }
      return listening;
    };
    for (const rule of gone) {
      if (!listens(rule) || this.#host.addressesOf(rule).length === 0) continue;
      work -= workOf(rule);
      for (const [protocol, port] of portsTaken(rule)) listeningAt(protocol, port);
    }
    for (const rule of come) {
      if (!listens(rule)) continue;
      const addresses = this.#host.addressesOf(rule);
      if (addresses.length === 0) {
        waiting.set(rule, absence(rule));
        continue;
      }
      work += workOf(rule);
      if (work > MAX_WORK) throw tooMuch(`names more than ${MAX_WORK} ports, counted for each rule`);
      let isSomewhere = false;
      for (const [protocol, port] of portsTaken(rule)) {
        const taker = { rule, addresses: this.#host.addressesAt(port, rule, addresses) };
        isSomewhere ||= taker.addresses.length > 0;
        listeningAt(protocol, port).takers.push(taker);
      }
      if (!isSomewhere) waiting.set(rule, 'this host has no address but the loopback one');
    }
    const ports = new Map<string, readonly Place[]>();
    let size = this.#size;
    let positions: ReadonlyMap<Rule, number> | undefined;
    for (const [key, { protocol, port, kept, takers }] of touched) {
      const all = [...kept.map((rule) => this.#taker(rule, port)), ...takers];
      if (kept.length > 0 && takers.length > 0) {
        const places = (positions ??= new Map(table.map((rule, at) => [rule, at])));
        all.sort((a, b) => (places.get(a.rule) as number) - (places.get(b.rule) as number));
      }
      const places = placesAt(protocol, port, all, this.#host.wild);
      size += places.length - this.placesAt(key).length;
      if (size > MAX_PLACES) throw tooMuch(`listens in more than ${MAX_PLACES} places`);
      ports.set(key, places);
    }
    return { ports, waiting, gone, work, size };
  }

  #taker(rule: Rule, port: number): Taker {
    return { rule, addresses: this.#host.addressesAt(port, rule, this.#host.addressesOf(rule)) };
  }

  commit({ ports, waiting, gone, work, size }: LayoutChange): void {
    for (const [key, places] of ports) {
      if (places.length === 0) this.#ports.delete(key);
      else this.#ports.set(key, places);
    }
    for (const rule of gone) this.#waiting.delete(rule);
    for (const [rule, reason] of waiting) this.#waiting.set(rule, reason);
    this.#work = work;
    this.#size = size;
  }
}

function listens({ enabled, direction }: Rule): boolean {
  return enabled && direction === 'in';
}

function workOf(rule: Rule): number {
  const ports = portsOf(rule).reduce((sum, range) => sum + portCount(range), 0);
  return ports * rule.protocols.length;
}

function* portsTaken(rule: Rule): Generator<readonly [TransportProtocol, number]> {
  for (const protocol of rule.protocols) {
    for (const { first, last } of portsOf(rule)) {
      for (let port = first; port <= last; port++) yield [protocol, port];
    }
  }
}

/** Of all places of one port. */
function rulesOf(places: readonly Place[]): readonly Rule[] {
  const [only] = places;
  if (only === undefined) return [];
  return places.length === 1 ? only.rules : [...new Set(places.flatMap(({ rules }) => rules))];
}

function tooMuch(what: string): NatwardError {
  return new NatwardError('NO_RESOURCES', `the table ${what}`);
}
