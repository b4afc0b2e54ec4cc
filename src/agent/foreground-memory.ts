/**
 * How a keeper in somebody's terminal remembers: like `natward map` does, so that `natward unmap` can take back
 * what a killed one has left. Several may run at once; none takes up what another has left.
 */

import { isNatwardError, type NatwardError } from '../errors.ts';
import { type LedgerState, type Memory, NOTHING } from './ledger.ts';
import { placeOf, type RememberedMapping, type Store } from './store.ts';

export class ForegroundMemory implements Memory {
  trouble: NatwardError | undefined;
  readonly #store: Store;
  /** The places that this keeper has written down. */
  #written: ReadonlySet<string> = new Set();
  #saving: Promise<void> = Promise.resolve();

  constructor(store: Store) {
    this.#store = store;
  }

  load(): LedgerState {
    return NOTHING;
  }

  /** What has only been renewed is right enough as it is: natward asks by what does not change. */
  save(state: () => LedgerState, when: 'soon' | 'later'): void {
    if (when === 'later') return;
    const mappings = state().holdings.map(({ mapping }) => mapping);
    const before = this.#written;
    this.#written = new Set(mappings.map(placeOf));
    if (before.size === 0 && mappings.length === 0) return;
    const write = this.#store.update((known) => ({
      ...known,
      mappings: [...known.mappings.filter((one) => !isOurs(one, before, this.#written)), ...mappings],
    }));
    this.#saving = Promise.all([this.#saving, write]).then(
      () => {
        this.trouble = undefined;
      },
      (error: unknown) => {
        if (!isNatwardError(error)) throw error;
        this.trouble = error;
      },
    );
  }

  async flush(): Promise<void> {
    await this.#saving;
  }
}

function isOurs(one: RememberedMapping, ...places: readonly ReadonlySet<string>[]): boolean {
  return places.some((written) => written.has(placeOf(one)));
}
