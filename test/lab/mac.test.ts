/** MAC addresses of real links: the kernel, iproute2, and frames on the wire are the witnesses. */

import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { ADDRESSES } from './support/lab.ts';
import type { Result } from './support/processes.ts';
import { programForAll } from './support/program-for-all.ts';
import { describeLab, freshHome, linesOf, run, runJson } from './support/suite.ts';

interface Known {
  readonly address: string;
  readonly vendor: string | null;
}

interface Report {
  readonly adapter: string;
  readonly current: Known;
  readonly permanent: Known | null;
  readonly original: Known | null;
}

interface Change {
  readonly before: Known;
  readonly current: Known;
  readonly original: Known | null;
  readonly notes: readonly string[];
}

const MADE_UP = '02:aa:bb:cc:dd:ee';
const HARDWARE = '3c:22:fb:00:00:01';
const NOBODY = 65_534;

/** An `ip` whose links change no address while they are up: no driver of a virtual link is like that. */
const INSISTING = `#!/bin/sh
case " $* " in *" address "*)
  if "$REAL_IP" link show dev "$4" up | grep -q .; then
    echo 'RTNETLINK answers: Device or resource busy' >&2; exit 2
  elif [ -n "$STUBBORN" ]; then
    echo 'RTNETLINK answers: Cannot assign requested address' >&2; exit 2
  fi
esac
exec "$REAL_IP" "$@"
`;

describeLab('mac', {}, (lab) => {
  let home: { readonly home: string };
  /** Of the link that this test made. */
  let first: string;

  beforeEach(async () => {
    home = freshHome();
    await lab().exec('lan', ['ip', 'link', 'del', 'v0']);
    await lab().must('lan', ['ip', 'link', 'add', 'v0', 'type', 'veth', 'peer', 'name', 'v1']);
    await lab().must('lan', ['ip', 'link', 'set', 'v0', 'up']);
    first = await kernel('v0');
  });

  /** What the kernel says, past iproute2 and natward. */
  async function kernel(name: string): Promise<string> {
    return (await lab().must('lan', ['cat', `/sys/class/net/${name}/address`])).trim();
  }

  function change(...args: readonly string[]): Promise<Change> {
    return runJson<Change>(lab(), ['mac', ...args], home);
  }

  async function show(name: string): Promise<Report> {
    const { adapters } = await runJson<{ adapters: [Report] }>(lab(), ['mac', name], home);
    return adapters[0];
  }

  function refused(args: readonly string[], code: number): Promise<Result> {
    return run(lab(), ['mac', ...args], { ...home, code });
  }

  test('all adapters are shown, a line each, but for the loopback', async () => {
    const { stdout } = await run(lab(), ['mac'], home);
    const lines = linesOf(stdout);
    expect(new Set(lines.map((line) => line.split(' ', 1)[0]))).toEqual(new Set(['eth0', 'v0', 'v1']));
    expect(lines.find((line) => line.startsWith('v0'))).toMatch(
      new RegExp(`^v0 +${first} locally administered$`),
    );
  });

  test('set: the kernel has it, and the original is shown until it is restored', async () => {
    const set = await run(lab(), ['mac', 'v0', '--set', '02-AA-BB-CC-DD-EE'], home);
    expect(set.stdout).toBe(`v0 ${first} -> ${MADE_UP} locally administered, originally ${first}\n`);
    expect(await kernel('v0')).toBe(MADE_UP);
    const shown = await run(lab(), ['mac', 'v0'], home);
    expect(shown.stdout).toBe(
      `v0 current   ${MADE_UP} locally administered\nv0 original  ${first} locally administered\n`,
    );
    const restored = await run(lab(), ['mac', 'v0', '--restore'], home);
    expect(restored.stdout).toBe(`v0 ${MADE_UP} -> ${first} locally administered\n`);
    expect(await kernel('v0')).toBe(first);
    const { stderr } = await refused(['v0', '--restore'], 1);
    expect(stderr).toContain('natward remembers no original address of v0');
  });

  test('random, several times: each of the vendor, no two alike, and the original survives', async () => {
    const seen = new Set([first]);
    for (const vendor of ['intel', 'apple', 'tp-link']) {
      const { current, original } = await change('v0', '--random', '--vendor', vendor);
      expect(current.vendor?.toLowerCase()).toContain(vendor);
      expect(await kernel('v0')).toBe(current.address);
      expect(original?.address).toBe(first);
      seen.add(current.address);
    }
    const again = await change('v0', '--random');
    expect(again.current.vendor).toMatch(/^TP-LINK/i);
    expect(seen.add(again.current.address).size).toBe(5);
    expect((await change('v0', '--restore')).current.address).toBe(first);
    expect(await kernel('v0')).toBe(first);
  });

  test('two adapters at once: neither original is lost', async () => {
    const second = await kernel('v1');
    await Promise.all([change('v0', '--random'), change('v1', '--random')]);
    expect((await change('v0', '--restore')).current.address).toBe(first);
    expect((await change('v1', '--restore')).current.address).toBe(second);
  });

  test('frames carry it, and neighbours learn it', async () => {
    const before = await kernel('eth0');
    const { current } = await change('eth0', '--random');
    const dump = lab().spawn('gw', ['tcpdump', '-e', '-n', '-l', '-i', 'int0', '-c', '1', 'udp port 9']);
    await dump.waitFor(/listening on/);
    await lab().must('lan', ['socat', '-u', '-', `UDP:${ADDRESSES.gateway}:9`], { input: 'here' });
    await dump.waitFor(
      new RegExp(`${current.address} > .* ${ADDRESSES.lan}\\.\\d+ > ${ADDRESSES.gateway}\\.9: `),
    );
    await dump.stop();
    const neighbours = await lab().must('gw', ['ip', 'neigh', 'show', ADDRESSES.lan]);
    expect(neighbours).toContain(`lladdr ${current.address}`);
    await change('eth0', '--restore');
    expect(await kernel('eth0')).toBe(before);
  });

  describe('an adapter that insists on being down', () => {
    const ROUTES = [
      '10.10.0.0/16 via 10.9.0.1 metric 70',
      '10.11.0.1 scope link',
      '10.12.0.0/16 via 10.11.0.1 src 10.9.0.2',
    ];
    /** Runs natward with an `ip` before the real one. */
    let insisting: string;
    let routes: readonly string[];

    const shell = (script: string) => lab().must('lan', ['sh', '-euc', script]);
    const routesNow = async () => linesOf(await shell('ip route show dev v0')).toSorted();

    beforeEach(async () => {
      const directory = join(lab().directory, `${home.home}-ip`);
      mkdirSync(directory);
      writeFileSync(join(directory, 'ip'), INSISTING, { mode: 0o755 });
      insisting = `export REAL_IP="$(command -v ip)" PATH="${directory}:$PATH"`;
      const adding = ROUTES.map((route) => `ip route add ${route} dev v0`);
      await shell(['ip addr add 10.9.0.2/24 dev v0', ...adding].join('\n'));
      routes = await routesNow();
    });

    test('is taken down and up, says so, and keeps its routes', async () => {
      expect(routes).toHaveLength(4);
      const options = { ...home, first: insisting };
      const { notes } = await runJson<Change>(lab(), ['mac', 'v0', '--set', MADE_UP], options);
      expect(notes).toEqual([
        'v0 was taken down for it and up again: IPv6 addresses set by hand went with that',
      ]);
      expect(await kernel('v0')).toBe(MADE_UP);
      expect(await shell('ip link show v0 up')).toContain(MADE_UP);
      expect(await routesNow()).toEqual(routes);
    });

    test('and does not take the address even then: it is up again, with its routes', async () => {
      const options = { ...home, first: `${insisting} STUBBORN=1`, code: 4 };
      const { stderr } = await run(lab(), ['mac', 'v0', '--set', MADE_UP], options);
      expect(stderr).toMatch(
        /Cannot assign requested address; v0 was taken down for it and up again.*try another/,
      );
      expect(await shell('ip link show v0 up')).toContain(first);
      expect(await routesNow()).toEqual(routes);
      expect((await show('v0')).original).toBeNull();
    });
  });

  test('without privileges: refused with what to do, nothing changed, nothing remembered', async () => {
    const directory = join('/tmp', `${lab().prefix}-nobody`);
    await lab().must('lan', ['install', '-d', '-m', '700', '-o', String(NOBODY), directory]);
    try {
      const asNobody = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
      const natward = [process.execPath, programForAll(), 'mac', 'v0'];
      const env = { NATWARD_HOME: directory };
      const { code, stderr } = await lab().exec('lan', [...asNobody, ...natward, '--random'], { env });
      expect({ code, lines: linesOf(stderr) }).toMatchObject({ code: 4, lines: [expect.any(String)] });
      expect(stderr).toMatch(
        /Operation not permitted\. Run it as root \(sudo\), or give it CAP_NET_ADMIN\.\n$/,
      );
      expect(await kernel('v0')).toBe(first);
      expect(readdirSync(join(directory, 'adapters'))).toEqual([]);
      expect(await lab().must('lan', [...asNobody, ...natward], { env })).toContain(`current   ${first}`);
    } finally {
      await lab().must('lan', ['rm', '-r', directory]);
    }
  });

  test('a link that was made again is another one, unless it has an address that is known', async () => {
    const make = (address: string) =>
      lab().must('lan', ['ip', 'link', 'add', 'd0', 'address', address, 'type', 'veth']);
    await make(HARDWARE);
    try {
      await change('d0', '--set', MADE_UP);
      await lab().must('lan', ['ip', 'link', 'del', 'd0']);
      await make(HARDWARE);
      const shown = await run(lab(), ['mac', 'd0'], home);
      expect(shown.stdout).toBe(
        `d0 current   ${HARDWARE} Apple, Inc.\nd0 original  ${HARDWARE} Apple, Inc.\n`,
      );
      const restored = await run(lab(), ['mac', 'd0', '--restore'], home);
      expect(restored.stdout).toBe(`d0 has already ${HARDWARE} Apple, Inc.\n`);
      expect(existsSync(join(lab().directory, home.home, 'adapters', 'd0.json'))).toBe(false);

      await change('d0', '--set', MADE_UP);
      await lab().must('lan', ['ip', 'link', 'del', 'd0']);
      await make('a0:36:9f:00:00:07');
      const { stderr } = await refused(['d0', '--restore'], 1);
      expect(stderr).toContain('another adapter that was called d0');
      expect(await kernel('d0')).toBe('a0:36:9f:00:00:07');
    } finally {
      await lab().exec('lan', ['ip', 'link', 'del', 'd0']);
    }
  });

  test.each([
    [['v0', '--set', '01:00:5e:00:00:01'], 2, 'multicast'],
    [['v0', '--set', '00:00:00:00:00:00'], 2, 'no adapter may have it'],
    [['v0', '--set', '02:aa:bb'], 2, 'write 02:aa:bb:cc:dd:ee'],
    [['v0', '--set', MADE_UP, '--random'], 2, 'cannot be used with'],
    [['v0', '--vendor', 'intel'], 2, '--random'],
    [['--random'], 2, 'not named'],
    [['v0', '--random', '--vendor', 'no such vendor'], 1, 'no vendor'],
    [['v9', '--random'], 1, 'There are: '],
    [['lo', '--random'], 4, 'of type loopback'],
  ] as const)('natward mac %j is refused with %i', async (args, code, said) => {
    const { stdout, stderr } = await refused(args, code);
    expect(stdout).toBe('');
    expect(linesOf(stderr)).toHaveLength(1);
    expect(stderr).toContain(said);
    expect(await kernel('v0')).toBe(first);
  });
});
