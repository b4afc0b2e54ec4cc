/** Whose the kernel is: an ordinary user's agent, two agents at once, and the tables of other programs. */

import { chownSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, expect, onTestFinished, test } from 'vitest';
import { until } from '../support/keeping.ts';
import type { LabProcess, Result } from '../support/processes.ts';
import { programForAll } from '../support/program-for-all.ts';
import { connectionMarks, kernelState } from './support/kernel-state.ts';
import { describeKernel } from './support/topology.ts';

const ROUTER = '10.61.0.1';
const NOBODY = 65_534;
const AS_USER = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
const WITH_CAPABILITY = [...AS_USER, '--inh-caps=+net_admin', '--ambient-caps=+net_admin'];
const STOP_MS = 15_000;
const REFUSED = 4;

describeKernel('kernel: whose it is', (scene) => {
  let before: readonly string[] = [];

  beforeAll(async () => {
    await scene().server.serve({ port: 8080 });
    before = await kernelState(scene().router);
  });
  afterEach(() => scene().stopAgent());

  const ask = (port: number, timeoutMs = 2_000) => scene().client.ask(ROUTER, port, { timeoutMs });

  /** natward in the router beside the scene's own, with a home of its own; `as` goes before the command. */
  const other = (as: readonly string[]) => {
    const home = mkdtempSync(join(tmpdir(), 'natward-owner-'));
    onTestFinished(() => rmSync(home, { recursive: true, force: true }));
    if (as.length > 0) chownSync(home, NOBODY, NOBODY);
    const options = { env: { NATWARD_HOME: home, NATWARD_ENGINE: 'auto' } };
    const program = programForAll();
    const command = (args: readonly string[]) => [...as, process.execPath, program, ...args];
    const start = (...args: string[]): LabProcess => {
      const started = scene().router.spawn(command(args), options);
      onTestFinished(async () => void (await started.stop()));
      return started;
    };
    const run = async (...args: string[]): Promise<Result> => start(...args).exited;
    const agent = async (...args: string[]): Promise<LabProcess> => {
      const started = start('agent', ...args);
      await started.waitFor(/listens on/, 10_000);
      return started;
    };
    return { start, run, agent };
  };
  const end = async (process: LabProcess) => {
    process.signal('SIGTERM');
    await until('it has ended', async () => !process.running, STOP_MS);
  };
  const table = () => scene().router.must(['nft', '-s', 'list', 'table', 'inet', 'natward']);

  test('an ordinary user with CAP_NET_ADMIN has the kernel carry rules, and leaves it as it was', async () => {
    const user = other(WITH_CAPABILITY);
    const agent = await user.agent('--engine', 'nftables');
    const rules = [
      'in tcp 80 -> 10.62.0.2:8080',
      'in tcp 82 -> 127.0.0.1:9090',
      'in tcp 83 -> 203.0.113.9:8080 via t0',
    ];
    for (const rule of rules) expect(await user.run('rule', 'add', rule)).toMatchObject({ code: 0 });
    expect(await ask(80)).toMatchObject({ name: 'server' });
    expect((await user.run('rule', 'list')).stdout).not.toMatch(/waits/);
    await end(agent);
    expect(await kernelState(scene().router)).toEqual(before);
    expect(await connectionMarks(scene().router)).toEqual([]);
  });

  test('without it, nftables is refused in a sentence, and auto is the relay', async () => {
    const user = other(AS_USER);
    const refused = await user.run('agent', '--engine', 'nftables');
    expect(refused.code).toBe(REFUSED);
    expect(refused.stderr).toMatch(/^[^\n]*CAP_NET_ADMIN[^\n]*\n[^\n]*\n?$/);
    const agent = await user.agent();
    expect(await user.run('rule', 'add', 'in tcp 8081 -> 10.62.0.2:8080')).toMatchObject({ code: 0 });
    expect((await user.run('rule', 'list', '--json')).stdout).toMatch(/"engine": ?"relay"/);
    expect(await ask(8081)).toMatchObject({ name: 'server' });
    const needs = await user.run('rule', 'add', 'out tcp 10.62.0.3:25 -> :9090');
    expect(needs.code).toBe(REFUSED);
    expect(needs.stderr).toMatch(/CAP_NET_ADMIN/);
    await end(agent);
  });

  test('a second agent, or a rule in a terminal, leaves the table of the first alone', async () => {
    await scene().startAgent();
    await scene().rules('in tcp 80 -> 10.62.0.2:8080');
    // What is counted is there, and its numbers are not listed.
    expect(await ask(80)).toMatchObject({ name: 'server' });
    const had = await table();
    const [second, terminal] = [other([]), other([])];
    for (const refused of [
      await second.run('agent', '--engine', 'nftables'),
      await terminal.run('rule', 'add', 'in tcp 8083 -> 10.62.0.2:8080', '--engine', 'nftables'),
    ]) {
      expect(refused.code).toBe(REFUSED);
      expect(refused.stderr).toMatch(/another natward of this machine/);
    }
    const agent = await second.agent();
    await second.run('rule', 'add', 'in tcp 8082 -> 10.62.0.2:8080');
    const foreground = terminal.start('rule', 'add', 'in tcp 8083 -> 10.62.0.2:8080');
    await until('all are carried', async () =>
      (await Promise.all([ask(80), ask(8082), ask(8083)])).every((one) => typeof one === 'object'),
    );
    expect((await second.run('rule', 'list', '--json')).stdout).toMatch(/"engine": ?"relay"/);
    expect(await table()).toBe(had);
    await end(agent);
    await end(foreground);
    expect(await table()).toBe(had);
    expect(await ask(80)).toMatchObject({ name: 'server' });
    await end(scene().agent);
  });

  test('a table of another program that drops the traffic is named, and not touched', async () => {
    await scene().startAgent();
    await scene().rules({ id: 'web', rule: 'in tcp 80 -> 10.62.0.2:8080' });
    expect((await scene().natward(['status'])).stdout).not.toMatch(/inet filter/);
    const drops =
      'table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }';
    await scene().router.must(['nft', '-f', '-'], { input: drops });
    onTestFinished(() =>
      scene()
        .router.sh('nft delete table inet filter 2>/dev/null || true')
        .then(() => {}),
    );
    const foreign = await scene().router.must(['nft', '-a', 'list', 'table', 'inet', 'filter']);
    expect(await ask(80, 500)).toBe('silence');
    const explained = await scene().natward(['rule', 'explain', 'tcp', '10.61.0.2', '10.61.0.1:80']);
    expect(explained.stdout).toMatch(/inet filter, chain forward, drops it: policy drop/);
    // Others' tables are asked for anew after some seconds.
    let count = 0;
    const status = async () => {
      count++;
      await scene().run(['rule', 'edit', 'web', '--description', `try ${count}`]);
      return (await scene().natward(['status'])).stdout;
    };
    await until('status says it', async () => /inet filter, chain forward/.test(await status()));
    expect(await scene().router.must(['nft', '-a', 'list', 'table', 'inet', 'filter'])).toBe(foreign);
    await scene().router.sh('nft delete table inet filter');
    await until('status says it no more', async () => !/inet filter/.test(await status()));
    expect(await ask(80)).toMatchObject({ name: 'server' });
    await end(scene().agent);
  });

  test('foreign tables are the same after all that may happen, and their marks are kept', async () => {
    const marked = `
      table inet shaper {
        counter shaped { }
        set seen { type ipv4_addr; flags dynamic; }
        chain pre {
          type filter hook prerouting priority -150;
          ct state new ct mark set ct mark & 0xffff0000 | 0x1234
          ct mark & 0xffff == 0x4321 counter
        }
        chain post {
          type filter hook postrouting priority 310;
          ct mark & 0xffff == 0x1234 ip daddr 10.62.0.2 tcp dport 8080 counter name shaped
        }
      }
      table ip nat { chain PREROUTING { type nat hook prerouting priority -100; tcp dport 8888 redirect to :9090; }; }`;
    await scene().router.must(['nft', '-f', '-'], { input: marked });
    onTestFinished(() =>
      scene()
        .router.sh('nft delete table inet shaper; nft delete table ip nat')
        .then(() => {}),
    );
    const foreign = () => scene().router.sh('nft -s -a list table inet shaper; nft -s -a list table ip nat');
    const had = await foreign();
    await scene().startAgent();
    await scene().rules({ id: 'web', rule: 'in tcp 80 -> 10.62.0.2:8080' });
    await using conversation = await scene().client.open(ROUTER, 80);
    expect(conversation.first).toMatchObject({ name: 'server' });
    expect((await connectionMarks(scene().router)).map((mark) => mark & 0xffff)).toContain(0x1234);
    await scene().run([
      'rule',
      'add',
      'in tcp 80-90 from 192.0.2.1 -> 10.62.0.3:8080 per-client 5',
      '--before',
      '1',
    ]);
    expect(await ask(80)).toMatchObject({ name: 'server' });
    const marks = await connectionMarks(scene().router);
    expect(marks.map((mark) => mark & 0xffff)).toEqual(marks.map(() => 0x1234));
    expect(await conversation.say('more')).toMatchObject({ name: 'server' });
    const counted = await scene().router.sh('nft list counter inet shaper shaped');
    expect(Number(/packets (\d+)/.exec(counted)?.[1])).toBeGreaterThan(5);
    await scene().run(['rule', 'disable', 'web']);
    await scene().run(['rule', 'enable', 'web']);
    await scene().run(['rule', 'remove', '1']);
    await scene().run(['rule', 'panic']);
    await scene().run(['rule', 'resume']);
    await end(scene().agent);
    expect(await foreign()).toBe(had);
  });
});
