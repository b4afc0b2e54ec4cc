/**
 * What is to be kept, and for whom: taken in where it contradicts nothing, taken out for who may. What has not changed
 * stays the same object: reconciling sees it by that.
 */

import { intentOf } from './intent.ts';
import { checkNoConflict, conflictOf, dropFailure, isMeant } from './intents.ts';
import type { DropFailure, DropSelector } from './keeping.ts';
import { CONFIG_OWNER, type Intent, type KeepRequest, type Owner } from './lease.ts';

export class IntentBook {
  readonly #intents = new Map<string, Intent>();

  constructor(intents: Iterable<Intent>) {
    for (const intent of intents) this.#intents.set(intent.id, intent);
  }

  get all(): readonly Intent[] {
    return [...this.#intents.values()];
  }

  get(id: string): Intent | undefined {
    return this.#intents.get(id);
  }

  /**
   * The configuration wants this of what it wanted before. Throws CONFLICT for what contradicts itself, and changes
   * nothing.
   */
  configure(requests: readonly KeepRequest[]): void {
    const fresh = requests.map((request) => intentOf(request, CONFIG_OWNER));
    const others = this.all.filter(({ owner }) => owner !== CONFIG_OWNER);
    checkNoConflict(fresh, []);
    for (const intent of this.all) if (intent.owner === CONFIG_OWNER) this.#intents.delete(intent.id);
    for (const intent of fresh) {
      // Whoever asked for the same at a terminal before has it all the same.
      for (const other of others)
        if (conflictOf(intent, [other]) !== undefined) this.#intents.delete(other.id);
      this.#put(intent);
    }
  }

  /** Throws CONFLICT for what contradicts itself or another intent, and changes nothing. */
  add(requests: readonly KeepRequest[], owner: Owner): readonly Intent[] {
    const intents = requests.map((request) => intentOf(request, owner));
    const ids = new Set(intents.map(({ id }) => id));
    checkNoConflict(
      intents,
      this.all.filter(({ id }) => !ids.has(id)),
    );
    for (const intent of intents) this.#put(intent);
    return intents;
  }

  /** Takes out what is meant; what the configuration wants only the configuration takes out. */
  drop(selectors: readonly DropSelector[]): {
    readonly ended: ReadonlySet<string>;
    readonly failures: readonly DropFailure[];
  } {
    const failures: DropFailure[] = [];
    const ended = new Set<string>();
    for (const selector of selectors) {
      const found = this.all.filter((intent) => isMeant(intent, selector));
      const own = found.filter(({ owner }) => owner !== CONFIG_OWNER);
      for (const { id } of own) ended.add(id);
      if (own.length === 0) failures.push(dropFailure(selector, found));
    }
    for (const id of ended) this.#intents.delete(id);
    return { ended, failures };
  }

  #put(intent: Intent): void {
    const known = this.#intents.get(intent.id);
    if (known === undefined || JSON.stringify(known) !== JSON.stringify(intent)) {
      this.#intents.set(intent.id, intent);
    }
  }
}
