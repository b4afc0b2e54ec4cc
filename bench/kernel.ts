/**
 * What rules in the kernel cost: natward's kernel engine beside plain forwarding, forwarding with conntrack, tables
 * written by hand, its own relay and other relays, by turns, each in network namespaces of its own. Only what
 * could not be measured is an error.
 */

import { spawnSync } from 'node:child_process';
import { release } from 'node:os';
import { MEMORY } from './kernel/memory.ts';
import { type KernelProgram, PROGRAMS } from './kernel/programs.ts';
import { RULES_PART } from './kernel/rules.ts';
import { EDIT, LOAD, READING } from './kernel/tables.ts';
import { type Contest, compete } from './kernel/together.ts';
import { CONNECTIONS, THROUGHPUT, UDP } from './kernel/traffic.ts';
import { DESCRIPTORS } from './relay/descriptors.ts';
import { Load } from './relay/load.ts';
import { measure, type Part, tables } from './relay/rounds.ts';
import { formatTable } from './report.ts';
import { checkBuilt, chosen, optionsOf, ownConditions, peerConditions, writeJson } from './setting.ts';

const ROUNDS = 5;
const ALL = 'all';

const EACH: ReadonlyMap<string, readonly (Part<KernelProgram> | Contest)[]> = new Map([
  ['throughput', [THROUGHPUT]],
  ['connections', [CONNECTIONS]],
  ['udp', [UDP]],
  ['rules', [RULES_PART]],
  ['load', [LOAD]],
  ['edit', [EDIT]],
  ['reading', [READING]],
  ['memory', [MEMORY]],
]);
const PARTS = new Map([...EACH, [ALL, [...EACH.values()].flat()]]);

const BY_NAME: ReadonlyMap<string, KernelProgram> = new Map(
  PROGRAMS.map((program) => [program.name, program]),
);

const USAGE = `npm run bench -- kernel [options]

  --rounds N      default ${ROUNDS}; the parts of many rules take three at the most
  --part NAME     of ${[...PARTS.keys()].join(', ')}; may be repeated; default: ${ALL}
  --program NAME  of ${[...BY_NAME.keys()].map((name) => `"${name}"`).join(', ')}; may be repeated; default: all of them
  --json FILE     write every sample there as well`;

export async function run(args: readonly string[]): Promise<void> {
  const options = optionsOf(args, USAGE, {
    rounds: ROUNDS,
    part: [ALL],
    program: [...BY_NAME.keys()],
  });
  if (options === undefined) return;
  const { rounds } = options;
  const parts = chosen('--part', options.part, PARTS).flat();
  const programs = chosen('--program', options.program, BY_NAME);
  checkInstalled();
  checkBuilt();
  // The networks go by themselves then, the load generator with this process.
  process.once('SIGINT', () => process.exit(130)).once('SIGTERM', () => process.exit(143));
  const load = new Load();
  const conditions = describeConditions(programs, rounds);
  console.log(`${conditions.join('\n')}\n`);
  const results: object[] = [];
  for (const part of parts) {
    const outcomes =
      'turn' in part
        ? await measure(part, programs, rounds, load)
        : await compete(part, programs, rounds, load);
    results.push({ part: part.name, outcomes });
    for (const table of tables(part, outcomes)) console.log(formatTable(table));
  }
  writeJson(options.json, { benchmark: 'kernel', conditions, results });
}

function checkInstalled(): void {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) throw new Error('this needs Linux and root');
  const missing = ['ip', 'gcc', 'nft', 'iptables-restore', 'haproxy', 'nginx', 'rinetd', 'socat'].filter(
    (name) => spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0,
  );
  if (missing.length > 0) throw new Error(`${missing.join(', ')} missing: bash bench/relay/install.sh`);
}

function describeConditions(programs: readonly KernelProgram[], rounds: number): string[] {
  return [
    `${ownConditions()}, Linux ${release()}`,
    `load generator: bench/relay/load.c, gcc -O2; at most ${DESCRIPTORS} descriptors a process; client, router and server share the processors`,
    `${rounds} rounds by turns; medians, and ratios of the same round. CPU: of a program and its children; the kernel's own is nobody's`,
    // No packages from npm among them.
    peerConditions(['nftables', 'iptables', 'haproxy', 'nginx', 'rinetd', 'socat'], []).replace(/; $/, ''),
    ...programs.map(({ name, commandLine }) => `${name}: ${commandLine}`),
  ];
}
