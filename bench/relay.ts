/**
 * What relaying costs: natward's relay beside HAProxy, nginx, rinetd, socat and a router without any, by
 * turns, each in network namespaces of its own. Only what could not be measured is an error.
 */

import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { BULK } from './relay/bulk.ts';
import { CONNECTIONS } from './relay/connections.ts';
import { datagrams } from './relay/datagrams.ts';
import { DESCRIPTORS, WANTED_DESCRIPTORS } from './relay/descriptors.ts';
import { Load } from './relay/load.ts';
import { MEMORY } from './relay/memory.ts';
import { NATWARD } from './relay/natward.ts';
import { PEERS } from './relay/peers.ts';
import { nodeScript, type Relay, ROUTED } from './relay/programs.ts';
import { measure, type Part, tables } from './relay/rounds.ts';
import { rules } from './relay/rules.ts';
import { formatTable } from './report.ts';
import { chosen, optionsOf, ownConditions, peerConditions, writeJson } from './setting.ts';

const ROUNDS = 3;

const PARTS: ReadonlyMap<string, readonly Part[]> = new Map([
  ['bulk', [BULK]],
  ['connections', [CONNECTIONS]],
  ['udp', [datagrams()]],
  ['memory', [MEMORY]],
  ['rules', rules()],
]);

const PROGRAMS: ReadonlyMap<string, Relay> = new Map(
  [ROUTED, ...PEERS, NATWARD].map((relay) => [relay.name, relay]),
);

const USAGE = `npm run bench -- relay [options]

  --rounds N          default ${ROUNDS}
  --part NAME         of ${[...PARTS.keys()].join(', ')}; may be repeated; default: all of them
  --program NAME      of ${[...PROGRAMS.keys()].join(', ')}; may be repeated; default: all of them
  --node-script FILE  one more: node FILE LISTEN_ADDR LISTEN_PORT TARGET_ADDR TARGET_PORT tcp|udp
  --json FILE         write every sample there as well`;

export async function run(args: readonly string[]): Promise<void> {
  const options = optionsOf(args, USAGE, {
    rounds: ROUNDS,
    part: [...PARTS.keys()],
    program: [...PROGRAMS.keys()],
    'node-script': [],
  });
  if (options === undefined) return;
  const { rounds } = options;
  const parts = chosen('--part', options.part, PARTS).flat();
  const relays = [
    ...chosen('--program', options.program, PROGRAMS),
    ...options['node-script'].map((file) => nodeScript(resolve(file))),
  ];
  checkInstalled();
  // The networks go by themselves then, the load generator with this process.
  process.once('SIGINT', () => process.exit(130)).once('SIGTERM', () => process.exit(143));
  const load = new Load();
  const conditions = describeConditions(relays, rounds);
  console.log(`${conditions.join('\n')}\n`);
  const results: object[] = [];
  for (const part of parts) {
    const outcomes = await measure(part, relays, rounds, load);
    results.push({ part: part.name, outcomes });
    for (const table of tables(part, outcomes)) console.log(formatTable(table));
  }
  writeJson(options.json, { benchmark: 'relay', conditions, results });
}

function checkInstalled(): void {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) throw new Error('this needs Linux and root');
  const missing = ['ip', 'gcc', 'haproxy', 'nginx', 'rinetd', 'socat'].filter(
    (name) => spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0,
  );
  if (missing.length > 0) throw new Error(`${missing.join(', ')} missing: bash bench/relay/install.sh`);
}

function describeConditions(relays: readonly Relay[], rounds: number): string[] {
  return [
    ownConditions(),
    `load generator: bench/relay/load.c, gcc -O2; at most ${DESCRIPTORS} descriptors a process${DESCRIPTORS < WANTED_DESCRIPTORS ? ', which this system does not let raise' : ''}`,
    `${rounds} rounds by turns; medians. CPU: of the relay and its children, user and system. Memory: the resident set, of several processes the sum of their proportional sets; the kernel's own is not in it`,
    // No packages from npm among them.
    peerConditions(['haproxy', 'nginx', 'rinetd', 'socat'], []).replace(/; $/, ''),
    ...relays.map(({ name, commandLine }) => `${name}: ${commandLine}`),
  ];
}
