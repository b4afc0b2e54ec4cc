import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { type DemoStep, runDemo } from '../../src/control/demo.ts';
import { MAPPING_PROTOCOLS } from '../../src/net/protocol.ts';

test('the demo goes the whole road over every protocol and leaves nothing behind', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'natward-test-'));
  vi.stubEnv('TMPDIR', directory);
  onTestFinished(async () => {
    vi.unstubAllEnvs();
    await rm(directory, { recursive: true });
  });
  const steps: DemoStep[] = [];
  await runDemo(new AbortController().signal, (step) => steps.push(step));
  expect(steps.slice(0, 2).map(({ step }) => step)).toEqual(['gateway', 'service']);
  for (const via of MAPPING_PROTOCOLS) {
    const road = steps.filter((step) => step.via === via).map(({ step }) => step);
    expect(road).toEqual(['found', 'map', 'traffic', 'renew', 'release', 'closed']);
  }
  expect(steps.filter(({ step }) => step === 'traffic').map(({ message }) => message)).toEqual(
    MAPPING_PROTOCOLS.map(() => expect.stringContaining('hello from the inside')),
  );
  const times = steps.map(({ elapsedMs }) => elapsedMs);
  expect(times).toEqual([...times].sort((a, b) => a - b));
  expect(await readdir(directory)).toEqual([]);
});

test('the demo stops when it is told to', async () => {
  const stop = new AbortController();
  const steps: DemoStep[] = [];
  const running = runDemo(stop.signal, (step) => {
    steps.push(step);
    if (step.step === 'map') stop.abort();
  });
  await expect(running).rejects.toMatchObject({ name: 'NatwardError' });
  expect(steps.filter(({ step }) => step === 'map')).toHaveLength(1);
});
