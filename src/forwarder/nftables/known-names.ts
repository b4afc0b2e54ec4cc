/** The addresses that the names in the rules stand for, kept fresh: asked for again when DNS says that they are old. */

import type { IpAddress } from '../../net/address.ts';
import { type Clock, OVER } from '../../system/clock.ts';
import type { Names } from '../../system/names.ts';

interface Known {
  readonly addresses: readonly IpAddress[];
  readonly untilMs: number;
}

/** Nobody answered: what was known serves on. */
const FAILED_MS = 5000;
const FIRST_LIMIT_MS = 3000;

export class KnownNames {
  readonly #names: Names;
  readonly #clock: Clock;
  readonly #changed: () => void;
  #known = new Map<string, Known>();
  #wanted: ReadonlySet<string> = new Set();
  readonly #asking = new Map<string, Promise<void>>();

  /** `changed` is called when a name stands for others than before. */
  constructor(names: Names, clock: Clock, changed: () => void) {
    this.#names = names;
    this.#clock = clock;
    this.#changed = changed;
  }

  /** None where the name cannot be resolved and never could. */
  addressesOf(name: string): readonly IpAddress[] {
    return this.#known.get(name)?.addresses ?? [];
  }

  /** Resolves when those that are new have been asked for, or that takes too long. */
  async want(names: ReadonlySet<string>): Promise<void> {
    this.#wanted = names;
    for (const name of this.#known.keys()) if (!names.has(name)) this.#known.delete(name);
    const fresh = [...names].filter((name) => !this.#known.has(name)).map((name) => this.#ask(name));
    if (fresh.length === 0) return;
    const late = new AbortController();
    const limit = this.#clock.sleep(FIRST_LIMIT_MS, late.signal).catch(() => undefined);
    await Promise.race([Promise.all(fresh), limit]);
    late.abort(OVER);
  }

  /** Asks for those that are old. */
  refresh(): void {
    for (const name of this.#wanted) {
      const known = this.#known.get(name);
      if (known === undefined || this.#clock.steady() >= known.untilMs) void this.#ask(name);
    }
  }

  #ask(name: string): Promise<void> {
    let asking = this.#asking.get(name);
    if (asking === undefined) {
      asking = this.#resolve(name).finally(() => this.#asking.delete(name));
      this.#asking.set(name, asking);
    }
    return asking;
  }

  async #resolve(name: string): Promise<void> {
    const before = this.#known.get(name)?.addresses ?? [];
    let [addresses, ttlMs] = [before, FAILED_MS];
    try {
      const found = await this.#names.addressesOf(name);
      [addresses, ttlMs] = [found.addresses, found.ttlSeconds * 1000];
    } catch {
      // Nobody knows it, or nobody answers.
    }
    if (!this.#wanted.has(name)) return;
    this.#known.set(name, { addresses, untilMs: this.#clock.steady() + ttlMs });
    if (addresses.join() !== before.join()) this.#changed();
  }
}
