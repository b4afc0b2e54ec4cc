/**
 * Some of the marks of the table as ranges, which nft has an element for each run of: what thousands of rules have in
 * common need not be said of each. A number that no rule has is in the range around it: where one rule of many changes,
 * its old mark leaves no hole. Pure.
 */

import { markLiteral } from './syntax.ts';

const [OUTSIDE, INSIDE] = [1, 2];

export class MarkRanges {
  readonly #marks = new Uint8Array(0x1_0000);

  put(mark: number, isInside: boolean): void {
    this.#marks[mark] = isInside ? INSIDE : OUTSIDE;
  }

  /** As elements of a set with the flag `interval`. */
  get elements(): readonly string[] {
    const elements: string[] = [];
    let [first, last] = [0, 0];
    const end = () => {
      if (first > 0) elements.push(`${markLiteral(first)}${last > first ? `-${markLiteral(last)}` : ''}`);
      first = 0;
    };
    for (let mark = 1; mark < this.#marks.length; mark++) {
      const side = this.#marks[mark];
      if (side === OUTSIDE) end();
      if (side !== INSIDE) continue;
      if (first === 0) first = mark;
      last = mark;
    }
    end();
    return elements;
  }
}
