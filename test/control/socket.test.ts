import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { lstatSync, readdirSync, renameSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { connectAgent } from '../../src/control/client.ts';
import { startControlServer } from '../../src/control/server.ts';
import { systemClock } from '../../src/system/clock.ts';
import { FACTS, FakeKeeping, FakeSteering, startAgent, temporary } from './support/fake-agent.ts';

const CONTENDERS = 4;
const ROUNDS = 12;

/** As a process leaves it that was killed: nobody listens. */
async function leaveDead(place: string): Promise<void> {
  const server = createServer();
  const born = `${place}.born`;
  await new Promise<void>((resolve) => void server.listen(born, resolve));
  // Node takes away what it has made under the name that it gave it.
  renameSync(born, place);
  await new Promise((resolve) => server.close(resolve));
  expect(lstatSync(place).isSocket()).toBe(true);
}

interface Contender {
  readonly child: ChildProcessByStdio<Writable, Readable, null>;
  readonly lines: AsyncIterator<string>;
}

async function startContender(): Promise<Contender> {
  const program = fileURLToPath(new URL('support/contender.ts', import.meta.url));
  const child = spawn(process.execPath, ['--import', 'tsx', program], { stdio: ['pipe', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const reader: Interface = createInterface({ input: child.stdout });
  const lines = reader[Symbol.asyncIterator]();
  expect((await lines.next()).value).toBe('ready');
  return { child, lines };
}

describe('opening', () => {
  test('the socket and a new directory are this user’s alone', async () => {
    const place = join(await temporary(), 'run', 'natward', 'control.sock');
    const before = process.umask(0);
    onTestFinished(() => void process.umask(before));
    await startAgent({ place });
    expect(statSync(place).mode & 0o777).toBe(0o600);
    expect(statSync(dirname(place)).mode & 0o777).toBe(0o700);
    expect(process.umask()).toBe(0);
    expect(readdirSync(dirname(place))).toEqual(['control.sock']);
  });

  test('a directory that is there stays as it is', async () => {
    const directory = await temporary();
    await mkdir(join(directory, 'home'), { mode: 0o755 });
    await startAgent({ place: join(directory, 'home', 'control.sock') });
    expect(statSync(join(directory, 'home')).mode & 0o777).toBe(0o755);
  });

  test('a second agent is told who the first is', async () => {
    const { place } = await startAgent();
    await expect(startAgent({ place })).rejects.toMatchObject({
      code: 'FAILED',
      message: `an agent already runs: pid ${process.pid} (natward 1.2.3), socket ${place}`,
    });
    expect(await connectAgent([place])).toBeDefined();
  });

  test('an agent of this user at another place is a first one, too', async () => {
    const { place } = await startAgent();
    const other = join(await temporary(), 'control.sock');
    const nobody = join(await temporary(), 'control.sock');
    await expect(startAgent({ place: other, rivals: [nobody, place] })).rejects.toMatchObject({
      message: expect.stringContaining(`socket ${place}`),
    });
    await startAgent({ place: other, rivals: [nobody] });
  });

  test('somebody who is silent is not taken for an agent, and not replaced', async () => {
    const place = join(await temporary(), 'control.sock');
    const silent = createServer((socket) => void socket.destroy());
    await new Promise<void>((resolve) => void silent.listen(place, resolve));
    onTestFinished(() => void silent.close());
    const { ino } = lstatSync(place);
    await expect(startAgent({ place })).rejects.toMatchObject({
      code: 'FAILED',
      message: expect.stringContaining(`somebody listens at ${place}`),
    });
    expect(lstatSync(place).ino).toBe(ino);
  });

  test('what a dead agent left is replaced', async () => {
    const place = join(await temporary(), 'control.sock');
    await leaveDead(place);
    await leaveDead(join(dirname(place), 'control.new'));
    await startAgent({ place });
    expect(await connectAgent([place])).toMatchObject({ place });
    expect(readdirSync(dirname(place))).toEqual(['control.sock']);
  });

  test('a lock that its holder died with is broken, of the past as of the future', async () => {
    for (const years of [-1, 1]) {
      const place = join(await temporary(), 'control.sock');
      const lock = join(dirname(place), 'control.lock');
      writeFileSync(lock, '');
      const then = Date.now() / 1000 + years * 31_536_000;
      utimesSync(lock, then, then);
      await startAgent({ place });
      expect(readdirSync(dirname(place))).toEqual(['control.sock']);
    }
  });

  test('a file in the way stays', async () => {
    const place = join(await temporary(), 'control.sock');
    writeFileSync(place, 'a letter');
    await expect(startAgent({ place })).rejects.toMatchObject({
      message: expect.stringContaining('it is not a socket'),
    });
    expect(lstatSync(place).size).toBe(8);
  });

  test('a path that no socket can have is refused in words', async () => {
    const place = join(await temporary(), 'x'.repeat(100), 'control.sock');
    await expect(startAgent({ place })).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringMatching(/has a path of \d+ bytes, and this system takes 10[37]/),
      advice: expect.stringContaining('NATWARD_HOME'),
    });
  });

  test('the longest path that a socket can have is taken', async () => {
    const directory = await temporary();
    const limit = process.platform === 'linux' ? 107 : 103;
    const room = limit - `${directory}//control.sock`.length;
    const place = join(directory, 'x'.repeat(room), 'control.sock');
    expect(place).toHaveLength(limit);
    await startAgent({ place });
    expect(await connectAgent([place])).toMatchObject({ place });
  });

  test('a directory that cannot be made is named', async () => {
    const file = join(await temporary(), 'file');
    writeFileSync(file, '');
    const place = join(file, 'control.sock');
    await expect(startAgent({ place })).rejects.toMatchObject({
      code: 'FAILED',
      message: expect.stringContaining(`the control socket ${place} cannot be opened`),
    });
  });
});

test('of several that start at the same moment over a dead socket, one holds it and all others name it', async () => {
  const contenders = await Promise.all(Array.from({ length: CONTENDERS }, startContender));
  const directory = await temporary();
  for (let round = 0; round < ROUNDS; round++) {
    const place = join(directory, String(round), 'control.sock');
    await mkdir(dirname(place));
    if (round % 3 > 0) await leaveDead(place);
    for (const { child } of contenders) child.stdin.write(`${place}\n`);
    const said = await Promise.all(contenders.map(async ({ lines }) => String((await lines.next()).value)));
    const winners = contenders.filter((_, at) => said[at] === 'held');
    expect(winners, said.join('\n')).toHaveLength(1);
    const pid = winners[0]?.child.pid;
    const refusal = `an agent already runs: pid ${pid} (natward 1.2.3), socket ${place}`;
    expect(said.filter((words) => words !== 'held')).toEqual(Array(CONTENDERS - 1).fill(refusal));
    expect(await connectAgent([place])).toMatchObject({ agent: { pid } });
    expect(readdirSync(dirname(place))).toEqual(['control.sock']);
  }
}, 60_000);

test('an agent that was killed is followed by the next', async () => {
  const place = join(await temporary(), 'control.sock');
  const { child, lines } = await startContender();
  child.stdin.write(`${place}\n`);
  expect((await lines.next()).value).toBe('held');
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(await connectAgent([place])).toBeUndefined();
  await startAgent({ place });
  expect(await connectAgent([place])).toMatchObject({ agent: { pid: process.pid } });
});

describe('closing', () => {
  test('takes the socket away', async () => {
    const { server, place } = await startAgent();
    await server[Symbol.asyncDispose]();
    expect(readdirSync(dirname(place))).toEqual([]);
  });

  test('leaves alone what is not its own any more', async () => {
    const { server, place } = await startAgent();
    renameSync(place, `${place}.old`);
    await startAgent({ place });
    await server[Symbol.asyncDispose]();
    expect(await connectAgent([place])).toMatchObject({ place });
  });

  test('is done where somebody has taken the directory away', async () => {
    const directory = join(await temporary(), 'run');
    const { server } = await startAgent({ place: join(directory, 'control.sock') });
    renameSync(directory, `${directory}.old`);
    await server[Symbol.asyncDispose]();
  });

  test('a place that was given back can be taken again at once', async () => {
    const place = join(await temporary(), 'control.sock');
    for (let round = 0; round < 5; round++) {
      const options = {
        keeping: new FakeKeeping(),
        steering: new FakeSteering(),
        responding: { statuses: () => [] },
        place,
        facts: FACTS,
        clock: systemClock,
      };
      await using server = await startControlServer({ ...options, onError: () => undefined });
      expect(server.place).toBe(place);
    }
    expect(readdirSync(dirname(place))).toEqual([]);
  });
});
