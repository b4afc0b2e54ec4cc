/**
 * What only one process of a network namespace may have at a time, by an abstract Unix socket (unix(7)): its names are
 * the namespace's own, and it is gone with the process, however that ends. Linux.
 */

import { createServer } from 'node:net';

/** Undefined where another process has it. */
export function claim(name: string): Promise<Disposable | undefined> {
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(undefined);
      else reject(error);
    });
    server.listen(`\0${name}`, () => {
      server.unref();
      resolve({ [Symbol.dispose]: () => void server.close() });
    });
  });
}
