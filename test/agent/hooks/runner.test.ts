/** The runner: order, isolation, bounds and the end, with real programs and servers. */

import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { AgentEvent } from '../../../src/agent/events.ts';
import type { Hook, RunHook, WebhookHook } from '../../../src/agent/hooks/hook.ts';
import { HookRunner } from '../../../src/agent/hooks/runner.ts';
import { NatwardError } from '../../../src/errors.ts';
import type { ProgramRequest, ProgramResult } from '../../../src/system/program.ts';
import type { System } from '../../../src/system/system.ts';
import { closedOrigin, serviceFor, settleUntil, systemWith } from '../../support/services.ts';
import { TestClock } from '../../support/test-clock.ts';
import { addressChanged, changed, granted, lost, released, runnerOf } from './support.ts';

async function temporaryFile(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'natward-test-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return join(directory, 'file');
}

function textOf(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
}

function appending(file: string, options: Partial<RunHook> = {}): RunHook {
  return { ...options, kind: 'shell', line: `echo "$NATWARD_EVENT $NATWARD_EXTERNAL_PORT" >>${file}` };
}

const DONE: ProgramResult = { exitCode: 0, endedBy: null, cut: null, stdout: '', stderr: '' };

/** Programs that end when the test says so, in the order in which they were started. */
function stagedPrograms(system: System) {
  const running: { readonly request: ProgramRequest; readonly end: (result?: ProgramResult) => void }[] = [];
  const staged: System = {
    ...system,
    runProgram: (request) =>
      new Promise((resolve, reject) => {
        running.push({ request, end: (result = DONE) => resolve(result) });
        request.signal?.addEventListener('abort', () => reject(request.signal?.reason), { once: true });
      }),
  };
  return { staged, running };
}

function nameOf(request: ProgramRequest | undefined): string {
  return request !== undefined && 'shell' in request.command ? request.command.shell : '';
}

function stagedRunnerOf(hooks: readonly Hook[]) {
  let running: ReturnType<typeof stagedPrograms>['running'] = [];
  const scene = runnerOf(hooks, (system) => {
    const programs = stagedPrograms(system);
    running = programs.running;
    return programs.staged;
  });
  return { ...scene, running };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('handle()', () => {
  test('returns before anything is done', async () => {
    const file = await temporaryFile();
    const { runner, clock, running } = stagedRunnerOf([appending(file)]);
    runner.handle(granted());
    expect(running).toHaveLength(0);
    await clock.advance(0);
    expect(running).toHaveLength(1);
    running[0]?.end();
  });

  test('runs what is set on the event, and nothing else', async () => {
    const file = await temporaryFile();
    const hooks = [appending(file, { on: ['granted', 'lost'] })];
    const { runner, clock, warnings } = runnerOf(hooks);
    const others: AgentEvent[] = [
      { ...released(), id: 1 },
      { type: 'warning', message: 'x', advice: null, id: 2, at: '' },
      { ...granted(), type: 'renewed' } as AgentEvent,
      { ...granted(), type: 'refused' } as AgentEvent,
    ];
    for (const event of [granted(), changed(), lost(), addressChanged('1.2.3.4'), ...others])
      runner.handle(event);
    await settleUntil(clock, () => textOf(file).includes('lost'));
    await clock.settle(runner.close());
    expect(textOf(file)).toBe('granted 40000\nlost 40000\n');
    expect(warnings).toEqual([]);
  });

  test('a hook that is set twice runs once', async () => {
    const { runner, clock, running } = stagedRunnerOf([
      { kind: 'shell', line: 'a', on: ['granted'] },
      { on: ['granted'], line: 'a', kind: 'shell' },
    ]);
    runner.handle(granted());
    await clock.advance(0);
    expect(running).toHaveLength(1);
    running[0]?.end();
  });
});

describe('the runs of one hook', () => {
  test('come one after the other, in the order of the events', async () => {
    const { runner, clock, running } = stagedRunnerOf([{ kind: 'shell', line: 'a' }]);
    for (const externalPort of [1, 2, 3]) runner.handle(changed({ externalPort }));
    for (const externalPort of [1, 2, 3]) {
      await clock.advance(0);
      expect(running).toHaveLength(externalPort);
      expect(running.at(-1)?.request.env).toMatchObject({ NATWARD_EXTERNAL_PORT: `${externalPort}` });
      running.at(-1)?.end();
    }
  });

  test('go on after one that failed', async () => {
    const file = await temporaryFile();
    const hook: RunHook = {
      kind: 'shell',
      line: `test "$NATWARD_EVENT" = granted && { echo no >&2; exit 3; }; echo yes >${file}`,
    };
    const { runner, clock, warnings } = runnerOf([hook]);
    runner.handle(granted());
    runner.handle(lost());
    await settleUntil(clock, () => textOf(file) === 'yes\n');
    expect(warnings).toEqual([
      {
        message: 'the shell line "test ..." (granted, 3fa94c01/tcp/8080): it ended with exit code 3: no',
        advice: null,
      },
    ]);
  });

  test('are 64 at most that wait: the oldest are dropped, with one warning until they have all gone', async () => {
    const { runner, clock, running, warnings } = stagedRunnerOf([{ kind: 'shell', line: 'a' }]);
    const push = async (from: number, to: number) => {
      for (let externalPort = from; externalPort <= to; externalPort++)
        runner.handle(changed({ externalPort }));
      await clock.advance(0);
    };
    const endAll = async () => {
      for (let ended = -1; ended !== running.length; ) {
        ended = running.length;
        for (const one of running) one.end();
        await clock.advance(0);
      }
    };
    await push(1, 1);
    await push(2, 100);
    expect(warnings).toEqual([
      {
        message: 'the shell line "a ...": more than 64 events wait for it; the oldest are dropped',
        advice: expect.any(String),
      },
    ]);
    await endAll();
    const ports = running.map(({ request }) => Number(request.env?.['NATWARD_EXTERNAL_PORT']));
    expect(ports).toEqual([1, ...Array.from({ length: 64 }, (_, index) => 37 + index)]);
    await push(101, 200);
    expect(warnings).toHaveLength(2);
    await endAll();
  });
});

describe('a hook that hangs, fails or floods', () => {
  test('is cut and told of, and delays nobody', async () => {
    const file = await temporaryFile();
    const { runner, clock, warnings } = runnerOf([
      { kind: 'shell', line: 'exec sleep 60', timeoutSeconds: 2 },
      { kind: 'shell', line: 'exec cat /dev/zero' },
      { kind: 'run', argv: ['/nowhere/program', 'secret'] },
      { kind: 'run', argv: ['/bin/sh', '-c', 'exit 7', 'secret'] },
      appending(file),
    ]);
    runner.handle(granted());
    await settleUntil(clock, () => textOf(file) !== '');
    expect(warnings.map(({ message }) => message)).not.toContain(expect.stringContaining('sleep'));
    await settleUntil(clock, () => warnings.length === 4);
    const about = '(granted, 3fa94c01/tcp/8080)';
    expect(warnings.map(({ message }) => message).sort()).toEqual([
      `the program /bin/sh ${about}: it ended with exit code 7`,
      `the program /nowhere/program ${about}: /nowhere/program cannot be started: there is no such program`,
      `the shell line "exec ..." ${about}: it was not done after 2 s and was ended`,
      `the shell line "exec ..." ${about}: it wrote more than 1 MiB and was ended`,
    ]);
  });

  test('eight programs run at once; the others come as these end', async () => {
    const hooks = Array.from({ length: 12 }, (_, index): RunHook => ({ kind: 'shell', line: `${index}` }));
    const { runner, clock, running } = stagedRunnerOf(hooks);
    runner.handle(granted());
    await clock.advance(0);
    expect(running).toHaveLength(8);
    running[3]?.end();
    running[5]?.end();
    await clock.advance(0);
    expect(running.map(({ request }) => nameOf(request))).toEqual(
      Array.from({ length: 10 }, (_, index) => `${index}`),
    );
    for (const one of running) one.end();
    await clock.advance(0);
    expect(running).toHaveLength(12);
    for (const one of running) one.end();
  });

  test('a service that is down holds up no program and no other service', async () => {
    const { origin, asked } = await serviceFor(() => ({}));
    const down: WebhookHook = { kind: 'webhook', url: await closedOrigin() };
    const { runner, clock, warnings } = runnerOf([down, { kind: 'webhook', url: `${origin}/secret` }]);
    for (const externalPort of [1, 2, 3]) runner.handle(changed({ externalPort }));
    await clock.advance(0);
    await settleUntil(clock, () => asked.length === 3);
    expect(asked.map(({ body }) => JSON.parse(body).lease.externalPort)).toEqual([1, 2, 3]);
    expect(warnings).toEqual([]);
  });
});

describe('a webhook', () => {
  test('is told of an event when it is up again, and of the next ones after it', async () => {
    const { origin, asked } = await serviceFor((_, count) => (count <= 5 ? { status: 502 } : {}));
    const { runner, clock, warnings } = runnerOf([{ kind: 'webhook', url: origin }]);
    const startMs = clock.now();
    runner.handle(granted());
    runner.handle(lost());
    await settleUntil(clock, () => asked.length === 7);
    expect(asked.map(({ body }) => JSON.parse(body).type)).toEqual([...Array(6).fill('granted'), 'lost']);
    expect(clock.now() - startMs).toBe(31_000);
    expect(warnings).toEqual([]);
  });

  test('that stays down is told of in a warning, without what is secret in its URL', async () => {
    const origin = await closedOrigin();
    const url = `${origin.replace('//', '//user:hunter2@')}/hunter2?key=hunter2`;
    const { runner, clock, warnings } = runnerOf([{ kind: 'webhook', url }]);
    runner.handle(granted());
    await settleUntil(clock, () => warnings.length === 1);
    expect(warnings[0]?.message).toContain(
      `the webhook at ${origin} (granted, 3fa94c01/tcp/8080): no answer`,
    );
    expect(JSON.stringify(warnings)).not.toMatch(/hunter2|user:/);
  });

  test('is told of a gateway by its address', async () => {
    const { origin } = await serviceFor(() => ({ status: 400 }));
    const { runner, clock, warnings } = runnerOf([{ kind: 'webhook', url: origin }]);
    runner.handle(addressChanged('1.2.3.4'));
    await settleUntil(clock, () => warnings.length === 1);
    expect(warnings[0]?.message).toContain('(address-changed, 192.168.1.1): it answers with HTTP 400');
  });
});

describe('close()', () => {
  test('waits for what runs and what waits to run', async () => {
    const file = await temporaryFile();
    const { runner, clock, warnings } = runnerOf([appending(file)]);
    for (const externalPort of [1, 2, 3]) runner.handle(changed({ externalPort }));
    await clock.settle(runner.close());
    expect(textOf(file)).toBe('changed 1\nchanged 2\nchanged 3\n');
    expect(warnings).toEqual([]);
  });

  test('takes nothing more', async () => {
    const file = await temporaryFile();
    const { runner, clock } = runnerOf([appending(file)]);
    await clock.settle(runner[Symbol.asyncDispose]());
    runner.handle(granted());
    runner.handle(released());
    await turn();
    await clock.settle(runner.close());
    expect(textOf(file)).toBe('');
  });

  test('cuts what is not done after five seconds, and drops what waits', async () => {
    const { runner, clock, running, warnings } = stagedRunnerOf([{ kind: 'shell', line: 'a' }]);
    const startMs = clock.now();
    for (const externalPort of [1, 2, 3]) runner.handle(changed({ externalPort }));
    await clock.settle(runner.close());
    expect(clock.now() - startMs).toBe(5_000);
    expect(running).toHaveLength(1);
    expect(warnings.map(({ message }) => message)).toEqual([
      'the shell line "a ..." (changed, 3fa94c01/tcp/8080): it was cut, for natward ends',
    ]);
  });

  test('cuts at once where its caller cannot wait, and programs that wait for their turn as well', async () => {
    const hooks = Array.from({ length: 10 }, (_, index): RunHook => ({ kind: 'shell', line: `${index}` }));
    const { runner, clock, running, warnings } = stagedRunnerOf(hooks);
    const startMs = clock.now();
    runner.handle(granted());
    await clock.advance(0);
    await runner.close(AbortSignal.abort(new NatwardError('ABORTED', 'now')));
    expect(clock.now()).toBe(startMs);
    expect(running).toHaveLength(8);
    expect(warnings).toHaveLength(10);
  });

  test('ends a real program that hangs', async () => {
    const file = await temporaryFile();
    const { runner, clock, warnings } = runnerOf([
      { kind: 'shell', line: `echo $$ >${file}; exec sleep 60`, timeoutSeconds: 3600 },
    ]);
    runner.handle(granted());
    await settleUntil(clock, () => textOf(file).endsWith('\n'));
    await runner.close(AbortSignal.abort());
    expect(() => process.kill(Number(textOf(file)), 0)).toThrow('ESRCH');
    expect(warnings).toHaveLength(1);
  });

  test('tries nothing twice, and waits for no other try', async () => {
    const clock = new TestClock();
    const warnings: string[] = [];
    const { origin, asked } = await serviceFor(() => ({ status: 503 }));
    const runner = new HookRunner(systemWith(clock), {
      version: '1.2.3',
      hooksOf: () => [
        { kind: 'webhook', url: origin },
        { kind: 'sync', client: 'transmission', url: origin },
        { kind: 'dyndns', url: origin, hostname: 'home.example.org' },
      ],
      warn: (message) => warnings.push(message),
    });
    runner.handle(granted());
    await settleUntil(clock, () => asked.length >= 3);
    await clock.settle(runner.close());
    const asksBefore = asked.length;
    await clock.advance(3_600_000);
    expect(asked).toHaveLength(asksBefore);
    expect(clock.pending).toBe(0);
    expect(warnings.some((message) => message.startsWith('the webhook at'))).toBe(true);
  });
});

test('hooks come and go: no more than 256 are remembered, and each still runs in its order', async () => {
  const clock = new TestClock();
  const { staged, running } = stagedPrograms(systemWith(clock));
  let line = 0;
  const runner = new HookRunner(staged, {
    version: '1.2.3',
    hooksOf: () => [{ kind: 'shell', line: `${line}` }],
    warn: () => {},
  });
  runner.handle(granted());
  await clock.advance(0);
  for (line = 1; line <= 1000; line++) {
    runner.handle(granted());
    await turn();
    running.at(-1)?.end();
    await turn();
  }
  expect(running).toHaveLength(1001);
  // The first one still runs: what comes for it now waits.
  line = 0;
  runner.handle(granted());
  await clock.advance(0);
  expect(running).toHaveLength(1001);
  running[0]?.end();
  await clock.advance(0);
  expect(running).toHaveLength(1002);
  running.at(-1)?.end();
  await clock.settle(runner.close());
});
