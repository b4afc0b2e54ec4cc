import { join } from 'node:path';
import { expect, test } from 'vitest';
import { intentOf } from '../../src/agent/intent.ts';
import { REQUEST, RULE, startAgent } from '../control/support/fake-agent.ts';
import { homeFor, startAgentOf } from './loopback-agent.ts';

test('natward export is a file that natward apply makes true again', async () => {
  const { address, pipe, run, write, ...home } = await homeFor();
  await startAgentOf(home);
  const toml = `
    [[rule]]
    id = "web"
    rule = 'in tcp ${address}:80 -> 127.0.0.1:9 idle 60s "the \\"web\\""'
    [[rule]]
    enabled = false
    rule = 'in udp ${address}:53 -> 127.0.0.1:9'`;
  expect(await pipe(toml, 'apply', '-')).toMatchObject({ code: 0 });
  const { stdout: exported, code } = await run('export');
  expect(code).toBe(0);
  const file = await write('exported.toml', exported);
  expect(await run('apply', file)).toMatchObject({ code: 0, stdout: '2 rules stay as they are\n' });
  await pipe('rule = []', 'apply', '-');
  expect((await run('export')).stdout).not.toBe(exported);
  expect(await run('apply', file)).toMatchObject({ code: 0 });
  expect((await run('export')).stdout).toBe(exported);
});

test('natward export --json has the keys of the file', async () => {
  const { home, run } = await homeFor();
  const { keeping } = await startAgent({ place: join(home, 'control.sock') });
  keeping.answerWanted = [
    intentOf({ ...REQUEST, hooks: [{ kind: 'webhook', url: 'https://example.org/' }] }, 'user'),
  ];
  const { stdout } = await run('export', '--json');
  const hook = [{ webhook: 'https://example.org/' }];
  expect(JSON.parse(stdout)).toEqual({
    rule: [{ id: 'web', rule: RULE.text }],
    keep: [{ spec: '443:8443', lifetime: '2h', exact: true, hook }],
  });
});

test('natward export says what it leaves out', async () => {
  const { home, run } = await homeFor();
  const { keeping } = await startAgent({ place: join(home, 'control.sock') });
  const remotePeer = { address: '198.51.100.7', prefixLength: 32, port: 0 };
  const intent = intentOf({ ...REQUEST, remotePeer }, 'user');
  keeping.answerWanted = [intent];
  expect(await run('export')).toEqual({
    code: 5,
    stdout: expect.stringContaining('keep = []'),
    stderr: expect.stringContaining(`443:8443 (${intent.id}) is for one peer alone`),
  });
});

test('natward export needs an agent', async () => {
  const { run } = await homeFor();
  expect(await run('export')).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('no agent runs here'),
  });
});
