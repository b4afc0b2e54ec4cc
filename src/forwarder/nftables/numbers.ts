/** Numbers for rules and ways: each its own, the same as long as it is wanted, not given again soon. */

/** Those from one number to another, by turns. */
class Circle {
  readonly #first: number;
  readonly #last: number;
  readonly #taken = new Set<number>();
  #next: number;

  constructor(first: number, last: number) {
    this.#first = first;
    this.#last = last;
    this.#next = first;
  }

  get left(): number {
    return this.#last - this.#first + 1 - this.#taken.size;
  }

  has(number: number): boolean {
    return number >= this.#first && number <= this.#last;
  }

  take(number: number): void {
    this.#taken.add(number);
  }

  free(number: number): void {
    this.#taken.delete(number);
  }

  fresh(): number | undefined {
    if (this.left === 0) return undefined;
    while (this.#taken.has(this.#next)) this.#step();
    const number = this.#next;
    this.#taken.add(number);
    this.#step();
    return number;
  }

  #step(): void {
    this.#next = this.#next === this.#last ? this.#first : this.#next + 1;
  }
}

export class Numbers {
  /** In the order in which they are given. */
  readonly #circles: readonly Circle[];

  /** From 1 to `last`; those below `first` only when the others are taken. */
  constructor(last: number, first: number) {
    this.#circles = [new Circle(first, last), ...(first > 1 ? [new Circle(1, first - 1)] : [])];
  }

  /** How many are not taken. */
  get left(): number {
    return this.#circles.reduce((sum, circle) => sum + circle.left, 0);
  }

  take(number: number): void {
    this.#circles.find((circle) => circle.has(number))?.take(number);
  }

  free(number: number): void {
    this.#circles.find((circle) => circle.has(number))?.free(number);
  }

  /** Undefined where all are taken. */
  fresh(): number | undefined {
    return this.#circles.find(({ left }) => left > 0)?.fresh();
  }
}
