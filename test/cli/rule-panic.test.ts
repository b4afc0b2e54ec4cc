/** All rules off and on again: the built program's agent, with real bytes on loopback. */

import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { homeFor, said, startAgentOf } from './loopback-agent.ts';

/** Resolves with a port of 127.0.0.1 that sends back what it gets. */
async function echo(): Promise<number> {
  const server = createServer((socket) => void socket.on('error', () => undefined).pipe(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

async function echoed(address: string, port: number): Promise<string> {
  const socket = connect(port, address);
  onTestFinished(() => void socket.destroy());
  socket.end('hello');
  let back = '';
  for await (const chunk of socket) back += String(chunk);
  return back;
}

test('panic ends what runs and refuses what comes, also after a restart, until resume', async () => {
  const home = await homeFor();
  const { address, run } = home;
  const target = await echo();
  const agent = home.start('agent');
  await said(agent.child, /listens on/);
  const added = await run('rule', 'add', `in tcp ${address}:7777 -> 127.0.0.1:${target}`, '--id', 'web');
  expect(added).toMatchObject({ code: 0, stderr: '' });
  const socket = connect(7777, address);
  onTestFinished(() => void socket.destroy());
  socket.write('x');
  await once(socket, 'data');
  const closed = new Promise((resolve) => socket.on('error', () => undefined).once('close', resolve));

  expect(await run('rule', 'panic')).toMatchObject({
    code: 0,
    stdout: '1 rule off, 1 conversation ended\nnatward rule resume has them carried out again\n',
  });
  await closed;
  await expect(echoed(address, 7777)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  expect((await run('rule', 'list')).stdout).toMatch(/^RULES ARE OFF: /);
  expect((await run('status')).stdout).toContain('warning: natward rule panic has stopped all rules');

  agent.child.kill('SIGTERM');
  await agent.ended;
  await startAgentOf(home);
  await expect(echoed(address, 7777)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  expect((await run('rule', 'add', `in tcp ${address}:7778 -> 127.0.0.1:${target}`)).stdout).toContain(
    'waits: natward rule panic has stopped all rules',
  );

  expect((await run('rule', 'resume')).stdout).toBe('rules are on again: 2 rules\n');
  expect([await echoed(address, 7777), await echoed(address, 7778)]).toEqual(['hello', 'hello']);
  expect((await run('status')).stdout).not.toContain('panic');
});

test('without an agent the next one starts with its rules off', async () => {
  const home = await homeFor();
  const { run } = home;
  expect(await run('rule', 'panic')).toMatchObject({
    code: 0,
    stdout: `no agent runs: one that remembers in ${home.home} starts with its rules off, until natward rule resume\n`,
  });
  await startAgentOf(home);
  expect(JSON.parse((await run('rule', 'list', '--json')).stdout)).toEqual({ isPaused: true, rules: [] });
  expect((await run('rule', 'resume')).stdout).toBe('rules are on again: 0 rules\n');
});

test('the engine is chosen on the command line, or in the configuration', async () => {
  const home = await homeFor();
  const refused = { code: 4, stderr: expect.stringContaining('the kernel’s engine needs CAP_NET_ADMIN') };
  expect(await home.runUnprivileged('agent', '--engine', 'nftables')).toMatchObject(refused);
  const added = await home.runUnprivileged('rule', 'add', 'in tcp 80 -> :8080', '--engine', 'nftables');
  expect(added).toMatchObject(refused);
  await home.write('config.toml', 'engine = "nftables"\n');
  expect(await home.runUnprivileged('agent')).toMatchObject(refused);
  expect(await home.run('agent', '--engine', 'iptables')).toMatchObject({ code: 2 });
  const agent = home.start('agent', '--engine', 'relay');
  await said(agent.child, /listens on/);
  expect(await home.run('apply', '/dev/null', '--engine', 'relay')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/--engine relay: the agent \(pid \d+\) carries the rules out/),
  });
});

test('another engine in the configuration is taken at the next start, and status says so until then', async () => {
  const home = await homeFor();
  await home.write('config.toml', 'engine = "relay"\n');
  const agent = home.start('agent');
  await said(agent.child, /listens on/);
  const warned = said(agent.child, /warning: .*engine = "auto"/);
  await home.write('config.toml', 'engine = "auto"\n');
  agent.child.kill('SIGHUP');
  await warned;
  expect((await home.run('status')).stdout).toContain(
    'warning: the configuration says engine = "auto", and the agent has started with "relay"',
  );
});
