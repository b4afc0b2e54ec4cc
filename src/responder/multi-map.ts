/** Several values under one key, in the order in which they were added. */

export class MultiMap<Value> {
  readonly #values = new Map<string, Set<Value>>();

  get(key: string): readonly Value[] {
    return [...(this.#values.get(key) ?? [])];
  }

  add(key: string, value: Value): void {
    const there = this.#values.get(key);
    if (there === undefined) this.#values.set(key, new Set([value]));
    else there.add(value);
  }

  delete(key: string, value: Value): void {
    const there = this.#values.get(key);
    if (there?.delete(value) === true && there.size === 0) this.#values.delete(key);
  }
}
