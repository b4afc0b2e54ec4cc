/**
 * Programs that a lab runs: started, listened to, and ended by the pid that was started. What they are and
 * in which namespace they run is left to the caller.
 */

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

export interface ProcessOptions {
  /** Added to this process's own environment; `undefined` takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Written to standard input, which is then closed. */
  readonly input?: string;
}

export interface RunOptions extends ProcessOptions {
  /** The program is killed and the call rejects when it has not ended by then. Default 20 s. */
  readonly timeoutMs?: number;
}

export interface Result {
  /** `null` where a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const STOP_GRACE_MS = 2_000;
const OUTPUT_GRACE_MS = 500;

/** A program of the lab, whoever its parent is. */
export interface Running {
  readonly pid: number;
  readonly running: boolean;
  readonly output: string;
  signal(name: NodeJS.Signals): void;
  stop(signal?: NodeJS.Signals): Promise<unknown>;
}

/** A child of this process. */
export class LabProcess implements Running {
  readonly pid: number;
  /** Resolves when the program has ended and its output is complete; never rejects. */
  readonly exited: Promise<Result>;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #title: string;
  readonly #listeners = new Set<() => void>();
  #stdout = '';
  #stderr = '';
  #output = '';
  #ended = false;

  constructor(command: readonly string[], options: ProcessOptions = {}) {
    const [program = '', ...args] = command;
    this.#title = command.join(' ').slice(0, 200);
    this.#child = spawn(program, args, { env: { ...process.env, ...options.env }, stdio: 'pipe' });
    // A program that does not exist has no pid; the event says the same again, later.
    this.#child.on('error', () => {});
    if (this.#child.pid === undefined) throw new Error(`cannot start ${this.#title}`);
    this.pid = this.#child.pid;
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text;
      this.#heard(text);
    });
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
      this.#heard(text);
    });
    // A program may end before it has read its input.
    this.#child.stdin.on('error', () => {});
    this.#child.stdin.end(options.input ?? '');
    // A program that left a daemon behind has ended, though its output is still open.
    this.#child.once('exit', () => {
      setTimeout(() => {
        this.#child.stdout.destroy();
        this.#child.stderr.destroy();
      }, OUTPUT_GRACE_MS).unref();
    });
    this.exited = new Promise((resolve) => {
      this.#child.once('close', (code) => {
        this.#ended = true;
        resolve({ code, stdout: this.#stdout, stderr: this.#stderr });
        this.#heard('');
      });
    });
  }

  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** Both streams, in the order in which they arrived. */
  get output(): string {
    return this.#output;
  }

  get running(): boolean {
    return !this.#ended;
  }

  /** Resolves when the output (stdout or stderr) matches; rejects when the program ends or time runs out. */
  waitFor(pattern: RegExp, timeoutMs: number = 5_000): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const settle = (act: () => void): void => {
        clearTimeout(timer);
        this.#listeners.delete(look);
        act();
      };
      const fail = (why: string): void => {
        settle(() => reject(new Error(`${this.#title}: ${why} before ${pattern}\n${this.#output}`)));
      };
      const look = (): void => {
        const match = pattern.exec(this.#output);
        if (match) settle(() => resolve(match));
        else if (this.#ended) fail('ended');
      };
      const timer = setTimeout(() => fail(`${timeoutMs} ms passed`), timeoutMs);
      this.#listeners.add(look);
      look();
    });
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Asks the program to end, insists after 2 s, and resolves when it has ended. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Result> {
    this.#child.kill(signal);
    const insist = setTimeout(() => this.#child.kill('SIGKILL'), STOP_GRACE_MS);
    const result = await this.exited;
    clearTimeout(insist);
    return result;
  }

  #heard(text: string): void {
    this.#output += text;
    for (const listener of this.#listeners) listener();
  }
}

/** A daemon that detached itself, known by the pid that it writes into a file. */
export class Daemon implements Running {
  readonly output: string = '';
  readonly #pidFile: string;
  readonly #name: string;
  #pid = 0;

  /** `name` is looked for in its command line, so that a pid that was given to another is left alone. */
  constructor(pidFile: string, name: string) {
    this.#pidFile = pidFile;
    this.#name = name;
  }

  /** 0 where it has not written it yet, or has ended. */
  get pid(): number {
    try {
      // Kept, since a daemon may take the file away before it has ended.
      this.#pid ||= Number(readFileSync(this.#pidFile, 'utf8'));
      // The command line is empty where it has ended and nobody has collected it yet.
      return readFileSync(`/proc/${this.#pid}/cmdline`, 'utf8').includes(this.#name) ? this.#pid : 0;
    } catch {
      return 0;
    }
  }

  get running(): boolean {
    return this.pid !== 0;
  }

  signal(name: NodeJS.Signals): void {
    const { pid } = this;
    if (pid !== 0) process.kill(pid, name);
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.signal(signal);
    const insistAtMs = Date.now() + STOP_GRACE_MS;
    while (this.running) {
      if (Date.now() > insistAtMs) this.signal('SIGKILL');
      await delay(5);
    }
  }
}

/** The programs of one lab, so that all of them can be ended. */
export class Processes {
  readonly #env: Readonly<Record<string, string>>;
  readonly #running = new Set<LabProcess>();

  /** `env` is given to every program started here. */
  constructor(env: Readonly<Record<string, string>> = {}) {
    this.#env = env;
  }

  start(command: readonly string[], options: ProcessOptions = {}): LabProcess {
    const started = new LabProcess(command, { ...options, env: { ...this.#env, ...options.env } });
    this.#running.add(started);
    void started.exited.then(() => this.#running.delete(started));
    return started;
  }

  /** Runs a program to its end. */
  async run(command: readonly string[], options: RunOptions = {}): Promise<Result> {
    const { timeoutMs = 20_000 } = options;
    const started = this.start(command, options);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      started.signal('SIGKILL');
    }, timeoutMs);
    const result = await started.exited;
    clearTimeout(timer);
    if (late) throw new Error(`${command.join(' ')}: still running after ${timeoutMs} ms\n${started.output}`);
    return result;
  }

  /** Runs a program that has to succeed; answers its standard output. */
  async must(command: readonly string[], options: RunOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(command, options);
    if (code !== 0) throw new Error(`${command.join(' ')}: exit ${code}\n${stderr}${stdout}`);
    return stdout;
  }

  async stopAll(): Promise<void> {
    await Promise.all([...this.#running].map((running) => running.stop()));
  }
}
