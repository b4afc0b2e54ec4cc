/** What is due when: a binary heap, so that one timer serves any number of leases. Pure. */

interface Entry<T> {
  readonly item: T;
  readonly dueMs: number;
}

export class Agenda<T> {
  readonly #heap: Entry<T>[] = [];
  readonly #places = new Map<T, number>();

  get size(): number {
    return this.#heap.length;
  }

  /** When the first item is due; undefined where there is none. */
  get nextMs(): number | undefined {
    return this.#heap[0]?.dueMs;
  }

  /** Puts an item at its time, or moves it there. */
  set(item: T, dueMs: number): void {
    const entry = { item, dueMs };
    const place = this.#places.get(item) ?? this.#heap.length;
    this.#put(entry, place);
    this.#up(place);
    this.#down(this.#places.get(item) as number);
  }

  delete(item: T): void {
    const place = this.#places.get(item);
    if (place === undefined) return;
    this.#places.delete(item);
    const last = this.#heap.pop() as Entry<T>;
    if (last.item === item) return;
    this.#put(last, place);
    this.#up(place);
    this.#down(this.#places.get(last.item) as number);
  }

  /** Moves everything by so much: the host's clock was set. */
  shift(byMs: number): void {
    for (const [at, { item, dueMs }] of this.#heap.entries()) this.#heap[at] = { item, dueMs: dueMs + byMs };
  }

  /** Takes out what is due, the earliest first. */
  takeDue(nowMs: number): T[] {
    const due: T[] = [];
    for (let first = this.#heap[0]; first !== undefined && first.dueMs <= nowMs; first = this.#heap[0]) {
      due.push(first.item);
      this.delete(first.item);
    }
    return due;
  }

  #put(entry: Entry<T>, place: number): void {
    this.#heap[place] = entry;
    this.#places.set(entry.item, place);
  }

  #up(place: number): void {
    for (let at = place; at > 0; ) {
      const parent = (at - 1) >> 1;
      if (!this.#swap(parent, at)) return;
      at = parent;
    }
  }

  #down(place: number): void {
    for (let at = place; ; ) {
      const [left, right] = [2 * at + 1, 2 * at + 2];
      const smaller = this.#due(right) < this.#due(left) ? right : left;
      if (smaller >= this.#heap.length || !this.#swap(at, smaller)) return;
      at = smaller;
    }
  }

  #due(place: number): number {
    return this.#heap[place]?.dueMs ?? Number.POSITIVE_INFINITY;
  }

  /** Reports whether the two were in the wrong order. */
  #swap(upper: number, lower: number): boolean {
    const [above, below] = [this.#heap[upper] as Entry<T>, this.#heap[lower] as Entry<T>];
    if (above.dueMs <= below.dueMs) return false;
    this.#put(below, upper);
    this.#put(above, lower);
    return true;
  }
}
