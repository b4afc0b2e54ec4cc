/**
 * Opening the control socket, once on a host for each place. Who opens it holds a lock meanwhile: it asks
 * whoever may hold the place already, listens beside it under another name, and renames what listens into
 * place. So the place never leads to a socket that does not listen yet, a dead one is replaced in one step, and
 * of two that start at once the second finds the first.
 */

import {
  chmodSync,
  closeSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  type Stats,
} from 'node:fs';
import type { Server } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { isNatwardError, NatwardError } from '../errors.ts';
import { call } from './call.ts';
import { type AgentFacts, agentAnswerSchema, PATHS } from './schema.ts';

/** `sun_path` less its final zero: unix(7), and sys/un.h of macOS and the BSDs. */
const MAX_PATH_BYTES = process.platform === 'linux' ? 107 : 103;
/** Not longer than the name of the socket, so that their paths fit as well. */
const FRESH = 'control.new';
const LOCK = 'control.lock';
/** Whoever holds the lock asks once and listens: a lock as old as this was left by a process that died. */
const STALE_LOCK_MS = 10_000;
const LOCK_RETRY_MS = 20;
const LOCK_TRIES = (1.5 * STALE_LOCK_MS) / LOCK_RETRY_MS;
/** How long the one that holds the place has to say who it is. */
const RIVAL_SILENCE_MS = 3000;

export interface HeldSocket {
  /** Takes the socket out of its place, where it is still this one. The server goes on until it is closed. */
  release(): Promise<void>;
}

/** Reports whether a socket can have this path; named pipes have no such limit. */
export function fitsSocket(place: string): boolean {
  return process.platform === 'win32' || Buffer.byteLength(place) <= MAX_PATH_BYTES;
}

/**
 * Makes `server` listen at `place`, for this user alone. Throws FAILED where an agent holds it, or one of
 * `rivals`, already, and where it cannot be opened; USAGE where its path is too long.
 */
export async function holdSocket(
  server: Server,
  place: string,
  rivals: readonly string[],
): Promise<HeldSocket> {
  if (!fitsSocket(place)) {
    const bytes = Buffer.byteLength(place);
    throw new NatwardError(
      'USAGE',
      `the control socket ${place} has a path of ${bytes} bytes, and this system takes ${MAX_PATH_BYTES}`,
      { advice: 'Set NATWARD_HOME to a directory with a shorter path.' },
    );
  }
  try {
    for (const rival of rivals) await refuseRival(rival);
    if (process.platform === 'win32') return await holdPipe(server, place);
    return await holdPath(server, place);
  } catch (error) {
    server.close();
    if (isNatwardError(error)) throw error;
    throw new NatwardError(
      'FAILED',
      `the control socket ${place} cannot be opened: ${(error as Error).message}`,
      { cause: error },
    );
  }
}

async function holdPath(server: Server, place: string): Promise<HeldSocket> {
  const directory = dirname(place);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const lock = await takeLock(join(directory, LOCK));
  try {
    await refuseRival(place);
    const fresh = join(directory, FRESH);
    rmSync(fresh, { force: true });
    await listenAlone(server, fresh);
    const own = lstatSync(fresh);
    if (!lock.isHeld()) throw new NatwardError('FAILED', 'another process opens it at this moment');
    renameSync(fresh, place);
    return { release: () => release(place, own) };
  } finally {
    lock.giveBack();
  }
}

/** The system gives a pipe's name to one process and takes it back at its end. */
async function holdPipe(server: Server, place: string): Promise<HeldSocket> {
  try {
    await listening(server, () => server.listen(place));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') await refuseRival(place);
    throw error;
  }
  return { release: async () => undefined };
}

/** Nobody else can connect at any moment: files made meanwhile by other threads are private, too. */
async function listenAlone(server: Server, path: string): Promise<void> {
  await listening(server, () => {
    const before = process.umask(0o077);
    try {
      server.listen(path);
    } finally {
      process.umask(before);
    }
  });
  chmodSync(path, 0o600);
}

function listening(server: Server, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', () => {
      server.off('error', reject);
      resolve();
    });
    listen();
  });
}

async function release(place: string, own: Stats): Promise<void> {
  // What stays in its place after all is dead, and the next agent replaces it.
  const lock = await takeLock(join(dirname(place), LOCK)).catch(() => undefined);
  if (lock === undefined) return;
  try {
    if (isSame(lstatSync(place, { throwIfNoEntry: false }), own)) rmSync(place);
  } finally {
    lock.giveBack();
  }
}

function isSame(one: Stats | undefined, other: Stats): boolean {
  return one?.ino === other.ino && one.dev === other.dev;
}

/** Throws FAILED unless nobody listens at `place`. */
async function refuseRival(place: string): Promise<void> {
  if (!fitsSocket(place)) return;
  if (process.platform !== 'win32') {
    const there = lstatSync(place, { throwIfNoEntry: false });
    if (there === undefined) return;
    if (!there.isSocket()) throw new NatwardError('FAILED', `${place} is in the way: it is not a socket`);
  }
  let rival: AgentFacts;
  try {
    rival = await whoHolds(place);
  } catch (error) {
    if (isNobody(error)) return;
    throw new NatwardError(
      'FAILED',
      `somebody listens at ${place} and does not answer as an agent does: ${(error as Error).message}`,
      { cause: error, advice: 'End it first.' },
    );
  }
  throw new NatwardError(
    'FAILED',
    `an agent already runs: pid ${rival.pid} (natward ${rival.version}), socket ${place}`,
    { advice: 'natward status shows what it keeps.' },
  );
}

/** Who answers there. Throws as `call` does. */
export async function whoHolds(place: string): Promise<AgentFacts> {
  const question = { method: 'GET', path: PATHS.agent, silenceMs: RIVAL_SILENCE_MS } as const;
  return (await call(place, question, agentAnswerSchema)).agent;
}

/** Reports whether a connection failed because no process listens there. */
export function isNobody(error: unknown): boolean {
  return ['ENOENT', 'ECONNREFUSED', 'ENOTDIR'].includes(String((error as NodeJS.ErrnoException).code));
}

interface Lock {
  /** Not if it took so long that another process believed its holder dead. */
  isHeld(): boolean;
  giveBack(): void;
}

async function takeLock(path: string): Promise<Lock> {
  for (let tries = 0; tries < LOCK_TRIES; tries++) {
    try {
      // Open as long as it is held, so that its number is not given to another file.
      const file = openSync(path, 'wx', 0o600);
      const isHeld = () => isSame(lstatSync(path, { throwIfNoEntry: false }), fstatSync(file));
      const giveBack = () => {
        if (isHeld()) rmSync(path);
        closeSync(file);
      };
      return { isHeld, giveBack };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      const held = lstatSync(path, { throwIfNoEntry: false });
      // A lock of the future is as dead: the clock was set back.
      const dead = held !== undefined && Math.abs(Date.now() - held.mtimeMs) > STALE_LOCK_MS;
      if (dead) rmSync(path, { force: true });
      else await pause(LOCK_RETRY_MS);
    }
  }
  throw new NatwardError('FAILED', `${path} is held by another process, which is starting`);
}
