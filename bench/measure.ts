/**
 * Stop-watches. A program is timed from its start to the rule in the gateway's kernel, as the kernel itself
 * reports it, and to its own end; every time is read from one monotonic clock, this process's.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import type { Lab } from '../test/lab/support/lab.ts';

const LISTENING_DEADLINE_MS = 5_000;
const PROBE_MS = 50;
/** For a rule that is reported after the program that asked for it has ended. */
const LATE_RULE_MS = 300;

/** The redirects that appear in the gateway's kernel, with the time at which the kernel's report arrives. */
export class RuleWatch {
  readonly #monitor: ChildProcess;
  #onRule: (externalPort: number, atMs: number) => void = () => {};

  private constructor(lab: Lab) {
    const [program = '', ...args] = lab.command('gw', ['nft', 'monitor', 'new', 'rules']);
    this.#monitor = spawn(program, args, {
      // The mark by which the lab's janitor ends it where this process could not.
      env: { ...process.env, NATWARD_LAB: lab.prefix },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    if (this.#monitor.stdout === null) throw new Error('nft monitor was started without an output');
    createInterface({ input: this.#monitor.stdout }).on('line', (line) => {
      const atMs = performance.now();
      const port = /^add rule inet filter prerouting_miniupnpd .*\bdport (\d+)/.exec(line)?.[1];
      if (port !== undefined) this.#onRule(Number(port), atMs);
    });
  }

  /** Resolves when rules are heard of. */
  static async start(lab: Lab): Promise<RuleWatch> {
    const watch = new RuleWatch(lab);
    const heard = new Promise<boolean>((resolve) => watch.listen(() => resolve(true)));
    const deadlineMs = performance.now() + LISTENING_DEADLINE_MS;
    do {
      if (performance.now() > deadlineMs) throw new Error('nft monitor reports no rules');
      await lab.must('gw', 'nft add rule inet filter prerouting_miniupnpd tcp dport 1 accept'.split(' '));
    } while (!(await Promise.race([heard, delay(PROBE_MS, false)])));
    await lab.wipeTable();
    return watch;
  }

  /** In place of the listener before. */
  listen(onRule: (externalPort: number, atMs: number) => void): void {
    this.#onRule = onRule;
  }

  stop(): void {
    this.#monitor.kill();
  }
}

/** What the drivers of the npm peers print. */
interface DriverLine {
  readonly loadMs: number;
  readonly callMs: number;
  readonly message?: string;
}

export interface Timing {
  /** From the start to the last of the wanted rules; undefined where they did not all come. */
  readonly ruleMs: number | undefined;
  /** From the start to the end of the program; undefined where it had to be ended. */
  readonly exitMs: number | undefined;
  readonly code: number | null;
  /** The program's last words. */
  readonly said: string;
  /** The mapping call inside an npm peer's process. */
  readonly callMs: number | undefined;
}

export interface TimeOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** How many rules, of which ports. Default: none. */
  readonly rules?: { readonly watch: RuleWatch; readonly first: number; readonly count: number };
  readonly limitMs: number;
}

/** Runs a program in the lan. Resolves when it has ended; it is killed when the limit has passed. */
export async function time(lab: Lab, command: readonly string[], options: TimeOptions): Promise<Timing> {
  const { rules, limitMs, env } = options;
  const wanted = new Set(Array.from({ length: rules?.count ?? 0 }, (_, at) => (rules?.first ?? 0) + at));
  let ruleAtMs: number | undefined;
  const allSeen = new Promise<void>((resolve) => {
    rules?.watch.listen((port, atMs) => {
      if (!wanted.delete(port) || wanted.size > 0) return;
      ruleAtMs = atMs;
      resolve();
    });
  });
  const startedMs = performance.now();
  const program = lab.spawn('lan', command, env === undefined ? {} : { env });
  let late = false;
  const limit = setTimeout(() => {
    late = true;
    program.signal('SIGKILL');
  }, limitMs);
  const { code, stdout, stderr } = await program.exited;
  const endedMs = performance.now();
  clearTimeout(limit);
  if (rules !== undefined) await Promise.race([allSeen, delay(LATE_RULE_MS)]);
  const driver = driverLine(stdout);
  return {
    ruleMs: ruleAtMs === undefined ? undefined : ruleAtMs - startedMs,
    exitMs: late ? undefined : endedMs - startedMs,
    code,
    said: driver?.message ?? lastWords(stderr) ?? lastWords(stdout) ?? '',
    callMs: driver !== undefined && driver.message === undefined ? driver.callMs : undefined,
  };
}

function driverLine(stdout: string): DriverLine | undefined {
  const line = stdout.split('\n').find((text) => text.startsWith('{"loadMs"'));
  if (line === undefined) return undefined;
  const parsed: DriverLine = JSON.parse(line);
  return parsed;
}

/** An uncaught error's stack ends with the version of Node: its words are the line that names the error. */
function lastWords(output: string): string | undefined {
  const lines = output.split('\n').filter((line) => line.trim() !== '');
  return (lines.find((line) => /^\w*Error\b/.test(line)) ?? lines.at(-1))?.trim().slice(0, 160);
}
