/** The machine for whoever is a guest in another program: nothing that waits keeps that program's process alive. */

import { quietClock, systemClock } from './clock.ts';
import type { System } from './system.ts';

/** The same machine, with timers and sockets that let the process end. A clock of a test's own stays as it is. */
export function quietSystem(system: System): System {
  return {
    ...system,
    clock: system.clock === systemClock ? quietClock : system.clock,
    openUdp: (options) => system.openUdp({ ...options, keepsAlive: false }),
    http: (request) => system.http({ ...request, keepsAlive: false }),
  };
}

/** Keeps the process alive as long as somebody waits for something. */
export class Vigil {
  #waiting = 0;
  #timer: NodeJS.Timeout | undefined;

  async during<T>(work: Promise<T>): Promise<T> {
    this.#timer ??= setInterval(() => undefined, 2 ** 31 - 1);
    this.#waiting++;
    try {
      return await work;
    } finally {
      if (--this.#waiting === 0) {
        clearInterval(this.#timer);
        this.#timer = undefined;
      }
    }
  }
}
