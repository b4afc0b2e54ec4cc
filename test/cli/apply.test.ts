import { once } from 'node:events';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { intentOf } from '../../src/agent/intent.ts';
import { NatwardError } from '../../src/errors.ts';
import { CONVERSATION, EDITED, LEASE, REQUEST, startAgent } from '../control/support/fake-agent.ts';
import { homeFor, said, startAgentOf } from './loopback-agent.ts';

async function listen(address: string): Promise<Server> {
  const server = createServer((socket) => socket.on('error', () => undefined).pipe(socket));
  server.listen(0, address);
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return server;
}

async function connected(address: string, port: number) {
  const socket = connect(port, address).on('error', () => undefined);
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  socket.write('a');
  expect(String((await once(socket, 'data'))[0])).toBe('a');
  return socket;
}

async function refuses(address: string, port: number): Promise<boolean> {
  const socket = connect(port, address);
  return await new Promise((resolve) => {
    socket.on('connect', () => resolve(false)).on('error', () => resolve(true));
    socket.on('close', () => socket.destroy());
  });
}

describe('natward apply with an agent', () => {
  test('makes the rules be those of the file, and says what changed', async () => {
    const { address, run, write, ...home } = await homeFor();
    await startAgentOf(home);
    const first = await write(
      'first.toml',
      `[[rule]]\nid = "web"\nrule = 'in tcp ${address}:80 -> 127.0.0.1:9'
       [[rule]]\nid = "dns"\nrule = 'in udp ${address}:53 -> 127.0.0.1:9'`,
    );
    expect(await run('apply', first, '--dry-run')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^web would be added: .*\ndns would be added: .*\n$/),
    });
    expect(await run('export')).toMatchObject({ stdout: expect.stringContaining('rule = []') });
    expect(await run('apply', first)).toEqual({
      code: 0,
      stdout: `web added: in tcp ${address}:80 -> 127.0.0.1:9\ndns added: in udp ${address}:53 -> 127.0.0.1:9\n`,
      stderr: '',
    });
    const second = {
      rule: [
        { id: 'web', rule: `in tcp ${address}:80 -> 127.0.0.1:10` },
        { id: 'ssh', rule: `in tcp ${address}:22 -> 127.0.0.1:9` },
      ],
    };
    expect(await home.pipe(JSON.stringify(second), 'apply', '-')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^ssh added: .*\nweb changed: .*\ndns removed/),
      stderr: '',
    });
    expect(await home.pipe('keep = []', 'apply', '-')).toMatchObject({ code: 0, stdout: '' });
    const { stdout } = await run('export', '--json');
    expect(JSON.parse(stdout)).toEqual({ ...second, keep: [] });
  });

  test('changes nothing where one of the rules cannot be, in the file or in the table', async () => {
    const { address, pipe, run, ...home } = await homeFor();
    await startAgentOf(home);
    const good = `[[rule]]\nid = "web"\nrule = 'in tcp ${address}:80 -> 127.0.0.1:9'\n`;
    expect(await pipe(good, 'apply', '-')).toMatchObject({ code: 0 });
    const before = (await run('export')).stdout;
    expect(await pipe(`${good}[[rule]]\nrule = 'in tcp 80 =>'`, 'apply', '-')).toEqual({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/^natward: stdin:5:1: rule\[1\]\.rule: /),
    });
    const twice = `${good}[[rule]]\nid = "again"\nrule = 'in tcp ${address}:80 -> 127.0.0.1:10'`;
    expect(await pipe(twice, 'apply', '-')).toMatchObject({ code: 4, stdout: '' });
    expect((await run('export')).stdout).toBe(before);
  });

  test('takes a rule as it is written, and remembers and shows it as natward writes it', async () => {
    const { address, pipe, run, ...home } = await homeFor();
    await startAgentOf(home);
    const loose = `[[rule]]\nid = "web"\nrule = 'IN  TCP ${address}:80->127.0.0.1:9 "old"'\ndescription = "the NAS"`;
    const line = `in tcp ${address}:80 -> 127.0.0.1:9 "the NAS"`;
    expect(await pipe(loose, 'apply', '-')).toEqual({ code: 0, stdout: `web added: ${line}\n`, stderr: '' });
    expect(JSON.parse((await run('export', '--json')).stdout)).toMatchObject({ rule: [{ rule: line }] });
    const same = loose.replace('\nid = "web"', '');
    expect(await pipe(same, 'apply', '-')).toMatchObject({ stdout: '1 rule stays as it is\n' });
  });

  test('cuts conversations with --cut alone, and says before which', async () => {
    const { address, pipe, ...home } = await homeFor();
    await startAgentOf(home);
    const server = await listen('127.0.0.1');
    const { port } = server.address() as { port: number };
    const good = `[[rule]]\nid = "echo"\nrule = 'in tcp ${address}:7007 -> 127.0.0.1:${port}'\n`;
    await pipe(good, 'apply', '-');
    const socket = await connected(address, 7007);
    const fates = async (...flags: string[]) => (await pipe('rule = []', 'apply', '-', ...flags)).stdout;
    expect(await fates('--dry-run')).toMatch(/^echo would be removed.*\n.* of echo would drain\n$/);
    expect(await fates('--dry-run', '--cut')).toMatch(/ of echo would be cut\n$/);
    expect(await fates()).toMatch(/ of echo drains\n$/);
    expect(await refuses(address, 7007)).toBe(true);
    socket.write('b');
    expect(String((await once(socket, 'data'))[0])).toBe('b');
    socket.end();
    await once(socket, 'close');
    await pipe(good, 'apply', '-');
    const other = await connected(address, 7007);
    const closed = new Promise((resolve) => other.on('close', resolve));
    expect(await fates('--cut')).toMatch(/ of echo was cut\n$/);
    await closed;
  });
});

describe('what natward apply keeps', () => {
  const OLD = intentOf(
    { ...REQUEST, spec: '22', internal: { first: 22, last: 22 }, external: 'any' },
    'user',
  );
  const TOML = '[[keep]]\nspec = "443:8443"\nexact = true\n';

  async function fakeFor() {
    const home = await homeFor();
    const agent = await startAgent({ place: join(home.home, 'control.sock') });
    agent.keeping.answerWanted = [OLD];
    return { ...home, ...agent };
  }

  test('is what the file says: what is missing there is dropped', async () => {
    const { pipe, keeping, steering } = await fakeFor();
    expect(await pipe(TOML, 'apply', '-')).toEqual({
      code: 0,
      stdout: expect.stringMatching(/^tcp 198\S+ -> \S+ released\ntcp 198\S+ -> \S+ kept, 2h at a time/),
      stderr: '',
    });
    expect(keeping.asked).toMatchObject([
      { selectors: [{ kind: 'id', id: OLD.id }] },
      { owner: 'user', requests: [{ spec: '443:8443', choice: 'exact', lifetimeSeconds: 7200 }] },
    ]);
    expect(steering.asked).toEqual([]);
  });

  test('is told before, and nothing done, with --dry-run', async () => {
    const { pipe, keeping } = await fakeFor();
    keeping.answerWanted = [OLD, intentOf(REQUEST, 'user')];
    const more = '[[keep]]\nspec = "80"\n';
    expect(await pipe(TOML + more, 'apply', '-', '--dry-run')).toEqual({
      code: 0,
      stdout: `80 would be kept\n22 would no longer be kept [${OLD.id}]\n1 request would stay as it is\n`,
      stderr: '',
    });
    expect(await pipe(TOML.replace('true', 'false'), 'apply', '-', '--dry-run')).toMatchObject({
      stdout: expect.stringContaining('443:8443 would be asked for otherwise ['),
    });
    expect(keeping.asked).toEqual([]);
  });

  test('is not asked for where the rules are refused, nor the other way round', async () => {
    const { pipe, keeping, steering } = await fakeFor();
    steering.answerEdit = () => Promise.reject(new NatwardError('CONFLICT', 'rule 1 is a loop'));
    const rule = 'rule = [{ rule = "in tcp 80 -> :80" }]\n';
    expect(await pipe(rule + TOML, 'apply', '-')).toMatchObject({ code: 4, stdout: '' });
    expect(keeping.asked).toEqual([]);
    expect(steering.asked).toHaveLength(1);
    keeping.answerWanted = [intentOf(REQUEST, 'config')];
    expect(await pipe(rule + TOML.replace('443:', '80:'), 'apply', '-')).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('config has 443:8443 kept already'),
    });
    expect(steering.asked).toHaveLength(1);
  });

  test('may fail where the rules did not: exit code 5', async () => {
    const { pipe, keeping } = await fakeFor();
    const error = { code: 'NOT_AUTHORIZED', message: '192.168.1.1 refused TCP 443', advice: null } as const;
    keeping.answerKeep = async () => [{ ...LEASE, state: 'refused', error }];
    const refused = { stderr: 'natward: 192.168.1.1 refused TCP 443.\n' };
    expect(await pipe(`rule = []\n${TOML}`, 'apply', '-')).toMatchObject({ code: 5, ...refused });
    keeping.answerWanted = [];
    expect(await pipe(TOML, 'apply', '-')).toMatchObject({ code: 4, ...refused });
    keeping.answerKeep = () => Promise.reject(new NatwardError('CONFLICT', 'it is taken'));
    expect(await pipe(TOML, 'apply', '-')).toMatchObject({ code: 4, stderr: 'natward: it is taken.\n' });
    expect(await pipe(`rule = []\n${TOML}`, 'apply', '-')).toMatchObject({
      code: 5,
      stdout: expect.stringContaining('web added'),
    });
  });

  test('is one document with --json', async () => {
    const { pipe } = await fakeFor();
    const { stdout } = await pipe(`rule = []\n${TOML}`, 'apply', '-', '--json', '--cut');
    const { id } = intentOf(REQUEST, 'user');
    expect(JSON.parse(stdout)).toEqual({
      dryRun: false,
      rules: { ...EDITED, affected: [CONVERSATION] },
      keeps: {
        added: [expect.objectContaining({ id, spec: '443:8443' })],
        changed: [],
        removed: [expect.objectContaining({ id: OLD.id })],
        unchanged: 0,
      },
      leases: [LEASE],
      released: [LEASE],
      failures: [],
    });
  });
});

describe('natward apply without an agent', () => {
  test('has the rules work in this terminal until Ctrl-C', async () => {
    const { address, write, start } = await homeFor();
    const server = await listen('127.0.0.1');
    const { port } = server.address() as { port: number };
    const file = await write('a.toml', `[[rule]]\nrule = 'in tcp ${address}:7007 -> 127.0.0.1:${port}'`);
    const { child, ended } = start('apply', file);
    await said(child, /until Ctrl-C\n/);
    (await connected(address, 7007)).destroy();
    child.kill('SIGINT');
    expect(await ended).toMatchObject({ code: 0, stderr: '' });
    expect(await refuses(address, 7007)).toBe(true);
  });

  test('only checks with --dry-run', async () => {
    const { pipe } = await homeFor();
    expect(
      await pipe("rule = [{ id = 'a', rule = 'in tcp 80 -> :8080' }]", 'apply', '-', '--dry-run'),
    ).toEqual({
      code: 0,
      stdout: 'a would be added: in tcp 80 -> :8080\n',
      stderr: '',
    });
    const wrong = '[[rule]]\nrule = "in tcp 80 =>"';
    for (const flags of [['--dry-run'], []]) {
      expect(await pipe(wrong, 'apply', '-', ...flags)).toEqual({
        code: 2,
        stdout: '',
        stderr: expect.stringMatching(/^natward: stdin:2:1: rule\[0\]\.rule: .*\n$/),
      });
    }
    const loop = "rule = [{ rule = 'in tcp 127.0.0.1:80 -> 127.0.0.1:80' }]";
    expect(await pipe(loop, 'apply', '-', '--dry-run')).toMatchObject({ code: 4, stdout: '' });
    expect(await pipe('onExit = "keep"', 'apply', '-', '--dry-run')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('config.toml'),
    });
  });

  test('ends at once where nothing is wanted', async () => {
    const { pipe } = await homeFor();
    expect(await pipe('rule = []', 'apply', '-')).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(await pipe('', 'apply', '-')).toMatchObject({
      code: 0,
      stdout: 'the file has neither rules nor keeps: all stays as it is\n',
    });
  });
});
