/** Real programs that go on: their lines, and what becomes of them. */

import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { followProgram } from '../../src/system/follow-program.ts';

const NEVER: AbortSignal = new AbortController().signal;

function follow(script: string, options: { signal?: AbortSignal; maxLineBytes?: number } = {}) {
  const { signal = NEVER, maxLineBytes = 100 } = options;
  return followProgram({ command: [process.execPath, '-e', script], signal, maxLineBytes });
}

async function all(batches: AsyncIterable<readonly string[]>): Promise<string[]> {
  const lines: string[] = [];
  for await (const batch of batches) lines.push(...batch);
  return lines;
}

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

const hasProc = existsSync('/proc/self/cmdline');
const GOES_ON = 'console.log(process.pid); setInterval(() => {}, 1000);';

describe('followProgram()', () => {
  test('hands over each line, whatever the reads it came in', async () => {
    const script = `
      const write = (text) => new Promise((resolve) => process.stdout.write(text, resolve));
      const bytes = Buffer.from('grüße\\n');
      (async () => {
        await write('one\\ntwo\\n\\nthr');
        for (const byte of bytes) { await write(Buffer.of(byte)); await new Promise((done) => setTimeout(done, 5)); }
        await write('the last');
      })()`;
    expect(await all(follow(script))).toEqual(['one', 'two', '', 'thrgrüße', 'the last']);
  });

  test('hands lines over while the program goes on', async () => {
    const file = await temporaryFile();
    const lines = follow(`
      console.log('first');
      const wait = setInterval(() => {
        if (require('node:fs').existsSync(${JSON.stringify(file)})) { console.log('second'); clearInterval(wait); }
      }, 5)`);
    expect(await lines.next()).toEqual({ done: false, value: ['first'] });
    await writeFile(file, '');
    expect(await lines.next()).toEqual({ done: false, value: ['second'] });
    expect(await lines.next()).toEqual({ done: true, value: undefined });
  });

  test('cuts a line that is too long, and hands over the next one whole', async () => {
    const script = `
      const write = (text) => new Promise((resolve) => process.stdout.write(text, resolve));
      (async () => {
        await write('a'.repeat(500) + '\\nb\\n');
        for (let count = 0; count < 50; count++) await write('c'.repeat(100_000));
        await write('\\nd\\n' + 'e'.repeat(101));
      })()`;
    expect(await all(follow(script))).toEqual(['a'.repeat(100), 'b', 'c'.repeat(100), 'd', 'e'.repeat(100)]);
  });

  test('loses nothing of what a program writes faster than it is read', async () => {
    const script = `for (let n = 0; n < 200_000; n++) process.stdout.write(n + '\\n')`;
    let next = 0;
    let batches = 0;
    for await (const batch of follow(script)) {
      for (const line of batch) if (line === String(next)) next++;
      if (batches++ % 20 === 0) await delay(5);
    }
    expect(next).toBe(200_000);
    expect(batches).toBeLessThan(2_000);
  });

  test.runIf(hasProc)('holds the program up while nobody reads', async () => {
    const file = await temporaryFile();
    const lines = follow(`
      let written = 0;
      const more = () => process.stdout.write('x'.repeat(99) + '\\n', () => { written++; setImmediate(more); });
      more();
      setInterval(() => require('node:fs').writeFileSync(${JSON.stringify(file)}, String(written)), 20)`);
    await lines.next();
    const written = () => (existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0);
    await expect.poll(written).toBeGreaterThan(0);
    let before = -1;
    await expect
      .poll(
        () => {
          const [earlier, now] = [before, written()];
          before = now;
          return now > 0 && now === earlier;
        },
        { interval: 200 },
      )
      .toBe(true);
    expect(written()).toBeLessThan(10_000);
    await lines.return();
  });

  test('throws FAILED with the exit code and the start of its complaint', async () => {
    const script = `console.log('one'); console.error('not so' + 'x'.repeat(5000)); process.exitCode = 3`;
    const lines = follow(script);
    expect(await lines.next()).toEqual({ done: false, value: ['one'] });
    const message = `${process.execPath} ended with exit code 3: not so${'x'.repeat(994)}`;
    await expect(lines.next()).rejects.toMatchObject({ code: 'FAILED', message });
  });

  test('throws FAILED where a signal of somebody else ends it, or it does not exist', async () => {
    await expect(all(follow('process.kill(process.pid, "SIGKILL")'))).rejects.toMatchObject({
      code: 'FAILED',
      message: expect.stringMatching(/was ended by SIGKILL$/),
    });
    const request = { command: ['/nowhere/program'], signal: NEVER, maxLineBytes: 10 } as const;
    await expect(all(followProgram(request))).rejects.toMatchObject({
      code: 'FAILED',
      message: '/nowhere/program cannot be started: there is no such program',
    });
  });

  test('starts nothing where the signal has fired', async () => {
    expect(await all(follow('console.log("one")', { signal: AbortSignal.abort() }))).toEqual([]);
  });

  test.runIf(hasProc)('ends after the signal, and the program is gone by then', async () => {
    const stop = new AbortController();
    const lines = follow(GOES_ON, { signal: stop.signal });
    const pid = Number((await lines.next()).value?.[0]);
    const next = lines.next();
    expect(alive(pid)).toBe(true);
    stop.abort();
    expect(await next).toEqual({ done: true, value: undefined });
    expect(alive(pid)).toBe(false);
  });

  test.runIf(hasProc)('ends the program after the signal although nobody reads', async () => {
    const stop = new AbortController();
    const lines = follow(GOES_ON, { signal: stop.signal });
    const pid = Number((await lines.next()).value?.[0]);
    stop.abort();
    await expect.poll(() => alive(pid)).toBe(false);
    expect(await lines.next()).toEqual({ done: true, value: undefined });
  });

  test.runIf(hasProc)('makes a program end that does not listen, and its children', async () => {
    const stop = new AbortController();
    const script = `trap '' TERM; sh -c 'trap "" TERM; echo $$; while :; do sleep 1; done'; true`;
    const command = ['sh', '-c', script] as const;
    const lines = followProgram({ command, signal: stop.signal, maxLineBytes: 10 });
    const pid = Number((await lines.next()).value?.[0]);
    stop.abort();
    expect(await lines.next()).toMatchObject({ done: true });
    await expect.poll(() => alive(pid)).toBe(false);
  });

  test.runIf(hasProc)('ends the program when the reader leaves', async () => {
    let pid = 0;
    for await (const [line] of follow(GOES_ON)) {
      pid = Number(line);
      break;
    }
    expect(pid).toBeGreaterThan(0);
    expect(alive(pid)).toBe(false);
  });

  test.runIf(hasProc)('does not wait for what it leaves in the background', async () => {
    const command = ['sh', '-c', 'sleep 30 & echo $!'] as const;
    const [pid] = await all(followProgram({ command, signal: NEVER, maxLineBytes: 10 }));
    expect(alive(Number(pid))).toBe(true);
    process.kill(Number(pid)); // it was let live
  });
});
