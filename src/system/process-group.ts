/**
 * A program as the head of a process group of its own, so that it goes with everything it started: the group is
 * asked to end and, shortly after, made to. How long it runs and what is read of it is the caller's.
 *
 * On Windows there are no process groups to signal: there the program itself is ended.
 */

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { NatwardError } from '../errors.ts';

export interface Start {
  /** The program and its arguments, as they stand; or one line for the platform's shell. */
  readonly command: readonly [string, ...string[]] | { readonly shell: string };
  /** Beside this process's own environment; undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Its standard input, which ends after it. Left out: empty. */
  readonly input?: string;
}

/** Between SIGTERM and SIGKILL; the one who aborts is in a hurry. */
export const GRACE_MS = 2_000;
export const HURRY_MS = 400;
const POLL_MS = 20;
/** A program inside a dead file system ends when that comes back: nobody waits for it. */
const UNKILLABLE_MS = 1_000;
/** What is still in the pipes when a program has ended; longer only where a child of it holds them open. */
export const LAST_OUTPUT_MS = 500;

const HAS_GROUPS: boolean = process.platform !== 'win32';

function start({ command, env }: Start): ChildProcessWithoutNullStreams {
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

/** Throws FAILED where it cannot be started. */
export async function started(request: Start): Promise<ChildProcessWithoutNullStreams> {
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

export interface End {
  readonly exited: Promise<void>;
  /** Its output has ended, too. */
  readonly closed: Promise<void>;
}

export function endOf(child: ChildProcessWithoutNullStreams): End {
  const event = (name: 'exit' | 'close') => new Promise<void>((resolve) => child.once(name, () => resolve()));
  return { exited: event('exit'), closed: event('close') };
}

/** Asks the whole group to end, and makes it. */
export async function endGroup(
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
