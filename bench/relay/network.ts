/**
 * The wires of the relay benchmark, in network namespaces of their own:
 *
 *     client eth0 --- client0 router server0 --- eth0 server
 *
 * A program's turn has a network to itself, so that nobody inherits another's sockets in TIME_WAIT. It goes
 * as a lab does (test/lab/support/janitor.ts), also when this process is killed.
 */

import { randomBytes } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Janitor } from '../../test/lab/support/janitor.ts';
import {
  type LabProcess,
  Processes,
  type ProcessOptions,
  type Result,
} from '../../test/lab/support/processes.ts';

export const ROUTER = '10.81.1.1';
export const SERVER = '10.81.2.2';

export type Place = 'client' | 'router' | 'server';

const PLACES: readonly Place[] = ['client', 'router', 'server'];

const ADDRESSING: Readonly<Record<Place, readonly string[]>> = {
  client: [
    'ip addr add 10.81.1.2/24 dev eth0',
    'ip link set eth0 up',
    `ip route add default via ${ROUTER}`,
    // The descriptors of one process are the limit that is measured, not the ports of one client.
    'echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range',
    'echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse',
  ],
  router: [
    `ip addr add ${ROUTER}/24 dev client0`,
    'ip addr add 10.81.2.1/24 dev server0',
    'ip link set client0 up',
    'ip link set server0 up',
    'echo 1 > /proc/sys/net/ipv4/ip_forward',
    'echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range',
    'echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse',
  ],
  server: [`ip addr add ${SERVER}/24 dev eth0`, 'ip link set eth0 up', 'ip route add default via 10.81.2.1'],
};

export class Network {
  /** Temporary; goes with the network. */
  readonly directory: string;
  readonly #prefix: string = `nwr${process.pid}-${randomBytes(2).toString('hex')}`;
  readonly #processes: Processes;
  readonly #janitor: Janitor;
  readonly #started: Set<LabProcess> = new Set();

  /** Use `createNetwork`. */
  constructor() {
    this.directory = mkdtempSync(join(tmpdir(), `${this.#prefix}-`));
    // The mark by which the janitor knows what it may end.
    this.#processes = new Processes({ NATWARD_LAB: this.#prefix });
    this.#janitor = new Janitor(
      this.directory,
      `NATWARD_LAB=${this.#prefix}`,
      PLACES.map((place) => this.#namespace(place)),
    );
  }

  /** Rejects with nothing left behind. */
  async open(): Promise<void> {
    try {
      for (const place of PLACES) await this.#processes.must(['ip', 'netns', 'add', this.#namespace(place)]);
      const links = (['client', 'server'] as const).map(
        (place) =>
          `link add ${place}0 netns ${this.#namespace('router')} type veth peer name eth0 netns ${this.#namespace(place)}`,
      );
      await this.#processes.must(['ip', '-batch', '-'], { input: links.join('\n') });
      for (const place of PLACES) {
        const lines = ['ip link set lo up', ...ADDRESSING[place]];
        await this.#processes.must(this.#inside(place, ['sh', '-eu']), { input: `${lines.join('\n')}\n` });
      }
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    // Nobody is asked: what a program does at its end is not measured here.
    for (const program of this.#started) program.signal('SIGKILL');
    await this.#processes.stopAll();
    await this.#janitor.clean();
  }

  /** Starts a program that stays; it ends with the network where nobody else ends it. */
  start(place: Place, command: readonly string[], options: ProcessOptions = {}): LabProcess {
    const program = this.#processes.start(this.#inside(place, command), options);
    this.#started.add(program);
    return program;
  }

  /** Runs a program to its end, which comes at the limit at the latest. */
  async run(
    place: Place,
    command: readonly string[],
    limitMs: number,
    options: ProcessOptions = {},
  ): Promise<Result> {
    const program = this.start(place, command, options);
    const limit = setTimeout(() => program.signal('SIGKILL'), limitMs);
    const result = await program.exited;
    clearTimeout(limit);
    this.#started.delete(program);
    return result;
  }

  #namespace(place: Place): string {
    return `${this.#prefix}-${place}`;
  }

  #inside(place: Place, command: readonly string[]): string[] {
    return ['ip', 'netns', 'exec', this.#namespace(place), ...command];
  }
}

export async function createNetwork(): Promise<Network> {
  const network = new Network();
  await network.open();
  return network;
}
