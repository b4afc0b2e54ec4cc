/**
 * How fast natward answers other programs, beside miniupnpd: the same clients with the same requests, by turns, each in
 * its own run of the lab. Live mappings that are asked for again, new ones, and questions for the address.
 */

import type { Lab } from '../test/lab/support/lab.ts';
import { usageOf } from './process.ts';
import { formatTable, median, quotient, type Table, type Verdict } from './report.ts';
import {
  agentBefore,
  type Answerer,
  type Answering,
  MINIUPNPD,
  RESPONDER_ALONE,
} from './responder/gateways.ts';
import { type Control, Load, type Loaded, type LoadKind } from './responder/load.ts';
import {
  checkBuilt,
  chosen,
  count,
  inLab,
  optionsOf,
  ownConditions,
  peerConditions,
  writeJson,
} from './setting.ts';

const LIVE = [100, 1000, 10_000];
const ROUNDS = 3;
const SECONDS = 3;
/** miniupnpd looks through its table at each new mapping: ten thousand would take it the better part of an hour. */
const FILL_SECONDS = 20;
const FIRST_PORT = 20_000;
const UDP_AT_ONCE = 64;
const SOAP_AT_ONCE = 16;

/** A connection for each request leaves its port in TIME_WAIT for a minute: there would soon be none left. */
const MANY_CONNECTIONS =
  'cd /proc/sys/net/ipv4 && echo 1024 65535 > ip_local_port_range && echo 1 > tcp_tw_reuse';

const FILL: LoadKind = { name: 'new', protocol: 'pcp', atOnce: UDP_AT_ONCE };
/** What miniupnpd takes longest for comes last. */
const LOADS: readonly LoadKind[] = [
  { name: 'AddPortMapping', protocol: 'soap', atOnce: SOAP_AT_ONCE, action: 'AddPortMapping' },
  {
    name: 'AddPortMapping, kept alive',
    protocol: 'soap',
    atOnce: SOAP_AT_ONCE,
    action: 'AddPortMapping',
    keepsAlive: true,
  },
  { name: 'GetExternalIPAddress', protocol: 'soap', atOnce: SOAP_AT_ONCE, action: 'GetExternalIPAddress' },
  { name: 'NAT-PMP address', protocol: 'address', atOnce: UDP_AT_ONCE },
  { name: 'NAT-PMP map', protocol: 'natpmp', atOnce: UDP_AT_ONCE },
  { name: 'PCP MAP', protocol: 'pcp', atOnce: UDP_AT_ONCE },
];
/** Answered when all that was asked before has been. */
const KNOCK: LoadKind = { name: 'knock', protocol: 'soap', atOnce: 1, action: 'GetExternalIPAddress' };
const KNOCK_SECONDS = 10;
const KNOCKS = 12;

const PARTS: ReadonlyMap<string, readonly Answerer[]> = new Map([
  ['alone', [RESPONDER_ALONE, MINIUPNPD]],
  ['road', [agentBefore('embedded'), agentBefore('miniupnpd')]],
]);

const USAGE = `npm run bench -- responder [options]

  --part NAME       alone (the responder beside miniupnpd) or road (the agent before a gateway); may be repeated; default: both
  --live N          mappings that are there; may be repeated; default ${LIVE.join(', ')}
  --rounds N        default ${ROUNDS}
  --seconds N       of each load; default ${SECONDS}
  --fill-seconds N  whoever has not granted all by then is given the rest; default ${FILL_SECONDS}
  --json FILE       write every sample there as well`;

interface Settings {
  readonly rounds: number;
  readonly seconds: number;
  readonly fillSeconds: number;
  readonly load: Load;
}

interface Sample {
  readonly answerer: string;
  readonly live: number;
  readonly granted: number;
  readonly newPerSecond: number;
  readonly rssMb: number;
  readonly loads: Readonly<Record<string, Loaded>>;
}

export async function run(args: readonly string[]): Promise<void> {
  const options = optionsOf(args, USAGE, {
    part: [...PARTS.keys()],
    live: LIVE.map(String),
    rounds: ROUNDS,
    seconds: SECONDS,
    'fill-seconds': FILL_SECONDS,
  });
  if (options === undefined) return;
  const settings = {
    rounds: options.rounds,
    seconds: options.seconds,
    fillSeconds: options['fill-seconds'],
    load: new Load(),
  };
  const live = options.live.map((text) => count('--live', text));
  const parts = chosen('--part', options.part, PARTS);
  checkBuilt();
  const conditions = [
    ownConditions(),
    peerConditions(['miniupnpd'], []),
    `${UDP_AT_ONCE} at once over UDP, ${SOAP_AT_ONCE} over SOAP; ${settings.seconds} s of each load, medians of ${settings.rounds}; filled for ${settings.fillSeconds} s at most; what miniupnpd has not granted by then is written into its table`,
    'alone: natward is before an outer gateway in its own process that grants at once; miniupnpd is its own gateway and sets a rule in the kernel for each new mapping',
  ];
  console.log(`${conditions.join('\n')}\n`);
  const samples: Sample[] = [];
  for (const answerers of parts) {
    for (const wanted of live) {
      const own = await measure(answerers, wanted, settings);
      samples.push(...own);
      console.log(formatTable(tableOf(answerers, wanted, own)));
    }
  }
  writeJson(options.json, { benchmark: 'responder', conditions, samples });
}

function measure(answerers: readonly Answerer[], live: number, settings: Settings): Promise<Sample[]> {
  return inLab(
    async (lab) => {
      const samples: Sample[] = [];
      for (let round = 0; round < settings.rounds; round++) {
        for (const answerer of round % 2 === 0 ? answerers : answerers.toReversed()) {
          console.error(`bench: ${answerer.name}, ${live} live, round ${round + 1} of ${settings.rounds}`);
          samples.push(await measureOne(lab, answerer, live, settings));
        }
      }
      return samples;
    },
    { inner: true },
  );
}

async function measureOne(
  lab: Lab,
  answerer: Answerer,
  live: number,
  { seconds, fillSeconds, load }: Settings,
): Promise<Sample> {
  const answering = await answerer.start(lab);
  const { pid, between } = answering;
  try {
    await lab.must(between.place, ['sh', '-c', MANY_CONNECTIONS]);
    const control = await load.control(lab, between);
    const filling = { first: FIRST_PORT, count: live, way: 'ONCE', seconds: fillSeconds } as const;
    const filled = await load.run(lab, between, FILL, filling, control);
    const granted = filled.answered - filled.refused;
    if (granted === 0) throw new Error(`${answerer.name} granted none of ${live}`);
    await answering.fill?.(FIRST_PORT + granted, live - granted);
    const { rssMb } = usageOf(pid);
    const loads: Record<string, Loaded> = {};
    for (const kind of LOADS) {
      await untilIdle(lab, answering, load, control);
      const asking = { first: FIRST_PORT, count: live, way: 'ROUND', seconds } as const;
      loads[kind.name] = await load.run(lab, between, kind, asking, control);
    }
    return { answerer: answerer.name, live, granted, newPerSecond: granted / filled.seconds, rssMb, loads };
  } finally {
    await answering.stop();
  }
}

/** Waits for the answers that a load before did not wait for. */
async function untilIdle(lab: Lab, { between }: Answering, load: Load, control: Control): Promise<void> {
  const once = { first: FIRST_PORT, count: 1, way: 'ONCE', seconds: KNOCK_SECONDS } as const;
  for (let knock = 0; knock < KNOCKS; knock++) {
    if ((await load.run(lab, between, KNOCK, once, control)).answered > 0) return;
  }
  throw new Error(`${between.gateway} has not answered for ${KNOCKS * KNOCK_SECONDS} s`);
}

function tableOf(answerers: readonly Answerer[], live: number, samples: readonly Sample[]): Table {
  const of = ({ name }: Answerer, figure: (one: Sample) => number | undefined) =>
    median(samples.filter(({ answerer }) => answerer === name).flatMap((one) => figure(one) ?? []));
  const loadRows = LOADS.flatMap((kind) =>
    answerers.map((answerer) => {
      const figure = (pick: (one: Loaded) => number) =>
        of(answerer, ({ loads }) =>
          loads[kind.name] === undefined ? undefined : pick(loads[kind.name] as Loaded),
        );
      const failed = figure(({ refused, lost }) => refused + lost) ?? 0;
      return {
        name: `${kind.name}: ${answerer.name}`,
        figures: [
          figure(({ perSecond }) => perSecond),
          figure(({ p50Us }) => p50Us / 1000),
          figure(({ p99Us }) => p99Us / 1000),
          failed,
        ],
        remark: undefined,
      };
    }),
  );
  const fillRows = answerers.map((answerer) => ({
    name: `new mappings: ${answerer.name}`,
    figures: [of(answerer, ({ newPerSecond }) => newPerSecond), undefined, undefined, undefined],
    remark: `${of(answerer, ({ granted }) => granted)} granted, RSS ${of(answerer, ({ rssMb }) => rssMb)?.toFixed(0)} MB`,
  }));
  const [own, peer] = answerers;
  return {
    title: `${live} live mappings`,
    columns: ['a second', 'p50 ms', 'p99 ms', 'refused or lost'],
    rows: [...loadRows, ...fillRows],
    verdicts: own === RESPONDER_ALONE && peer !== undefined ? verdicts(own, peer, of) : [],
  };
}

function verdicts(
  own: Answerer,
  peer: Answerer,
  of: (answerer: Answerer, figure: (one: Sample) => number | undefined) => number | undefined,
): Verdict[] {
  return LOADS.map(({ name, protocol }) => {
    const rate = (answerer: Answerer) => of(answerer, ({ loads }) => loads[name]?.perSecond);
    const ratio = quotient(rate(own), rate(peer));
    const least = protocol === 'soap' ? 1 : 0.5;
    return {
      target: `${name}: ${protocol === 'soap' ? 'more than' : 'at least half of'} miniupnpd's rate`,
      measured:
        ratio === undefined
          ? 'not measured'
          : Number.isFinite(ratio)
            ? `${ratio.toFixed(2)} x`
            : 'miniupnpd answered none in time',
      met: ratio === undefined ? undefined : protocol === 'soap' ? ratio > least : ratio >= least,
    };
  });
}
