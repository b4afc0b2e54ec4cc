import 'conf'; // Loaded late by the rule book.
import { chown, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, expect, test, vi } from 'vitest';
import { panic, resume } from '../../src/control/panic.ts';
import { ownPlaces } from '../../src/control/place.ts';
import type { NatwardError } from '../../src/errors.ts';
import { startAgent, temporary } from './support/fake-agent.ts';

let home = '';
let odd: NatwardError[] = [];
const warn = (error: NatwardError) => void odd.push(error);

beforeEach(async () => {
  home = await temporary();
  odd = [];
  vi.stubEnv('NATWARD_HOME', home);
  return () => vi.unstubAllEnvs();
});

async function book(): Promise<unknown> {
  return JSON.parse(await readFile(join(home, 'rules.json'), 'utf8'));
}

const RULES = [{ id: 'web', enabled: true, rule: 'in tcp 80 -> :81' }];

test('with an agent it is the agent that stops and goes on', async () => {
  const [place] = await ownPlaces();
  const { steering } = await startAgent({ place });
  expect(await panic(warn)).toMatchObject({ isPaused: true, isNew: true });
  expect(steering.isPaused).toBe(true);
  expect(await resume(warn)).toMatchObject({ isPaused: false, isNew: true });
  await expect(book()).rejects.toMatchObject({ code: 'ENOENT' });
});

test('without an agent the rule book says that the next one is to carry nothing out', async () => {
  await writeFile(join(home, 'rules.json'), JSON.stringify({ version: 1, rules: RULES }));
  expect(await panic(warn)).toMatchObject({ books: [home] });
  expect(await book()).toEqual({ version: 1, paused: true, rules: RULES });
  expect(await resume(warn)).toEqual({ removed: [], books: [home] });
  expect(await book()).toEqual({ version: 1, rules: RULES });
  expect(odd).toEqual([]);
});

test('where there is no rule book one is made to say so, and none to say nothing', async () => {
  await resume(warn);
  await expect(book()).rejects.toMatchObject({ code: 'ENOENT' });
  await panic(warn);
  expect(await book()).toEqual({ version: 1, paused: true, rules: [] });
});

test.runIf(process.getuid?.() === 0)('what root writes, whoever has the directory can read', async () => {
  await chown(home, 62_062, 62_062);
  await panic(warn);
  expect(await stat(join(home, 'rules.json'))).toMatchObject({ uid: 62_062, gid: 62_062 });
});

test('a broken rule book is set aside and said, and the new one has the rules off', async () => {
  await writeFile(join(home, 'rules.json'), '{');
  await panic(warn);
  expect(odd).toMatchObject([{ code: 'FAILED', message: expect.stringContaining('set aside') }]);
  expect(await book()).toEqual({ version: 1, paused: true, rules: [] });
});

test('a rule book that leads elsewhere is not written through', async () => {
  const elsewhere = join(home, 'elsewhere');
  await writeFile(elsewhere, 'precious');
  await symlink(elsewhere, join(home, 'rules.json'));
  await expect(panic(warn)).rejects.toMatchObject({
    code: 'FAILED',
    message: expect.stringContaining('link'),
  });
  expect(await readFile(elsewhere, 'utf8')).toBe('precious');
});

test('an agent that fails has it done here, and is said to have failed', async () => {
  const [place] = await ownPlaces();
  const { steering } = await startAgent({ place });
  steering.pause = async () => {
    throw new Error('a bug');
  };
  await expect(panic(warn)).rejects.toMatchObject({
    code: 'FAILED',
    message: expect.stringMatching(/a bug; taken out of the kernel without it: /),
    advice: expect.stringContaining('End that agent'),
  });
  expect(await book()).toMatchObject({ paused: true });
});
