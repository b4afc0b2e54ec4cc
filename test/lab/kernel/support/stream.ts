/** Traffic between two places that goes on while a test does something, and is counted and compared at its end. */

import { fileURLToPath } from 'node:url';
import type { LabProcess } from '../../support/processes.ts';
import type { Place } from './place.ts';
import type { ClientTally, ServerTally } from './stream-end.ts';

const END = fileURLToPath(new URL('stream-end.ts', import.meta.url));
const START_MS = 20_000;
const END_MS = 10_000;

export interface StreamTally {
  readonly client: ClientTally;
  readonly server: ServerTally;
}

export class Stream implements AsyncDisposable {
  readonly #client: LabProcess;
  readonly #server: LabProcess;

  private constructor(client: LabProcess, server: LabProcess) {
    this.#client = client;
    this.#server = server;
  }

  /** One TCP conversation and one of UDP, to `host` and `port`, which lead to `servedPort` of `server`; resolves when both run. */
  static async between(
    client: Place,
    [host, port]: readonly [host: string, port: number],
    server: Place,
    servedPort: number,
  ): Promise<Stream> {
    const end = (place: Place, ...words: string[]) =>
      place.spawn([process.execPath, '--import', 'tsx', END, ...words]);
    const serving = end(server, 'serve', String(servedPort));
    await serving.waitFor(/^ready$/m, START_MS);
    const sending = end(client, 'send', host, String(port));
    await Promise.all([sending.waitFor(/^tcp runs$/m, START_MS), sending.waitFor(/^udp runs$/m, START_MS)]);
    return new Stream(sending, serving);
  }

  /** Lets what is on its way arrive, and answers what both ends have seen. */
  async end(): Promise<StreamTally> {
    const client: ClientTally = await lastOf(this.#client);
    const server: ServerTally = await lastOf(this.#server);
    return { client, server };
  }

  /** Whether it has ended or not. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#client.stop(), this.#server.stop()]);
  }
}

async function lastOf<Tally>(process: LabProcess): Promise<Tally> {
  process.signal('SIGTERM');
  const [line] = await process.waitFor(/^\{.*\}$/m, END_MS);
  await process.stop();
  return JSON.parse(line) as Tally;
}
