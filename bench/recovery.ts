/**
 * How long a port is closed when the gateway has forgotten it: natward beside its peers, all of them alive in a
 * process of their own before one real miniupnpd, each with a port of its own, so that all meet the same fault.
 * The time runs from the moment at which the gateway is back until bytes come through the port again.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { GatewayOptions, Lab } from '../test/lab/support/lab.ts';
import { type KeeperProcess, PORT_KEEPERS, type PortKeeper } from './keepers.ts';
import { Probe } from './probe.ts';
import { formatSection, median, type Row, type Section, type Verdict } from './report.ts';
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

const ROUNDS = 1;
const LIMIT_SECONDS = 60;
const DOWN_SECONDS = 5;
const FIRST_PORT = 18_000;
/** To map the port at first. Who needs longer takes no part. */
const START_LIMIT_MS = 20_000;
/** What was just mapped is not yet at rest; and the fault comes at no particular moment of anybody's period. */
const REST_MS = 5000;
const RANDOM_MS = 10_000;
const NEW_ADDRESS = '11.22.33.55';

const USAGE = `npm run bench -- recovery [options]

  --rounds N         of each scenario; default ${ROUNDS}
  --scenario NAME    may be repeated; default: all of them
  --limit SECONDS    how long a port is waited for; default ${LIMIT_SECONDS}
  --down SECONDS     how long the gateway is off; default ${DOWN_SECONDS}
  --json FILE        write every sample there as well`;

interface Scenario {
  readonly title: string;
  readonly gateway: GatewayOptions;
  readonly announcements: 'heard' | 'blocked';
  /** It is back before anybody has asked. */
  readonly isBrief?: true;
  /** What the gateway has for an external address when it is back. */
  readonly newAddress?: string;
  /** What natward promises. */
  readonly withinSeconds: number;
}

// nat-upnp finds no other gateway than an IGD:1.
const ALL: GatewayOptions = { igdV1: true, quiet: true };
const UPNP: GatewayOptions = { ...ALL, pcp: false, natpmp: false };

const SCENARIOS: ReadonlyMap<string, Scenario> = new Map<string, Scenario>([
  [
    'announced',
    {
      title: 'Gateway restarted with an empty table',
      gateway: ALL,
      announcements: 'heard',
      withinSeconds: 2,
    },
  ],
  [
    'blocked',
    {
      title: 'Gateway restarted with an empty table, its announcements blocked',
      gateway: ALL,
      announcements: 'blocked',
      withinSeconds: 15,
    },
  ],
  [
    'brief',
    {
      title: 'Gateway restarted in a moment, with an empty table, its announcements blocked',
      gateway: ALL,
      announcements: 'blocked',
      isBrief: true,
      withinSeconds: 15,
    },
  ],
  [
    'upnp-moved',
    {
      title: 'UPnP alone: restarted with an empty table and another control port',
      gateway: UPNP,
      announcements: 'heard',
      withinSeconds: 2,
    },
  ],
  [
    'upnp-moved-blocked',
    {
      title: 'UPnP alone: restarted with an empty table and another control port, its announcements blocked',
      gateway: UPNP,
      announcements: 'blocked',
      withinSeconds: 15,
    },
  ],
  [
    'address',
    {
      title: 'Gateway back with an empty table and another external address',
      gateway: ALL,
      announcements: 'heard',
      newAddress: NEW_ADDRESS,
      withinSeconds: 2,
    },
  ],
]);

/** One port keeper's round. Infinity: not within the limit. */
interface Outcome {
  readonly backMs: number;
  /** Until it said the new address; undefined where there is none to say. */
  readonly toldMs: number | undefined;
}

export async function run(args: readonly string[]): Promise<void> {
  const options = optionsOf(args, `${USAGE}\n\nscenarios: ${[...SCENARIOS.keys()].join(', ')}`, {
    rounds: ROUNDS,
    scenario: [...SCENARIOS.keys()],
    limit: LIMIT_SECONDS,
    down: DOWN_SECONDS,
  });
  if (options === undefined) return;
  const { rounds } = options;
  const limitMs = options.limit * 1000;
  const downMs = options.down * 1000;
  const scenarios = chosen('--scenario', options.scenario, SCENARIOS);
  checkBuilt();
  installPeers();

  const conditions = [
    ownConditions(),
    peerConditions(['miniupnpd', 'miniupnpc'], ['@silentbot1/nat-api', 'nat-upnp']),
    `${rounds} ${rounds === 1 ? 'round' : 'rounds'}, all of them at once before one gateway, which is off for ${downMs / 1000} s; a try a tenth of a second, ${limitMs / 1000} s at most`,
    ...PORT_KEEPERS.flatMap(({ name, habit }) => (habit === undefined ? [] : [`${name}: ${habit}`])),
  ];
  console.log(`${conditions.join('\n')}\n`);
  const sections: Section[] = [];
  await inLab(async (lab) => {
    for (const scenario of scenarios) {
      const section = await measure(lab, scenario, { rounds, limitMs, downMs });
      sections.push(section);
      console.log(formatSection(section));
    }
  });
  writeJson(options.json, { benchmark: 'recovery', conditions, sections });
}

interface Settings {
  readonly rounds: number;
  readonly limitMs: number;
  readonly downMs: number;
}

async function measure(lab: Lab, scenario: Scenario, settings: Settings): Promise<Section> {
  const outcomes = new Map<string, Outcome[]>();
  const absent = new Map<string, string>();
  for (let round = 0; round < settings.rounds; round++) {
    console.error(`bench: ${scenario.title}, round ${round + 1} of ${settings.rounds}`);
    await measureRound(lab, scenario, settings, (name, outcome) => {
      if (typeof outcome === 'string') absent.set(name, outcome);
      else outcomes.set(name, [...(outcomes.get(name) ?? []), outcome]);
    });
  }
  const rows = PORT_KEEPERS.map(({ name }): Row => {
    const own = outcomes.get(name) ?? [];
    const told = median(own.flatMap(({ toldMs }) => toldMs ?? []));
    const late = own.filter(({ backMs }) => !Number.isFinite(backMs)).length;
    return {
      name,
      samplesMs: own.map(({ backMs }) => backMs),
      ...(scenario.newAddress === undefined ? {} : { more: { 'says the address': told } }),
      remark: absent.get(name) ?? (late > 0 ? `not back in ${late} of ${own.length}` : undefined),
    };
  });
  return {
    title: `${scenario.title}: from its return to the first answer`,
    unit: 's',
    limitMs: settings.limitMs,
    rows: rows.sort((a, b) => (median(a.samplesMs) ?? NEVER) - (median(b.samplesMs) ?? NEVER)),
    verdicts: verdictsOf(rows, scenario, settings.limitMs),
  };
}

const NEVER = Number.MAX_VALUE;

async function measureRound(
  lab: Lab,
  scenario: Scenario,
  { limitMs, downMs }: Settings,
  note: (name: string, outcome: Outcome | string) => void,
): Promise<void> {
  await lab.startGateway(scenario.gateway);
  if (scenario.announcements === 'blocked') await lab.block({ protocol: 'announcements' });
  const ports = PORT_KEEPERS.map((_, at) => FIRST_PORT + at);
  await using probe = await Probe.start(lab, ports);
  const started = await Promise.all(
    PORT_KEEPERS.map(async (keeper, at): Promise<Started> => {
      const port = FIRST_PORT + at;
      return { keeper, port, process: await keeper.start(lab, port, `recovery-${homes++}`) };
    }),
  );
  try {
    await probe.until(() => ports.every((port) => probe.answersSince(port) !== undefined), START_LIMIT_MS);
    const taking = started.filter(({ keeper, port, process }) => {
      const answers = probe.answersSince(port) !== undefined;
      if (!answers) note(keeper.name, `mapped nothing: ${lastLine(process.output)}`);
      return answers;
    });
    await delay(REST_MS + Math.random() * RANDOM_MS);
    const faultMs = Date.now();
    await interrupt(lab, scenario, downMs);
    const backMs = Date.now();
    const told = taking.map(async ({ keeper, process }) => {
      // Nobody else has a word for it.
      if (scenario.newAddress === undefined || keeper.isOwn !== true) return undefined;
      const atMs = await process.says(scenario.newAddress, limitMs);
      return atMs === undefined ? Number.POSITIVE_INFINITY : Math.max(0, atMs - backMs);
    });
    const answersSince = (port: number) => {
      const sinceMs = probe.answersSince(port);
      return sinceMs !== undefined && sinceMs > faultMs ? sinceMs : undefined;
    };
    await probe.until(() => taking.every(({ port }) => answersSince(port) !== undefined), limitMs);
    for (const [at, { keeper, port }] of taking.entries()) {
      const sinceMs = answersSince(port);
      note(keeper.name, {
        backMs: sinceMs === undefined ? Number.POSITIVE_INFINITY : Math.max(0, sinceMs - backMs),
        toldMs: await told[at],
      });
    }
  } finally {
    await Promise.all(started.map(({ process }) => process.stop()));
  }
}

interface Started {
  readonly keeper: PortKeeper;
  readonly port: number;
  readonly process: KeeperProcess;
}

let homes = 0;

/** Takes the gateway away, with all that it knew, and brings it back. Resolves when it answers. */
async function interrupt(
  lab: Lab,
  { gateway, newAddress, isBrief }: Scenario,
  downMs: number,
): Promise<void> {
  await lab.gateway.stop();
  await lab.wipeTable();
  if (isBrief !== true) await delay(downMs);
  if (newAddress === undefined) await lab.gateway.start();
  else await lab.startGateway({ ...gateway, externalAddress: newAddress });
}

function lastLine(output: string): string {
  return output.trim().split('\n').at(-1)?.slice(0, 120) || 'it says nothing';
}

/** Against what is promised, and against the packages as they come. */
function verdictsOf(rows: readonly Row[], { withinSeconds }: Scenario, limitMs: number): Verdict[] {
  const said = (ms: number | undefined) => {
    if (ms === undefined) return 'not measured';
    return Number.isFinite(ms) ? `${(ms / 1000).toFixed(1)} s` : `> ${limitMs / 1000} s`;
  };
  const medianOfRow = (name: string) => median(rows.find((row) => row.name === name)?.samplesMs ?? []);
  return PORT_KEEPERS.filter(({ isOwn }) => isOwn).flatMap(({ name }) => {
    const own = medianOfRow(name);
    const samples = rows.find((row) => row.name === name)?.samplesMs ?? [];
    const worst = samples.length === 0 ? undefined : Math.max(...samples);
    return [
      {
        target: `${name} within ${withinSeconds} s, every time`,
        measured: said(worst),
        met: worst === undefined ? undefined : worst <= withinSeconds * 1000,
      },
      ...['@silentbot1/nat-api', 'nat-upnp'].map((peer): Verdict => {
        const theirs = medianOfRow(peer);
        const met = own === undefined || theirs === undefined ? undefined : own < theirs;
        return { target: `${name} before ${peer}`, measured: `${said(own)} to ${said(theirs)}`, met };
      }),
    ];
  });
}
