/** Tells listeners what happens. An error of one is its program's own, and the others are told all the same. */

import type { EventEmitter } from 'node:events';

/** The error becomes an uncaught exception, as one of a listener of Node's own would. */
export function tell(emitter: EventEmitter, event: string, ...told: readonly unknown[]): void {
  for (const listener of emitter.rawListeners(event)) {
    try {
      Reflect.apply(listener, emitter, told);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}
