/** What one rule costs the conversations that go through it: bytes, new conversations, datagrams. */

import { setTimeout as delay } from 'node:timers/promises';
import { ECHO_PORT, SOURCE_PORT } from '../relay/load.ts';
import { ROUTED, single } from '../relay/programs.ts';
import type { Sample } from '../relay/rounds.ts';
import type { Target } from '../relay/targets.ts';
import { MEASURES, NATWARD, REFERENCE } from './programs.ts';
import type { Contest, Place } from './together.ts';

const PORT = 7000;
const TURNS = 4;
const BULK_SECONDS = 0.6;
const SHORT_SECONDS = 0.5;
const DATAGRAM_BYTES = 64;
const FIRST_RATE = 40_000;
/** One says how long it takes, several say how many there can be. */
const BULK_CONVERSATIONS = [1, 8];
const SHORT_AT_A_TIME = [1, 16];

/** Children that end with their conversations are counted when their parent has collected them. */
const SETTLE_MS = 50;

const least = (column: string, against: string, limit: number): Target => ({
  program: NATWARD,
  column,
  against,
  at: 'least',
  limit,
});

/** The same target as a rate, for what is better the smaller it is. */
const most = (column: string, against: string, leastRate: number): Target => ({
  ...least(column, against, Number((1 / leastRate).toFixed(2))),
  at: 'most',
});

async function cpuSecondsDuring<Result extends { readonly cpuSeconds: number }>(
  place: Place,
  act: () => Promise<Result>,
): Promise<Result> {
  const before = place.cpuSeconds();
  const result = await act();
  await delay(SETTLE_MS);
  return { ...result, cpuSeconds: result.cpuSeconds + place.cpuSeconds() - before };
}

const bulkTitle = (conversations: number): string => `throughput, TCP, ${conversations} at a time`;

export const THROUGHPUT: Contest = {
  name: 'throughput',
  measures: MEASURES,
  tables: BULK_CONVERSATIONS.map((conversations) => ({
    title: bulkTitle(conversations),
    columns: ['Gbit/s', 'CPU s/GB'],
    targets: [least('Gbit/s', REFERENCE, 0.9), most('CPU s/GB', REFERENCE, 0.9)],
  })),
  forward: single('tcp', PORT, SOURCE_PORT),
  turns: TURNS,
  async sample(load, place) {
    const figures: Record<string, Sample[string]> = {};
    for (const conversations of BULK_CONVERSATIONS) {
      const { bytes, seconds, allBytes, cpuSeconds, ended } = await cpuSecondsDuring(place, () =>
        load.bulk(place.network, place.to, conversations, BULK_SECONDS),
      );
      if (ended > 0) throw new Error(`${ended} of ${conversations} conversations broke off`);
      figures[bulkTitle(conversations)] = [(bytes * 8) / seconds / 1e9, cpuSeconds / (allBytes / 1e9)];
    }
    return figures;
  },
};

const shortTitle = (concurrency: number): string => `connect, echo, close, ${concurrency} at a time`;

export const CONNECTIONS: Contest = {
  name: 'connections',
  measures: MEASURES,
  tables: SHORT_AT_A_TIME.map((concurrency) => ({
    title: shortTitle(concurrency),
    columns: ['per s', 'p50 us', 'p99 us', 'CPU us each', 'failed'],
    targets: [
      least('per s', REFERENCE, 0.9),
      most('p50 us', REFERENCE, 0.9),
      most('CPU us each', REFERENCE, 0.9),
    ],
  })),
  forward: single('tcp', PORT, ECHO_PORT),
  turns: TURNS,
  async sample(load, place) {
    const figures: Record<string, Sample[string]> = {};
    for (const concurrency of SHORT_AT_A_TIME) {
      const { perSecond, p50Us, p99Us, failed, all, cpuSeconds } = await cpuSecondsDuring(place, () =>
        load.connections(place.network, place.to, concurrency, SHORT_SECONDS),
      );
      figures[shortTitle(concurrency)] = [perSecond, p50Us, p99Us, (cpuSeconds * 1e6) / all, failed];
    }
    return figures;
  },
};

const UDP_TITLE = `datagrams of ${DATAGRAM_BYTES} bytes, 8 conversations, less than 1 % lost`;

export const UDP: Contest = {
  name: 'udp',
  measures: MEASURES,
  tables: [
    {
      title: UDP_TITLE,
      columns: ['echoes/s', 'CPU us each'],
      targets: [least('echoes/s', ROUTED.name, 0.75), most('CPU us each', ROUTED.name, 0.75)],
    },
  ],
  forward: single('udp', PORT, ECHO_PORT),
  // Each of them is a search of some seconds.
  turns: 1,
  async sample(load, place) {
    const { perSecond, all, cpuSeconds } = await cpuSecondsDuring(place, () =>
      load.datagrams(place.network, place.to, DATAGRAM_BYTES, FIRST_RATE),
    );
    return { [UDP_TITLE]: [perSecond, (cpuSeconds * 1e6) / all] };
  },
};
