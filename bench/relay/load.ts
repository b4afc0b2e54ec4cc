/** The load generator (load.c): compiled when a benchmark starts, and what its roles answer. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { LabProcess } from '../../test/lab/support/processes.ts';
import { type Network, SERVER } from './network.ts';
import type { Started } from './programs.ts';

export const ECHO_PORT = 5000;
/** It sends without end. */
export const SOURCE_PORT = 5001;

const SOURCE = fileURLToPath(new URL('load.c', import.meta.url));
/** For connecting and warming up, and for a machine that others use as well. */
const GRACE_MS = 60_000;
const KNOCK_SECONDS = 10;

export interface Bulk {
  readonly bytes: number;
  readonly seconds: number;
  /** With the warm-up. */
  readonly allBytes: number;
  /** Conversations that did not last. */
  readonly ended: number;
  /** Of the client, with what the kernel did for it on the way. */
  readonly cpuSeconds: number;
}

export interface Connections {
  readonly count: number;
  readonly all: number;
  readonly failed: number;
  readonly perSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** Of the client, with what the kernel did for it on the way. */
  readonly cpuSeconds: number;
}

export interface Datagrams {
  readonly perSecond: number;
  readonly tries: number;
  /** Echoes of all tries. */
  readonly all: number;
  /** Of the client, with what the kernel did for it on the way. */
  readonly cpuSeconds: number;
}

export class Load {
  readonly #directory: string = mkdtempSync(join(tmpdir(), 'natward-load-'));
  readonly #program: string = join(this.#directory, 'load');

  constructor() {
    process.once('exit', () => rmSync(this.#directory, { recursive: true }));
    execFileSync('gcc', ['-O2', '-o', this.#program, SOURCE], { stdio: ['ignore', 2, 2] });
  }

  /** Starts the server of all roles. */
  async serve(network: Network): Promise<LabProcess> {
    const args = [SERVER, ECHO_PORT, SOURCE_PORT].map(String);
    const server = network.start('server', [this.#program, 'serve', ...args]);
    await server.waitFor(/^listening$/m);
    return server;
  }

  bulk(network: Network, to: Started, conversations: number, seconds: number): Promise<Bulk> {
    return this.#ask(network, 'bulk', to, [conversations, seconds]);
  }

  connections(network: Network, to: Started, concurrency: number, seconds: number): Promise<Connections> {
    return this.#ask(network, 'connect', to, [concurrency, seconds]);
  }

  datagrams(network: Network, to: Started, size: number, startPerSecond: number): Promise<Datagrams> {
    return this.#ask(network, 'udp', to, [size, Math.round(startPerSecond)]);
  }

  /** Resolves when the relay has been told and an echo has come back. */
  async knock(network: Network, to: Started): Promise<void> {
    await Promise.all([this.echo(network, to, KNOCK_SECONDS), to.told]);
  }

  /** Resolves when an echo has come back. Rejects with what the relay said where it has ended or none came. */
  async echo(network: Network, to: Started, limitSeconds: number): Promise<void> {
    const relay = to.process;
    const echo = this.#ask(network, 'knock', to, [limitSeconds]).catch(() => {
      throw new Error(`no echo in ${limitSeconds} s: ${relay?.output.trim() || 'it says nothing'}`);
    });
    const ended = relay?.exited.then(() => Promise.reject(new Error(`it ended: ${relay.output.trim()}`)));
    await Promise.race(ended === undefined ? [echo] : [echo, ended]);
  }

  /** Opens conversations, which last as long as the network does; answers how many there are. */
  async idle(network: Network, { host, port }: Started, conversations: number): Promise<number> {
    const holder: LabProcess = network.start('client', [
      'sh',
      '-c',
      // Its own standard input has an end, a pipe from a sleeping program has none.
      'sleep 600 | "$@"',
      'sh',
      this.#program,
      'idle',
      host,
      String(port),
      String(conversations),
    ]);
    const [, open] = await holder.waitFor(/^\{"open":(\d+)/m, GRACE_MS);
    return Number(open);
  }

  async #ask<T>(network: Network, role: string, to: Started, args: readonly number[]): Promise<T> {
    const command = [this.#program, role, to.host, String(to.port), ...args.map(String)];
    const { code, stdout, stderr } = await network.run('client', command, GRACE_MS);
    if (code !== 0) throw new Error(stderr.trim());
    return JSON.parse(stdout);
  }
}
