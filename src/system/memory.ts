/**
 * How V8 weighs memory against time. A program that rests for months had better stay small; while a table of thousands
 * of rules is read and compared, that would cost as much time again as the work itself.
 */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

let hurrying = 0;

/** From now on V8 collects garbage sooner: a burst of small pieces of work stays small. */
export function saveMemory(): void {
  setFlagsFromString('--optimize-for-size');
}

/** Until all that was asked for is disposed of, V8 saves time instead. */
export function hurry(): Disposable {
  if (hurrying++ === 0) setFlagsFromString('--no-optimize-for-size');
  return {
    [Symbol.dispose]() {
      if (--hurrying === 0) saveMemory();
    },
  };
}

/**
 * Gives the memory back that a large piece of work has left. V8 collects when it needs the room, which a program that
 * has done its work and rests for months never does. Takes about a tenth of a second for a hundred megabytes. Node has
 * no other way to ask for it at run time.
 */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  if (typeof collect === 'function') collect();
}
