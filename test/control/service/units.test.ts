import { assert, property, string } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { launchdPlist } from '../../../src/control/service/launchd.ts';
import { MARK, systemdUnit } from '../../../src/control/service/systemd.ts';
import { isNatwardError } from '../../../src/errors.ts';
import { parseXml } from '../../../src/wire/xml.ts';

const COMMAND = ['/usr/bin/node', '/usr/lib/natward/natward.cjs'] as const;

function execStart(path: string): string {
  const unit = systemdUnit({ command: ['/usr/bin/node', path], scope: 'system' });
  return /^ExecStart=(.*)$/m.exec(unit)?.[1] ?? '';
}

describe('systemdUnit()', () => {
  test('the unit is known to be ours by its first line', () => {
    for (const scope of ['system', 'user'] as const) {
      expect(systemdUnit({ command: COMMAND, scope }).split('\n')[0]).toBe(MARK);
    }
  });

  test('the system’s unit has a user and directories of its own, and two capabilities: ports below 1024, the kernel’s rules', () => {
    const lines = systemdUnit({ command: COMMAND, scope: 'system' }).split('\n');
    expect(lines).toEqual(
      expect.arrayContaining([
        'DynamicUser=yes',
        'StateDirectory=natward',
        'RuntimeDirectory=natward',
        'CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_NET_ADMIN',
        'AmbientCapabilities=CAP_NET_BIND_SERVICE CAP_NET_ADMIN',
        'ProtectKernelTunables=yes',
        'ReadWritePaths=-/proc/sys/net',
        'ProtectHome=yes',
        'Type=notify',
        'WatchdogSec=60',
      ]),
    );
    expect(lines.some((line) => line.startsWith('MemoryDenyWriteExecute'))).toBe(false);
  });

  test('a user’s unit leaves out what only the system’s manager can do', () => {
    const unit = systemdUnit({ command: COMMAND, scope: 'user' });
    for (const word of ['DynamicUser', 'network-online', 'Capabilit', '/proc/sys', 'multi-user']) {
      expect(unit).not.toContain(word);
    }
    expect(unit).toContain('WantedBy=default.target');
  });

  test('of a home directory nothing is seen but the program that is in it', () => {
    const command = ['/home/me/50%/node', '/root/lib/natward/bin/natward.cjs'] as const;
    const lines = systemdUnit({ command, scope: 'system' }).split('\n');
    expect(lines).toContain('ProtectHome=tmpfs');
    expect(lines).toContain('BindReadOnlyPaths="/home/me/50%%/node" "/root/lib/natward/bin"');
  });

  test.each([
    [['/opt/a"b/node', '/natward.cjs']],
    [["/opt/a'b/node", '/natward.cjs']],
    [['/opt/a\\b/node', '/natward.cjs']],
    [['/usr/bin/node', '/home/a:b/natward.cjs']],
  ] as const)('what systemd cannot be told is refused: %j', (command) => {
    expect(() => systemdUnit({ command, scope: 'system' })).toThrow(/cannot be .* by systemd/);
  });

  test('a program of a name with $ is started by that name', () => {
    const unit = systemdUnit({ command: ['/opt/$a/node', '/opt/$a/n.cjs'], scope: 'user' });
    expect(unit).toContain('ExecStart="/opt/$a/node" "/opt/$$a/n.cjs" agent');
  });

  test.each([
    ['/a b/n.cjs', '"/usr/bin/node" "/a b/n.cjs" agent'],
    ['/a"b\\c/n.cjs', '"/usr/bin/node" "/a\\"b\\\\c/n.cjs" agent'],
    ['/50%/$HOME/n.cjs', '"/usr/bin/node" "/50%%/$$HOME/n.cjs" agent'],
  ])('%s stands in it as it is', (path, line) => {
    expect(execStart(path)).toBe(line);
  });

  test('a path with a line end is refused', () => {
    expect(() => execStart('/a\nExecStartPre=/bin/evil')).toThrow(/control character/);
  });

  test('no path adds a line', () => {
    const count = systemdUnit({ command: COMMAND, scope: 'system' }).split('\n').length;
    const lines = (path: string): number | 'refused' => {
      try {
        return systemdUnit({ command: ['/n', path], scope: 'system' }).split('\n').length;
      } catch (error) {
        return isNatwardError(error, 'USAGE') ? 'refused' : 0;
      }
    };
    assert(
      property(string(), (path) => {
        expect([count, 'refused']).toContain(lines(path));
      }),
    );
  });
});

describe('launchdPlist()', () => {
  test('it is well-formed, and has the words of the command', () => {
    const text = launchdPlist({ command: ['/usr/local/bin/node', '/a & <b>/n.cjs'], logFile: '/l.log' });
    expect(text).toContain('<string>/a &amp; &lt;b&gt;/n.cjs</string>');
    expect(text).toContain('natward service install');
    const body = text.replace(/<!DOCTYPE.*?>/s, '');
    expect(parseXml(body).name).toBe('plist');
  });

  test('a path with a control character is refused', () => {
    expect(() => launchdPlist({ command: ['/n', '/a\u0000'], logFile: '/l' })).toThrow(/control character/);
  });
});
