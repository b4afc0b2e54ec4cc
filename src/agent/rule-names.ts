/**
 * The addresses of the names in rules. What was answered a moment ago is not asked again, and a name that kept an edit
 * waiting once does so no more: what is known of it holds until its answer comes.
 */

import type { Table } from '../forwarder/table.ts';
import { targetNames } from '../forwarder/target.ts';
import type { IpAddress } from '../net/address.ts';
import { type Clock, OVER } from '../system/clock.ts';

interface Known {
  addresses: readonly IpAddress[];
  /** On the steady clock; undefined: nobody has answered. */
  atMs: number | undefined;
  asking: Promise<void> | undefined;
  isLate: boolean;
}

const WAIT_MS = 3000;
const FRESH_MS = 30_000;

export class RuleNames {
  readonly #clock: Clock;
  readonly #addressesOf: (name: string) => Promise<readonly IpAddress[]>;
  #known: ReadonlyMap<string, Known> = new Map();
  #version = 0;
  #last: { readonly table: Table; readonly names: ReadonlySet<string> } | undefined;

  constructor(clock: Clock, addressesOf: (name: string) => Promise<readonly IpAddress[]>) {
    this.#clock = clock;
    this.#addressesOf = addressesOf;
  }

  /** Another one when a name that was asked for has other addresses. */
  get version(): number {
    return this.#version;
  }

  /** Of the names that the rules listen at and send to. What nobody resolves in time has the address that it had, or none. */
  async resolved(table: Table): Promise<(name: string) => readonly IpAddress[]> {
    const names = this.#namesIn(table);
    const known = new Map([...names].map((name) => [name, this.#known.get(name) ?? unknown()] as const));
    this.#known = known;
    const waited: Known[] = [];
    for (const [name, one] of known) {
      if (one.atMs !== undefined && this.#clock.steady() - one.atMs < FRESH_MS) continue;
      one.asking ??= this.#ask(name, one);
      if (!one.isLate) waited.push(one);
    }
    if (waited.length > 0) await this.#wait(waited);
    return (name) => known.get(name)?.addresses ?? [];
  }

  #namesIn(table: Table): ReadonlySet<string> {
    if (this.#last?.table !== table) this.#last = { table, names: namesIn(table) };
    return this.#last.names;
  }

  async #ask(name: string, known: Known): Promise<void> {
    try {
      const addresses = await this.#addressesOf(name);
      if (String(addresses) !== String(known.addresses)) this.#version++;
      known.addresses = addresses;
      known.atMs = this.#clock.steady();
      known.isLate = false;
    } catch {
      known.atMs = undefined;
    } finally {
      known.asking = undefined;
    }
  }

  async #wait(names: readonly Known[]): Promise<void> {
    const late = new AbortController();
    await Promise.race([
      Promise.all(names.flatMap(({ asking }) => asking ?? [])),
      this.#clock.sleep(WAIT_MS, late.signal).catch(() => undefined),
    ]);
    late.abort(OVER);
    for (const one of names) if (one.asking !== undefined) one.isLate = true;
  }
}

function unknown(): Known {
  return { addresses: [], atMs: undefined, asking: undefined, isLate: false };
}

function namesIn(table: Table): ReadonlySet<string> {
  const names = new Set<string>();
  for (const rule of table) {
    for (const one of rule.to.addresses) if (one.kind === 'name') names.add(one.name);
    for (const name of targetNames(rule)) names.add(name);
  }
  return names;
}
