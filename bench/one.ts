/** One port: every client as a whole process, by turns; and natward's library inside a process. */

import { join } from 'node:path';
import { ADDRESSES, type GatewayOptions, type Lab } from '../test/lab/support/lab.ts';
import { RuleWatch, type Timing, time } from './measure.ts';
import { type Client, clients, type Dialect, driver, NATWARD_LIBRARY } from './peers.ts';
import { atMost, median, medianOf, quotient, type Row, type Section, type Verdict } from './report.ts';

interface Configuration {
  readonly title: string;
  readonly gateway: GatewayOptions;
  readonly speaks: readonly Dialect[];
}

export const CONFIGURATIONS: Readonly<Record<string, Configuration>> = {
  all: { title: 'PCP, NAT-PMP and UPnP', gateway: {}, speaks: ['pcp', 'upnp'] },
  pcp: { title: 'PCP and NAT-PMP only', gateway: { upnp: false }, speaks: ['pcp'] },
  upnp: { title: 'UPnP only', gateway: { pcp: false, natpmp: false }, speaks: ['upnp'] },
  igd1: {
    title: 'UPnP only, as InternetGatewayDevice:1',
    gateway: { pcp: false, natpmp: false, igdV1: true },
    speaks: ['upnp'],
  },
};

const LIMIT_MS = 15_000;
const LATER_CALLS = 5;
const FIRST_PORT = 10_000;
const FLOOR = 'node -e 0';
const NOTHING = 'ip netns exec … true';

export async function measureOne(
  lab: Lab,
  { title, gateway, speaks }: Configuration,
  rounds: number,
  onRound: (round: number) => void,
): Promise<Section[]> {
  // Without its debug log, as on a router.
  await lab.startGateway({ ...gateway, quiet: true });
  const watch = await RuleWatch.start(lab);
  try {
    const bench = new OnePort(lab, watch, speaks);
    for (let round = 0; round < rounds; round++) {
      onRound(round);
      await bench.round(round);
    }
    return bench.sections(title);
  } finally {
    watch.stop();
  }
}

/** What `peers/inside.mjs` prints. */
interface Inside {
  readonly loadMs: number;
  readonly firstMs: number;
  readonly laterMs: readonly number[];
  readonly bareMs: readonly number[];
  readonly echoMs: readonly number[];
  readonly via: string;
}

class OnePort {
  readonly #lab: Lab;
  readonly #watch: RuleWatch;
  readonly #speaks: readonly Dialect[];
  readonly #clients: readonly Client[];
  readonly #timings = new Map<string, Timing[]>();
  readonly #inside: Record<'cold' | 'warm', Inside[]> = { cold: [], warm: [] };
  #port = FIRST_PORT;
  #homes = 0;

  constructor(lab: Lab, watch: RuleWatch, speaks: readonly Dialect[]) {
    this.#lab = lab;
    this.#watch = watch;
    this.#speaks = speaks;
    this.#clients = clients(ADDRESSES.lan, ADDRESSES.gateway).filter((client) =>
      client.speaks.some((one) => speaks.includes(one)),
    );
  }

  async round(round: number): Promise<void> {
    // Nobody has always the same predecessor's noise, and the first place is everybody's once.
    const at = round % this.#clients.length;
    const order = [...this.#clients.slice(at), ...this.#clients.slice(0, at)];
    if (round === 0) await this.#prime(order);
    this.#note(NOTHING, await time(this.#lab, ['true'], { limitMs: LIMIT_MS }));
    for (const client of order) {
      // Close to what is compared with it: the machine's load comes and goes.
      if (client.home) {
        const floor = await time(this.#lab, [process.execPath, '-e', '0'], { limitMs: LIMIT_MS });
        this.#note(FLOOR, floor);
      }
      this.#note(client.name, await this.#map(client));
    }
    for (const home of ['cold', 'warm'] as const) this.#inside[home].push(await this.#runInside(home));
  }

  /** The first start of a program reads it from the disk; the warm home learns where the gateway is. */
  async #prime(order: readonly Client[]): Promise<void> {
    for (const client of order) await this.#map(client);
    await this.#runInside('warm');
  }

  #note(name: string, timing: Timing): void {
    this.#timings.set(name, [...(this.#timings.get(name) ?? []), timing]);
  }

  async #map(client: Client): Promise<Timing> {
    const port = this.#port++;
    const timing = await time(this.#lab, client.command(port), {
      limitMs: LIMIT_MS,
      rules: { watch: this.#watch, first: port, count: 1 },
      ...(client.home && { env: { NATWARD_HOME: this.#home(client.home) } }),
    });
    await this.#lab.wipeTable();
    return timing;
  }

  async #runInside(home: 'cold' | 'warm'): Promise<Inside> {
    const options = {
      library: NATWARD_LIBRARY,
      home: this.#home(home, 'library'),
      gateway: ADDRESSES.gateway,
      ...(this.#speaks.includes('pcp') ? {} : { descriptionUrl: this.#lab.gateway.descriptionUrl() }),
      firstPort: this.#port,
      count: LATER_CALLS,
    };
    this.#port += 1 + 2 * LATER_CALLS;
    const line = await this.#lab.must('lan', driver('inside', JSON.stringify(options)));
    await this.#lab.wipeTable();
    const inside: Inside = JSON.parse(line);
    return inside;
  }

  #home(home: 'cold' | 'warm', whose = 'program'): string {
    const name = home === 'warm' ? `${whose}-warm` : `${whose}-cold-${this.#homes++}`;
    return join(this.#lab.directory, this.#lab.gateway.pid.toString(), name);
  }

  sections(title: string): Section[] {
    const whole = this.#wholeRows();
    const inside = this.#insideRows();
    return [
      {
        title: `${title}: whole process, from its start to the rule in the gateway's kernel`,
        floor: FLOOR,
        rows: whole,
        verdicts: this.#wholeVerdicts(whole),
      },
      {
        title: `${title}: inside a process, one call`,
        rows: inside,
        verdicts: this.#insideVerdicts(inside),
      },
    ];
  }

  #wholeRows(): Row[] {
    return [...this.#timings]
      .map(([name, timings]): Row => {
        const exit = { 'to its end': median(timings.flatMap(({ exitMs }) => exitMs ?? [])) };
        // These map nothing: their end is the measure.
        if (name === FLOOR || name === NOTHING) {
          return { name, samplesMs: timings.flatMap(({ exitMs }) => exitMs ?? []) };
        }
        const failed = timings.filter(({ ruleMs }) => ruleMs === undefined);
        return {
          name,
          samplesMs: timings.flatMap(({ ruleMs }) => ruleMs ?? []),
          more: exit,
          remark: failed[0] && `failed ${failed.length} of ${timings.length}: ${failed[0].said}`,
        };
      })
      .sort((a, b) => (median(a.samplesMs) ?? Infinity) - (median(b.samplesMs) ?? Infinity));
  }

  #wholeVerdicts(rows: readonly Row[]): Verdict[] {
    const limit = this.#speaks.includes('pcp') ? 1.5 : 2.2;
    const peers = this.#clients.flatMap(({ name, isNpmPeer }) => {
      const ms = isNpmPeer === true ? medianOf(rows, name) : undefined;
      return ms === undefined ? [] : [{ name, ms }];
    });
    const fastest = peers.sort((a, b) => a.ms - b.ms)[0];
    const [floor, upnpc] = [medianOf(rows, FLOOR), medianOf(rows, 'upnpc')];
    const verdicts: Verdict[] = [];
    for (const name of ['natward (cold)', 'natward (warm)']) {
      const own = medianOf(rows, name);
      verdicts.push(
        atMost(`${name} within ${limit} x ${FLOOR}`, quotient(own, floor), limit, 'x'),
        atMost(`${name} before ${fastest?.name ?? 'every npm peer'}`, quotient(own, fastest?.ms), 1, 'x'),
      );
      if (upnpc !== undefined) {
        verdicts.push(atMost(`${name} within 0.1 x upnpc`, quotient(own, upnpc), 0.1, 'x'));
      }
    }
    return verdicts;
  }

  #insideRows(): Row[] {
    const { cold, warm } = this.#inside;
    const both = [...cold, ...warm];
    const vias = [...new Set(both.map(({ via }) => via))].join(', ');
    const first = (name: string, runs: readonly Inside[]): Row => ({
      name,
      samplesMs: runs.map(({ firstMs }) => firstMs),
      more: { 'to load': median(runs.map(({ loadMs }) => loadMs)) },
      remark: `via ${vias}`,
    });
    const echo = both.flatMap(({ echoMs }) => echoMs);
    const peers = this.#clients.flatMap(({ name, isNpmPeer }): Row[] => {
      const calls = (this.#timings.get(name) ?? []).flatMap(({ callMs }) => callMs ?? []);
      return isNpmPeer && calls.length > 0 ? [{ name: `${name}, first call`, samplesMs: calls }] : [];
    });
    return [
      ...(echo.length === 0 ? [] : [{ name: 'bare datagram there and back', samplesMs: echo }]),
      { name: 'bare socket, the same request', samplesMs: both.flatMap(({ bareMs }) => bareMs) },
      { name: 'natward, later calls', samplesMs: both.flatMap(({ laterMs }) => laterMs) },
      first('natward, first call (warm)', warm),
      first('natward, first call (cold)', cold),
      ...peers,
    ];
  }

  #insideVerdicts(rows: readonly Row[]): Verdict[] {
    const limit = this.#speaks.includes('pcp') ? 40 : 120;
    const later = quotient(
      medianOf(rows, 'natward, later calls'),
      medianOf(rows, 'bare socket, the same request'),
    );
    return [
      ...(['cold', 'warm'] as const).map((home) =>
        atMost(
          `natward's first call (${home}) within ${limit} ms`,
          medianOf(rows, `natward, first call (${home})`),
          limit,
          'ms',
        ),
      ),
      atMost("natward's later calls within 2 x the bare socket", later, 2, 'x'),
    ];
  }
}
