/** What is taken out of the kernel by somebody who only has the machine, and what is said of it. */

import { expect, test } from 'vitest';
import { NatwardError } from '../../../src/errors.ts';
import { removeKernelRules } from '../../../src/forwarder/nftables/panic.ts';
import type { ProgramResult, RunProgram } from '../../../src/system/program.ts';
import type { Sysctls } from '../../../src/system/sysctl.ts';

const FORWARDING = 'net.ipv4.conf.eth0.forwarding';
const TABLES = 'table ip nat\ntable inet natward\ntable netdev natward\n';
const IDS = [{ elem: { val: 0x8000_0000, comment: 'web' } }, { elem: { val: 0x8001_0000, comment: 'mail' } }];
const RECORDS = [{ elem: { val: 1, comment: `${FORWARDING}=0>1` } }];
const COUNTS = [{ elem: { val: { concat: [0x8005_0000, 'original'] }, counter: { packets: 1, bytes: 60 } } }];

const flow = (mark: number): string =>
  `ipv4     2 tcp      6 431999 ESTABLISHED src=192.0.2.1 dst=192.0.2.2 sport=40000 dport=80 src=10.0.0.5 dst=192.0.2.2 sport=80 dport=40000 [ASSURED] mark=${mark} use=1 id=${mark}`;

/** A machine with these tables and conversations, and what is done to it. */
function machine({ tables = TABLES, marks = [] as readonly number[] } = {}) {
  const done: string[] = [];
  const sets: Record<string, unknown[]> = { ids: IDS, records: RECORDS, counts: COUNTS };
  const answer = (command: string, input: string): string => {
    if (command === 'nft list tables') return tables;
    const [, set] = /^nft -j list set inet natward (\w+)$/.exec(command) ?? [];
    if (set !== undefined) return JSON.stringify({ nftables: [{ set: { elem: sets[set] } }] });
    if (command.startsWith('conntrack -L')) return marks.map(flow).join('\n');
    const [, mark = '', mask = ''] = /^conntrack -D -m (\w+)\/(\w+)/.exec(command) ?? [];
    if (mark !== '') done.push(`conntrack -D ${mark}/${mask}`);
    if (mark !== '') {
      const isMeant = (one: number) => ((BigInt(one) ^ BigInt(mark)) & BigInt(mask)) === 0n;
      return marks.filter(isMeant).map(flow).join('\n');
    }
    if (command === 'nft -f -') done.push(...input.trim().split('\n'));
    return '';
  };
  const runProgram: RunProgram = async ({ command, input = '' }): Promise<ProgramResult> => {
    if ('shell' in command) throw new Error('no shell is needed');
    const stdout = answer(command.join(' '), input);
    return { exitCode: 0, endedBy: null, cut: null, stdout, stderr: '' };
  };
  const settings = new Map([[FORWARDING, '1']]);
  const sysctls: Sysctls = {
    read: (name) => settings.get(name),
    write: (name, value) => void settings.set(name, value),
  };
  return { done, runProgram, settings, sysctls };
}

test('the tables go, settings are put back, conversations end, also those of rules that were gone', async () => {
  const marks = [0x8000_0000, 0x8000_1234, 0x8005_0000, 0x8009_0000, 0x1234];
  const { done, runProgram, settings, sysctls } = machine({ marks });
  expect(await removeKernelRules(runProgram, sysctls)).toEqual([
    "the kernel's tables (2 rules)",
    '3 conversations',
    '1 settings of the network',
  ]);
  expect(done.filter((line) => line.startsWith('delete'))).toEqual([
    'delete table inet natward',
    'delete table netdev natward',
  ]);
  expect(done.join('\n')).not.toMatch(/ip nat\b/);
  expect(done.filter((line) => line.startsWith('conntrack'))).toEqual([
    'conntrack -D 0x80000000/0xffff0000',
    'conntrack -D 0x80050000/0xffff0000',
  ]);
  expect(settings.get(FORWARDING)).toBe('0');
});

test('where all conversations of the upper marks are natward’s one command ends them', async () => {
  const { done, runProgram, sysctls } = machine({
    marks: [0x8000_0000, 0x8001_0000, 0x8005_0000, 0x0007_0000],
  });
  expect(await removeKernelRules(runProgram, sysctls)).toContain('3 conversations');
  expect(done.filter((line) => line.startsWith('conntrack'))).toEqual(['conntrack -D 0x80000000/0x80000000']);
});

test('where nothing is natward’s nothing is done', async () => {
  const { done, runProgram, settings, sysctls } = machine({ tables: 'table ip nat\n', marks: [0x8000_0000] });
  expect(await removeKernelRules(runProgram, sysctls)).toEqual([]);
  expect(done).toEqual([]);
  expect(settings.get(FORWARDING)).toBe('1');
});

test('a machine without nft has nothing of natward’s', async () => {
  const cause = Object.assign(new Error('spawn ENOENT'), { code: 'ENOENT' });
  const runProgram: RunProgram = async () => {
    throw new NatwardError('FAILED', 'it cannot be started', { cause });
  };
  expect(await removeKernelRules(runProgram, machine().sysctls)).toEqual([]);
});
