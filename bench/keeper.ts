/**
 * What it costs to keep ten, a thousand and ten thousand ports: days of virtual time inside one process (day.ts),
 * and real minutes of the built agent, beside @silentbot1/nat-api (minute.ts).
 */

import type { MappingProtocol } from '../src/net/protocol.ts';
import { type Day, virtualDay } from './day.ts';
import { type GatewayKind, measureMinute, type Minute, type Program } from './minute.ts';
import { formatTable, median, quotient, type Table, type Verdict } from './report.ts';
import {
  checkBuilt,
  chosen,
  count,
  inLab,
  installPeers,
  optionsOf,
  ownConditions,
  peerConditions,
  writeJson,
} from './setting.ts';

const LEASES = [10, 1000, 10_000];
const MOST_LEASES = 20_000;
const ROUNDS = 1;
const SECONDS = 60;
/** Its table is a list that each request walks: ten thousand would take it the better part of an hour. */
const MOST_FOR_MINIUPNPD = 2000;
/** Two requests and two connections a renewal: ten thousand leases' day takes ten minutes. */
const MOST_FOR_UPNP_DAY = 1000;
const RSS_LIMIT_MB = 120;
const REST_CPU_LIMIT_PERCENT = 1;

const USAGE = `npm run bench -- keeper [options]

  --part NAME    day or minute; may be repeated; default: both
  --leases N     may be repeated; default ${LEASES.join(', ')}
  --rounds N     of each real minute; default ${ROUNDS}
  --seconds N    how long the agent is watched at rest; default ${SECONDS}
  --json FILE    write every sample there as well`;

interface Settings {
  readonly leases: readonly number[];
  readonly rounds: number;
  readonly seconds: number;
}

interface Measured {
  readonly table: Table;
  readonly samples: readonly object[];
}

const PARTS: ReadonlyMap<string, (settings: Settings) => Promise<Measured>> = new Map([
  ['day', measureDays],
  ['minute', measureMinutes],
]);

export async function run(args: readonly string[]): Promise<void> {
  const options = optionsOf(args, USAGE, {
    part: [...PARTS.keys()],
    leases: LEASES.map(String),
    rounds: ROUNDS,
    seconds: SECONDS,
  });
  if (options === undefined) return;
  const settings = {
    leases: options.leases.map((text) => leaseCount(text)),
    rounds: options.rounds,
    seconds: options.seconds,
  };
  const parts = chosen('--part', options.part, PARTS);
  checkBuilt();
  installPeers();

  const conditions = [
    ownConditions(),
    peerConditions(['miniupnpd'], ['@silentbot1/nat-api']),
    'day: keeper and embedded gateway in one process, 86,400 s of virtual time after the last grant, leases of 2 h',
    `minute: the built agent, leases of 240 s, ${settings.seconds} s at rest, then a minute in which all are renewed; median of ${settings.rounds}`,
  ];
  console.log(`${conditions.join('\n')}\n`);
  const measured: Measured[] = [];
  for (const part of parts) {
    const one = await part(settings);
    measured.push(one);
    console.log(formatTable(one.table));
  }
  writeJson(options.json, { benchmark: 'keeper', conditions, parts: measured });
}

function leaseCount(text: string): number {
  const leases = count('--leases', text);
  if (leases > MOST_LEASES) throw new Error(`--leases ${text}: ${MOST_LEASES} at most`);
  return leases;
}

async function measureDays({ leases }: Settings): Promise<Measured> {
  const runs: [number, MappingProtocol, 'off' | 'as always'][] = [
    ...leases.map((count): [number, MappingProtocol, 'off'] => [count, 'pcp', 'off']),
    ...(['natpmp', 'upnp'] as const).flatMap((via) =>
      leases
        .filter((count) => count <= MOST_FOR_UPNP_DAY)
        .slice(-1)
        .map((count): [number, MappingProtocol, 'off'] => [count, via, 'off']),
    ),
    ...(['pcp', 'natpmp', 'upnp'] as const).map((via): [number, MappingProtocol, 'as always'] => [
      Math.min(...leases),
      via,
      'as always',
    ]),
  ];
  const days: (Day & { readonly looks: string })[] = [];
  for (const [count, via, looks] of runs) {
    console.error(`bench: a day of ${count} leases over ${via}, looks ${looks}`);
    days.push({ ...(await virtualDay(count, via, looks)), looks });
  }
  const rows = days.map((day) => {
    const looks = day.looks === 'off';
    return {
      name: `${day.leases} over ${day.via}${looks ? '' : ', with looks'}`,
      figures: [
        day.renewals,
        looks && day.renewals > 0 ? day.mapRequests / day.renewals : undefined,
        day.mapRequests + day.otherRequests,
        day.late,
        day.latestMs / 1000,
        day.lost,
        day.cpuSeconds,
        day.realSeconds,
      ],
    };
  });
  const many = days.filter(({ leases: count }) => count === Math.max(...leases));
  const late = many.reduce((sum, day) => sum + day.late, 0);
  return {
    table: {
      title: 'A virtual day',
      columns: ['renewals', 'maps/renewal', 'requests', 'late', 's past window', 'lost', 'CPU s', 'real s'],
      rows,
      verdicts: [
        {
          target: `no renewal later than its window, of ${Math.max(...leases)} leases`,
          measured: `${late} late`,
          met: late === 0,
        },
      ],
    },
    samples: days,
  };
}

async function measureMinutes({ leases, rounds, seconds }: Settings): Promise<Measured> {
  const samples: Minute[] = [];
  const failures = new Map<string, string>();
  const runs = leases.flatMap((count) =>
    (['embedded', 'miniupnpd'] as const)
      .filter((gateway) => gateway === 'embedded' || count <= MOST_FOR_MINIUPNPD)
      .flatMap((gateway) =>
        (['natward agent', '@silentbot1/nat-api'] as const).map((program) => ({ count, gateway, program })),
      ),
  );
  await inLab(async (lab) => {
    for (let round = 0; round < rounds; round++) {
      for (const { count, gateway, program } of runs) {
        const name = rowName(program, gateway, count);
        console.error(`bench: ${name}, round ${round + 1} of ${rounds}`);
        try {
          samples.push(await measureMinute(lab, program, gateway, count, seconds));
        } catch (error) {
          failures.set(name, error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error));
        }
      }
    }
  });
  const of = (
    program: Program,
    gateway: GatewayKind,
    count: number,
    figure: (one: Minute) => number | undefined,
  ) =>
    median(
      samples
        .filter((one) => one.program === program && one.gateway === gateway && one.leases === count)
        .flatMap((one) => figure(one) ?? []),
    );
  return {
    table: {
      title: 'Real minutes',
      columns: [...COLUMNS.map(([title]) => title), 'x RSS of nat-api'],
      rows: runs.map(({ count, gateway, program }) => ({
        name: rowName(program, gateway, count),
        figures: [
          ...COLUMNS.map(([, figure]) => of(program, gateway, count, figure)),
          quotient(
            of(program, gateway, count, (one) => one.rssMb),
            of('@silentbot1/nat-api', gateway, count, (one) => one.rssMb),
          ),
        ],
        remark: failures.get(rowName(program, gateway, count)),
      })),
      verdicts: minuteVerdicts(Math.max(...leases), of),
    },
    samples,
  };
}

const COLUMNS: readonly (readonly [string, (one: Minute) => number | undefined])[] = [
  ['granted s', (one) => one.grantSeconds],
  ['CPU s', (one) => one.grantCpuSeconds],
  ['loop p99 ms', (one) => one.grantLoopP99Ms],
  ['RSS MB', (one) => one.rssMb],
  ['peak MB', (one) => one.peakRssMb],
  ['rest: CPU %', (one) => one.restCpuPercent],
  ['requests', (one) => one.restRequests],
  ['loop p99 ms', (one) => one.restLoopP99Ms],
  ['renewing: leases', (one) => one.renewing?.renewals],
  ['requests each', (one) => one.renewing?.requestsPerRenewal],
  ['CPU s', (one) => one.renewing?.cpuSeconds],
  ['RSS MB', (one) => one.renewing?.rssMb],
  ['loop p99 ms', (one) => one.renewing?.loopP99Ms],
];

function rowName(program: Program, gateway: GatewayKind, count: number): string {
  return `${program}, ${count} at ${gateway === 'embedded' ? 'the embedded gateway' : gateway}`;
}

function minuteVerdicts(
  most: number,
  of: (
    program: Program,
    gateway: GatewayKind,
    count: number,
    figure: (one: Minute) => number | undefined,
  ) => number | undefined,
): Verdict[] {
  const natward = (figure: (one: Minute) => number | undefined) =>
    of('natward agent', 'embedded', most, figure);
  const [rss, renewingRss] = [natward((one) => one.rssMb), natward((one) => one.renewing?.rssMb)];
  const cpu = natward((one) => one.restCpuPercent);
  const under = (target: string, value: number | undefined, limit: number, unit: string): Verdict => ({
    target,
    measured: value === undefined ? 'not measured' : `${value.toFixed(2)} ${unit}`,
    met: value === undefined ? undefined : value < limit,
  });
  return [
    under(`RSS of ${most} leases under ${RSS_LIMIT_MB} MB, at rest`, rss, RSS_LIMIT_MB, 'MB'),
    under(`RSS of ${most} leases under ${RSS_LIMIT_MB} MB, renewing`, renewingRss, RSS_LIMIT_MB, 'MB'),
    under(`under ${REST_CPU_LIMIT_PERCENT} % CPU at rest`, cpu, REST_CPU_LIMIT_PERCENT, '%'),
  ];
}
