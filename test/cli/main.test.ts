import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { MAPPING_PROTOCOLS } from '../../src/net/protocol.ts';
import { PROGRAM, type Site, siteFor, start, startCommand, temporaryHome } from './natward.ts';

const LINUX = process.platform === 'linux';

const MAPPING = {
  protocol: expect.stringMatching(/^(tcp|udp)$/),
  externalAddress: expect.any(String),
  externalPort: expect.any(Number),
  internalClient: '127.0.0.1',
  internalPort: expect.any(Number),
  target: null,
  lifetimeSeconds: 7200,
  expiresAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
  via: expect.stringMatching(/^(pcp|natpmp|upnp)$/),
  gateway: expect.any(String),
  description: expect.any(String),
  notes: [],
};
const FAILURE = {
  spec: expect.any(String),
  code: expect.any(String),
  message: expect.any(String),
  advice: expect.any(String),
};

describe('natward map', () => {
  test('prints what was granted and exits with 0', async () => {
    const { run, address, gateway } = await siteFor({ externalAddress: '11.22.33.44' });
    expect(await run('map 4430:8443')).toEqual({
      code: 0,
      stdout: expect.stringMatching(
        new RegExp(`^tcp 11\\.22\\.33\\.44:4430 -> 127\\.0\\.0\\.1:8443 for 2h via [\\w-]+ on ${address}\n$`),
      ),
      stderr: '',
    });
    expect(gateway.table).toMatchObject([{ protocol: 'tcp', externalPort: 4430, internalPort: 8443 }]);
  });

  test('--json has exactly the agreed keys', async () => {
    const { run } = await siteFor({ deniedExternalPorts: [{ first: 1, last: 1023 }] });
    const { code, stdout, stderr } = await run('map 8080/tcp+udp 22 --exact --json');
    expect(code).toBe(5);
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toStrictEqual({
      mappings: [MAPPING, MAPPING],
      failures: [{ ...FAILURE, spec: '22' }],
    });
  });

  test('exits with 4 where everything was refused, and says who refused what and what to do', async () => {
    const { run, address } = await siteFor({
      protocols: ['upnp'],
      deniedExternalPorts: [{ first: 1, last: 1023 }],
    });
    const { code, stdout, stderr } = await run('map 443 --exact');
    expect([code, stdout]).toEqual([4, '']);
    expect(stderr).toMatch(
      new RegExp(`^natward: ${address} refused TCP 443: .*\\(UPnP \\d+\\)\\. .*8443:443\\.\n$`),
    );
  });

  test('exits with 3 where nobody answers, also in JSON', async () => {
    const { run, gateway } = await siteFor();
    await gateway.close();
    const text = await run('map 8080 --via pcp');
    expect(text).toMatchObject({ code: 3, stdout: '' });
    expect(text.stderr).toMatch(/^natward: .*\n$/);
    const json = await run('map 8080 8081 --via pcp --json');
    expect(json.code).toBe(3);
    expect(JSON.parse(json.stdout)).toStrictEqual({
      mappings: [],
      failures: ['8080', '8081'].map((spec) => ({ ...FAILURE, spec, code: 'NO_GATEWAY' })),
    });
  });

  test('refreshes when it is run again by another process', async () => {
    const { run, gateway } = await siteFor();
    await run('map 8080 --via pcp');
    const nonce = gateway.table[0]?.nonce;
    expect(await run('map 8080 --via pcp')).toMatchObject({ code: 0 });
    expect(gateway.table).toHaveLength(1);
    expect(gateway.table[0]?.nonce).toEqual(nonce);
  });

  test('asks for the lifetime and the description that it is given', async () => {
    const { run, gateway } = await siteFor();
    const { stdout } = await run('map 8080 --lifetime 30m --description games --via upnp');
    expect(stdout).toContain('for 30m via UPnP');
    expect(gateway.table).toMatchObject([{ description: 'games' }]);
  });

  test('of eight processes at once is remembered eight times', async () => {
    const { run, home } = await siteFor();
    const ended = await Promise.all(Array.from({ length: 8 }, (_, at) => run(`map ${7000 + at} --via pcp`)));
    expect(ended.map(({ code, stderr }) => `${code}${stderr}`)).toEqual(Array(8).fill('0'));
    const { mappings } = JSON.parse(await readFile(join(home, 'state.json'), 'utf8'));
    expect(mappings).toHaveLength(8);
  });

  test.runIf(LINUX)('stands, with a warning on stderr, where nothing can be remembered', async () => {
    const { run, gateway } = await siteFor();
    const ended = await run('map 8080 --json', { NATWARD_HOME: '/sys/natward' });
    expect(ended.code).toBe(0);
    expect(JSON.parse(ended.stdout).mappings).toHaveLength(1);
    expect(ended.stderr).toMatch(/^natward: cannot write \/sys\/natward\/state\.json: .*\n$/);
    expect(gateway.table).toHaveLength(1);
  });
});

describe('natward unmap', () => {
  test('takes back what another process mapped, by its nonce', async () => {
    const { run, gateway, address } = await siteFor({ protocols: ['pcp'] });
    await run('map 8080');
    expect(await run('unmap 8080')).toEqual({
      code: 0,
      stdout: `tcp 8080 -> 127.0.0.1:8080 released on ${address}\n`,
      stderr: '',
    });
    expect(gateway.table).toEqual([]);
  });

  test('exits with 1 where there is nothing to take back', async () => {
    const { run } = await siteFor();
    expect(await run('unmap 8080')).toMatchObject({ code: 1, stdout: '' });
    const { code, stdout } = await run('unmap 8080 --json');
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toStrictEqual({ released: [], failures: [{ ...FAILURE, code: 'NOT_FOUND' }] });
  });
});

describe('natward list', () => {
  test('--json has exactly the agreed keys', async () => {
    const { run } = await siteFor();
    await run('map 8080');
    const { code, stdout } = await run('list --json');
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toStrictEqual({
      mappings: [
        {
          protocol: 'tcp',
          externalPort: 8080,
          internalClient: '127.0.0.1',
          internalPort: 8080,
          description: expect.any(String),
          remainingSeconds: expect.any(Number),
          enabled: true,
          own: true,
        },
      ],
    });
  });

  test('marks own rows', async () => {
    const { run } = await siteFor();
    expect(await run('list')).toEqual({ code: 0, stdout: 'no mappings\n', stderr: '' });
    await run('map 8080 --via upnp');
    expect((await run('list')).stdout).toMatch(
      /^tcp 8080 -> 127\.0\.0\.1:8080 \S.* "natward 8080\/tcp" own\n$/,
    );
  });

  test.runIf(LINUX)('ends quietly when nobody reads it any more', async () => {
    const { run, address, home } = await siteFor();
    await run('map 20000-20099 --via pcp');
    const line = `"${process.execPath}" "${PROGRAM}" list --json --gateway ${address}`;
    for (const reader of ['true', 'head -1']) {
      const { ended } = startCommand('bash', ['-c', `${line} | ${reader}; exit \${PIPESTATUS[0]}`], {
        NATWARD_HOME: home,
      });
      expect(await ended).toMatchObject({ code: 0, stderr: '' });
    }
  });

  test.runIf(LINUX)('fails where its output is lost on a full disk', async () => {
    const { address, home } = await siteFor();
    const line = `"${process.execPath}" "${PROGRAM}" list --gateway ${address} > /dev/full`;
    const { ended } = startCommand('bash', ['-c', line], { NATWARD_HOME: home });
    expect(await ended).toMatchObject({ code: 1, stderr: expect.stringContaining('ENOSPC') });
  });
});

describe('natward gateway', () => {
  test('--json has exactly the agreed keys', async () => {
    const { run, address, gateway } = await siteFor({ externalAddress: '100.64.0.9' });
    const { code, stdout, stderr } = await run('gateway --json');
    expect([code, stderr]).toEqual([0, '']);
    expect(JSON.parse(stdout)).toStrictEqual({
      gateways: [
        {
          address,
          interface: expect.any(String),
          externalAddress: '100.64.0.9',
          protocols: ['pcp', 'natpmp', 'upnp'],
          upnp: {
            location: gateway.location,
            serviceType: expect.any(String),
            controlUrl: expect.any(String),
            model: expect.any(String),
          },
          verdict: { code: 'CGNAT', message: expect.any(String) },
        },
      ],
    });
  });

  test('says null where there is no UPnP and where the external address is unknown', async () => {
    const { run } = await siteFor({ protocols: ['natpmp'], quirks: { natpmpNetworkFailure: true } });
    const { stdout } = await run('gateway --json --via natpmp');
    expect(JSON.parse(stdout).gateways).toMatchObject([{ upnp: null, externalAddress: null }]);
  });

  test('shows one fact a line', async () => {
    const { run, address } = await siteFor({ externalAddress: '11.22.33.44' });
    const lines = (await run('gateway')).stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(5);
    for (const line of lines) expect(line).toMatch(new RegExp(`^${address} `));
  });

  test('is an empty document and exit code 3 where there is none', async () => {
    const { run, gateway } = await siteFor();
    await gateway.close();
    const { code, stdout, stderr } = await run('gateway --json --via pcp');
    expect(code).toBe(3);
    expect(JSON.parse(stdout)).toStrictEqual({ gateways: [] });
    expect(stderr).toMatch(/^natward: .*\n$/);
  });
});

describe('natward address', () => {
  test.each(MAPPING_PROTOCOLS)('prints the external address and nothing else over %s', async (via) => {
    const { run } = await siteFor({ externalAddress: '11.22.33.44' });
    expect(await run(`address --via ${via}`)).toEqual({ code: 0, stdout: '11.22.33.44\n', stderr: '' });
  });

  test('fails where the gateway does not know it', async () => {
    const { run } = await siteFor({ protocols: ['natpmp'], quirks: { natpmpNetworkFailure: true } });
    expect(await run('address --via natpmp')).toMatchObject({ code: 4, stdout: '' });
  });
});

describe('bad input is exit code 2, one line that names the token, and nothing is sent:', () => {
  test.each([
    ['map foo', 'foo'],
    ['map 0', 'port 0'],
    ['map 65536', '65536'],
    ['map 8080 90-80', '90-80'],
    ['map 80/sctp', 'sctp'],
    ['map 6000-6010:7000', '6000-6010'],
    ['map 1.2.3:80', '1.2.3'],
    ['map', 'spec'],
    ['map 8080 --lifetime -1', '-1'],
    ['map 8080 --lifetime=-1', '-1'],
    ['map 8080 --lifetime 8d', '8d'],
    ['map 8080 --timeout never', 'never'],
    ['map 8080 --via igd', 'igd'],
    ['map 8080 --interface natward9', 'natward9'],
    [`map 8080 --description ${'x'.repeat(251)}`, '--description'],
    ['map 8080 --frobnicate', '--frobnicate'],
    ['map -1', '-1'],
    ['unmap 80:80:80:80', '80:80:80:80'],
    ['unmap', 'spec'],
    ['list 8080', 'list'],
    ['list --interface natward9', 'natward9'],
    ['frobnicate', 'frobnicate'],
  ])('natward %s', async (line, token) => {
    // Without SSDP, whose searches a gateway hears from everybody: all protocols are asked at the same time.
    const { run, gateway } = await siteFor({ protocols: ['pcp', 'natpmp'] });
    const { code, stdout, stderr } = await run(line);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^natward: [^\n]+\n$/);
    expect(stderr).toContain(token);
    expect(gateway.counters).toEqual({});
  });

  test.each(['router', '192.168.1.256', '127.0.0.1:5351', ''])(
    'natward list --gateway %j',
    async (address) => {
      const home = await temporaryHome();
      const { code, stdout, stderr } = await start(['list', '--gateway', address], { NATWARD_HOME: home })
        .ended;
      expect([code, stdout]).toEqual([2, '']);
      expect(stderr).toMatch(/^natward: [^\n]+\n$/);
      expect(stderr).toContain(`--gateway ${address}`);
    },
  );
});

test('natward agent --respond-on without a name is wrong usage, and no agent runs', async () => {
  const home = await temporaryHome();
  const { code, stdout, stderr } = await start(['agent', '--respond-on', ''], { NATWARD_HOME: home }).ended;
  expect([code, stdout]).toEqual([2, '']);
  expect(stderr).toMatch(/^natward: --respond-on "": [^\n]+\n$/);
});

describe('Ctrl-C', () => {
  const SILENT = { silentOn: ['pcp announce', 'natpmp address', 'ssdp search'] };

  async function interrupt(site: Site, line: string, kind: string) {
    const { child, ended } = site.start(line);
    while (site.gateway.counters[kind] === undefined) await pause(5);
    child.kill('SIGINT');
    return ended;
  }

  test.each(['map 8080', 'map 8080 --json', 'unmap 8080', 'list', 'gateway', 'address'])(
    'ends natward %s, which waits for a gateway, with 130 and nothing mapped',
    async (line) => {
      const site = await siteFor({ quirks: SILENT });
      const startMs = performance.now();
      expect(await interrupt(site, line, 'pcp announce')).toMatchObject({ code: 130, stderr: '' });
      expect(performance.now() - startMs).toBeLessThan(1900); // Before it would have given up by itself.
      expect(site.gateway.table).toEqual([]);
    },
  );

  test('ends a range with 130, and what was granted until then is remembered', async () => {
    const site = await siteFor({ quirks: { delayMs: { pcp: 30 } } });
    const { child, ended } = site.start('map 20000-20199 --via pcp');
    while (site.gateway.table.length < 12) await pause(5);
    child.kill('SIGINT');
    const { code, stdout } = await ended;
    expect(code).toBe(130);
    expect(stdout).toContain('20000-200');
    expect(site.gateway.table.length).toBeLessThan(100);
    const { mappings } = JSON.parse(await readFile(join(site.home, 'state.json'), 'utf8'));
    expect(mappings.length).toBeGreaterThanOrEqual(8);
  });
});

describe('on a terminal and off it', () => {
  test('there is no escape code where the output is no terminal', async () => {
    const { run } = await siteFor();
    const lines = ['map 20000-20079', 'list', 'gateway', 'unmap 20000-20079', 'map', '--help'];
    for (const line of lines) {
      const { stdout, stderr } = await run(line, { FORCE_COLOR: '1' });
      expect(stdout + stderr).not.toContain('\u001b');
    }
  });

  test.runIf(LINUX)('the progress bar is gone before the result is printed', async () => {
    const { address, home } = await siteFor();
    const command = `"${process.execPath}" "${PROGRAM}" map 20000-20079 --via natpmp --gateway ${address}`;
    const { ended } = startCommand('script', ['-qec', command, '/dev/null'], {
      NATWARD_HOME: home,
      TERM: 'xterm',
    });
    const { code, stdout } = await ended;
    expect(code).toBe(0);
    const result = stdout.indexOf('tcp 127.');
    expect(stdout.slice(0, result)).toContain('/80');
    // Cleared: the line is empty when the result begins.
    expect(stdout.slice(stdout.lastIndexOf('\u001b[2K'), result)).not.toContain('mapping');
    expect(stdout.slice(result).trimEnd().split('\n')).toHaveLength(1);
    expect(stdout.slice(result)).not.toContain('\u001b');
  });
});

describe('natward demo', () => {
  test('shows every step as it happens', async () => {
    const { code, stdout, stderr } = await start(['demo'], { NATWARD_HOME: await temporaryHome() }).ended;
    expect([code, stderr]).toEqual([0, '']);
    const lines = stdout.trimEnd().split('\n');
    for (const name of ['PCP', 'NAT-PMP', 'UPnP']) {
      const own = lines.filter((line) => new RegExp(`^ *\\d+ ms  ${name} `).test(line));
      expect(own).toHaveLength(6);
      expect(own.join('\n')).toMatch(/answers[^]*granted[^]*hello[^]*renewed[^]*released[^]*refuses/);
    }
    expect(lines.at(-1)).toContain('nothing of the demo is left');
  });

  test('--json is one document with the same steps', async () => {
    const home = await temporaryHome();
    const { code, stdout } = await start(['demo', '--json'], { NATWARD_HOME: home }).ended;
    expect(code).toBe(0);
    const { steps } = JSON.parse(stdout);
    expect(steps).toHaveLength(20);
    for (const step of steps) {
      expect(step).toStrictEqual({
        step: expect.any(String),
        via: expect.toBeOneOf([null, 'pcp', 'natpmp', 'upnp']),
        message: expect.any(String),
        elapsedMs: expect.any(Number),
      });
    }
  });
});

describe('--help', () => {
  const ASKING = ['--via', '--gateway', '--interface', '--timeout', '--json', '--help'];
  test.each([
    ['map', [...ASKING, '--lifetime', '--description', '--exact', 'default: 2h', 'default: 5s']],
    ['unmap', [...ASKING, '--force']],
    ['list', ASKING],
    ['gateway', ASKING],
    ['address', ASKING],
    ['agent', ['--config', '--on-exit', '--engine', '--respond-on', '--json', '--help']],
    ['mac', ['--set', '--random', '--vendor', '--restore', '--json', '--help']],
    ['demo', ['--json', '--help']],
  ])('of natward %s names every option', async (command, options) => {
    const { code, stdout, stderr } = await start([command, '--help'], {}).ended;
    expect([code, stderr]).toEqual([0, '']);
    const text = stdout.replace(/\s+/g, ' ');
    for (const option of options) expect(text).toContain(option);
    expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80);
  });

  test('of natward names every command', async () => {
    const { code, stdout } = await start(['--help'], {}).ended;
    expect(code).toBe(0);
    for (const command of ['map', 'unmap', 'list', 'gateway', 'address', 'mac', 'demo']) {
      expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'));
    }
  });

  test('is what natward alone prints, as wrong usage', async () => {
    const { code, stdout, stderr } = await start([], {}).ended;
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain('Usage: natward');
  });

  test('--version is the package’s', async () => {
    const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8'));
    expect(await start(['--version'], {}).ended).toMatchObject({ code: 0, stdout: `${version}\n` });
  });
});
