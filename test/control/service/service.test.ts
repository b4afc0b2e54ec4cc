/** The machine's service manager is played: every command that it would be given is written down. */

import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  installService,
  logCommand,
  lookedAt,
  type ServiceHost,
  serviceStatus,
  uninstallService,
} from '../../../src/control/service/service.ts';
import type { ProgramResult } from '../../../src/system/program.ts';

interface Played {
  readonly host: ServiceHost;
  readonly commands: string[];
  readonly file: string;
}

const DONE: ProgramResult = { exitCode: 0, endedBy: null, cut: null, stdout: '', stderr: '' };

function played(
  change: Partial<ServiceHost> = {},
  answer: (command: string) => Partial<ProgramResult> = () => ({}),
): Played {
  const home = mkdtempSync(join(tmpdir(), 'natward-service-'));
  onTestFinished(() => rmSync(home, { recursive: true, force: true }));
  const commands: string[] = [];
  const host: ServiceHost = {
    platform: 'linux',
    scope: 'system',
    command: ['/usr/bin/node', '/usr/lib/natward.cjs'],
    run: async ({ command }) => {
      const line = (command as readonly string[]).join(' ');
      commands.push(line);
      return { ...DONE, ...answer(line) };
    },
    systemUnits: join(home, 'units'),
    home,
    user: 1000,
    isBooted: true,
    ...change,
  };
  const file =
    host.platform === 'darwin'
      ? join(home, 'Library/LaunchAgents/io.github.natward.agent.plist')
      : host.scope === 'system'
        ? join(home, 'units/natward.service')
        : join(home, '.config/systemd/user/natward.service');
  return { host, commands, file };
}

describe('installService()', () => {
  test('writes the system’s unit, and enables and starts it', async () => {
    const { host, commands, file } = played();
    expect(await installService(host)).toEqual({ file, notes: [] });
    expect(readFileSync(file, 'utf8')).toContain('DynamicUser=yes');
    expect(commands).toEqual([
      'systemctl daemon-reload',
      'systemctl enable natward.service',
      'systemctl restart natward.service',
    ]);
  });

  test('for a user it asks the user’s manager, and says what happens at logout', async () => {
    const { host, commands, file } = played({ scope: 'user' });
    const { notes } = await installService(host);
    expect(notes).toEqual([expect.stringContaining('loginctl enable-linger')]);
    expect(commands[0]).toBe('systemctl --user daemon-reload');
    expect(existsSync(file)).toBe(true);
  });

  test('installed again it is written anew and restarted', async () => {
    const { host, file } = played();
    await installService(host);
    await installService({ ...host, command: ['/opt/node', '/opt/natward.cjs'] });
    expect(readFileSync(file, 'utf8')).toContain('/opt/natward.cjs');
  });

  test('a service that does not start is not left behind, and why is said', async () => {
    const { host, file, commands } = played({}, (command) =>
      command.includes('restart') ? { exitCode: 1, stderr: 'Job for natward.service failed.\nSee' } : {},
    );
    await expect(installService(host)).rejects.toMatchObject({
      message: 'systemctl restart natward.service: Job for natward.service failed.',
      advice: 'To see why: journalctl --unit natward.service',
    });
    expect(existsSync(file)).toBe(false);
    // Nor a link to it, nor a service that is tried again and again.
    expect(commands.slice(3)).toEqual([
      'systemctl disable --now natward.service',
      'systemctl daemon-reload',
      'systemctl reset-failed natward.service',
    ]);
  });

  test('a newer one that does not start leaves the older one, and running', async () => {
    let broken = false;
    const { host, file, commands } = played({}, (command) =>
      broken && command.includes('restart') ? { exitCode: 1, cut: 'time' } : {},
    );
    await installService(host);
    const before = readFileSync(file, 'utf8');
    broken = true;
    await expect(installService({ ...host, command: ['/x', '/y'] })).rejects.toThrow('it took too long');
    expect(readFileSync(file, 'utf8')).toBe(before);
    expect(commands.slice(6)).toEqual(commands.slice(0, 3));
  });

  test('a program in the cache of npx is not made a service', async () => {
    const { host, file } = played({ command: ['/usr/bin/node', '/home/me/.npm/_npx/1a/natward.cjs'] });
    await expect(installService(host)).rejects.toMatchObject({ code: 'USAGE' });
    expect(existsSync(file)).toBe(false);
  });

  test('a user who has not logged in is told that it takes that', async () => {
    const { host, file } = played({ scope: 'user' }, () => ({
      exitCode: 1,
      stderr: 'Failed to connect to bus: No medium found\n',
    }));
    await expect(installService(host)).rejects.toMatchObject({
      advice: expect.stringContaining('logged in'),
    });
    expect(existsSync(file)).toBe(false);
  });

  test('a unit that somebody else wrote is left as it is', async () => {
    const { host, file, commands } = played();
    mkdirSync(dirname(file));
    writeFileSync(file, '[Service]\nExecStart=/bin/true\n');
    await expect(installService(host)).rejects.toMatchObject({ code: 'FAILED' });
    await expect(uninstallService(host)).rejects.toMatchObject({ code: 'NOT_OWN' });
    expect(commands).toEqual([]);
  });

  test('a directory that cannot be written is said', async () => {
    const { host } = played();
    writeFileSync(host.systemUnits, '');
    await expect(installService(host)).rejects.toThrow(/cannot write .*natward\.service/);
  });

  test('without systemd nothing is written, and what to do instead is said', async () => {
    const { host, file } = played({ isBooted: false });
    await expect(installService(host)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      advice: expect.stringContaining('natward agent'),
    });
    expect(existsSync(file)).toBe(false);
  });

  test('on Windows it says that there is none', async () => {
    const { host } = played({ platform: 'win32' });
    await expect(installService(host)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  test('on macOS it writes a property list and starts it for the user', async () => {
    const { host, commands, file } = played({ platform: 'darwin', scope: 'user' });
    await installService(host);
    expect(readFileSync(file, 'utf8')).toContain('<string>/usr/lib/natward.cjs</string>');
    expect(commands).toEqual([
      'launchctl bootout gui/1000/io.github.natward.agent',
      `launchctl bootstrap gui/1000 ${file}`,
    ]);
  });

  test('on macOS one that does not start is not left behind', async () => {
    const { host, file } = played({ platform: 'darwin', scope: 'user' }, (command) =>
      command.includes('bootstrap') ? { exitCode: 5, stderr: 'Bootstrap failed: 5: Input/output error' } : {},
    );
    await expect(installService(host)).rejects.toThrow('Bootstrap failed: 5');
    expect(existsSync(file)).toBe(false);
  });

  test('on macOS root is told to install it as the user', async () => {
    const { host } = played({ platform: 'darwin' });
    await expect(installService(host)).rejects.toMatchObject({ advice: expect.stringContaining('--user') });
  });
});

describe('uninstallService()', () => {
  test('stops it and removes what was written', async () => {
    const { host, commands, file } = played();
    await installService(host);
    commands.length = 0;
    expect(await uninstallService(host)).toEqual({ file });
    expect(existsSync(file)).toBe(false);
    expect(commands).toEqual(['systemctl disable --now natward.service', 'systemctl daemon-reload']);
  });

  test('where none is installed it says so', async () => {
    const { host } = played();
    await expect(uninstallService(host)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('on macOS as well', async () => {
    const { host, file } = played({ platform: 'darwin', scope: 'user' });
    await installService(host);
    await uninstallService(host);
    expect(existsSync(file)).toBe(false);
  });
});

describe('serviceStatus()', () => {
  test('nothing installed is a state, too', async () => {
    const { host } = played();
    expect(await serviceStatus(host)).toMatchObject({ state: 'not-installed', enabled: false, pid: null });
  });

  test.each([
    ['active', 'running', 'running'],
    ['activating', 'start', 'starting'],
    ['failed', 'failed', 'failed'],
    ['inactive', 'dead', 'stopped'],
  ])('%s is %s', async (active, sub, state) => {
    const { host } = played({}, (command) =>
      command.includes(' show ')
        ? {
            stdout: `ActiveState=${active}\nSubState=${sub}\nMainPID=12\nUnitFileState=enabled\nStatusText=a=b\n`,
          }
        : {},
    );
    await installService(host);
    expect(await serviceStatus(host)).toMatchObject({
      state,
      enabled: true,
      pid: 12,
      detail: `${active} (${sub}): a=b`,
    });
  });

  test('on macOS launchctl tells the pid', async () => {
    const { host } = played({ platform: 'darwin', scope: 'user' }, (command) =>
      command.includes('print') ? { stdout: 'state = running\n\tpid = 77\n' } : {},
    );
    await installService(host);
    expect(await serviceStatus(host)).toMatchObject({ state: 'running', pid: 77 });
  });
});

describe('lookedAt()', () => {
  test('who has no service of his own looks at the machine’s', async () => {
    const { host } = played({ scope: 'user' });
    expect(lookedAt(host).scope).toBe('user');
    await installService({ ...host, scope: 'system' });
    expect(lookedAt(host).scope).toBe('system');
    await installService(host);
    expect(lookedAt(host).scope).toBe('user');
  });

  test('where there is no systemd nobody else’s is looked for', () => {
    const { host } = played({ scope: 'user', isBooted: false });
    expect(lookedAt(host)).toBe(host);
  });
});

describe('logCommand()', () => {
  test('asks the journal for the unit', async () => {
    const { host } = played({ scope: 'user' });
    await installService(host);
    expect(logCommand(host, { lines: 5, follow: true }).join(' ')).toBe(
      'journalctl --user-unit natward.service --no-pager -n 5 --follow',
    );
  });

  test('on macOS reads the log file', async () => {
    const { host } = played({ platform: 'darwin', scope: 'user' });
    await installService(host);
    expect(logCommand(host, { lines: 5, follow: false })).toEqual([
      'tail',
      '-n',
      '5',
      join(host.home, 'Library/Logs/natward.log'),
    ]);
  });

  test('where none is installed it says so', () => {
    const { host } = played();
    expect(() => logCommand(host, { lines: 5, follow: false })).toThrow(/no service is installed/);
  });
});
