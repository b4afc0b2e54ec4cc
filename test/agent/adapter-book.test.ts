import 'conf'; // Loaded late by the book: here already, so that its first use is as quick as any.
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { AdapterBook } from '../../src/agent/adapter-book.ts';
import type { NatwardError } from '../../src/errors.ts';
import { temporaryDirectory } from './support.ts';

const ENTRY = {
  original: '3c:22:fb:00:00:01',
  hardware: '3c:22:fb:00:00:01',
  given: '02:aa:bb:cc:dd:ee',
} as const;

async function sceneOf(): Promise<{
  directory: string;
  file: string;
  book: AdapterBook;
  warnings: NatwardError[];
}> {
  const directory = join(await temporaryDirectory(), 'home');
  const warnings: NatwardError[] = [];
  const book = new AdapterBook(directory, (error) => warnings.push(error));
  return { directory, file: join(directory, 'adapters', 'eth0.100.json'), book, warnings };
}

test('what nobody has saved is not remembered, and nothing is made', async () => {
  const { directory, book } = await sceneOf();
  expect(book.load('eth0.100')).toBeUndefined();
  book.forget('eth0.100');
  await expect(stat(directory)).rejects.toMatchObject({ code: 'ENOENT' });
});

test('what was saved is remembered by the next one, readable by its owner alone, until it is forgotten', async () => {
  const { directory, file, book } = await sceneOf();
  await book.save('eth0.100', ENTRY);
  await book.save('wlan0', { ...ENTRY, given: '02:00:00:00:00:02' });
  const next = new AdapterBook(directory, (error) => {
    throw error;
  });
  expect(next.load('eth0.100')).toEqual(ENTRY);
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect(JSON.parse(await readFile(file, 'utf8'))).toEqual({ version: 1, ...ENTRY });
  next.forget('eth0.100');
  expect(book.load('eth0.100')).toBeUndefined();
  expect(book.load('wlan0')).toMatchObject({ given: '02:00:00:00:00:02' });
});

test.each([
  ['no JSON', '{"version":1,'],
  ['no address', JSON.stringify({ version: 1, ...ENTRY, original: 'eth0' })],
  ['something missing', JSON.stringify({ version: 1, original: ENTRY.original })],
])('a broken file (%s) is set aside, and its reader is told', async (_, text) => {
  const { directory, file, book, warnings } = await sceneOf();
  await mkdir(join(directory, 'adapters'), { recursive: true });
  await writeFile(file, text);
  expect(book.load('eth0.100')).toBeUndefined();
  expect(warnings).toMatchObject([{ code: 'FAILED', message: expect.stringContaining(`${file}.broken`) }]);
  expect(await readFile(`${file}.broken`, 'utf8')).toBe(text);
  await book.save('eth0.100', ENTRY);
  expect((await readdir(join(directory, 'adapters'))).sort()).toEqual([
    'eth0.100.json',
    'eth0.100.json.broken',
  ]);
});

test('a file of a newer natward is left alone', async () => {
  const { directory, file, book } = await sceneOf();
  await mkdir(join(directory, 'adapters'), { recursive: true });
  await writeFile(file, '{"version":2}');
  expect(() => book.load('eth0.100')).toThrow('it is of version 2, and this natward knows up to 1');
  expect(await readFile(file, 'utf8')).toBe('{"version":2}');
});

test('what cannot be written is said before anything is changed', async () => {
  const { directory, book } = await sceneOf();
  await writeFile(directory, '');
  await expect(book.save('eth0', ENTRY)).rejects.toMatchObject({
    code: 'FAILED',
    advice: expect.stringContaining('was not changed'),
  });
});
