/** The commands as scripts, service managers and impatient people run them. */

import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeEach, describe, expect, test } from 'vitest';
import { countGrants, countPackets, loseGrants } from './support/packets.ts';
import type { Result } from './support/processes.ts';
import { describeLab, freshHome, linesOf, listed, rowsOf, rule, run } from './support/suite.ts';

const NATWARD = fileURLToPath(new URL('../../dist/bin/natward.cjs', import.meta.url));
const QUICKLY = { interval: 10, timeout: 5_000 };

describeLab('commands', {}, (lab) => {
  let home: { readonly home: string };
  beforeEach(async () => {
    home = freshHome();
    await lab().startGateway();
  });

  /** Runs natward from a shell: `$natward` is the command. */
  const shell = (script: string, options: { readonly home?: string } = home): Promise<Result> => {
    const directory = join(lab().directory, options.home ?? '');
    return lab().exec('lan', ['sh', '-c', `natward='${process.execPath} ${NATWARD}'; ${script}`], {
      env: { NATWARD_HOME: directory },
    });
  };

  describe('streams', () => {
    test.each([
      ['standard input is closed', '$natward map 8080 <&-'],
      ['standard input and output are closed', '$natward map 8080 <&- >&-'],
      ['all three are closed', '$natward map 8080 <&- >&- 2>&-'],
      ['nobody reads the output', '$natward map 8080 | true'],
      ['a terminal', `socat -u EXEC:"$natward map 8080",pty,stderr -`],
    ])('%s: the port is mapped and remembered', async (_, script) => {
      expect(await shell(script)).toMatchObject({ code: 0 });
      expect(await rowsOf(lab())).toEqual([rule('tcp', 8080)]);
      expect(await listed(lab(), home)).toEqual([{ ...rule('tcp', 8080), own: true }]);
    });

    test('the disk is full: exit 1, and the mapping stands and is remembered', async () => {
      const { code, stderr } = await shell('$natward map 8080 >/dev/full');
      expect(code).toBe(1);
      expect(stderr).toContain('the output cannot be written');
      expect(await listed(lab(), home)).toEqual([{ ...rule('tcp', 8080), own: true }]);
    });

    test('progress is for terminals: none in a pipe, a bar on a terminal, and it goes when it is done', async () => {
      const piped = await run(lab(), ['map', '5000-5099'], home);
      expect(piped.stderr).toBe('');
      const { stdout } = await shell('socat -u EXEC:"$natward map 6000-6099",pty,stderr -');
      expect(stdout).toContain('/100');
      expect(stdout.trimEnd().split('\n').at(-1)).toContain('6000-6099 -> 192.168.77.10:6000-6099 for 2h');
    });
  });

  describe('memory', () => {
    test('it is readable by its owner alone', async () => {
      await run(lab(), ['map', '8080'], home);
      const file = join(lab().directory, home.home, 'state.json');
      expect(statSync(file).mode & 0o777).toBe(0o600);
      expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({ mappings: [{ externalPort: 8080 }] });
    });

    test('NATWARD_HOME is read-only: the mapping stands with a warning, exit 0', async () => {
      await run(lab(), ['map', '8081'], home);
      const readOnly =
        'mount --bind "$NATWARD_HOME" "$NATWARD_HOME" && mount -o remount,bind,ro "$NATWARD_HOME"';
      const { code, stdout, stderr } = await shell(`${readOnly} && $natward map 8080`);
      expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringMatching(/^tcp .*:8080 -> /) });
      expect(linesOf(stderr)).toHaveLength(1);
      expect(stderr).toMatch(/^natward: cannot write .*state\.json/);
      expect(await rowsOf(lab())).toEqual([rule('tcp', 8080), rule('tcp', 8081)]);
    });

    test('two at once for different ports: both are remembered', async () => {
      const ports = [8080, 8081, 8082, 8083];
      await Promise.all(ports.map((port) => run(lab(), ['map', String(port)], home)));
      expect(await listed(lab(), home)).toEqual(ports.map((port) => ({ ...rule('tcp', port), own: true })));
      await Promise.all(ports.map((port) => run(lab(), ['unmap', String(port)], home)));
      expect(await rowsOf(lab())).toEqual([]);
    });

    test('two at once for the same port: one mapping, and it can be taken back', async () => {
      await Promise.all([run(lab(), ['map', '8080'], home), run(lab(), ['map', '8080'], home)]);
      expect(await rowsOf(lab())).toHaveLength(1);
      await run(lab(), ['unmap', '8080'], home);
      expect(await rowsOf(lab())).toEqual([]);
    });

    test('it is damaged: set aside, and the port is mapped', async () => {
      await shell('mkdir -p "$NATWARD_HOME" && echo "{" > "$NATWARD_HOME/state.json"');
      await run(lab(), ['map', '8080'], home);
      expect(await listed(lab(), home)).toEqual([{ ...rule('tcp', 8080), own: true }]);
    });
  });

  describe('Ctrl-C', () => {
    test.each([['map', '8080'], ['list'], ['gateway'], ['address'], ['unmap', '8080']])(
      'while the gateway is looked for, %s ends at once with 130 and says nothing',
      async (...args) => {
        for (const protocol of ['pcp', 'natpmp', 'ssdp'] as const) await lab().block({ protocol });
        const seen = await countPackets(lab());
        const command = lab().spawnNatward(args, home);
        await expect.poll(seen, QUICKLY).toBeGreaterThan(0);
        command.signal('SIGINT');
        expect(await command.exited).toEqual({ code: 130, stdout: '', stderr: '' });
      },
    );

    test('while the gateway is asked for the mapping: 130', async () => {
      for (const protocol of ['pcp', 'natpmp', 'upnp'] as const)
        await loseGrants(lab(), protocol, 'requests');
      const asked = await countGrants(lab(), 'pcp');
      const command = lab().spawnNatward(['map', '8080'], home);
      await expect.poll(asked, QUICKLY).toBeGreaterThan(0);
      command.signal('SIGINT');
      expect(await command.exited).toMatchObject({ code: 130 });
      expect(await lab().natRules()).toEqual([]);
    });

    test('in the middle of a range: 130, and what was granted is remembered and can be taken back', async () => {
      const asked = await countGrants(lab(), 'pcp');
      const command = lab().spawnNatward(['map', '5000-5499'], home);
      await expect.poll(asked, QUICKLY).toBeGreaterThan(20);
      command.signal('SIGINT');
      expect(await command.exited).toMatchObject({ code: 130 });
      const rules = await lab().natRules();
      expect(rules.length).toBeGreaterThan(0);
      expect(rules.length).toBeLessThan(500);
      const own = (await listed(lab(), home)).filter((row) => row.own);
      // At most the requests that were under way were granted without natward's knowing.
      expect(rules.length - own.length).toBeLessThanOrEqual(4);
      await run(lab(), ['unmap', ...own.map(({ externalPort }) => String(externalPort))], home);
      expect((await listed(lab(), home)).filter((row) => row.own)).toEqual([]);
    });
  });

  describe('wrong usage', () => {
    test.each([
      ['0', 'port 0 '],
      ['65536', '65536'],
      ['7000-6000', '7000-6000'],
      ['8080/sctp', 'sctp'],
      ['1:2:3:4', '1:2:3:4'],
      ['no-such-host.invalid:80', 'no-such-host.invalid'],
      ['8080 --lifetime -1', '-1'],
      ['8080 --via smoke', 'smoke'],
      ['8080 --interface nix0', 'nix0'],
    ])('map %s: exit 2, one line that names the token at fault, nothing sent', async (args, token) => {
      const seen = await countPackets(lab(), 'meta l4proto udp');
      const { stdout, stderr } = await run(lab(), ['map', ...args.split(' ')], { ...home, code: 2 });
      expect(stdout).toBe('');
      expect(linesOf(stderr)).toHaveLength(1);
      expect(stderr).toContain(token);
      expect(await seen()).toBe(0);
    });
  });
});
