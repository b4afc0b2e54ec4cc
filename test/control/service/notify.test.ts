import { describe, expect, test } from 'vitest';
import { ServiceManager } from '../../../src/control/service/notify.ts';
import { NatwardError } from '../../../src/errors.ts';
import { realSystem } from '../../../src/system/system.ts';
import { TestClock } from '../../support/test-clock.ts';

const SOCKET = { NOTIFY_SOCKET: '/run/systemd/notify' };

interface Played {
  readonly clock: TestClock;
  readonly manager: ServiceManager;
  readonly told: string[];
  readonly warnings: string[];
  readonly env: Record<string, string>;
}

function played(
  given: Record<string, string>,
  { healthy = true, missing = false, exitCode = 0 } = {},
): Played {
  const env = { ...given };
  const clock = new TestClock();
  const told: string[] = [];
  const warnings: string[] = [];
  const system = {
    ...realSystem,
    clock,
    runProgram: async ({ command, env }: Parameters<typeof realSystem.runProgram>[0]) => {
      if (missing) throw new NatwardError('FAILED', 'there is no program systemd-notify');
      expect(env).toEqual(SOCKET);
      told.push((command as readonly string[]).slice(2).join(' '));
      return { exitCode, endedBy: null, cut: null, stdout: '', stderr: 'Connection refused\n' };
    },
  };
  const manager = new ServiceManager(system, {
    env,
    isHealthy: () => healthy,
    warn: (error) => void warnings.push(error.message),
  });
  return { clock, manager, told, warnings, env };
}

describe('ServiceManager', () => {
  test('tells systemd that it is ready, and that it stops', async () => {
    const { manager, told } = played(SOCKET);
    manager.ready('keeps 2 requests');
    manager.stopping();
    await manager[Symbol.asyncDispose]();
    expect(told).toEqual([
      '--ready --status=keeps 2 requests',
      'STOPPING=1 --status=releasing what is mapped',
    ]);
  });

  test('without a socket to tell nothing runs', async () => {
    const { manager, told } = played({ WATCHDOG_USEC: '60000000' });
    manager.ready('');
    await manager[Symbol.asyncDispose]();
    expect(told).toEqual([]);
  });

  test('the watchdog hears from it twice in each of its periods', async () => {
    const { manager, told, clock } = played({ ...SOCKET, WATCHDOG_USEC: '60000000' });
    manager.ready('');
    await clock.advance(90_000);
    expect(told.slice(1)).toEqual(['WATCHDOG=1', 'WATCHDOG=1', 'WATCHDOG=1']);
    await manager[Symbol.asyncDispose]();
  });

  test('a keeper that hangs is not said to be alive', async () => {
    const { manager, told, clock } = played({ ...SOCKET, WATCHDOG_USEC: '60000000' }, { healthy: false });
    manager.ready('');
    await clock.advance(90_000);
    expect(told).toHaveLength(1);
    await manager[Symbol.asyncDispose]();
  });

  test('another process’s watchdog is not ours', async () => {
    const { manager, told, clock } = played({ ...SOCKET, WATCHDOG_USEC: '60000000', WATCHDOG_PID: '1' });
    manager.ready('');
    await clock.advance(90_000);
    expect(told).toHaveLength(1);
    await manager[Symbol.asyncDispose]();
  });

  test('where systemd-notify is missing it says so once', async () => {
    const { manager, warnings } = played(SOCKET, { missing: true });
    manager.ready('');
    manager.stopping();
    await manager[Symbol.asyncDispose]();
    expect(warnings).toEqual(['there is no program systemd-notify']);
  });

  test('where systemd-notify fails it says so once', async () => {
    const { manager, warnings } = played(SOCKET, { exitCode: 1 });
    manager.ready('');
    manager.stopping();
    await manager[Symbol.asyncDispose]();
    expect(warnings).toEqual(['systemd-notify could not tell systemd: Connection refused']);
  });

  test('programs that hooks run are not told where to speak for the agent', async () => {
    const { manager, env } = played({
      ...SOCKET,
      WATCHDOG_USEC: '60000000',
      WATCHDOG_PID: '1',
      PATH: '/bin',
    });
    expect(env).toEqual({ PATH: '/bin' });
    await manager[Symbol.asyncDispose]();
  });
});
