/**
 * Keeps the rules that leases need: from which port of this host each is carried, and when the table changes for them.
 * Thousands of leases may want a rule at once. Those that wait at the same time are served by one change of the table,
 * and each has its own port or its own error.
 */

import { isNatwardError, NatwardError } from '../errors.ts';
import type { ForwardEngine } from '../forwarder/engine.ts';
import { portTaken } from '../forwarder/relay/openings.ts';
import type { Rule } from '../forwarder/rule.ts';
import { isSame, type Table } from '../forwarder/table.ts';
import { identify, parseRule } from '../forwarder/text.ts';
import { checkDescription } from '../forwarder/words.ts';
import { formatEndpoint } from '../net/endpoint.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import type { Clock } from '../system/clock.ts';
import { type Carriage, type Carrier, CLIENT_KEY } from './carrier.ts';
import { carriedFrom, LeaseTable } from './lease-table.ts';

/** The table that rules of leases stand in, beneath all others. */
export interface LeaseGround {
  /** Works after all that waits already, alone. */
  readonly inTurn: <T>(work: () => Promise<T>) => Promise<T>;
  /** How many have been put into the queue by now. */
  readonly turns: () => number;
  /** Throws CONFLICT where the rule does not go with others, or something is wrong with those. */
  readonly check: (rule: Rule, leases: LeaseTable) => Promise<void>;
  /** It waits, and is not carried out. */
  readonly isWaiting: (id: string) => boolean;
  /** Has these rules of leases carried out, with those of these ids. Throws with all as it was. */
  readonly serve: (leases: Table, ids: ReadonlySet<string>) => Promise<void>;
  /** Has these carried out, which are fewer than before, as far as can be. */
  readonly reduce: (leases: Table) => Promise<void>;
  readonly save: () => Promise<void>;
}

export interface LeaseRulesOptions {
  readonly engine: Pick<ForwardEngine, 'carriedBy'>;
  readonly clock: Clock;
  readonly fillRandom: (bytes: Uint8Array<ArrayBuffer>) => void;
  readonly isTaken: (protocol: TransportProtocol, port: number) => boolean;
}

/** A call of `carry` that waits. */
interface Wish {
  readonly id: string;
  readonly carriage: Carriage;
  readonly ports: Iterator<number, undefined>;
  /** The one to try now; undefined: there is none left. */
  port: number | undefined;
  why: Error | undefined;
  readonly resolve: (port: number) => void;
  readonly reject: (error: unknown) => void;
}

/** What waits for the same turn, by id. */
interface Batch {
  readonly turn: number;
  /** Undefined: the rule is to go. */
  readonly wishes: Map<string, Wish | undefined>;
}

/** The rules of leases are remembered so soon, and later where writing takes long. */
const SAVE_MS = 50;
const SAVE_REST = 20;
/** Others wait for so many. */
const MAX_BATCH = 256;
/** Ports tried where the one that a lease would like is taken; below those that the system hands out by itself. */
const CARRY_PORTS = { first: 20_000, last: 32_000 } as const;
const CARRY_COUNT = CARRY_PORTS.last - CARRY_PORTS.first + 1;
const CARRY_TRIES = 16;

export class LeaseRules implements Carrier {
  readonly #options: LeaseRulesOptions;
  readonly #ground: LeaseGround;
  readonly #signal: AbortSignal;
  readonly #table: LeaseTable;
  #batch: Batch | undefined;
  #isSaving = false;
  #saveMs = SAVE_MS;

  /** With `rules` from before. Nothing is served any more once `signal` has fired. */
  constructor(options: LeaseRulesOptions, ground: LeaseGround, rules: Table, signal: AbortSignal) {
    this.#options = options;
    this.#ground = ground;
    this.#signal = signal;
    this.#table = new LeaseTable(rules);
  }

  carry(key: string, carriage: Carriage): Promise<number> {
    const id = leaseRuleId(key);
    return new Promise((resolve, reject) => {
      const ports = this.#portsFor(id, carriage);
      this.#enter(id, { id, carriage, ports, port: undefined, why: undefined, resolve, reject });
    });
  }

  release(key: string): void {
    this.#enter(leaseRuleId(key), undefined);
  }

  settle(keys: Iterable<string>): void {
    const kept = new Set([...keys].map(leaseRuleId));
    this.#ground
      .inTurn(async () => {
        const gone = this.#table.rules.filter(({ id }) => !kept.has(id));
        for (const { id } of gone) this.#table.delete(id);
        if (gone.length > 0) await this.#reduce();
      })
      .catch((error) => this.#unlessOver(error));
  }

  /** What is asked of one lease comes in its order, and nothing passes an edit that waits. */
  #enter(id: string, wish: Wish | undefined): void {
    const last = this.#batch;
    const joins = last?.turn === this.#ground.turns() && !last.wishes.has(id) && last.wishes.size < MAX_BATCH;
    if (joins) last.wishes.set(id, wish);
    else this.#begin(new Map([[id, wish]]));
  }

  #begin(wishes: Map<string, Wish | undefined>): void {
    const turn = this.#ground.inTurn(async () => {
      // What the same answer of a gateway, or the same event, leads to is asked by then.
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#batch?.wishes === wishes) this.#batch = undefined;
      await this.#serve(wishes);
    });
    this.#batch = { turn: this.#ground.turns(), wishes };
    turn.catch((error) => {
      const calls = [...wishes.values()].filter((wish) => wish !== undefined);
      for (const { reject } of calls) reject(error);
      if (calls.length === 0) this.#unlessOver(error);
    });
  }

  async #serve(wishes: ReadonlyMap<string, Wish | undefined>): Promise<void> {
    const calls: Wish[] = [];
    let isLess = false;
    for (const [id, wish] of wishes) {
      if (wish === undefined) isLess = this.#table.delete(id) || isLess;
      else if (this.#next(wish)) calls.push(wish);
    }
    await this.#carry(calls, isLess);
  }

  /** `isLess`: rules have gone, and nobody has carried that out yet. */
  async #carry(calls: readonly Wish[], isLess: boolean): Promise<void> {
    const chosen: { readonly wish: Wish; readonly rule: Rule; readonly before: Rule | undefined }[] = [];
    for (const wish of calls) {
      const rule = await this.#choose(wish);
      if (rule === undefined) continue;
      chosen.push({ wish, rule, before: this.#table.get(rule.id) });
      this.#table.put(rule);
    }
    if (chosen.length === 0) {
      if (isLess) await this.#reduce();
      return;
    }
    try {
      await this.#ground.serve(this.#table.rules, new Set(chosen.map(({ rule }) => rule.id)));
      this.#saveSoon();
      for (const { wish, rule } of chosen) wish.resolve(carriedFrom(rule));
    } catch (error) {
      for (const { rule, before } of chosen.toReversed()) {
        if (before === undefined) this.#table.delete(rule.id);
        else this.#table.put(before);
      }
      if (isLess) await this.#reduce();
      await this.#carryApart(
        chosen.map(({ wish }) => wish),
        error,
      );
    }
  }

  /** The table was not taken with all of these: half of them, and so on, until it is known with which not. */
  async #carryApart(calls: readonly Wish[], error: unknown): Promise<void> {
    const [wish] = calls;
    if (calls.length > 1 && isOfOneRule(error)) {
      const half = calls.length >>> 1;
      await this.#carry(calls.slice(0, half), false);
      await this.#carry(calls.slice(half), false);
    } else if (wish !== undefined && isOfPort(error)) {
      wish.why = error;
      if (this.#next(wish)) await this.#carry(calls, false);
    } else for (const { reject } of calls) reject(error);
  }

  /** The rule from the first of its ports that goes with the table; undefined: it has its answer already. */
  async #choose(wish: Wish): Promise<Rule | undefined> {
    const { id, carriage } = wish;
    const old = this.#table.get(id);
    try {
      for (; wish.port !== undefined; this.#next(wish)) {
        const rule = leaseRule(id, wish.port, carriage);
        if (old !== undefined && isSame(old, rule) && !this.#ground.isWaiting(id)) {
          wish.resolve(wish.port);
          return undefined;
        }
        try {
          this.#checkFree(rule, wish.port);
          await this.#ground.check(rule, this.#table);
          return rule;
        } catch (error) {
          if (!isOfPort(error)) throw error;
          wish.why = error;
        }
      }
    } catch (error) {
      wish.reject(error);
    }
    return undefined;
  }

  /** Goes on to the next of its ports. Where there is none it is told why. */
  #next(wish: Wish): boolean {
    wish.port = wish.ports.next().value;
    if (wish.port === undefined) wish.reject(wish.why);
    return wish.port !== undefined;
  }

  /** A lease takes no other lease's port, and no other program's. Throws CONFLICT. */
  #checkFree(rule: Rule, port: number): void {
    for (const protocol of rule.protocols) {
      const other = this.#table.at(protocol, port);
      if (other === undefined || other.id === rule.id) continue;
      const message = `${protocol.toUpperCase()} ${port} of this host is carried for another lease, by rule ${other.id}`;
      throw new NatwardError('CONFLICT', message, { advice: 'natward rule list shows where it leads.' });
    }
    const { engine, isTaken } = this.#options;
    if (!engine.carriedBy(rule).includes('nftables')) return;
    const protocol = rule.protocols.find((one) => isTaken(one, port));
    if (protocol === undefined) return;
    throw portTaken(protocol, port, `${protocol.toUpperCase()} ${port}`);
  }

  /** Asked when its turn has come. */
  *#portsFor(id: string, { port, isFixed, protocols }: Carriage): Generator<number, undefined> {
    const old = this.#table.get(id);
    if (old !== undefined && !isFixed) yield carriedFrom(old);
    if (port !== undefined) yield port;
    if (isFixed) return;
    const starts = new Uint16Array(CARRY_TRIES);
    this.#options.fillRandom(new Uint8Array(starts.buffer));
    for (const start of starts) {
      const free = this.#freeFrom(start % CARRY_COUNT, protocols);
      if (free !== undefined) yield free;
    }
  }

  /** The first from this place on that no lease is carried from. */
  #freeFrom(start: number, protocols: readonly TransportProtocol[]): number | undefined {
    for (let count = 0; count < CARRY_COUNT; count++) {
      const port = CARRY_PORTS.first + ((start + count) % CARRY_COUNT);
      if (protocols.every((protocol) => this.#table.at(protocol, port) === undefined)) return port;
    }
    return undefined;
  }

  async #reduce(): Promise<void> {
    await this.#ground.reduce(this.#table.rules);
    this.#saveSoon();
  }

  #saveSoon(): void {
    if (this.#isSaving) return;
    this.#isSaving = true;
    const { clock } = this.#options;
    clock
      .sleep(this.#saveMs, this.#signal)
      .then(() => {
        this.#isSaving = false;
        return this.#ground.inTurn(async () => {
          const startMs = clock.steady();
          await this.#ground.save();
          this.#saveMs = Math.max(SAVE_MS, SAVE_REST * (clock.steady() - startMs));
        });
      })
      .catch((error) => this.#unlessOver(error));
  }

  #unlessOver(error: unknown): void {
    if (!isNatwardError(error, 'ABORTED')) throw error;
  }
}

/** Another port may do. */
function isOfPort(error: unknown): error is NatwardError {
  return isNatwardError(error, 'CONFLICT', 'NOT_AUTHORIZED');
}

/** Without one of its rules, the engine may take the table. */
function isOfOneRule(error: unknown): boolean {
  return isOfPort(error) || isNatwardError(error, 'UNSUPPORTED', 'NO_RESOURCES');
}

function leaseRuleId(key: string): string {
  return `lease-${key.replaceAll('/', '-')}`;
}

/** Reports whether it carries traffic to a client of the responder. */
export function isOfClient({ id }: Pick<Rule, 'id'>): boolean {
  return id.startsWith(leaseRuleId(CLIENT_KEY));
}

function leaseRule(id: string, port: number, { protocols, target, description }: Carriage): Rule {
  const text = `in ${protocols.join('+')} ${port} -> ${formatEndpoint(target)}`;
  return identify({ ...parseRule(text), description: checkDescription(description) }, id, true);
}
