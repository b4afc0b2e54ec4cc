/**
 * Which entry's lifetime ends first: a heap, so that neither a request nor the end of a mapping costs a walk
 * over the table. An entry that was replaced or removed stays in the heap until it comes up, or until such
 * entries are more than half of it.
 */

interface Ending {
  readonly expiresAtMs: number | undefined;
}

/** A small heap is not worth tidying. */
const TIDY_FROM = 64;

export class Deadlines<Entry extends Ending> {
  readonly #isCurrent: (entry: Entry) => boolean;
  #heap: Entry[] = [];

  /** `isCurrent` reports whether an entry still counts. */
  constructor(isCurrent: (entry: Entry) => boolean) {
    this.#isCurrent = isCurrent;
  }

  /** `current` is how many entries count now, this one among them. One without an end needs no place here. */
  add(entry: Entry, current: number): void {
    if (entry.expiresAtMs === undefined) return;
    if (this.#heap.length >= TIDY_FROM && this.#heap.length > 2 * current) this.#tidy();
    this.#heap.push(entry);
    this.#up(this.#heap.length - 1);
  }

  /** When the first of them ends; Infinity where none does. */
  firstMs(): number {
    return endOf(this.#first());
  }

  /** Those that end by then, the first one first. They are no longer known here. */
  take(untilMs: number): Entry[] {
    const taken: Entry[] = [];
    for (let first = this.#first(); first !== undefined && endOf(first) <= untilMs; first = this.#first()) {
      taken.push(first);
      this.#pop();
    }
    return taken;
  }

  #first(): Entry | undefined {
    for (let top = this.#heap[0]; top !== undefined; top = this.#heap[0]) {
      if (this.#isCurrent(top)) return top;
      this.#pop();
    }
    return undefined;
  }

  /** A sorted list is a heap. */
  #tidy(): void {
    this.#heap = this.#heap
      .filter((entry) => this.#isCurrent(entry))
      .sort((one, other) => endOf(one) - endOf(other));
  }

  #pop(): void {
    const last = this.#heap.pop();
    if (last === undefined || this.#heap.length === 0) return;
    this.#heap[0] = last;
    this.#down(0);
  }

  #up(from: number): void {
    for (let at = from; at > 0; ) {
      const parent = (at - 1) >> 1;
      if (endOf(this.#heap[parent]) <= endOf(this.#heap[at])) return;
      this.#swap(at, parent);
      at = parent;
    }
  }

  #down(from: number): void {
    for (let at = from; ; ) {
      const left = 2 * at + 1;
      const least = endOf(this.#heap[left + 1]) < endOf(this.#heap[left]) ? left + 1 : left;
      if (endOf(this.#heap[least]) >= endOf(this.#heap[at])) return;
      this.#swap(at, least);
      at = least;
    }
  }

  #swap(one: number, other: number): void {
    const [a, b] = [this.#heap[one], this.#heap[other]];
    if (a === undefined || b === undefined) return;
    this.#heap[one] = b;
    this.#heap[other] = a;
  }
}

function endOf(entry: Ending | undefined): number {
  return entry?.expiresAtMs ?? Number.POSITIVE_INFINITY;
}
