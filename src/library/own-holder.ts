/**
 * Holds leases and carries rules in the app's own process. Each part is loaded when it is first wanted: an app that keeps a
 * port never loads the engines.
 */

import type { Carrier } from '../agent/carrier.ts';
import type { Keeper } from '../agent/keeper.ts';
import type { Memory } from '../agent/ledger.ts';
import type { OneShot } from '../agent/one-shot.ts';
import { FOREGROUND_RULES } from '../agent/rule-memory.ts';
import type { Steering } from '../agent/steering.ts';
import { MemoryStore, type Store } from '../agent/store.ts';
import type { GatewayPorts } from '../discovery/gateway.ts';
import type { NatwardError } from '../errors.ts';
import type { EngineChoice } from '../forwarder/engine-choice.ts';
import type { System } from '../system/system.ts';
import type { Holder } from './holder.ts';

export interface OwnHolderOptions {
  readonly system: System;
  /** Undefined: nothing is written to disk. */
  readonly directory: string | undefined;
  readonly ports: GatewayPorts | undefined;
  readonly engine: EngineChoice;
  readonly warn: (error: NatwardError) => void;
}

export class OwnHolder implements Holder {
  readonly #options: OwnHolderOptions;
  #store: Promise<Store> | undefined;
  #oneShot: Promise<OneShot> | undefined;
  #keeper: Promise<Keeper> | undefined;
  #steering: Promise<Steering> | undefined;
  #ledger: Memory | undefined;
  readonly #told = new Map<string, string>();

  constructor(options: OwnHolderOptions) {
    this.#options = options;
  }

  oneShot(): Promise<OneShot> {
    this.#oneShot ??= this.#openOneShot();
    return this.#oneShot;
  }

  async #openOneShot(): Promise<OneShot> {
    const { system, directory } = this.#options;
    const [{ OneShot: Asker }, store] = await Promise.all([
      import('../agent/one-shot.ts'),
      this.#openStore(),
    ]);
    return new Asker(system, store, directory);
  }

  leases(): Promise<Keeper> {
    this.#keeper ??= this.#startKeeper();
    return this.#keeper;
  }

  async #startKeeper(): Promise<Keeper> {
    const { system, ports } = this.#options;
    const [{ Keeper: Holding }, store] = await Promise.all([import('../agent/keeper.ts'), this.#openStore()]);
    const memory = await this.#openMemory(store);
    const keeper = new Holding(system, { memory, store, ports, carrier: this.#carrier() });
    keeper.resume();
    return keeper;
  }

  rules(): Promise<Steering> {
    this.#steering ??= this.#startSteering();
    return this.#steering;
  }

  async #startSteering(): Promise<Steering> {
    const { system, engine } = this.#options;
    const { startSteering } = await import('../control/steered.ts');
    return await startSteering(system, FOREGROUND_RULES, (key, error) => this.#warn(key, error), engine);
  }

  #openStore(): Promise<Store> {
    const { system, directory } = this.#options;
    this.#store ??=
      directory === undefined
        ? Promise.resolve(new MemoryStore(system.clock))
        : import('../agent/file-store.ts').then(({ FileStore }) => new FileStore(directory, system.clock));
    return this.#store;
  }

  async #openMemory(store: Store): Promise<Memory> {
    const { system, directory, warn } = this.#options;
    if (directory === undefined) {
      const { ForegroundMemory } = await import('../agent/foreground-memory.ts');
      return new ForegroundMemory(store, system.clock);
    }
    const { Ledger } = await import('../agent/ledger.ts');
    this.#ledger = heldAlone(new Ledger(directory, system.clock, warn));
    return this.#ledger;
  }

  async saved(): Promise<void> {
    await this.#ledger?.flush();
  }

  /** Begins to carry when the first lease needs it. */
  #carrier(): Carrier {
    const carried = new Set<string>();
    return {
      carry: async (key, carriage) => {
        carried.add(key);
        return await (await this.rules()).carry(key, carriage);
      },
      release: (key) => {
        if (!carried.delete(key)) return;
        this.#steering?.then(
          (steering) => steering.release(key),
          () => undefined,
        );
      },
      // Nobody carried anything before.
      settle: () => undefined,
    };
  }

  #warn(key: string, error: NatwardError | undefined): void {
    if (error === undefined) this.#told.delete(key);
    else if (this.#told.get(key) !== error.message) {
      this.#told.set(key, error.message);
      this.#options.warn(error);
    }
  }

  async close(signal: AbortSignal): Promise<void> {
    const keeper = await this.#keeper?.catch(() => undefined);
    await keeper?.close('release', signal);
    const steering = await this.#steering?.catch(() => undefined);
    await steering?.[Symbol.asyncDispose]();
    const oneShot = await this.#oneShot?.catch(() => undefined);
    await oneShot?.[Symbol.asyncDispose]();
  }
}

/** What gateways granted is remembered, so that it is asked for by the same nonce; what is wanted the app says each time. */
function heldAlone(ledger: Memory): Memory {
  return {
    get trouble() {
      return ledger.trouble;
    },
    load: () => ({ intents: [], holdings: ledger.load().holdings }),
    save: (state, when) => ledger.save(() => ({ intents: [], holdings: state().holdings }), when),
    flush: () => ledger.flush(),
  };
}
