/** The programs through which the kernel is told and asked: `nft` and `conntrack`, found, checked, and run within limits. */

import { NatwardError } from '../../errors.ts';
import type { ProgramResult, RunProgram } from '../../system/program.ts';

/** An ordinary user's PATH often leaves them out. */
const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
const LOAD_LIMIT_MS = 60_000;
const LIST_LIMIT_MS = 20_000;
const MAX_LISTING_BYTES = 256 * 2 ** 20;
const KEPT_COMPLAINT = 600;
const ABSENT = /No such file or directory/;
const UNSUPPORTED = /Protocol not supported|Operation not supported|Invalid argument/;
const FORBIDDEN = /Operation not permitted|must be root|Permission denied/i;

export const NEEDS_PRIVILEGES = 'the kernel’s engine needs CAP_NET_ADMIN';
export const PRIVILEGES_ADVICE =
  'The service has it (natward service install); elsewhere run natward as root, or leave the engine to natward.';

/** What is too old lacks something that the engine relies on. */
const WANTED = [
  { program: 'nft', package: 'nftables', ask: '--version', least: [1, 0, 2] },
  { program: 'conntrack', package: 'conntrack', ask: '--version', least: [1, 4, 6] },
  { program: 'ip', package: 'iproute2', ask: '-V', least: [5, 10, 0] },
] as const;

/** Why the kernel's engine cannot run here, in one sentence; undefined where it can. */
export async function lackOfTools(runProgram: RunProgram): Promise<NatwardError | undefined> {
  const found = await Promise.all(
    WANTED.map(async (one) => {
      const result = await run(runProgram, [one.program, one.ask], LIST_LIMIT_MS).catch(() => undefined);
      return { one, version: result === undefined ? undefined : versionOf(result.stdout) };
    }),
  );
  const missing = found.filter(({ version }) => version === undefined).map(({ one }) => one);
  if (missing.length > 0) {
    const programs = missing.map(({ program }) => program).join(', ');
    return new NatwardError(
      'UNSUPPORTED',
      `the kernel’s engine needs ${programs}, and this machine has no such program`,
      {
        advice: `Install ${missing.map((one) => one.package).join(', ')}.`,
      },
    );
  }
  const old = found.find(({ one, version }) => version !== undefined && isOlder(version, one.least));
  if (old === undefined) return undefined;
  const { program, least } = old.one;
  return new NatwardError(
    'UNSUPPORTED',
    `the kernel’s engine needs ${program} ${least.join('.')}, and this machine has ${old.version?.join('.')}`,
    { advice: `Install a newer ${old.one.package}.` },
  );
}

function versionOf(text: string): readonly number[] | undefined {
  const [, digits] = /(?:v|iproute2[-/]|)(\d+\.\d+(?:\.\d+)?)/.exec(text) ?? [];
  return digits?.split('.').map(Number);
}

function isOlder(version: readonly number[], least: readonly number[]): boolean {
  const at = least.findIndex((part, index) => part !== (version[index] ?? 0));
  return at >= 0 && (version[at] ?? 0) < (least[at] as number);
}

/** What stands in the tables of others, as nft lists it: as JSON, and as text with handles, which has what JSON lacks. */
export interface Others {
  readonly listing: unknown;
  readonly plain: string;
}

export class Nft {
  readonly #runProgram: RunProgram;

  constructor(runProgram: RunProgram) {
    this.#runProgram = runProgram;
  }

  /** One batch: all of it is taken, or nothing. Throws NOT_AUTHORIZED, or FAILED with what nft says. */
  async load(text: string): Promise<void> {
    if (text === '') return;
    await this.#nft(['nft', '-f', '-'], text);
  }

  /** Reports whether the kernel would take it. Throws NOT_AUTHORIZED, or FAILED where there is no answer. */
  async accepts(text: string): Promise<boolean> {
    const command = ['nft', '-c', '-f', '-'] as const;
    const result = await run(this.#runProgram, command, LOAD_LIMIT_MS, text);
    if (result.cut !== null || FORBIDDEN.test(result.stderr)) throw failure(command[0], result);
    return result.exitCode === 0;
  }

  /** By family and name, such as `inet natward`; none where there is no nft, or a kernel without tables. Throws as `accepts`. */
  async tables(): Promise<readonly string[]> {
    const command = ['nft', 'list', 'tables'] as const;
    let result: ProgramResult;
    try {
      result = await run(this.#runProgram, command, LIST_LIMIT_MS);
    } catch (error) {
      if (isNotInstalled(error)) return [];
      throw error;
    }
    const isDone = result.cut === null && (result.exitCode === 0 || UNSUPPORTED.test(result.stderr));
    if (!isDone) throw failure(command[0], result);
    return result.stdout.split('\n').flatMap((line) => /^table (\w+ \S+)$/.exec(line)?.[1] ?? []);
  }

  /** As JSON; undefined where there is no such set. Quick in a large table, as no other question is. */
  async list(table: string, set: string): Promise<string | undefined> {
    try {
      return await this.#nft(['nft', '-j', 'list', 'set', ...table.split(' '), set]);
    } catch (error) {
      if (error instanceof NatwardError && ABSENT.test(error.message)) return undefined;
      throw error;
    }
  }

  async others(ours: (table: string) => boolean): Promise<Others> {
    // A listing of the tables alone goes through all their elements: a second for 60,000.
    const chains = await this.#nft(['nft', 'list', 'chains']);
    const tables = chains
      .split('\n')
      .flatMap((line) => /^table (\w+ \S+) \{$/.exec(line)?.[1] ?? [])
      .filter((one) => !ours(one));
    const listed = (flag: string) =>
      Promise.all(
        // One may go meanwhile.
        tables.map((one) => this.#nft(['nft', flag, 'list', 'table', ...one.split(' ')]).catch(() => '')),
      );
    const [listings, plain] = [await listed('-j'), await listed('-a')];
    return { listing: { nftables: listings.flatMap(entriesOf) }, plain: plain.join('\n') };
  }

  async #nft(command: readonly [string, ...string[]], input?: string): Promise<string> {
    const limitMs = input === undefined ? LIST_LIMIT_MS : LOAD_LIMIT_MS;
    const result = await run(this.#runProgram, command, limitMs, input);
    if (result.exitCode === 0 && result.cut === null) return result.stdout;
    throw failure(command[0], result);
  }
}

function isNotInstalled(error: unknown): boolean {
  const cause = error instanceof NatwardError ? error.cause : undefined;
  return cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
}

function entriesOf(json: string): readonly unknown[] {
  const listing: unknown = json === '' ? undefined : JSON.parse(json);
  const entries = (listing as { readonly nftables?: unknown } | undefined)?.nftables;
  return Array.isArray(entries) ? (entries as readonly unknown[]) : [];
}

function failure(program: string, { cut, stderr, exitCode }: ProgramResult): NatwardError {
  if (FORBIDDEN.test(stderr)) {
    return new NatwardError('NOT_AUTHORIZED', `${NEEDS_PRIVILEGES}: ${program} may not change it`, {
      advice: PRIVILEGES_ADVICE,
    });
  }
  const why =
    cut === 'time' ? 'it took too long' : stderr.trim().slice(0, KEPT_COMPLAINT) || `exit code ${exitCode}`;
  return new NatwardError('FAILED', `${program}: ${why}`);
}

/** Deletes flows, which is no error where there are none. */
export async function runConntrack(
  runProgram: RunProgram,
  command: readonly [string, ...string[]],
): Promise<readonly string[]> {
  const result = await run(runProgram, command, LIST_LIMIT_MS);
  if (result.cut !== null || FORBIDDEN.test(result.stderr)) throw failure(command[0], result);
  return result.stdout.split('\n');
}

function run(
  runProgram: RunProgram,
  command: readonly [string, ...string[]],
  timeLimitMs: number,
  input?: string,
): Promise<ProgramResult> {
  return runProgram({
    command,
    env: { PATH, LC_ALL: 'C' },
    ...(input === undefined ? {} : { input }),
    timeLimitMs,
    keptBytes: MAX_LISTING_BYTES,
    floodBytes: MAX_LISTING_BYTES,
  });
}
