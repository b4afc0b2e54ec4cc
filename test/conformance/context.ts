/** What one case puts up, so that all of it is taken down; and the forwarder that the case is run on. */

import { createSocket } from 'node:dgram';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { randomInt } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Endpoint, Forwarder, ForwardRule, Program, Protocol } from './program.ts';

export class Context {
  /** Never resolves; rejects when something that runs beside the case fails. */
  readonly failed: Promise<never>;
  readonly #cleanups: (() => unknown)[] = [];
  #fail: (reason: unknown) => void = () => {};

  constructor() {
    this.failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {});
  }

  /** `cleanup` runs when the case has ended, the last one first. */
  defer(cleanup: () => unknown): void {
    this.#cleanups.push(cleanup);
  }

  /** Lets `work` run beside the case, which fails with it. */
  beside(work: Promise<unknown>): void {
    work.catch(this.#fail);
  }

  /** An address of this host on which nothing listens. The sockets of clients are on 127.0.0.1, out of the way. */
  async freeEndpoint(protocol: Protocol): Promise<Endpoint> {
    const address = `127.0.0.${randomInt(20, 250)}`;
    return { address, port: await freePort(protocol, address) };
  }

  async end(): Promise<void> {
    // What fails from now on fails because it is taken down.
    this.#fail = () => {};
    for (const cleanup of this.#cleanups.splice(0).toReversed()) await cleanup();
  }
}

export type RuleOptions = Omit<ForwardRule, 'protocol' | 'listen' | 'target'>;

export class Subject {
  readonly #program: Program;
  readonly #context: Context;

  constructor(program: Program, context: Context) {
    this.#program = program;
    this.#context = context;
  }

  async start(rules: readonly ForwardRule[]): Promise<Forwarder> {
    const directory = await mkdtemp(join(tmpdir(), `conformance-${this.#program.name}-`));
    this.#context.defer(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }));
    const forwarder = await this.#program.start(rules, directory);
    this.#context.defer(() => forwarder.kill());
    return forwarder;
  }

  /** Starts the program with one rule; answers where it listens. */
  async forward(
    protocol: Protocol,
    target: Endpoint,
    options: RuleOptions = {},
  ): Promise<{ readonly at: Endpoint; readonly forwarder: Forwarder; readonly rule: ForwardRule }> {
    const at = await this.#context.freeEndpoint(protocol);
    const rule = { protocol, listen: at, target, ...options };
    return { at, rule, forwarder: await this.start([rule]) };
  }
}

function freePort(protocol: Protocol, address: string): Promise<number> {
  return new Promise((resolve, reject) => {
    if (protocol === 'tcp') {
      const server = createServer().once('error', reject);
      server.listen({ host: address, port: 0 }, () => {
        const bound = server.address();
        server.close(() => resolve(typeof bound === 'object' ? (bound?.port ?? 0) : 0));
      });
    } else {
      const socket = createSocket('udp4').once('error', reject);
      socket.bind({ address, port: 0 }, () => {
        const { port } = socket.address();
        socket.close(() => resolve(port));
      });
    }
  });
}
