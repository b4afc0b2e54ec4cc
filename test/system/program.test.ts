/** Real programs of the machine: what they are given, what comes back, and how they are cut. */

import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { NatwardError } from '../../src/errors.ts';
import { type ProgramRequest, type ProgramResult, runProgram } from '../../src/system/program.ts';

const LIMITS = { timeLimitMs: 15_000, keptBytes: 1024, floodBytes: 65_536 };

function run(
  command: ProgramRequest['command'],
  options: Partial<ProgramRequest> = {},
): Promise<ProgramResult> {
  return runProgram({ command, ...LIMITS, ...options });
}

function node(script: string, options: Partial<ProgramRequest> = {}): Promise<ProgramResult> {
  return run([process.execPath, '-e', script], options);
}

const SHOW_OWN_VARIABLES = `
  const own = Object.entries(process.env).filter(([name]) => name.startsWith('NATWARD_PROGRAM_'));
  process.stdout.write(JSON.stringify(Object.fromEntries(own)))`;

async function temporaryFile(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'natward-test-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return join(directory, 'file');
}

/** A process that ended has no command line, even where nobody has collected it yet. */
function alive(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`).length > 0;
  } catch {
    return false;
  }
}

async function pidIn(file: string): Promise<number> {
  await expect.poll(() => existsSync(file) && readFileSync(file, 'utf8').trim()).toMatch(/^\d+$/);
  return Number(readFileSync(file, 'utf8'));
}

const hasProc = existsSync('/proc/self/cmdline');

describe('runProgram()', () => {
  test('hands over arguments as they stand, and no shell sees them', async () => {
    const odd = ['$(touch /tmp/natward-owned)', '`id`', '; exit 9', '"\'', 'a b', '*', ''];
    const script = 'process.stdout.write(JSON.stringify(process.argv.slice(1)))';
    const { stdout } = await run([process.execPath, '-e', script, ...odd]);
    expect(JSON.parse(stdout)).toEqual(odd);
  });

  test('runs a line in the shell where that is asked for', async () => {
    const { stdout } = await run({ shell: 'echo one | cat; echo "$WORD"' }, { env: { WORD: '$(exit 1)' } });
    expect(stdout).toBe('one\n$(exit 1)\n');
  });

  test('gives it this environment, what is added to it, and not what is taken away', async () => {
    process.env['NATWARD_PROGRAM_INHERITED'] = 'yes';
    process.env['NATWARD_PROGRAM_REMOVED'] = 'no';
    onTestFinished(() => {
      delete process.env['NATWARD_PROGRAM_INHERITED'];
      delete process.env['NATWARD_PROGRAM_REMOVED'];
    });
    const env = { NATWARD_PROGRAM_ADDED: 'a\nb', NATWARD_PROGRAM_REMOVED: undefined };
    const { stdout } = await node(SHOW_OWN_VARIABLES, { env });
    const seen = JSON.parse(stdout);
    expect(seen).toEqual({ NATWARD_PROGRAM_INHERITED: 'yes', NATWARD_PROGRAM_ADDED: 'a\nb' });
  });

  test('writes its input and ends it; without any, the input is empty', async () => {
    const echo = 'process.stdin.pipe(process.stdout)';
    expect((await node(echo, { input: 'hello' })).stdout).toBe('hello');
    expect((await node(echo)).stdout).toBe('');
  });

  test('does not mind a program that reads nothing of a large input', async () => {
    expect(await node('process.exit(0)', { input: 'x'.repeat(2 ** 22) })).toMatchObject({ exitCode: 0 });
  });

  test('tells how it ended, and both streams', async () => {
    expect(await node('console.log("out"); console.error("err"); process.exitCode = 3')).toEqual({
      exitCode: 3,
      endedBy: null,
      cut: null,
      stdout: 'out\n',
      stderr: 'err\n',
    });
    expect(await node('process.kill(process.pid, "SIGKILL")')).toMatchObject({
      exitCode: null,
      endedBy: 'SIGKILL',
      cut: null,
    });
  });

  test('keeps the start of each stream and drains the rest', async () => {
    const script = 'process.stdout.write("x".repeat(30000)); process.stderr.write("y".repeat(30000))';
    expect(await node(script)).toMatchObject({
      exitCode: 0,
      cut: null,
      stdout: 'x'.repeat(1024),
      stderr: 'y'.repeat(1024),
    });
  });

  test('cuts a flood', async () => {
    expect(await node('setInterval(() => process.stdout.write("x".repeat(9000)), 0)')).toMatchObject({
      cut: 'output',
      endedBy: 'SIGTERM',
      stdout: 'x'.repeat(1024),
    });
    expect(await run({ shell: 'yes >&2' })).toMatchObject({ cut: 'output' });
  });

  test('ends what takes too long, and tells what it had said', async () => {
    expect(await run({ shell: 'echo waiting >&2; sleep 60' }, { timeLimitMs: 1000 })).toMatchObject({
      cut: 'time',
      endedBy: 'SIGTERM',
      stderr: 'waiting\n',
    });
  });

  test('makes a program end that does not listen', async () => {
    const line = 'trap "" TERM; while :; do sleep 1; done';
    expect(await run({ shell: line }, { timeLimitMs: 1000 })).toMatchObject({
      cut: 'time',
      endedBy: 'SIGKILL',
    });
  });

  test('lets a program end well that cleans up', async () => {
    const line = 'trap "echo bye; exit 0" TERM; while :; do sleep 1; done';
    expect(await run({ shell: line }, { timeLimitMs: 1000 })).toMatchObject({
      cut: 'time',
      exitCode: 0,
      stdout: expect.stringContaining('bye\n'),
    });
  });

  test.runIf(hasProc)('ends its children with it, those that do not listen as well', async () => {
    const file = await temporaryFile();
    const line = `sh -c 'trap "" TERM; echo $$ > ${file}; while :; do sleep 1; done'; true`;
    const running = run({ shell: line }, { timeLimitMs: 1000 });
    const pid = await pidIn(file);
    expect(await running).toMatchObject({ cut: 'time' });
    await expect.poll(() => alive(pid)).toBe(false);
  });

  test('does not wait for what it leaves in the background', async () => {
    const result = await run({ shell: 'sleep 30 & echo $!' });
    expect(result).toMatchObject({ exitCode: 0, cut: null });
    process.kill(Number(result.stdout)); // it was let live
  });

  test('is stopped by the signal, and gone by then', async () => {
    const stop = new AbortController();
    const running = node('setInterval(() => {}, 1000)', { signal: stop.signal });
    const error = new NatwardError('ABORTED', 'enough');
    setTimeout(() => stop.abort(error), 100);
    await expect(running).rejects.toBe(error);
    await expect(node('0', { signal: stop.signal })).rejects.toBe(error);
  });

  test.each([
    [
      'does not exist',
      ['/nowhere/program'],
      /^\/nowhere\/program cannot be started: there is no such program$/,
    ],
    ['is not executable', ['/etc/passwd'], /may not run it/],
    ['has a NUL in an argument', [process.execPath, 'a\0b'], /cannot be started/],
  ] as const)('throws FAILED where the program %s', async (_, command, message) => {
    await expect(run(command)).rejects.toMatchObject({
      code: 'FAILED',
      message: expect.stringMatching(message),
    });
  });

  test('throws FAILED where the environment is too large', async () => {
    await expect(node('0', { env: { BIG: 'x'.repeat(2 ** 20) } })).rejects.toMatchObject({ code: 'FAILED' });
  });
});
