/** Programs that hooks run: real ones. */

import { existsSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { HookedEvent, RunHook } from '../../../src/agent/hooks/hook.ts';
import { environmentOf, runHook } from '../../../src/agent/hooks/run.ts';
import { runProgram } from '../../../src/system/program.ts';
import { aborting, addressChanged, changed, granted, lost } from './support.ts';

const NAMES = Object.keys(environmentOf(granted()));

function run(hook: RunHook, event: HookedEvent = granted(), signal = new AbortController().signal) {
  return runHook(runProgram, hook, event, signal);
}

function node(script: string, timeoutSeconds = 15): RunHook {
  return { kind: 'run', argv: [process.execPath, '-e', script], timeoutSeconds };
}

/** What a program that the hook runs sees: it fails, and says so with its last words. */
async function seenBy(hook: RunHook, event: HookedEvent): Promise<string> {
  let message = '';
  await run(hook, event).catch((error: Error) => ({ message } = error));
  return message.replace(/^it ended with exit code 1: /, '');
}

describe('environmentOf()', () => {
  test('tells of a lease', () => {
    expect(environmentOf(granted())).toEqual({
      NATWARD_EVENT: 'granted',
      NATWARD_LEASE_ID: '3fa94c01/tcp/8080',
      NATWARD_SPEC: '8080/tcp',
      NATWARD_PROTOCOL: 'tcp',
      NATWARD_EXTERNAL_ADDRESS: '11.22.33.44',
      NATWARD_EXTERNAL_PORT: '40000',
      NATWARD_INTERNAL_CLIENT: '192.168.1.10',
      NATWARD_INTERNAL_PORT: '8080',
      NATWARD_GATEWAY: '192.168.1.1',
      NATWARD_VIA: 'pcp',
      NATWARD_LIFETIME_SECONDS: '7200',
      NATWARD_EXPIRES_AT: '2026-01-01T02:00:00.000Z',
    });
  });

  test('has nothing where there is no value, and takes away what is inherited', () => {
    const env = environmentOf(
      granted({ externalAddress: null, lifetimeSeconds: 0, expiresAt: null, via: null }),
    );
    expect(env).toMatchObject({ NATWARD_LIFETIME_SECONDS: '0' });
    for (const name of ['NATWARD_EXTERNAL_ADDRESS', 'NATWARD_EXPIRES_AT', 'NATWARD_VIA', 'NATWARD_REASON']) {
      expect(env).toHaveProperty(name, undefined);
    }
  });

  test('tells what a changed lease had before', () => {
    const event = changed({ externalPort: 50_000 }, { externalAddress: null, externalPort: 40_001 });
    expect(environmentOf(event)).toMatchObject({
      NATWARD_EVENT: 'changed',
      NATWARD_EXTERNAL_PORT: '50000',
      NATWARD_PREVIOUS_EXTERNAL_PORT: '40001',
      NATWARD_PREVIOUS_EXTERNAL_ADDRESS: undefined,
    });
  });

  test('tells why a lease was lost', () => {
    expect(environmentOf(lost({}, 'gone'))).toMatchObject({ NATWARD_EVENT: 'lost', NATWARD_REASON: 'gone' });
  });

  test('tells of an address', () => {
    const env = environmentOf(addressChanged('55.66.77.88'));
    expect(Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined))).toEqual({
      NATWARD_EVENT: 'address-changed',
      NATWARD_GATEWAY: '192.168.1.1',
      NATWARD_EXTERNAL_ADDRESS: '55.66.77.88',
      NATWARD_PREVIOUS_EXTERNAL_ADDRESS: '11.22.33.44',
    });
  });

  test('every event has the same names', () => {
    for (const event of [changed(), lost(), addressChanged(null)]) {
      expect(Object.keys(environmentOf(event))).toEqual(NAMES);
    }
  });
});

describe('runHook()', () => {
  test('runs the program, with the event on its standard input', async () => {
    const event = granted();
    const script = `
      let text = '';
      process.stdin.on('data', (chunk) => text += chunk).on('end', () => {
        const { type, lease } = JSON.parse(text);
        console.error(type, lease.externalPort, process.env.NATWARD_EVENT, process.env.NATWARD_EXTERNAL_PORT);
        process.exit(1);
      });`;
    expect(await seenBy(node(script), event)).toBe('granted 40000 granted 40000');
  });

  test('what a gateway wrote is no part of a command, whatever it is', async () => {
    const reason =
      '$(touch /tmp/natward-owned); `touch /tmp/natward-owned` " \' \\ && touch /tmp/natward-owned #';
    const hook: RunHook = { kind: 'shell', line: 'printf %s "$NATWARD_REASON" >&2; exit 1' };
    expect(await seenBy(hook, lost({}, reason))).toBe(reason);
    expect(await seenBy({ kind: 'shell', line: 'echo $NATWARD_REASON >&2; exit 1' }, lost({}, ';id'))).toBe(
      ';id',
    );
    expect(existsSync('/tmp/natward-owned')).toBe(false);
  });

  test('a NUL, a new line and a text without end reach it as far as a variable can hold them', async () => {
    const hook: RunHook = { kind: 'shell', line: 'echo "${#NATWARD_REASON}" >&2; exit 1' };
    expect(await seenBy(hook, lost({}, `a\0b\nc`))).toBe('4');
    expect(await seenBy(hook, lost({}, 'x'.repeat(2 ** 20)))).toBe('4096');
  });

  test('arguments are not taken apart', async () => {
    const hook: RunHook = {
      kind: 'run',
      argv: [process.execPath, '-e', 'process.exit(process.argv[1] === "$HOME *" ? 0 : 9)', '$HOME *'],
    };
    await run(hook);
  });

  test.each<[string, RunHook, string, string]>([
    [
      'fails',
      { kind: 'shell', line: 'echo one >&2; echo two >&2; exit 3' },
      'FAILED',
      'it ended with exit code 3: two',
    ],
    [
      'fails and says it on stdout',
      { kind: 'shell', line: 'echo why; exit 1' },
      'FAILED',
      'it ended with exit code 1: why',
    ],
    ['fails without a word', { kind: 'shell', line: 'exit 4' }, 'FAILED', 'it ended with exit code 4'],
    ['is killed', { kind: 'shell', line: 'kill -KILL $$' }, 'FAILED', 'it was ended by SIGKILL'],
    [
      'hangs',
      { kind: 'shell', line: 'exec sleep 60', timeoutSeconds: 1 },
      'TIMEOUT',
      'it was not done after 1 s and was ended',
    ],
    [
      'floods its output',
      { kind: 'shell', line: 'exec cat /dev/zero' },
      'FAILED',
      'it wrote more than 1 MiB and was ended',
    ],
    [
      'does not exist',
      { kind: 'run', argv: ['/nowhere/x'] },
      'FAILED',
      '/nowhere/x cannot be started: there is no such program',
    ],
  ])('tells of a program that %s', async (_, hook, code, message) => {
    await expect(run(hook)).rejects.toMatchObject({ code, message });
  });

  test('last words are a line without what drives a terminal', async () => {
    const hook: RunHook = {
      kind: 'shell',
      line: `printf 'a\\033[31mb\\rc%s' ${'x'.repeat(400)} >&2; exit 1`,
    };
    const message = await seenBy(hook, granted());
    expect(message).toMatch(/^a \[31mb cx+$/);
    expect(message).toHaveLength(200);
  });

  test('is stopped by the signal', async () => {
    await expect(run(node('0'), granted(), aborting('enough'))).rejects.toMatchObject({ code: 'ABORTED' });
  });
});
