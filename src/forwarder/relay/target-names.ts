/** The addresses of targets that are names: asked for again when DNS says that they are old, kept while nobody answers. */

import type { IpAddress } from '../../net/address.ts';
import type { Clock } from '../../system/clock.ts';
import type { Names } from '../../system/names.ts';

interface Known {
  readonly addresses: readonly IpAddress[];
  readonly untilMs: number;
}

/** A name that could not be resolved is not asked for at every conversation. */
const FAILED_SECONDS = 2;
/** Of clients, by which names are looked up: bounded, the oldest goes. */
const MAX_CLIENTS = 4096;
const CLIENT_SECONDS = 60;

export class TargetNames {
  readonly #names: Names;
  readonly #clock: Clock;
  readonly #known = new Map<string, Known>();
  readonly #asking = new Map<string, Promise<readonly IpAddress[]>>();
  readonly #askingBack = new Map<IpAddress, Promise<readonly string[]>>();
  readonly #clients = new Map<IpAddress, { readonly names: readonly string[]; readonly untilMs: number }>();

  constructor(names: Names, clock: Clock) {
    this.#names = names;
    this.#clock = clock;
  }

  /** What is known now and not too old, without asking. */
  peek(name: string): readonly IpAddress[] | undefined {
    const known = this.#known.get(name);
    return known !== undefined && this.#clock.steady() < known.untilMs ? known.addresses : undefined;
  }

  /** None where it cannot be resolved and never could. */
  addressesOf(name: string): Promise<readonly IpAddress[]> {
    const known = this.peek(name);
    if (known !== undefined) return Promise.resolve(known);
    let asking = this.#asking.get(name);
    if (asking === undefined) {
      asking = this.#ask(name).finally(() => this.#asking.delete(name));
      this.#asking.set(name, asking);
    }
    return asking;
  }

  async #ask(name: string): Promise<readonly IpAddress[]> {
    try {
      const { addresses, ttlSeconds } = await this.#names.addressesOf(name);
      this.#learn(name, addresses, ttlSeconds);
      return addresses;
    } catch {
      const before = this.#known.get(name)?.addresses ?? [];
      this.#learn(name, before, FAILED_SECONDS);
      return before;
    }
  }

  #learn(name: string, addresses: readonly IpAddress[], seconds: number): void {
    this.#known.set(name, { addresses, untilMs: this.#clock.steady() + seconds * 1000 });
  }

  /** The names of a client that lead back to it. */
  namesOf(address: IpAddress): Promise<readonly string[]> {
    const known = this.#clients.get(address);
    if (known !== undefined && this.#clock.steady() < known.untilMs) return Promise.resolve(known.names);
    let asking = this.#askingBack.get(address);
    if (asking === undefined) {
      asking = this.#askBack(address).finally(() => this.#askingBack.delete(address));
      this.#askingBack.set(address, asking);
    }
    return asking;
  }

  async #askBack(address: IpAddress): Promise<readonly string[]> {
    const names = await this.#names.namesOf(address).catch(() => []);
    this.#clients.delete(address);
    this.#clients.set(address, { names, untilMs: this.#clock.steady() + CLIENT_SECONDS * 1000 });
    const [oldest] = this.#clients.keys();
    if (this.#clients.size > MAX_CLIENTS && oldest !== undefined) this.#clients.delete(oldest);
    return names;
  }

  /** Forgets the names that no rule has any more. */
  keepOnly(names: ReadonlySet<string>): void {
    for (const name of this.#known.keys()) if (!names.has(name)) this.#known.delete(name);
  }
}
