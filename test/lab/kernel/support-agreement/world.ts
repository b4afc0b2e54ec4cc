/** Clients, a router and a server in network namespaces of their own, with an engine on the router. */

import { randomBytes } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Janitor } from '../../support/janitor.ts';
import { Processes } from '../../support/processes.ts';
import { Worker } from './worker.ts';

export const CLIENTS: readonly string[] = ['10.7.1.2', '10.7.1.3', '10.7.1.4', '10.7.1.5'];
/** The router's own, on the clients' side. */
export const ROUTER: readonly string[] = ['10.7.1.1', '10.7.1.9'];
export const ROUTER_INSIDE = '10.7.2.1';
export const SERVER = '10.7.2.2';
/** The ports of the server, and of servers on the router. */
export const SERVED: readonly number[] = [7001, 7002, 7003];

const PLACES = ['client', 'router', 'server'] as const;
type Place = (typeof PLACES)[number];

const SERVE = `
  const ports = process.argv.slice(1).map(Number);
  let left = 2 * ports.length;
  const listening = () => --left === 0 && console.log('listening');
  for (const port of ports) {
    require('node:net').createServer((socket) => socket.on('error', () => {})).listen(port, listening);
    require('node:dgram').createSocket('udp4').bind(port, listening);
  }`;

export class World implements AsyncDisposable {
  readonly #prefix = `nwa${randomBytes(3).toString('hex')}`;
  readonly #env = { NATWARD_LAB: this.#prefix };
  readonly #processes = new Processes(this.#env);
  readonly #janitor = new Janitor(
    mkdtempSync(join(tmpdir(), 'natward-agreement-')),
    `NATWARD_LAB=${this.#prefix}`,
    PLACES.map((place) => `${this.#prefix}-${place}`),
  );
  readonly #workers: Worker[] = [];

  /** Ready to be used. */
  static async create(): Promise<World> {
    const world = new World();
    try {
      await world.#build();
      return world;
    } catch (error) {
      await world[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #build(): Promise<void> {
    for (const place of PLACES) await this.#processes.must(['ip', 'netns', 'add', this.#name(place)]);
    await this.#sh('client', 'ip link set lo up');
    await this.#sh('server', 'ip link set lo up');
    await this.#sh(
      'router',
      `ip link set lo up; echo 1 >/proc/sys/net/ipv4/ip_forward
       ip link add c0 type veth peer name eth0 netns ${this.#name('client')}
       ip link add s0 type veth peer name eth0 netns ${this.#name('server')}
       ip link set c0 up; ip link set s0 up
       ip addr add ${ROUTER_INSIDE}/24 dev s0
       ${ROUTER.map((address) => `ip addr add ${address}/24 dev c0`).join('; ')}`,
    );
    await this.#sh(
      'client',
      `ip link set eth0 up; ${CLIENTS.map((address) => `ip addr add ${address}/24 dev eth0`).join('; ')}
       ip route add default via ${ROUTER[0]}`,
    );
    await this.#sh(
      'server',
      `ip link set eth0 up; ip addr add ${SERVER}/24 dev eth0; ip route add default via ${ROUTER_INSIDE}`,
    );
    for (const place of ['server', 'router'] as const) {
      const server = this.#processes.start(
        this.#inside(place, [process.execPath, '-e', SERVE, ...SERVED.map(String)]),
      );
      await server.waitFor(/^listening$/m);
    }
  }

  /** Runs one of this folder's programs. */
  work(place: Place, script: string, ...args: readonly string[]): Worker {
    const file = new URL(script, import.meta.url).pathname;
    const command = this.#inside(place, [process.execPath, '--import', 'tsx', file, ...args]);
    const worker = new Worker(command, this.#env);
    this.#workers.push(worker);
    return worker;
  }

  #name(place: Place): string {
    return `${this.#prefix}-${place}`;
  }

  #inside(place: Place, command: readonly string[]): string[] {
    return ['ip', 'netns', 'exec', this.#name(place), ...command];
  }

  #sh(place: Place, text: string): Promise<string> {
    return this.#processes.must(this.#inside(place, ['sh', '-eu']), { input: text });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker[Symbol.asyncDispose]()));
    await this.#processes.stopAll();
    await this.#janitor.clean();
  }
}
