import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { loadConf } from '../../src/agent/conf-file.ts';

const SIGNALS = ['SIGHUP', 'SIGINT', 'SIGTERM', 'SIGQUIT', 'SIGUSR2', 'SIGPIPE'] as const;
const mine = () => undefined;
const meanwhile = () => undefined;
const once = () => undefined;

afterEach(() => {
  for (const signal of SIGNALS) {
    for (const listener of [mine, meanwhile, once]) process.off(signal, listener);
  }
});

function listeners(): Record<string, unknown[]> {
  return Object.fromEntries(SIGNALS.map((signal) => [signal, process.listeners(signal)]));
}

// Its side effect is of its first loading alone: this test has to be the first one.
test('loadConf() takes no signal for itself, and takes nobody’s away', async () => {
  process.on('SIGTERM', mine);
  process.once('SIGINT', once);
  const before = listeners();
  const loading = loadConf();
  process.on('SIGHUP', meanwhile);
  await loading;
  expect(listeners()).toEqual({ ...before, SIGHUP: [...(before['SIGHUP'] ?? []), meanwhile] });
});

test('loadConf() may be called at once and again, and what it loads writes files', async () => {
  const before = listeners();
  const [Conf, again] = await Promise.all([loadConf(), loadConf()]);
  expect(again).toBe(Conf);
  expect(listeners()).toEqual(before);
  const directory = await mkdtemp(join(tmpdir(), 'natward-test-'));
  try {
    new Conf({ cwd: directory, configName: 'a' }).set('key', 'value');
    expect(await readdir(directory)).toEqual(['a.json']);
  } finally {
    await rm(directory, { recursive: true });
  }
});
