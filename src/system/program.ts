/**
 * Runs a program of the machine to its end, and within limits: of time, of what is kept of its output, and of
 * what it may write at all. A program that is cut goes with everything it started: it is the head of a process
 * group of its own, which is asked to end and, shortly after, made to. What to run, and what to make of the
 * result, is the caller's.
 *
 * On Windows there are no process groups to signal: there the program itself is ended.
 */

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { NatwardError } from '../errors.ts';
import { aborted } from './clock.ts';

export interface ProgramRequest {
  /** The program and its arguments, as they stand; or one line for the platform's shell. */
  readonly command: readonly [string, ...string[]] | { readonly shell: string };
  /** Beside this process's own environment; undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Its standard input, which ends after it. Left out: empty. */
  readonly input?: string;
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

/** Between SIGTERM and SIGKILL; the one who aborts is in a hurry. */
const GRACE_MS = 2_000;
const HURRY_MS = 400;
const POLL_MS = 20;
/** A program inside a dead file system ends when that comes back: nobody waits for it. */
const UNKILLABLE_MS = 1_000;
/** What is still in the pipes when a program has ended; longer only where a child of it holds them open. */
const LAST_OUTPUT_MS = 500;

const HAS_GROUPS: boolean = process.platform !== 'win32';

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

function start({ command, env }: ProgramRequest): ChildProcessWithoutNullStreams {
  const options = {
    detached: HAS_GROUPS,
    windowsHide: true,
    env: { ...process.env, ...env },
    stdio: 'pipe',
  } as const;
  if ('shell' in command) return spawn(command.shell, { ...options, shell: true });
  const [program, ...args] = command;
  return spawn(program, args, options);
}

async function started(request: ProgramRequest): Promise<ChildProcessWithoutNullStreams> {
  const name = 'shell' in request.command ? 'the shell' : request.command[0];
  try {
    // Throws as well as it emits: a NUL in an argument, an environment that is too large.
    const child = start(request);
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', reject);
    });
    child.on('error', () => {}); // a signal that could not be sent
    child.stdin.on('error', () => {}); // it may end before it has read its input
    child.stdin.end(request.input ?? '');
    return child;
  } catch (cause) {
    throw new NatwardError('FAILED', `${name} cannot be started: ${whyNotStarted(cause)}`, { cause });
  }
}

function whyNotStarted(cause: unknown): string {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  if (code === 'ENOENT') return 'there is no such program';
  if (code === 'EACCES') return 'it is not executable, or this user may not run it';
  return cause instanceof Error ? cause.message : String(cause);
}

interface End {
  readonly exited: Promise<void>;
  /** Its output has ended, too. */
  readonly closed: Promise<void>;
}

function endOf(child: ChildProcessWithoutNullStreams): End {
  const event = (name: 'exit' | 'close') => new Promise<void>((resolve) => child.once(name, () => resolve()));
  return { exited: event('exit'), closed: event('close') };
}

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

/** Asks the whole group to end, and makes it. */
async function endGroup(
  child: ChildProcessWithoutNullStreams,
  exited: Promise<void>,
  graceMs: number,
): Promise<void> {
  send(child, 'SIGTERM');
  for (let leftMs = graceMs; leftMs > 0 && lives(child); leftMs -= POLL_MS) await delay(POLL_MS);
  send(child, 'SIGKILL');
  await Promise.race([exited, delay(UNKILLABLE_MS, undefined, { ref: false })]);
}

function lives(child: ChildProcessWithoutNullStreams): boolean {
  return HAS_GROUPS ? send(child, 0) : child.exitCode === null && child.signalCode === null;
}

/** Reports whether there was anybody to send it to. */
function send(child: ChildProcessWithoutNullStreams, signal: NodeJS.Signals | 0): boolean {
  if (child.pid === undefined) return false;
  try {
    // A group is there as long as one of its members is, and so long its number is given to nobody else.
    return HAS_GROUPS ? process.kill(-child.pid, signal) : child.kill(signal);
  } catch {
    return false;
  }
}
