/** What natward writes for systemd, judged by systemd's own tools; what it tells systemd, heard on a real socket. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemdUnit } from '../../src/control/service/systemd.ts';
import { describeLab, freshHome } from './support/suite.ts';

/** systemd-analyze calls up to 2.0 "OK"; a service without any sandbox has 9.6. */
const HIGHEST_EXPOSURE = 2;
/** Prints each datagram that comes to the socket, a line each. */
const EAR = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('listening', flush=True)
while True:
    print(s.recv(4096).decode().replace('\\n', ' '), flush=True)
`;

describeLab('the service', {}, (lab) => {
  let directory = '';
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'natward-unit-'));
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  function unitFile(scope: 'system' | 'user'): string {
    const file = join(directory, 'natward.service');
    const program = join(process.cwd(), 'dist', 'bin', 'natward.cjs');
    writeFileSync(file, systemdUnit({ command: [process.execPath, program], scope }));
    return file;
  }

  test.each(['system', 'user'] as const)(
    'systemd-analyze verify finds no fault in the %s unit',
    async (scope) => {
      const manager = scope === 'user' ? ['--user'] : [];
      const file = unitFile(scope);
      const env = { ...process.env, XDG_RUNTIME_DIR: directory };
      const result = await lab().exec('lan', ['systemd-analyze', ...manager, 'verify', file], { env });
      expect(result).toMatchObject({ code: 0, stderr: '' });
    },
  );

  test('systemd-analyze security calls its exposure OK', async () => {
    const file = unitFile('system');
    const command = ['systemd-analyze', 'security', '--offline=true', '--no-pager', file];
    const { stdout } = await lab().exec('lan', command);
    const exposure = Number(/Overall exposure level.*?: ([\d.]+)/.exec(stdout)?.[1]);
    expect(exposure).toBeLessThanOrEqual(HIGHEST_EXPOSURE);
  });

  test('an agent that systemd starts says when it is ready, that it lives, and that it stops', async () => {
    const socket = join(directory, 'notify');
    const ear = lab().spawn('lan', ['python3', '-c', EAR, socket]);
    await ear.waitFor(/listening/);
    const env = { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '2000000' };
    const agent = lab().spawnNatward(['agent'], { ...freshHome(), env });
    await ear.waitFor(/READY=1/);
    await ear.waitFor(/WATCHDOG=1/);
    agent.signal('SIGTERM');
    await ear.waitFor(/STOPPING=1/);
    expect((await agent.exited).code).toBe(0);
    await ear.stop();
  });
});
