/**
 * How long it takes to map a port: natward beside upnpc, natpmpc and its peers from npm, in the lab with a
 * real miniupnpd, by turns. Says which targets were met; only what could not be measured is an error.
 */

import type { Lab } from '../test/lab/support/lab.ts';
import { measureMany } from './many.ts';
import { measureNone } from './none.ts';
import { CONFIGURATIONS, measureOne } from './one.ts';
import { formatSection, type Section } from './report.ts';
import {
  checkBuilt,
  chosen,
  inLab,
  installPeers,
  optionsOf,
  ownConditions,
  peerConditions,
  writeJson,
} from './setting.ts';

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
  const options = optionsOf(args, USAGE, {
    rounds: ROUNDS,
    long: LONG_ROUNDS,
    part: [...PARTS.keys()],
  });
  if (options === undefined) return;
  const { rounds, long: longRounds } = options;
  const parts = chosen('--part', options.part, PARTS);
  checkBuilt();
  installPeers();

  const conditions = describeConditions(rounds, longRounds);
  console.log(`${conditions.join('\n')}\n`);
  const sections: Section[] = [];
  await inLab(async (lab) => {
    for (const part of parts) {
      for (const section of await part(lab, rounds, longRounds)) {
        sections.push(section);
        console.log(formatSection(section));
      }
    }
  });
  writeJson(options.json, { benchmark: 'map', conditions, sections });
}

function progress(part: string, rounds: number): (round: number) => void {
  return (round) => console.error(`bench: ${part}, round ${round + 1} of ${rounds}`);
}

function describeConditions(rounds: number, longRounds: number): string[] {
  return [
    ownConditions(),
    peerConditions(
      ['miniupnpd', 'miniupnpc', 'natpmpc'],
      ['nat-upnp', '@silentbot1/nat-api', '@achingbrain/nat-port-mapper', 'port-mapper'],
    ),
    `${rounds} rounds by turns, ${longRounds} where there is no gateway or where there are many ports; a new external port and an empty table each time`,
    'cold: an empty NATWARD_HOME; warm: the one of the round before. Every program is started by "ip netns exec", whose own time is included.',
  ];
}
