/** The agent’s life: what it is told over its socket, what it remembers over its own death, and how it ends. */

import { existsSync, readFileSync, readdirSync, truncateSync, writeFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { DropReport, LeaseStatus, StatusAnswer } from '../../src/control/protocol.ts';
import { type Keeping, startAgent, stopwatch, until, untilEach, untilRules } from './support/keeping.ts';
import { ADDRESSES, type Lab, type NatwardOptions } from './support/lab.ts';
import { describeLab, freshHome, rule, run, runJson } from './support/suite.ts';

interface KeepDocument {
  readonly leases: readonly LeaseStatus[];
}

interface LedgerDocument {
  readonly intents: readonly { readonly spec: string }[];
  readonly holdings: readonly {
    readonly mapping: { readonly externalPort: number; readonly nonce: string | null };
  }[];
}

describeLab('agent', { rival: true }, (lab) => {
  let agents: Keeping[] = [];
  let home: { readonly home: string };

  beforeEach(() => {
    agents = [];
    home = freshHome();
  });
  afterEach(async () => {
    await Promise.all(agents.map((agent) => agent.end('SIGKILL')));
  });

  const agent = async (args: readonly string[] = [], options: NatwardOptions = home): Promise<Keeping> => {
    const started = await startAgent(lab(), options, args);
    agents.push(started);
    return started;
  };

  const keep = async (...args: string[]): Promise<readonly LeaseStatus[]> =>
    (await runJson<KeepDocument>(lab(), ['keep', ...args], home)).leases;

  const status = (options: NatwardOptions = home): Promise<StatusAnswer> =>
    runJson<StatusAnswer>(lab(), ['status'], options);

  const ledger = (): LedgerDocument => {
    const document: LedgerDocument = JSON.parse(readFileSync(ledgerFile(), 'utf8'));
    return document;
  };
  const ledgerFile = () => join(lab().homeOf(home), 'ledger.json');
  const remembers = (...ports: number[]) =>
    until(`a ledger with ${ports.join()}`, async () => {
      if (!existsSync(ledgerFile())) return false;
      const held = ledger().holdings.map(({ mapping }) => mapping.externalPort);
      return JSON.stringify(held.sort((a, b) => a - b)) === JSON.stringify(ports);
    });

  /** Nothing reaches the gateway any more. */
  const cutOff = async (): Promise<void> => {
    for (const protocol of ['pcp', 'natpmp', 'ssdp', 'http'] as const) await lab().block({ protocol });
  };

  const rivalMaps = (port: number): ReturnType<Lab['upnpc']> =>
    lab().upnpc(['-a', ADDRESSES.rival, '80', String(port), 'tcp', '600'], { ns: 'rival' });
  const theirs = (port: number) => rule('tcp', port, { internalClient: ADDRESSES.rival, internalPort: 80 });

  describe('over its socket', () => {
    test('keep hands over, status and its watch tell, drop releases', async () => {
      await lab().startGateway();
      const daemon = await agent();
      const watching = lab().spawnNatward(['status', '--watch', '--json'], home);
      await watching.waitFor(/"lastEventId"/);

      const leases = await keep('8080', '6881/tcp+udp');
      expect(leases).toMatchObject([
        { state: 'held', protocol: 'tcp', externalPort: 8080, spec: '8080' },
        { state: 'held', protocol: 'tcp', externalPort: 6881 },
        { state: 'held', protocol: 'udp', externalPort: 6881 },
      ]);
      const all = [rule('tcp', 6881), rule('udp', 6881), rule('tcp', 8080)];
      expect(await lab().natRules()).toEqual(all);
      await keep('8080');
      expect(await lab().natRules()).toEqual(all);

      const told = await status();
      expect(told.agent).toMatchObject({ pid: daemon.process.pid, directory: lab().homeOf(home) });
      expect(told.gateways).toMatchObject([{ address: ADDRESSES.gateway, state: 'up' }]);
      expect(told.leases).toHaveLength(3);
      expect(told.warnings).toEqual([]);

      const { released } = await runJson<DropReport>(lab(), ['drop', '8080'], home);
      expect(released).toMatchObject([{ externalPort: 8080, error: null }]);
      expect(await lab().natRules()).toEqual([rule('tcp', 6881), rule('udp', 6881)]);
      const id = leases[1]?.intentId ?? '';
      const { stdout } = await run(lab(), ['drop', id], home);
      expect(stdout.split('\n')).toHaveLength(3);
      expect(await lab().natRules()).toEqual([]);
      await run(lab(), ['drop', '8080'], { ...home, code: 1 });

      await watching.waitFor(/"type":"granted"[^]*"type":"released"/);
      expect((await watching.stop('SIGINT')).code).toBe(0);
    });

    test('a second agent says who holds the socket and ends', async () => {
      await lab().startGateway();
      const first = await agent();
      const { stderr } = await run(lab(), ['agent'], { ...home, code: 1 });
      expect(stderr).toContain(`pid ${first.process.pid}`);
      expect(await status()).toMatchObject({ agent: { pid: first.process.pid } });
    });

    test('what natward unmap would take away from it is refused', async () => {
      await lab().startGateway();
      await agent();
      await keep('8080');
      await run(lab(), ['unmap', '8080'], { ...home, code: 1 });
      expect(await lab().natRules()).toEqual([rule('tcp', 8080)]);
    });
  });

  describe('with a configuration', () => {
    const configure = (...specs: string[]) => {
      const text = specs.map((spec) => `[[keep]]\nspec = "${spec}"\n`).join('\n');
      writeFileSync(join(lab().homeOf(home), 'config.toml'), text);
      agents[0]?.process.signal('SIGHUP');
    };

    test('what it no longer wants is released, and what it wants now is kept', async () => {
      await lab().startGateway();
      await agent();
      configure('8080', '9000-9002');
      await untilRules(
        lab(),
        [8080, 9000, 9001, 9002].map((port) => rule('tcp', port)),
      );
      await run(lab(), ['drop', '8080'], { ...home, code: 1 });
      configure('8081', '9001-9002');
      await untilRules(
        lab(),
        [8081, 9001, 9002].map((port) => rule('tcp', port)),
      );
      await remembers(8081, 9001, 9002);
    });

    test('what a person asked for before it goes over to it: one mapping, the same', async () => {
      await lab().startGateway();
      const daemon = await agent();
      await keep('8080');
      const [before] = await lab().upnpcList();
      configure('8080');
      await until('it is the configuration’s', async () => (await status()).leases[0]?.owner === 'config');
      await until('it is held', async () => (await status()).leases[0]?.state === 'held');
      await remembers(8080);
      expect((await status()).leases).toHaveLength(1);
      expect(await lab().upnpcList()).toMatchObject([{ ...before, leaseSeconds: expect.any(Number) }]);
      expect(daemon.eventsOf('lost')).toEqual([]);
      expect(daemon.eventsOf('changed')).toEqual([]);
    });
  });

  describe('killed and started again', () => {
    test('it claims the same external port with the same nonce, and what others made stays', async () => {
      const gateway = await lab().startGateway();
      await rivalMaps(8080);
      await agent();
      const [lease] = await keep('8080', '--via', 'pcp');
      const port = lease?.externalPort ?? 0;
      expect(port).not.toBe(8080);
      await remembers(port);
      const [before] = ledger().holdings;
      // miniupnpd describes a PCP mapping by its nonce.
      const described = async () =>
        (await lab().upnpcList()).find((row) => row.externalPort === port)?.description;
      const nonce = await described();
      expect(nonce).toBe(`PCP MAP ${asWords(before?.mapping.nonce ?? '')}`);

      await agents[0]?.end('SIGKILL');
      expect(await lab().natRules()).toEqual([theirs(8080), rule('tcp', port, { internalPort: 8080 })]);
      const second = await agent();
      await second.event('granted');
      expect(await lab().natRules()).toEqual([theirs(8080), rule('tcp', port, { internalPort: 8080 })]);
      expect(await described()).toBe(nonce);

      await second.end('SIGKILL');
      await gateway.restart({ wipeTable: true });
      const watch = stopwatch('the agent and the gateway were killed', 'announced');
      await agent();
      await untilEach(lab(), { pcp: rule('tcp', port, { internalPort: 8080 }) }, watch);
      expect(await described()).toBe(nonce);
    });

    test.each([
      ['beside what is still wanted', ['9000']],
      ['when nothing is wanted any more', []],
    ])('it gives back what was dropped while the gateway was dead, %s', async (_, others) => {
      await lab().startGateway();
      await rivalMaps(9999);
      await agent();
      await keep('8080', ...others, '--via', 'pcp');
      const wanted = others.map((port) => rule('tcp', Number(port)));
      await cutOff();
      const { released } = await runJson<DropReport>(lab(), ['drop', '8080'], { ...home, code: 5 });
      expect(released).toMatchObject([{ externalPort: 8080, error: { code: expect.any(String) } }]);
      await agents[0]?.end('SIGKILL');
      await lab().unblock();
      expect(await lab().natRules()).toContainEqual(rule('tcp', 8080));
      await agent();
      await untilRules(lab(), [...wanted, theirs(9999)]);
      await remembers(...others.map(Number));
    });

    test('a drop while the gateway was dead is made up for when it is back', async () => {
      await lab().startGateway();
      await agent();
      await keep('8080', '--via', 'pcp');
      await cutOff();
      await run(lab(), ['drop', '8080'], { ...home, code: 5 });
      expect(await lab().natRules()).toEqual([rule('tcp', 8080)]);
      await lab().unblock();
      const watch = stopwatch('dropped while the gateway was dead', 'silent');
      await untilRules(lab(), []);
      watch('given back');
    });
  });

  describe('told to end', () => {
    const keepByAll = async (): Promise<Keeping> => {
      const daemon = await agent();
      await keep('8080', '6881/tcp+udp');
      await keep('9000', '--via', 'upnp');
      await keep('9001', '--via', 'natpmp');
      return daemon;
    };

    test.each(['SIGTERM', 'SIGINT'] as const)('by %s, it releases all', async (signal) => {
      await lab().startGateway();
      const daemon = await keepByAll();
      const watch = stopwatch('told to end', 'announced');
      expect((await daemon.end(signal)).code).toBe(0);
      watch('all is released');
      expect(await lab().natRules()).toEqual([]);
    });

    test.each(['hangs', 'has gone', 'is cut off'])(
      'while the gateway %s: it ends within 3 s and says what stays',
      async (how) => {
        const gateway = await lab().startGateway();
        const daemon = await keepByAll();
        if (how === 'hangs') gateway.pause();
        if (how === 'has gone') await gateway.stop();
        if (how === 'is cut off') await cutOff();
        const startedMs = performance.now();
        const { code, stderr } = await daemon.end('SIGTERM');
        const tookMs = performance.now() - startedMs;
        gateway.resume();
        console.log(`ended after ${(tookMs / 1000).toFixed(2)} s: the gateway ${how}`);
        expect(tookMs).toBeLessThan(3_500);
        expect(code).toBe(0);
        expect(stderr).toMatch(/^natward: /);
      },
    );

    test('with --on-exit keep it leaves them, and the next one goes on', async () => {
      await lab().startGateway();
      const first = await agent(['--on-exit', 'keep']);
      await keep('8080');
      expect((await first.end('SIGTERM')).code).toBe(0);
      expect(await lab().natRules()).toEqual([rule('tcp', 8080)]);
      const second = await agent();
      await second.event('granted');
      expect(await status()).toMatchObject({ leases: [{ state: 'held', externalPort: 8080 }] });
      await second.end('SIGTERM');
      expect(await lab().natRules()).toEqual([]);
    });
  });

  describe('its memory', () => {
    /** A home on a disk of its own, which ends with the agent. */
    const onSmallDisk = () => ({ ...home, first: 'mount -t tmpfs -o size=64k tmpfs "$NATWARD_HOME"' });
    /** As the agent sees it. */
    const inside = (daemon: Keeping, name: string) =>
      `/proc/${daemon.process.pid}/root${join(lab().homeOf(home), name)}`;
    const specsIn = (file: string): string[] => {
      const document: LedgerDocument = JSON.parse(readFileSync(file, 'utf8'));
      return document.intents.map(({ spec }) => spec).sort();
    };

    test.each(['full', 'read-only'])(
      'the disk is %s: the old ledger stays, all is kept, and it says so',
      async (how) => {
        await lab().startGateway();
        const daemon = await agent([], onSmallDisk());
        const client = { ...home, mountsOf: daemon.process };
        const file = inside(daemon, 'ledger.json');
        await run(lab(), ['keep', '8080'], client);
        await until('a ledger', async () => existsSync(file) && specsIn(file).length === 1);
        const remount = (how_: string) =>
          lab().must('lan', [
            'nsenter',
            `--mount=/proc/${daemon.process.pid}/ns/mnt`,
            'mount',
            '-o',
            `remount,${how_}`,
            lab().homeOf(home),
          ]);
        if (how === 'full') fill(inside(daemon, 'filler'));
        else await remount('ro');

        await run(lab(), ['keep', '8081'], client);
        expect(await lab().natRules()).toEqual([rule('tcp', 8080), rule('tcp', 8081)]);
        const { message } = await daemon.event('warning');
        expect(message).toContain('ledger.json');
        const { warnings } = await status(client);
        expect(warnings).toEqual([expect.stringContaining('cannot write')]);
        expect(specsIn(file)).toEqual(['8080']);
        expect(readdirSync(inside(daemon, '')).filter((name) => name.startsWith('ledger'))).toEqual([
          'ledger.json',
        ]);

        if (how === 'full') rmSync(inside(daemon, 'filler'));
        else await remount('rw');
        await until('it is written', async () => specsIn(file).length === 2);
        expect((await status(client)).warnings).toEqual([]);
      },
    );

    test('a torn ledger is set aside and said so, and the agent starts', async () => {
      await lab().startGateway();
      await agent();
      await keep('8080');
      await remembers(8080);
      await agents[0]?.end('SIGKILL');
      truncateSync(ledgerFile(), 100);
      const torn = readFileSync(ledgerFile(), 'utf8');
      const second = await agent();
      expect((await second.event('warning')).message).toContain('ledger.json.broken');
      expect((await status()).warnings.join()).toContain('ledger.json.broken');
      expect(readFileSync(`${ledgerFile()}.broken`, 'utf8')).toBe(torn);
      expect(await keep('8080')).toMatchObject([{ state: 'held', externalPort: 8080 }]);
      expect(await lab().natRules()).toEqual([rule('tcp', 8080)]);
    });

    test('where nothing can be written it says so and does not start', async () => {
      const { stderr } = await run(lab(), ['agent'], {
        ...home,
        first: 'mount -t tmpfs -o ro tmpfs "$NATWARD_HOME"',
        code: 1,
      });
      expect(stderr).toContain(lab().homeOf(home));
    });
  });
});

/** As miniupnpd prints a nonce: three numbers of the host's own byte order. */
function asWords(nonce: string): string {
  return Buffer.from(nonce, 'hex').swap32().toString('hex');
}

/** Takes all the room that there is. */
function fill(path: string): void {
  const page = Buffer.alloc(512, 1);
  for (;;) {
    try {
      writeFileSync(path, page, { flag: 'a' });
    } catch {
      return;
    }
  }
}
