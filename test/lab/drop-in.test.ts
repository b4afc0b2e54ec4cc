/**
 * The drop-ins before the suites and the README examples of the packages that they stand in for, run as they are
 * installed: only the import leads to natward.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeEach, describe, expect, test } from 'vitest';
import { until } from './support/keeping.ts';
import { ADDRESSES } from './support/lab.ts';
import type { Result } from './support/processes.ts';
import { describeLab, rowsOf, rule } from './support/suite.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const HERE = fileURLToPath(new URL('support/drop-in/', import.meta.url));
const NAT_UPNP = join(ROOT, 'node_modules/nat-upnp');
const NAT_API = join(ROOT, 'node_modules/@silentbot1/nat-api');

/** The suites draw ports at random, those below 1024 as well. */
const EVERY_PORT = ['allow 0-65535 192.168.77.0/24 0-65535', 'deny 0-65535 0.0.0.0/0 0-65535'];

const GATEWAYS = [
  { name: 'IGD:1', options: { igdV1: true, allow: EVERY_PORT } },
  { name: 'IGD:2', options: { allow: EVERY_PORT } },
] as const;

/** The first example of a package's README, as a program. */
function exampleOf(folder: string): string {
  const readme = readFileSync(join(folder, 'README.md'), 'utf8').replaceAll('\r\n', '\n');
  const [, code] = /^```(?:js|javascript)\n(.*?)^```/ms.exec(readme) ?? [];
  if (code === undefined) throw new Error(`no example in the README of ${folder}`);
  return code;
}

describeLab('drop-ins', {}, (lab) => {
  const redirected = (...args: string[]): Promise<Result> =>
    lab().exec('lan', [process.execPath, '--import', join(HERE, 'redirect.mjs'), ...args], {
      timeoutMs: 90_000,
    });
  const suite = (file: string): Promise<Result> => redirected(join(HERE, 'mocha.cjs'), file);

  /** A program of the lab's own directory. */
  const program = (name: string, code: string): string => {
    const file = join(lab().directory, name);
    writeFileSync(file, code);
    return file;
  };

  describe.each(GATEWAYS)('behind $name', ({ options }) => {
    beforeEach(async () => {
      await lab().startGateway(options);
    });

    test('nat-upnp’s own suite passes', async () => {
      const result = await suite(join(NAT_UPNP, 'test/api-test.js'));
      expect(result).toMatchObject({ code: 0 });
      expect(result.stderr).toContain('redirected .. to dist/drop-in/nat-upnp.js');
      expect(result.stdout.split('\n').slice(0, -1)).toEqual([
        'ok NAT-UPNP/Client should add port mapping/unmapping',
        'ok NAT-UPNP/Client should find port after mapping',
        'ok NAT-UPNP/Client should get external ip address',
        '3 passed, 0 failed',
      ]);
      expect(await lab().natRules()).toEqual([]);
    });

    test('nat-upnp’s suite of its search passes', async () => {
      const result = await suite(join(NAT_UPNP, 'test/ssdp-test.js'));
      expect(result).toMatchObject({ code: 0 });
      expect(result.stderr).toContain('redirected .. to dist/drop-in/nat-upnp.js');
      expect(result.stdout).toContain('1 passed, 0 failed');
    });

    test('nat-upnp’s README example does what it says, in its order, and ends', async () => {
      const result = await redirected(program('nat-upnp-readme.cjs', exampleOf(NAT_UPNP)));
      expect(result).toMatchObject({ code: 0, stdout: '' });
      expect(result.stderr.trim()).toBe('redirected nat-upnp to dist/drop-in/nat-upnp.js');
      const log = lab().gateway.log();
      const [added, deleted] = ['AddPortMapping: ext port 12345', 'DeletePortMapping: external port: 12345'];
      expect(log.match(new RegExp(`${added}.*54321.*leaseduration=10`))).not.toBeNull();
      expect(log.indexOf(deleted)).toBeGreaterThan(log.indexOf(added));
      expect(await lab().natRules()).toEqual([]);
    });

    test('nat-api’s own suite maps and unmaps over every protocol that is on', async () => {
      const result = await redirected(join(NAT_API, 'tests/basic.js'));
      expect(result).toMatchObject({ code: 0 });
      expect(result.stderr.trim()).toBe('redirected ../index.js to dist/drop-in/nat-api.js');
      const round = (upnp: boolean, pmp: boolean): string[] => [
        `enablePMP: ${pmp} enableUPNP: ${upnp}`,
        ...['TCP', 'UDP'].flatMap((protocol) => [
          `Port 6690 mapped to 6690 ${protocol} Success: ${upnp || pmp}`,
          `Port 6690 unmapped from 6690 ${protocol} Success: ${upnp || pmp}`,
        ]),
      ];
      const told = result.stdout.split('\n').slice(0, -1);
      expect(told.map((line) => line.trim())).toEqual([
        ...round(true, true),
        ...round(true, false),
        ...round(false, true),
        ...round(false, false),
      ]);
      expect(await lab().natRules()).toEqual([]);
    });

    test('nat-api’s README example succeeds in each of its calls, and ends', async () => {
      const result = await redirected(program('nat-api-readme.cjs', exampleOf(NAT_API)));
      expect(result).toMatchObject({ code: 0 });
      expect(result.stderr.trim()).toBe('redirected nat-api to dist/drop-in/nat-api.js');
      expect(result.stdout.split('\n').slice(0, -1).sort()).toEqual([
        'Client has been destroyed!',
        `External IP: ${ADDRESSES.external}`,
        'Port mapped!',
        'Port mapped!',
        'Port mapped!',
        'Port unmapped!',
      ]);
      expect(await lab().natRules()).toEqual([]);
    });
  });

  describe('a failure is seen', () => {
    test.each([
      ['an assertion', "it('fails', () => assert.equal(1, 2));"],
      [
        'an assertion in a callback',
        "it('fails', (done) => setImmediate(() => { assert.equal(1, 2); done(); }));",
      ],
      ['an error that is handed on', "it('fails', (done) => done(new Error('no')));"],
      ['a rejection', "it('fails', async () => { throw new Error('no'); });"],
      ['a hook', "afterEach(() => { throw new Error('no'); }); it('fails', () => {});"],
      ['no test at all', ''],
    ])('of %s', async (_, body) => {
      const file = program(
        'failing.cjs',
        `const assert = require('assert'); describe('it', () => { ${body} });`,
      );
      const { code } = await suite(file);
      expect(code).toBe(1);
    });

    test('of nat-upnp itself on IGD:2, where natward’s drop-in passes', async () => {
      await lab().startGateway({ allow: EVERY_PORT });
      const itself = [process.execPath, join(HERE, 'mocha.cjs'), join(NAT_UPNP, 'test/api-test.js')];
      const { code, stdout } = await lab().exec('lan', itself);
      expect(code).toBe(1);
      expect(stdout).toContain('Service not found');
      expect(stdout).toContain('0 passed, 3 failed');
    });

    test('of nat-upnp’s own suite where the router refuses', async () => {
      // Over PCP and NAT-PMP it tries every port before it says no.
      await lab().startGateway({ pcp: false, natpmp: false, allow: ['deny 0-65535 0.0.0.0/0 0-65535'] });
      const { code, stdout } = await suite(join(NAT_UPNP, 'test/api-test.js'));
      expect(code).toBe(1);
      expect(stdout).toContain('1 passed, 2 failed');
    });
  });

  describe('the one import that changes', () => {
    // A package finds itself by its name, from within.
    const imported = (code: string, type: 'module' | 'commonjs'): Promise<Result> =>
      lab().exec('lan', ['env', '-C', ROOT, process.execPath, `--input-type=${type}`, '-e', code]);

    test.each([
      ['module', "import natUpnp from 'natward/nat-upnp'; import { createClient } from 'natward/nat-upnp';"],
      ['commonjs', "const natUpnp = require('natward/nat-upnp'); const { createClient } = natUpnp;"],
    ] as const)('is nat-upnp’s, in a program of type %s', async (type, line) => {
      await lab().startGateway();
      const { code, stderr } = await imported(
        `${line} if (createClient !== natUpnp.createClient) throw new Error();
         const client = natUpnp.createClient();
         client.portMapping({ public: 8080, private: 8080, ttl: 60 }, (error) => { if (error) throw error; client.close(); });`,
        type,
      );
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(await rowsOf(lab())).toEqual([rule('tcp', 8080)]);
    });

    test.each([
      ['module', "import NatAPI from 'natward/nat-api';"],
      ['commonjs', "const NatAPI = require('natward/nat-api');"],
    ] as const)('is nat-api’s, in a program of type %s', async (type, line) => {
      await lab().startGateway();
      const { code, stderr } = await imported(
        `${line} const client = new NatAPI({ autoUpdate: false });
         client.map(8080).then((mapped) => { process.exitCode = mapped ? 0 : 1; });`,
        type,
      );
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(await rowsOf(lab())).toEqual([rule('tcp', 8080), rule('udp', 8080)]);
    });
  });

  test('bytes come in through what nat-upnp mapped, and what nat-api keeps comes back after the router’s restart', async () => {
    const gateway = await lab().startGateway();
    const server = await lab().serve({ port: 3000, reply: 'here' });
    const app = lab().spawn('lan', [
      process.execPath,
      '--import',
      join(HERE, 'redirect.mjs'),
      program(
        'app.cjs',
        `const natUpnp = require('nat-upnp'), NatAPI = require('nat-api');
         const client = natUpnp.createClient(), api = new NatAPI();
         client.portMapping({ public: 2000, private: 3000, ttl: 60 }, async (error) => {
           if (error) throw error;
           console.log(await api.map({ publicPort: 2001, privatePort: 3000, protocol: 'TCP' }));
         });
         const alive = setInterval(() => {}, 1000);
         process.on('SIGTERM', () => { clearInterval(alive); void api.destroy(); });`,
      ),
    ]);
    await app.waitFor(/^true$/m, 20_000);
    expect(await lab().connectFromWan(2000)).toBe('here');
    expect(await lab().connectFromWan(2001)).toBe('here');
    await gateway.restart({ wipeTable: true });
    await until(
      'it is kept',
      async () => (await lab().connectFromWan(2001, 'tcp', { timeoutMs: 500 })) === 'here',
    );
    expect(await lab().natRules()).toEqual([rule('tcp', 2001, { internalPort: 3000 })]);
    app.signal('SIGTERM');
    expect(await app.exited).toMatchObject({ code: 0 });
    expect(await lab().natRules()).toEqual([]);
    await server.stop();
  });
});
