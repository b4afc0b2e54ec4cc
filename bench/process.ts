/** What the kernel says of a process (proc(5)), and what bench/peers/loop-delay.mjs says of its event loop. */

import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const TICKS_PER_SECOND = 100;
const LOOP_FILE_LIMIT_MS = 5000;

export interface Usage {
  readonly rssMb: number;
  readonly peakRssMb: number;
  /** User and system, since its start. */
  readonly cpuSeconds: number;
}

export function usageOf(pid: number): Usage {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const kilobytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]);
  // The second field is the program's name in brackets, with anything in it.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
  const [user, system] = [fields[11], fields[12]].map(Number);
  return {
    rssMb: kilobytes('VmRSS') / 1024,
    peakRssMb: kilobytes('VmHWM') / 1024,
    cpuSeconds: ((user ?? 0) + (system ?? 0)) / TICKS_PER_SECOND,
  };
}

export interface LoopDelay {
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** Measures the event loop of one Node program, from its start on. */
export class LoopWatch {
  /** What goes before the program's own script, and into its environment. */
  readonly nodeArgs: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly #file: string;
  #lines = 0;

  constructor(file: string) {
    this.#file = file;
    this.nodeArgs = ['--import', fileURLToPath(new URL('peers/loop-delay.mjs', import.meta.url))];
    this.env = { BENCH_LOOP_FILE: file };
  }

  /** Ends the measurement. */
  async read(pid: number): Promise<LoopDelay> {
    const wanted = ++this.#lines;
    process.kill(pid, 'SIGUSR2');
    for (const startedMs = Date.now(); Date.now() - startedMs < LOOP_FILE_LIMIT_MS; await delay(10)) {
      const lines = existsSync(this.#file) ? readFileSync(this.#file, 'utf8').split('\n').slice(0, -1) : [];
      const line = lines[wanted - 1];
      if (line !== undefined) return JSON.parse(line) as LoopDelay;
    }
    throw new Error(`process ${pid} does not say how its event loop is`);
  }

  begin(pid: number): void {
    process.kill(pid, 'SIGUSR2');
  }
}
