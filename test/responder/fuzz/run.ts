/**
 * Runs a campaign: packets by ones and by bursts, time and news of the outer gateway in between, the judge after each,
 * and now and then everything given back, so that what is left over shows.
 */

import { setImmediate, setTimeout as delay } from 'node:timers/promises';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { IpAddress } from '../../../src/net/address.ts';
import type { Campaign, Shot } from './campaign.ts';
import { CLIENTS, Ground, MOST_OF_ALL, MOST_OF_ONE, type Plant, SLOW_CLIENT, STRANGERS } from './ground.ts';
import { changeFaults, claimOfNews, stateFaults, tablesOf } from './judge.ts';
import { Random, ruleChance } from './random.ts';

export interface FuzzOptions {
  readonly count: number;
  readonly seed: number;
  readonly plant?: Plant;
  /** Called now and then. */
  readonly onProgress?: (done: number) => void;
}

export interface FuzzReport {
  readonly count: number;
  readonly results: Readonly<Record<string, number>>;
  /** What the faces counted. */
  readonly counters: Readonly<Record<string, number>>;
  /** Bytes in use after a collection, at a fifth of the way and at the end. */
  readonly heapBytes: readonly [number, number];
}

/** What was found, with all that it takes to find it again. */
export class Finding extends Error {
  /** What was received at once, as `address: hex`. */
  readonly packets: readonly string[];

  constructor(text: string, shots: readonly Shot[]) {
    super(text);
    this.packets = shots.map(
      ({ source, bytes }) => `${source.address}: ${Buffer.from(bytes).toString('hex')}`,
    );
  }
}

const IPV4_CLIENTS = CLIENTS.filter((client) => !client.includes(':'));
const BURSTS = [1, 1, 1, 1, 2, 4, 8, 16];
const PAUSES_MS = [0, 0, 0, 1, 10, 100, 1000, 60_000];
const DRAIN_EVERY = 2000;
/** Longer than any lease. */
const LONG_MS = 700_000_000;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

export async function fuzz(campaign: Campaign, options: FuzzOptions): Promise<FuzzReport> {
  const { count, seed, plant, onProgress } = options;
  const random = new Random(seed);
  const endRule = ruleChance(new Random(seed ^ 0x5eed));
  const ground = new Ground(random, plant);
  const results = new Map<string, number>();
  let done = 0;
  let nextDrain = DRAIN_EVERY;
  let early: number | undefined;
  const resources = resourceCount();
  const fail = (faults: readonly string[], shots: readonly Shot[]) => {
    if (faults.length > 0) throw new Finding(findingText(campaign, options, done, faults, shots), shots);
  };
  try {
    await campaign.open?.(ground);
    while (done < count) {
      const shots = burst(campaign, random, Math.min(campaign.mostAtOnce, count - done));
      const before = tablesOf(ground);
      const answers = await campaign.fire(shots, ground, random);
      const after = tablesOf(ground);
      await ground.settle();
      const faults = [
        ...changeFaults(
          before,
          after,
          shots.map(({ claim }) => claim),
        ),
        ...stateFaults(ground),
      ];
      for (const [at, shot] of shots.entries()) {
        const verdict = campaign.judge(shot, answers[at] ?? [], {
          ground,
          after,
          isAlone: shots.length === 1,
        });
        results.set(verdict.result, (results.get(verdict.result) ?? 0) + 1);
        faults.push(...verdict.faults);
      }
      fail(faults, shots);
      done += shots.length;
      fail(await meanwhile(ground, random), shots);
      if (done >= nextDrain || done >= count) {
        nextDrain += DRAIN_EVERY;
        fail([...(await drained(ground)), ...(campaign.stateFaults?.(ground) ?? [])], shots);
        onProgress?.(done);
      }
      if (early === undefined && done >= count / 5) early = await heapBytes();
    }
    const late = await heapBytes();
    const counters = ground.site.counters.snapshot();
    await ground.close();
    await campaign.close?.();
    const left = await leftOpen(resources);
    fail(left > 0 ? [`${left} sockets or timers are left open`] : [], []);
    return {
      count: done,
      results: Object.fromEntries([...results].sort(([one], [other]) => (one < other ? -1 : 1))),
      counters,
      heapBytes: [early ?? late, late],
    };
  } finally {
    await ground.close();
    await campaign.close?.();
    endRule();
  }
}

function burst(campaign: Campaign, random: Random, most: number): Shot[] {
  const size = Math.min(most, random.pick(BURSTS));
  const one = random.percent(50) ? sourceOf(campaign, random) : undefined;
  const isContest = random.percent(25);
  return Array.from({ length: size }, (_, at) => {
    // A port of its own, by which its answer is known.
    const source = { address: one ?? sourceOf(campaign, random), port: 1024 + at };
    return (isContest ? campaign.contest?.(random, source) : undefined) ?? campaign.shot(random, source);
  });
}

function sourceOf({ isIpv4 }: Campaign, random: Random): IpAddress {
  const kind = random.below(100);
  if (kind < 92) return random.pick(isIpv4 ? IPV4_CLIENTS : CLIENTS);
  return kind < 94 ? SLOW_CLIENT : random.pick(STRANGERS);
}

/** Time passes, and the outer gateway has news. */
async function meanwhile(ground: Ground, random: Random): Promise<string[]> {
  ground.clock.advance(random.pick(PAUSES_MS));
  await ground.settle();
  if (!random.percent(5)) return [];
  const before = tablesOf(ground);
  const holding = ground.outer.tellNews();
  await ground.settle();
  // Nobody asked for it: it goes out all the same.
  ground.mapping[4].take();
  ground.mapping[6].take();
  const claims = holding === undefined ? [] : [claimOfNews(holding)];
  return [...changeFaults(before, tablesOf(ground), claims), ...stateFaults(ground)];
}

/** Everything ends, and each client may then have again what it may. */
async function drained(ground: Ground): Promise<string[]> {
  const { grants, outer, clock } = ground;
  await grants.remove('upnp', (table) => table.list());
  await ground.settle();
  clock.advance(LONG_MS);
  await ground.settle();
  const { entries, pinholes: holes } = tablesOf(ground);
  await ground.settle();
  const faults: string[] = [];
  if (entries.length + holes.length > 0)
    faults.push(`${entries.length + holes.length} entries that never end`);
  if (outer.holdings.size > 0) faults.push(`${outer.holdings.size} held outside for nobody`);
  const { unkindPercent } = outer;
  outer.unkindPercent = 0;
  let granted = 0;
  for (const client of IPV4_CLIENTS) {
    for (let port = 1; port <= MOST_OF_ONE + 1; port++) {
      const asked = grants.grant({
        via: 'upnp',
        requester: client,
        protocol: 'tcp',
        internalClient: client,
        internalPort: port,
        suggestedExternalPort: 20_100 + granted,
        exact: false,
        lifetimeSeconds: 120,
        description: '',
        enabled: true,
        remotePeers: undefined,
      });
      await ground.settle();
      const outcome = await asked;
      const isDue = port <= MOST_OF_ONE && granted < MOST_OF_ALL;
      if ((outcome.kind === 'granted') !== isDue) {
        faults.push(
          `${client}'s mapping ${port}, with ${granted} in all: ${outcome.kind === 'granted' ? outcome.kind : outcome.refusal}`,
        );
      }
      if (outcome.kind === 'granted') granted++;
    }
  }
  outer.unkindPercent = unkindPercent;
  faults.push(...stateFaults(ground));
  await grants.remove('upnp', (table) => table.list());
  await ground.settle();
  return faults;
}

/** Sockets take a moment to close. */
async function leftOpen(before: number): Promise<number> {
  for (let tries = 0; tries < 100 && resourceCount() > before; tries++) await delay(20);
  return resourceCount() - before;
}

function resourceCount(): number {
  return process.getActiveResourcesInfo().filter((name) => /Timeout|TCP|UDP/.test(name)).length;
}

async function heapBytes(): Promise<number> {
  for (let rounds = 0; rounds < 3; rounds++) {
    await setImmediate();
    collect();
  }
  return getHeapStatistics().used_heap_size;
}

function findingText(
  { name }: Campaign,
  { seed }: FuzzOptions,
  done: number,
  faults: readonly string[],
  shots: readonly Shot[],
): string {
  return [
    `${name}, seed ${seed}, after ${done} packets:`,
    ...faults.slice(0, 10).map((fault) => `  ${fault}`),
    `again: npm run fuzz -- --protocol ${name} --seed ${seed} --count ${done + shots.length}`,
  ].join('\n');
}
