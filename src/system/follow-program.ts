/**
 * Runs a program of the machine that goes on, and hands its lines over as they come, those of one read together.
 * A reader that is slow holds the program up: what is not read stays in the pipe, so that nothing piles up here.
 */

import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { NatwardError } from '../errors.ts';
import { endGroup, endOf, HURRY_MS, LAST_OUTPUT_MS, started } from './process-group.ts';

export interface FollowRequest {
  /** The program and its arguments, as they stand. */
  readonly command: readonly [string, ...string[]];
  readonly signal: AbortSignal;
  /** Of a longer line so much is handed over, and the rest is passed over. */
  readonly maxLineBytes: number;
}

/**
 * Lines of stdout without their ends. Ends when the program has ended well, and after the signal; throws FAILED where
 * it cannot be started or ends with an error. The program and what it started are gone then, and also when the
 * reader leaves.
 */
export type FollowProgram = (request: FollowRequest) => AsyncGenerator<readonly string[], void, undefined>;

/** Of stderr, for the words of an error. */
const KEPT_BYTES = 1_000;
const NEWLINE = 10;

export const followProgram: FollowProgram = async function* ({ command, signal, maxLineBytes }) {
  if (signal.aborted) return;
  const child = await started({ command });
  const { exited } = endOf(child);
  const complaint = firstOf(child);
  let ending: Promise<void> | undefined;
  const end = () => (ending ??= endGroup(child, exited, HURRY_MS));
  let stop: () => void = () => {};
  const stopped = new Promise<void>((resolve) => {
    // It is stopped at once, whether or not the reader asks for more.
    stop = () => {
      child.stdout.destroy();
      resolve(hasEnded(child) ? undefined : end());
    };
  });
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  try {
    yield* linesOf(child, maxLineBytes);
    await Promise.race([exited, stopped]);
    if (!signal.aborted) checkEnd(command[0], child, complaint());
  } finally {
    signal.removeEventListener('abort', stop);
    // What it has left in the background is let live, as of any program that ended by itself.
    if (!hasEnded(child)) await end();
    await ending;
    child.stdout.destroy();
    child.stderr.destroy();
    child.unref();
  }
};

function hasEnded(child: ChildProcessWithoutNullStreams): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** Its complaints are read to their end, so that it is never held up by them. */
function firstOf(child: ChildProcessWithoutNullStreams): () => string {
  const kept: Buffer[] = [];
  let room = KEPT_BYTES;
  child.stderr.on('data', (chunk: Buffer) => {
    if (room > 0) kept.push(chunk.subarray(0, room));
    room -= chunk.length;
  });
  child.stderr.on('error', () => {});
  return () => Buffer.concat(kept).toString('utf8').trim();
}

function checkEnd(name: string, child: ChildProcessWithoutNullStreams, complaint: string): void {
  const { exitCode, signalCode } = child;
  if (exitCode === 0) return;
  const how = signalCode === null ? `ended with exit code ${exitCode}` : `was ended by ${signalCode}`;
  throw new NatwardError('FAILED', `${name} ${how}${complaint === '' ? '' : `: ${complaint}`}`);
}

async function* linesOf(
  child: ChildProcessWithoutNullStreams,
  maxLineBytes: number,
): AsyncGenerator<string[], void, undefined> {
  const { stdout } = child;
  const splitter = new Splitter(maxLineBytes);
  let reads = 0;
  let watch: NodeJS.Timeout | undefined;
  child.once('exit', () => {
    let before = reads;
    // A child of it may hold the pipe open, and write nothing.
    watch = setInterval(() => {
      if (reads === before && stdout.readableLength === 0) stdout.destroy();
      before = reads;
    }, LAST_OUTPUT_MS).unref();
  });
  try {
    for await (const chunk of stdout) {
      reads++;
      const lines = splitter.split(chunk as Buffer);
      if (lines.length > 0) yield lines;
    }
  } catch (cause) {
    if (isPrematureClose(cause)) return;
    throw new NatwardError('FAILED', `what ${child.spawnfile} writes cannot be read`, { cause });
  } finally {
    clearInterval(watch);
  }
  const last = splitter.rest();
  if (last !== undefined) yield [last];
}

/** The pipe was closed here. */
function isPrematureClose(cause: unknown): boolean {
  return cause instanceof Error && 'code' in cause && cause.code === 'ERR_STREAM_PREMATURE_CLOSE';
}

class Splitter {
  readonly #maxLineBytes: number;
  /** The start of a line whose end has not come yet: never more than is handed over of it. */
  #begun: Buffer[] = [];
  #begunBytes = 0;

  constructor(maxLineBytes: number) {
    this.#maxLineBytes = maxLineBytes;
  }

  split(chunk: Buffer): string[] {
    const lines: string[] = [];
    let from = 0;
    for (let to = chunk.indexOf(NEWLINE); to >= 0; to = chunk.indexOf(NEWLINE, from)) {
      lines.push(this.#line(chunk, from, to));
      from = to + 1;
    }
    if (from < chunk.length) this.#begin(chunk.subarray(from));
    return lines;
  }

  /** The last line, where it has no end. */
  rest(): string | undefined {
    return this.#begunBytes > 0 ? this.#line(Buffer.alloc(0), 0, 0) : undefined;
  }

  #line(chunk: Buffer, from: number, to: number): string {
    if (this.#begunBytes === 0) return chunk.toString('utf8', from, Math.min(to, from + this.#maxLineBytes));
    this.#begin(chunk.subarray(from, to));
    const line = Buffer.concat(this.#begun).toString('utf8');
    this.#begun = [];
    this.#begunBytes = 0;
    return line;
  }

  #begin(bytes: Buffer): void {
    const kept = bytes.subarray(0, this.#maxLineBytes - this.#begunBytes);
    if (kept.length === 0) return;
    this.#begun.push(kept);
    this.#begunBytes += kept.length;
  }
}
