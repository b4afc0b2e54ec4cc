/**
 * Whether mapped ports answer: a server in the lan on each of them, and a peer in the wan that connects to each
 * every tenth of a second and takes nothing but the server's bytes for an answer.
 */

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { ADDRESSES, type Lab } from '../test/lab/support/lab.ts';

const EVERY_MS = 100;
/** A try that takes longer has failed: all of it is on one machine. */
const PATIENCE_MS = 1000;
const GREETING = 'natward bench';

const SERVE = `
  const [text, ...ports] = process.argv.slice(1);
  const net = require('node:net');
  let left = ports.length;
  const ready = () => { if (--left === 0) console.log('listening'); };
  for (const port of ports) {
    net.createServer((socket) => socket.on('error', () => {}).end(text)).listen(Number(port), '0.0.0.0', ready);
  }
`;

const PROBE = `
  const [address, text, everyMs, patienceMs, ...ports] = process.argv.slice(1);
  const net = require('node:net');
  for (const port of ports) {
    let answers = undefined;
    const probe = () => {
      let heard = '';
      const socket = net.connect(Number(port), address);
      const timer = setTimeout(() => socket.destroy(), Number(patienceMs));
      socket.on('error', () => {}).on('data', (data) => { heard += data; });
      socket.on('close', () => {
        clearTimeout(timer);
        if ((heard === text) !== answers) {
          answers = heard === text;
          console.log(JSON.stringify({ port: Number(port), answers, atMs: Date.now() }));
        }
        setTimeout(probe, Number(everyMs));
      });
    };
    probe();
  }
`;

interface Change {
  readonly port: number;
  readonly answers: boolean;
  readonly atMs: number;
}

export class Probe implements AsyncDisposable {
  readonly #stop: () => Promise<unknown>;
  readonly #changes = new Map<number, Change>();
  #onChange: () => void = () => {};

  private constructor(stop: () => Promise<unknown>) {
    this.#stop = stop;
  }

  /** Resolves when all ports are served. */
  static async start(lab: Lab, ports: readonly number[]): Promise<Probe> {
    const words = ports.map(String);
    const server = lab.spawn('lan', [process.execPath, '-e', SERVE, GREETING, ...words]);
    await server.waitFor(/^listening$/m);
    const args = [ADDRESSES.outer, GREETING, String(EVERY_MS), String(PATIENCE_MS), ...words];
    const [program = '', ...rest] = lab.command('wan', [process.execPath, '-e', PROBE, ...args]);
    const prober = spawn(program, rest, {
      // The mark by which the lab's janitor ends it where this process could not.
      env: { ...process.env, NATWARD_LAB: lab.prefix },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const probe = new Probe(async () => {
      prober.kill();
      await server.stop();
    });
    createInterface({ input: prober.stdout }).on('line', (line) => probe.#changed(JSON.parse(line)));
    return probe;
  }

  #changed(change: Change): void {
    this.#changes.set(change.port, change);
    this.#onChange();
  }

  /** When the port began to answer; undefined where it does not now. */
  answersSince(port: number): number | undefined {
    const change = this.#changes.get(port);
    return change?.answers === true ? change.atMs : undefined;
  }

  /** Resolves when `done`, which is asked at each change, or after `limitMs`. */
  async until(done: () => boolean, limitMs: number): Promise<void> {
    if (done()) return;
    await new Promise<void>((resolve) => {
      const limit = setTimeout(resolve, limitMs);
      this.#onChange = () => {
        if (!done()) return;
        clearTimeout(limit);
        resolve();
      };
    });
    this.#onChange = () => {};
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop();
  }
}
