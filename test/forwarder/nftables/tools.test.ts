/** The kernel's programs: whether they are there and new enough, and what their answers mean. */

import { describe, expect, test } from 'vitest';
import { NatwardError } from '../../../src/errors.ts';
import { lackOfTools, Nft, runConntrack } from '../../../src/forwarder/nftables/tools.ts';
import type { ProgramRequest, ProgramResult, RunProgram } from '../../../src/system/program.ts';

const DONE: ProgramResult = { exitCode: 0, endedBy: null, cut: null, stdout: '', stderr: '' };
const NO_PROGRAM = new NatwardError('FAILED', 'nft cannot be started: there is no such program', {
  cause: Object.assign(new Error('spawn nft ENOENT'), { code: 'ENOENT' }),
});

/** Answers as said, by what the command line holds; all else succeeds and says nothing. */
function machine(answers: Readonly<Record<string, Partial<ProgramResult> | NatwardError>>) {
  const asked: ProgramRequest[] = [];
  const runProgram: RunProgram = async (request) => {
    asked.push(request);
    const line = 'shell' in request.command ? request.command.shell : request.command.join(' ');
    const [, answer = {}] = Object.entries(answers).find(([words]) => line.startsWith(words)) ?? [];
    if (answer instanceof NatwardError) throw answer;
    return { ...DONE, ...answer };
  };
  return { asked, runProgram };
}

const failing = (stderr: string): Partial<ProgramResult> => ({ exitCode: 1, stderr });

describe('lackOfTools', () => {
  const RECENT = {
    'nft --version': { stdout: 'nftables v1.0.6 (Lester Gooch #5)\n' },
    'conntrack --version': { stdout: 'conntrack v1.4.7 (conntrack-tools)\n' },
    'ip -V': { stdout: 'ip utility, iproute2-6.1.0, libbpf 1.1.2\n' },
  };

  test('nothing, where all of them are there and new enough', async () => {
    expect(await lackOfTools(machine(RECENT).runProgram)).toBeUndefined();
  });

  test('a program that is missing is named, with its package', async () => {
    const absent = { ...RECENT, 'nft --version': NO_PROGRAM, 'conntrack --version': NO_PROGRAM };
    expect(await lackOfTools(machine(absent).runProgram)).toMatchObject({
      code: 'UNSUPPORTED',
      message: 'the kernel’s engine needs nft, conntrack, and this machine has no such program',
      advice: 'Install nftables, conntrack.',
    });
  });

  test.for([
    ['nft --version', 'nftables v0.9.8 (E.D.S.)', /nft 1\.0\.2, and this machine has 0\.9\.8/],
    ['nft --version', 'nftables v1.0.1 (Fearless Fosdick)', /has 1\.0\.1/],
    ['conntrack --version', 'conntrack v1.4.5 (conntrack-tools)', /conntrack 1\.4\.6, .* has 1\.4\.5/],
    ['ip -V', 'ip utility, iproute2-5.4.0', /ip 5\.10\.0, .* has 5\.4\.0/],
  ] as const)('%s: %s is too old', async ([command, stdout, message]) => {
    const lack = await lackOfTools(machine({ ...RECENT, [command]: { stdout } }).runProgram);
    expect(lack).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringMatching(message) });
  });

  test.for(['nftables v1.0.2', 'nftables v1.1', 'nftables v2.0.0', 'nftables v1.0.10'])(
    '%s is not',
    async (stdout) => {
      expect(
        await lackOfTools(machine({ ...RECENT, 'nft --version': { stdout } }).runProgram),
      ).toBeUndefined();
    },
  );
});

describe('Nft', () => {
  const nft = (answers: Parameters<typeof machine>[0]) => new Nft(machine(answers).runProgram);

  test('a batch goes to its standard input, an empty one nowhere; it is found where administrators’ programs are', async () => {
    const { asked, runProgram } = machine({});
    const program = new Nft(runProgram);
    await program.load('');
    expect(asked).toEqual([]);
    await program.load('add table inet natward\n');
    expect(asked).toMatchObject([
      { command: ['nft', '-f', '-'], input: 'add table inet natward\n', env: { LC_ALL: 'C' } },
    ]);
    expect(asked[0]?.env?.['PATH']).toMatch(/:\/usr\/sbin:\/sbin$/);
  });

  test('what nft complains of is in the error; a missing privilege is told apart, and a timeout', async () => {
    const load = (answer: Partial<ProgramResult>) => nft({ nft: answer }).load('x\n');
    await expect(load(failing('/dev/stdin:1:1-1: Error: syntax error\n'))).rejects.toMatchObject({
      code: 'FAILED',
      message: 'nft: /dev/stdin:1:1-1: Error: syntax error',
    });
    await expect(load(failing('x'.repeat(5000)))).rejects.toMatchObject({
      message: expect.stringMatching(/^nft: x{600}$/),
    });
    await expect(load(failing('Operation not permitted (you must be root)\n'))).rejects.toMatchObject({
      code: 'NOT_AUTHORIZED',
      message: expect.stringMatching(/CAP_NET_ADMIN/),
    });
    await expect(load({ exitCode: null, cut: 'time' })).rejects.toMatchObject({
      code: 'FAILED',
      message: 'nft: it took too long',
    });
  });

  test('it accepts what the check takes, and does not take a lack of privileges for a refusal', async () => {
    expect(await nft({}).accepts('x')).toBe(true);
    expect(await nft({ nft: failing('Error: Could not process rule: No such file') }).accepts('x')).toBe(
      false,
    );
    await expect(nft({ nft: failing('Operation not permitted') }).accepts('x')).rejects.toMatchObject({
      code: 'NOT_AUTHORIZED',
    });
    await expect(nft({ nft: { exitCode: null, cut: 'time' } }).accepts('x')).rejects.toMatchObject({
      code: 'FAILED',
    });
  });

  test('a set that is not there is undefined; what else goes wrong is thrown', async () => {
    expect(await nft({ nft: { stdout: '{}' } }).list('inet natward', 'ids')).toBe('{}');
    expect(
      await nft({ nft: failing('Error: No such file or directory') }).list('inet natward', 'ids'),
    ).toBeUndefined();
    await expect(nft({ nft: failing('Error: Protocol error') }).list('inet natward', 'ids')).rejects.toThrow(
      'Protocol',
    );
  });

  test('without nft, or a kernel with tables, there are no tables', async () => {
    const stdout = 'table ip nat\ntable inet natward\ntable ip6 my-table\n';
    expect(await nft({ nft: { stdout } }).tables()).toEqual(['ip nat', 'inet natward', 'ip6 my-table']);
    expect(await nft({ nft: NO_PROGRAM }).tables()).toEqual([]);
    expect(
      await nft({ nft: failing('Unable to initialize Netlink socket: Protocol not supported') }).tables(),
    ).toEqual([]);
    await expect(nft({ nft: failing('Operation not permitted') }).tables()).rejects.toMatchObject({
      code: 'NOT_AUTHORIZED',
    });
    await expect(nft({ nft: new NatwardError('FAILED', 'no memory') }).tables()).rejects.toThrow('no memory');
  });

  test('other tables are listed one by one, and one that goes meanwhile is left out', async () => {
    const others = nft({
      'nft list chains': { stdout: 'table ip nat {\n}\ntable inet natward {\n}\ntable ip gone {\n}\n' },
      'nft -j list table ip nat': { stdout: '{"nftables":[{"table":{"name":"nat"}}]}' },
      'nft -a list table ip nat': { stdout: 'table ip nat {\n}\n' },
      'nft -j list table ip gone': failing('Error: No such file or directory'),
      'nft -a list table ip gone': failing('Error: No such file or directory'),
    });
    const { listing, plain } = await others.others((table) => table === 'inet natward');
    expect(listing).toEqual({ nftables: [{ table: { name: 'nat' } }] });
    expect(plain.trim()).toBe('table ip nat {\n}');
  });
});

describe('runConntrack', () => {
  test('nothing deleted is no error, a missing privilege is', async () => {
    const nothing = machine({ conntrack: failing('conntrack v1.4.7: 0 flow entries have been deleted.') });
    expect(await runConntrack(nothing.runProgram, ['conntrack', '-D'])).toEqual(['']);
    const forbidden = machine({ conntrack: failing('Operation failed: Operation not permitted') });
    await expect(runConntrack(forbidden.runProgram, ['conntrack', '-D'])).rejects.toMatchObject({
      code: 'NOT_AUTHORIZED',
    });
  });
});
