/**
 * What other programs' tables do to the traffic of rules that the kernel carries: looked at after each change of the
 * table and once a minute, and said for as long as it is so.
 */

import { isNatwardError, NatwardError } from '../errors.ts';
import type { ForwardEngine } from '../forwarder/engine.ts';
import type { Rule } from '../forwarder/rule.ts';
import type { Table } from '../forwarder/table.ts';
import { formatRule } from '../forwarder/text.ts';
import { type Clock, OVER } from '../system/clock.ts';

export interface ObstacleWatchOptions {
  readonly clock: Clock;
  readonly warn: (key: string, error: NatwardError | undefined) => void;
}

const KEY = 'firewall';
const EVERY_MS = 60_000;
/** From the top: what stands in the way of these is what stands in the way of most. */
const MAX_LOOKED_AT = 32;
/** It hangs on who sends, or by which interface: an ordinary firewall, which is no news. `rule explain` says it. */
const UNSURE = /, may drop it: /;
const ADVICE = 'natward rule explain says it of a single packet.';

/** The engine, which is watched from its first table to its end. */
export function watchObstacles(engine: ForwardEngine, options: ObstacleWatchOptions): ForwardEngine {
  const watch = new ObstacleWatch(engine, options);
  const watched: Pick<ForwardEngine, 'apply' | typeof Symbol.asyncDispose> = {
    async apply(table, how) {
      const report = await engine.apply(table, how);
      watch.carries(table);
      return report;
    },
    async [Symbol.asyncDispose]() {
      watch.end();
      await engine[Symbol.asyncDispose]();
    },
  };
  return new Proxy(engine, {
    get(_, name) {
      const value: unknown = Reflect.get(name in watched ? watched : engine, name);
      // What is private of it, an engine has, and not whoever stands before it.
      return typeof value === 'function' ? (value.bind(engine) as unknown) : value;
    },
  });
}

class ObstacleWatch {
  readonly #engine: ForwardEngine;
  readonly #options: ObstacleWatchOptions;
  readonly #over = new AbortController();
  #table: Table = [];
  #isWatching = false;
  #changed = new AbortController();
  #told: string | undefined;

  constructor(engine: ForwardEngine, options: ObstacleWatchOptions) {
    this.#engine = engine;
    this.#options = options;
  }

  carries(table: Table): void {
    this.#table = table;
    this.#changed.abort(OVER);
    if (this.#isWatching) return;
    this.#isWatching = true;
    void this.#watch();
  }

  end(): void {
    this.#over.abort(OVER);
  }

  /** As long as there is something that could be dropped. */
  async #watch(): Promise<void> {
    const { signal } = this.#over;
    while (!signal.aborted) {
      this.#changed = new AbortController();
      const rules = [...this.#lookedAt()];
      this.#tell(await this.#found(rules));
      if (rules.length === 0 && !this.#changed.signal.aborted) {
        this.#isWatching = false;
        return;
      }
      const waits = AbortSignal.any([signal, this.#changed.signal]);
      await this.#options.clock.sleep(EVERY_MS, waits).catch(() => undefined);
    }
  }

  *#lookedAt(): Iterable<Rule> {
    let count = 0;
    for (const rule of this.#table) {
      if (!rule.enabled || !this.#engine.carriedBy(rule).includes('nftables')) continue;
      yield rule;
      if (++count === MAX_LOOKED_AT) return;
    }
  }

  async #found(rules: readonly Rule[]): Promise<string | undefined> {
    const found: string[] = [];
    try {
      for (const rule of rules) {
        const sure = (await this.#engine.obstacles(rule)).find((one) => !UNSURE.test(one));
        if (sure !== undefined) found.push(`the traffic of ${formatRule(rule)} is dropped: ${sure}`);
      }
    } catch (error) {
      if (!isNatwardError(error)) throw error;
      return `what other programs’ tables drop cannot be told: ${error.message}`;
    }
    const [first, ...others] = found;
    return others.length === 0 ? first : `${first} (${others.length} more of the rules are dropped as well)`;
  }

  #tell(what: string | undefined): void {
    if (what === this.#told || this.#over.signal.aborted) return;
    this.#told = what;
    const error = what === undefined ? undefined : new NatwardError('FAILED', what, { advice: ADVICE });
    this.#options.warn(KEY, error);
  }
}
