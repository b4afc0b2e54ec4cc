/** A pool of vitest's that runs each test file in a network namespace of its own. */

import { fork } from 'node:child_process';
import { ForksPoolWorker, type PoolOptions, type PoolWorker } from 'vitest/node';
import { inOwnNetwork } from './own-network.ts';

class OwnNetworkWorker extends ForksPoolWorker {
  override readonly name: string = 'own-network';

  override async start(): Promise<void> {
    const [execPath, ...execArgv] = inOwnNetwork([process.execPath, ...this.execArgv]);
    // Vitest takes a process that is there for the one that it was about to start. Whether it does, the tests ask.
    this['_fork'] ??= fork(this.entrypoint, [], {
      execPath,
      execArgv,
      env: this.env,
      stdio: 'pipe',
      serialization: 'advanced',
    });
    await super.start();
  }
}

export const ownNetworkPool: {
  readonly name: string;
  readonly createPoolWorker: (options: PoolOptions) => PoolWorker;
} = {
  name: 'own-network',
  createPoolWorker: (options) => new OwnNetworkWorker(options),
};
