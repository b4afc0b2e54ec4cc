import 'conf'; // Loaded late by the book: here already, so that its first use is as quick as any.
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { RuleBook } from '../../src/agent/rule-book.ts';
import { FOREGROUND_RULES, type RuleRecord } from '../../src/agent/rule-memory.ts';
import type { NatwardError } from '../../src/errors.ts';
import type { Rule } from '../../src/forwarder/rule.ts';
import type { Table } from '../../src/forwarder/table.ts';
import { parseRule } from '../../src/forwarder/text.ts';
import { temporaryDirectory } from './support.ts';

const TABLE: Table = [
  { ...parseRule('in tcp 80 -> 10.0.0.5:8080 "the \\"web\\""'), id: 'web', enabled: true },
  {
    ...parseRule('in tcp+udp 2000-3000,~2500 from 10.0.0.0/8 -> [2001:db8::1]:+5 idle 60s'),
    id: 'a.b_c-1',
    enabled: false,
  },
];
const TEXT = JSON.stringify({ version: 1, rules: [{ id: 'web', enabled: true, rule: 'in tcp 80 -> :81' }] });

function recordOf(rules: Table, isPaused = false, leases: Table = []): RuleRecord {
  return { rules, leases, isPaused };
}

interface Scene {
  readonly directory: string;
  readonly file: string;
  readonly book: RuleBook;
  readonly warnings: NatwardError[];
  write(text: string): Promise<void>;
}

async function sceneOf(): Promise<Scene> {
  const directory = join(await temporaryDirectory(), 'home');
  const file = join(directory, 'rules.json');
  const warnings: NatwardError[] = [];
  return {
    directory,
    file,
    warnings,
    book: new RuleBook(directory, (error) => warnings.push(error)),
    async write(text) {
      await mkdir(directory, { recursive: true });
      await writeFile(file, text);
    },
  };
}

function reopened({ directory }: Scene): RuleBook {
  return new RuleBook(directory, (error) => {
    throw error;
  });
}

describe('a rule book', () => {
  test('that nobody has written yet is empty, and makes nothing', async () => {
    const { book, directory, warnings } = await sceneOf();
    expect(book.load()).toEqual(recordOf([]));
    await expect(stat(directory)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(warnings).toEqual([]);
  });

  test('says what was saved, in its order, also to the next agent', async () => {
    const scene = await sceneOf();
    await scene.book.save(recordOf(TABLE));
    expect(reopened(scene).load()).toEqual(recordOf(TABLE));
    await scene.book.save(recordOf(TABLE.toReversed()));
    expect(reopened(scene).load()).toEqual(recordOf(TABLE.toReversed()));
    await scene.book.save(recordOf([]));
    expect(reopened(scene).load()).toEqual(recordOf([]));
  });

  test('writes what it was given time for as what it was not', async () => {
    const scene = await sceneOf();
    await scene.book.save(recordOf(TABLE));
    const text = await readFile(scene.file, 'utf8');
    const other = TABLE.slice(1);
    await scene.book.prepare(other);
    await scene.book.prepare(TABLE);
    await scene.book.save(recordOf(TABLE));
    expect(await readFile(scene.file, 'utf8')).toBe(text);
    await scene.book.save(recordOf(other));
    expect(reopened(scene).load()).toEqual(recordOf(other));
  });

  test('is a file that people can read, and other users cannot', async () => {
    const { book, file, directory } = await sceneOf();
    await book.save(recordOf(TABLE));
    expect(JSON.parse(await readFile(file, 'utf8'))).toEqual({
      version: 1,
      rules: [
        { id: 'web', enabled: true, rule: 'in tcp 80 -> 10.0.0.5:8080 "the \\"web\\""' },
        {
          id: 'a.b_c-1',
          enabled: false,
          rule: 'in tcp+udp 2000-3000,~2500 from 10.0.0.0/8 -> [2001:db8::1]:+5 idle 60s',
        },
      ],
    });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await stat(directory)).mode & 0o777).toBe(0o700);
    expect(await readdir(directory)).toEqual(['rules.json']);
  });

  test('remembers the rules of leases, beside them', async () => {
    const scene = await sceneOf();
    const [rule] = TABLE;
    const leases = [{ ...(rule as Rule), id: 'lease-a-80' }];
    await scene.book.save(recordOf(TABLE, false, leases));
    expect(reopened(scene).load()).toEqual(recordOf(TABLE, false, leases));
    await scene.book.save(recordOf(TABLE));
    expect(JSON.parse(await readFile(scene.file, 'utf8'))).not.toHaveProperty('leases');
  });

  test('remembers that rules are off, beside them', async () => {
    const scene = await sceneOf();
    await scene.book.save(recordOf(TABLE, true));
    expect(reopened(scene).load()).toEqual(recordOf(TABLE, true));
    expect(JSON.parse(await readFile(scene.file, 'utf8'))).toMatchObject({ version: 1, paused: true });
    await scene.book.save(recordOf(TABLE));
    expect(reopened(scene).load()).toEqual(recordOf(TABLE));
    expect(JSON.parse(await readFile(scene.file, 'utf8'))).not.toHaveProperty('paused');
  });

  test('that is broken has its rules off where it says so', async () => {
    const scene = await sceneOf();
    await scene.write(TEXT.replace('-> :81', '').replace('{', '{"paused":true,'));
    expect(scene.book.load()).toEqual(recordOf([], true));
    expect(scene.warnings).toHaveLength(1);
  });

  test.each([
    ['is cut off', TEXT.slice(0, -5)],
    ['is empty', ''],
    ['is no table', '[]'],
    ['has no version', '{"rules":[]}'],
    ['has a version that never was', '{"version":0,"rules":[]}'],
    ['has a rule that is none', TEXT.replace('-> :81', '')],
    ['has an id that is none', TEXT.replace('web', 'w e b')],
    ['has a rule without an id', '{"version":1,"rules":[{"enabled":true,"rule":"in tcp 80 -> :81"}]}'],
    ['has an id twice', JSON.stringify({ version: 1, rules: Array(2).fill(JSON.parse(TEXT).rules[0]) })],
  ])('that %s is set aside, and said so', async (_what, text) => {
    const scene = await sceneOf();
    await scene.write(text);
    expect(scene.book.load()).toEqual(recordOf([]));
    expect(scene.warnings).toMatchObject([
      {
        code: 'FAILED',
        message: expect.stringContaining(
          `${scene.file} is broken and was set aside as ${scene.file}.broken: `,
        ),
        advice: expect.any(String),
      },
    ]);
    expect(await readFile(`${scene.file}.broken`, 'utf8')).toBe(text);
    await scene.book.save(recordOf(TABLE));
    expect(reopened(scene).load()).toEqual(recordOf(TABLE));
  });

  test('that is broken again does not take the place of the one before', async () => {
    const scene = await sceneOf();
    for (const text of ['one', 'two']) {
      await scene.write(text);
      scene.book.load();
    }
    expect((await readdir(scene.directory)).sort()).toEqual(['rules.json.broken', 'rules.json.broken-2']);
  });

  test('of a newer natward is left as it is, and refused', async () => {
    const scene = await sceneOf();
    const text = JSON.stringify({ version: 2, rules: 'other' });
    await scene.write(text);
    expect(() => scene.book.load()).toThrow(
      expect.objectContaining({ code: 'FAILED', message: expect.stringContaining('version 2') }),
    );
    expect(await readFile(scene.file, 'utf8')).toBe(text);
    expect(scene.warnings).toEqual([]);
  });

  test('that cannot be read is refused', async () => {
    const scene = await sceneOf();
    await mkdir(scene.file, { recursive: true });
    expect(() => scene.book.load()).toThrow(
      expect.objectContaining({ code: 'FAILED', message: expect.stringContaining('cannot read') }),
    );
  });

  test('that cannot be written says so, and is written when it can be', async () => {
    const scene = await sceneOf();
    await writeFile(scene.directory, 'in the way');
    await expect(scene.book.save(recordOf(TABLE))).rejects.toMatchObject({
      code: 'FAILED',
      message: expect.stringContaining(`cannot write ${scene.file}: `),
      advice: expect.stringContaining('forgotten'),
    });
    await rm(scene.directory);
    await scene.book.save(recordOf(TABLE));
    expect(reopened(scene).load()).toEqual(recordOf(TABLE));
    await rm(scene.file);
    await mkdir(scene.file);
    await expect(scene.book.save(recordOf(TABLE))).rejects.toMatchObject({ code: 'FAILED' });
  });
});

test('the rules of a terminal are forgotten', async () => {
  await FOREGROUND_RULES.save(recordOf(TABLE));
  expect(FOREGROUND_RULES.load()).toEqual(recordOf([]));
});
