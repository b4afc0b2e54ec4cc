/**
 * A program in a process group of its own, so that the workers it makes are measured with it and end with it,
 * even those that outlive their parent.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { Usage } from '../program.ts';

const LOOK_EVERY_MS = 10;
const OUTPUT_KEPT = 4000;

export class ProgramProcess {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #title: string;
  readonly #ended: Promise<void>;
  #output = '';
  #running = true;

  constructor(command: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const [program = '', ...args] = command;
    this.#title = program;
    this.#child = spawn(program, args, {
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    this.#child.on('error', () => {});
    if (this.#child.pid === undefined) throw new Error(`cannot start ${program}`);
    this.pid = this.#child.pid;
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output += text;
      });
    }
    this.#ended = new Promise((resolve) => {
      this.#child.once('exit', () => {
        this.#running = false;
        resolve();
      });
    });
  }

  /** How often the program has said `words` so far. */
  count(words: string): number {
    return this.#output.split(words).length - 1;
  }

  /** Waits until the program has said `words` `times` times in all. */
  async said(words: string, times: number, withinMs: number = 10_000): Promise<void> {
    for (const startedMs = performance.now(); this.count(words) < times; await delay(LOOK_EVERY_MS)) {
      if (!this.#running || performance.now() - startedMs > withinMs)
        throw new Error(`${this.#title} did not say "${words}": ${this.#output.slice(-OUTPUT_KEPT)}`);
    }
  }

  /** Waits until the program has a handler for the signal: what is sent before may be lost (HAProxy), or end it. */
  async catches(name: NodeJS.Signals, withinMs: number = 10_000): Promise<void> {
    const bit = 1n << BigInt(constants.signals[name] - 1);
    for (const startedMs = performance.now(); ; await delay(LOOK_EVERY_MS)) {
      const status = readFileSync(`/proc/${this.pid}/status`, 'latin1');
      if (BigInt(`0x${/^SigCgt:\s+(\w+)/m.exec(status)?.[1] ?? '0'}`) & bit) return;
      if (performance.now() - startedMs > withinMs) throw new Error(`${this.#title} does not catch ${name}`);
    }
  }

  /** What `other` comes to, unless the program ends before. It is of no use after a failure, and is ended. */
  async meanwhile<T>(other: Promise<T>): Promise<T> {
    const end = this.#ended.then(() => {
      throw new Error(`${this.#title} ended: ${this.#output.slice(-OUTPUT_KEPT)}`);
    });
    try {
      return await Promise.race([other, end]);
    } catch (error) {
      this.kill();
      throw error;
    }
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Sends the signal and waits for the end, which has to come in time. */
  async stop(name: NodeJS.Signals, withinMs: number): Promise<void> {
    this.signal(name);
    const timer = new AbortController();
    const late = delay(withinMs, undefined, { signal: timer.signal }).then(() => {
      throw new Error(`${this.#title} still runs ${withinMs} ms after ${name}`);
    });
    late.catch(() => {});
    try {
      await Promise.race([this.#ended, late]);
    } finally {
      timer.abort();
    }
  }

  kill(): void {
    try {
      process.kill(-this.pid, 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}

/** What all processes of these groups use together. */
export function usageOf(groups: readonly number[]): Usage {
  let [rssBytes, descriptors] = [0, 0];
  for (const entry of readdirSync('/proc')) {
    if (!/^\d/.test(entry)) continue;
    try {
      // The second field is the program's name in brackets, with anything in it.
      const group = readFileSync(`/proc/${entry}/stat`, 'latin1').split(') ').at(-1)?.split(' ')[2];
      if (!groups.includes(Number(group))) continue;
      const kilobytes = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${entry}/status`, 'latin1'))?.[1];
      rssBytes += Number(kilobytes ?? 0) * 1024;
      descriptors += readdirSync(`/proc/${entry}/fd`).length;
    } catch {
      // It ended while it was looked at.
    }
  }
  return { rssBytes, descriptors };
}
