/**
 * Runs a program of the machine to its end, and within limits: of time, of what is kept of its output, and of
 * what it may write at all. What to run, and what to make of the result, is the caller's.
 */

import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { aborted } from './clock.ts';
import { endGroup, endOf, GRACE_MS, HURRY_MS, LAST_OUTPUT_MS, type Start, started } from './process-group.ts';

export interface ProgramRequest extends Start {
  /** 1..2147483647 */
  readonly timeLimitMs: number;
  /** So much is kept of stdout, and of stderr; what follows is read and counted. */
  readonly keptBytes: number;
  /** The program is cut when both together are more. */
  readonly floodBytes: number;
  readonly signal?: AbortSignal;
}

export interface ProgramResult {
  /** Null where a signal ended it. */
  readonly exitCode: number | null;
  readonly endedBy: NodeJS.Signals | null;
  /** Why it was made to end; null where it ended by itself. */
  readonly cut: 'time' | 'output' | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Resolves when the program has ended, however it did. Throws FAILED (it cannot be started) or ABORTED, when
 * it is gone. What it leaves running in the background is left alone, and no longer listened to.
 */
export type RunProgram = (request: ProgramRequest) => Promise<ProgramResult>;

export const runProgram: RunProgram = async (request) => {
  const { signal } = request;
  if (signal?.aborted) throw aborted(signal);
  const child = await started(request);
  const end = endOf(child);
  const limits = watchLimits(request);
  const output = new Output(child, request, limits.flood);
  try {
    let cut = await Promise.race([end.exited.then(() => null), limits.reached]);
    if (cut === null) {
      // What a child of it goes on writing may still be a flood, or be stopped.
      const last = delay(LAST_OUTPUT_MS, null, { ref: false });
      cut = await Promise.race([end.closed.then(() => null), last, limits.reached]);
      if (cut === 'time') cut = null;
    }
    if (cut !== null) await endGroup(child, end.exited, cut === 'abort' ? HURRY_MS : GRACE_MS);
    if (cut === 'abort') throw aborted(signal as AbortSignal);
    const { exitCode, signalCode } = child;
    return { exitCode, endedBy: signalCode, cut, stdout: output.stdout, stderr: output.stderr };
  } finally {
    limits.release();
    output.close();
    child.unref();
  }
};

type Cut = 'time' | 'output' | 'abort';

interface Limits {
  readonly reached: Promise<Cut>;
  readonly flood: () => void;
  readonly release: () => void;
}

function watchLimits({ timeLimitMs, signal }: ProgramRequest): Limits {
  let reach: (cut: Cut) => void = () => {};
  const reached = new Promise<Cut>((resolve) => {
    reach = resolve;
  });
  const timer = setTimeout(() => reach('time'), timeLimitMs);
  const abort = () => reach('abort');
  signal?.addEventListener('abort', abort, { once: true });
  return {
    reached,
    flood: () => reach('output'),
    release() {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    },
  };
}

/** The start of both streams; the rest is drained, so that the program is not held up by a full pipe. */
class Output {
  readonly #streams: readonly Readable[];
  readonly #kept: { readonly stdout: Buffer[]; readonly stderr: Buffer[] } = { stdout: [], stderr: [] };
  #total = 0;

  constructor(child: ChildProcessWithoutNullStreams, request: ProgramRequest, flood: () => void) {
    this.#streams = [child.stdout, child.stderr];
    for (const name of ['stdout', 'stderr'] as const) {
      let room = request.keptBytes;
      child[name].on('data', (chunk: Buffer) => {
        if (room > 0) this.#kept[name].push(chunk.subarray(0, room));
        room -= chunk.length;
        this.#total += chunk.length;
        if (this.#total <= request.floodBytes) return;
        // A flood is not read while its source is being ended.
        for (const stream of this.#streams) stream.pause();
        flood();
      });
      child[name].on('error', () => {});
    }
  }

  get stdout(): string {
    return Buffer.concat(this.#kept.stdout).toString('utf8');
  }

  get stderr(): string {
    return Buffer.concat(this.#kept.stderr).toString('utf8');
  }

  close(): void {
    for (const stream of this.#streams) stream.destroy();
  }
}
