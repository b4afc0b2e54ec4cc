import { describe, expect, test } from 'vitest';
import { homeFor, said, startAgentOf } from './loopback-agent.ts';

describe('natward import with an agent', () => {
  test('adds the rules of another program, and says what has no counterpart', async () => {
    const { address, run, write, ...home } = await homeFor();
    await startAgentOf(home);
    const file = await write(
      'rinetd.conf',
      `${address} 80 127.0.0.1 9\nlogfile /var/log/x\n${address} 81 127.0.0.1 9\n`,
    );
    const dry = await run('import', file, '--dry-run');
    expect(dry).toMatchObject({ code: 0, stderr: '' });
    expect(dry.stdout.match(/ would be added: in tcp /g)).toHaveLength(2);
    expect(dry.stdout).toContain(`note: ${file}:2: logfile`);
    const done = await run('import', file);
    expect(done).toMatchObject({ code: 0, stderr: '' });
    expect(done.stdout).toMatch(/^\S+ added: in tcp .*:80 -> 127\.0\.0\.1:9\n\S+ added: in tcp .*:81 -> /);
    const { rule } = JSON.parse((await run('export', '--json')).stdout);
    expect(rule).toHaveLength(2);
  });

  test('adds nothing where one rule cannot be, and names its line', async () => {
    const { address, pipe, run, write, ...home } = await homeFor();
    await startAgentOf(home);
    await pipe(`rule = [{ rule = 'in tcp ${address}:81 -> 127.0.0.1:9' }]`, 'apply', '-');
    const file = await write('rinetd.conf', `${address} 80 127.0.0.1 9\n\n${address} 81 127.0.0.1 9\n`);
    expect(await run('import', file)).toEqual({
      code: 4,
      stdout: '',
      stderr: expect.stringContaining(`natward: ${file}:3: `),
    });
    const broken = await write('broken.conf', `${address} 80 127.0.0.1 9\n${address} 82 127.0.0.1 0\n`);
    expect(await run('import', broken)).toEqual({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining(`natward: ${broken}:2: `),
    });
    expect(JSON.parse((await run('export', '--json')).stdout).rule).toHaveLength(1);
  });

  test('adds what was exported elsewhere, under its ids', async () => {
    const { address, pipe, run, ...home } = await homeFor();
    await startAgentOf(home);
    const document = { rule: [{ id: 'web', rule: `in tcp ${address}:80 -> 127.0.0.1:9` }], keep: [] };
    expect(await pipe(JSON.stringify(document), 'import', '-')).toMatchObject({ code: 0 });
    expect(JSON.parse((await run('export', '--json')).stdout)).toEqual(document);
    expect(await pipe(JSON.stringify(document), 'import', '-')).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('natward: stdin: rule[0]: there is a rule web already'),
    });
  });
});

describe('natward import without an agent', () => {
  test('has the rules work in this terminal until Ctrl-C', async () => {
    const { address, write, start } = await homeFor();
    const file = await write('tunnel.sh', `ssh -N -L ${address}:8080:127.0.0.1:9 gw\n`);
    const { child, ended } = start('import', file);
    expect(await said(child, /until Ctrl-C\n/)).toContain(`added: in tcp ${address}:8080`);
    child.kill('SIGINT');
    expect(await ended).toMatchObject({ code: 0, stderr: '' });
  });

  test('is one document a line with --json, and one document with --dry-run', async () => {
    const { address, pipe } = await homeFor();
    const text = `${address} 80 127.0.0.1 9\nlogcommon\n`;
    const { stdout } = await pipe(text, 'import', '-', '--json', '--dry-run');
    expect(JSON.parse(stdout)).toMatchObject({
      dryRun: true,
      rules: { added: [expect.any(String)], rules: [{ position: 1, waiting: null }] },
      notes: [expect.stringMatching(/^stdin:2: /)],
    });
  });
});
