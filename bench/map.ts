/**
 * How long it takes to map a port: natward beside upnpc, natpmpc and its peers from npm, in the lab with a
 * real miniupnpd, by turns. Says which targets were met; only what could not be measured is an error.
 */

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createLab, type Lab, labUnavailable } from '../test/lab/support/lab.ts';
import { measureMany } from './many.ts';
import { measureNone } from './none.ts';
import { CONFIGURATIONS, measureOne } from './one.ts';
import { NATWARD, NATWARD_LIBRARY } from './peers.ts';
import { formatSection, type Section } from './report.ts';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const ROUNDS = 7;
/** Seconds a run each, and with little noise in proportion. */
const LONG_ROUNDS = 3;

const USAGE = `npm run bench -- map [options]

  --rounds N    of one port each; default ${ROUNDS}
  --long N      rounds of what takes seconds (none, many); default ${LONG_ROUNDS}
  --part NAME   of ${[...Object.keys(CONFIGURATIONS), 'none', 'many'].join(', ')}; may be repeated; default: all of them
  --json FILE   write every sample there as well`;

type Part = (lab: Lab, rounds: number, longRounds: number) => Promise<Section[]>;

const PARTS: ReadonlyMap<string, Part> = new Map<string, Part>([
  ...Object.entries(CONFIGURATIONS).map(([name, configuration]): [string, Part] => [
    name,
    (lab, rounds) => measureOne(lab, configuration, rounds, progress(name, rounds)),
  ]),
  [
    'none',
    async (lab, _, rounds) => [
      await measureNone(lab, 'silence', rounds, progress('none, silence', rounds)),
      await measureNone(lab, 'refusal', rounds, progress('none, refusal', rounds)),
    ],
  ],
  [
    'many',
    async (lab, _, rounds) => [
      await measureMany(lab, 'pcp', rounds, progress('many, PCP', rounds)),
      await measureMany(lab, 'natpmp', rounds, progress('many, NAT-PMP', rounds)),
    ],
  ],
]);

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: 'string', default: String(ROUNDS) },
      long: { type: 'string', default: String(LONG_ROUNDS) },
      part: { type: 'string', multiple: true, default: [...PARTS.keys()] },
      json: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const [rounds, longRounds] = [count('--rounds', values.rounds), count('--long', values.long)];
  const parts = values.part.map((name) => {
    const part = PARTS.get(name);
    if (part === undefined) throw new Error(`--part ${name}: there is ${[...PARTS.keys()].join(', ')}`);
    return part;
  });
  const missing = labUnavailable();
  if (missing !== undefined) throw new Error(missing);
  for (const file of [NATWARD, NATWARD_LIBRARY]) {
    if (!existsSync(file)) throw new Error(`${file} is not there: npm run build`);
  }
  installPeers();

  const conditions = describeConditions(rounds, longRounds);
  console.log(`${conditions.join('\n')}\n`);
  const sections: Section[] = [];
  const lab = await createLab();
  const release = releaseOnSignal(lab);
  try {
    for (const part of parts) {
      for (const section of await part(lab, rounds, longRounds)) {
        sections.push(section);
        console.log(formatSection(section));
      }
    }
  } finally {
    release();
    await lab[Symbol.asyncDispose]();
  }
  if (values.json !== undefined) {
    writeFileSync(
      values.json,
      `${JSON.stringify({ benchmark: 'map', conditions, sections }, undefined, 2)}\n`,
    );
  }
}

function count(option: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new Error(`${option} ${text}: a number from 1 up is wanted`);
  return value;
}

/** The peers that are no devDependencies of the project have a tree of their own. */
function installPeers(): void {
  if (existsSync(`${HERE}node_modules`)) return;
  console.error('bench: installing the peers');
  execFileSync('npm', ['ci', '--prefix', HERE, '--no-audit', '--no-fund'], { stdio: ['ignore', 2, 2] });
}

/** On Ctrl-C the lab goes first; the answer takes the handler away. */
function releaseOnSignal(lab: Lab): () => void {
  const stop = () => {
    // What is being measured breaks off, and need not be told.
    process.on('uncaughtException', () => {});
    void lab[Symbol.asyncDispose]().finally(() => process.exit(130));
  };
  process.once('SIGINT', stop).once('SIGTERM', stop);
  return () => process.off('SIGINT', stop).off('SIGTERM', stop);
}

function progress(part: string, rounds: number): (round: number) => void {
  return (round) => console.error(`bench: ${part}, round ${round + 1} of ${rounds}`);
}

function describeConditions(rounds: number, longRounds: number): string[] {
  const peers = [
    ['nat-upnp', '../node_modules/nat-upnp'],
    ['@silentbot1/nat-api', '../node_modules/@silentbot1/nat-api'],
    ['@achingbrain/nat-port-mapper', 'node_modules/@achingbrain/nat-port-mapper'],
    ['port-mapper', 'node_modules/port-mapper'],
  ].map(([name, path]) => `${name} ${versionAt(path ?? '')}`);
  const [cpu] = cpus();
  return [
    `natward ${versionAt('..')}, Node ${process.version}, ${cpus().length} x ${cpu?.model ?? 'unknown processor'}, load ${loadavg()[0]?.toFixed(1)}`,
    `${['miniupnpd', 'miniupnpc', 'natpmpc'].map((name) => `${name} ${debianVersion(name)}`).join(', ')}; ${peers.join(', ')}`,
    `${rounds} rounds by turns, ${longRounds} where there is no gateway or where there are many ports; a new external port and an empty table each time`,
    'cold: an empty NATWARD_HOME; warm: the one of the round before. Every program is started by "ip netns exec", whose own time is included.',
  ];
}

function versionAt(path: string): string {
  const manifest: { version?: string } = JSON.parse(readFileSync(`${HERE}${path}/package.json`, 'utf8'));
  return manifest.version ?? '?';
}

function debianVersion(name: string): string {
  return spawnSync('dpkg-query', ['-W', '-f', '${Version}', name], { encoding: 'utf8' }).stdout || '?';
}
