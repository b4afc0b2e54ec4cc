/** Work on the same thing one after the other, work on different things at once. */

export class Turns {
  readonly #last = new Map<string, Promise<unknown>>();

  /** Reports whether nobody works on any of these. */
  isFree(keys: readonly string[]): boolean {
    return keys.every((key) => !this.#last.has(key));
  }

  /** Runs `work` when all who came before for one of these keys are done, however that went. */
  async run<T>(keys: readonly string[], work: () => Promise<T>): Promise<T> {
    const before = keys.flatMap((key) => this.#last.get(key) ?? []);
    const turn = Promise.allSettled(before).then(work);
    for (const key of keys) this.#last.set(key, turn);
    try {
      return await turn;
    } finally {
      for (const key of keys) if (this.#last.get(key) === turn) this.#last.delete(key);
    }
  }
}
