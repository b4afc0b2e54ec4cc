/** Short conversations: connect, one small echo, close. How many a second, and how long one takes. */

import { setTimeout as delay } from 'node:timers/promises';
import { cpuSecondsOf } from './family.ts';
import { ECHO_PORT } from './load.ts';
import { single } from './programs.ts';
import type { Part, Turn } from './rounds.ts';

const PORT = 7000;
/** One at a time says how long a conversation takes, several say how many there can be. */
const CONCURRENCY = [
  { concurrency: 1, seconds: 1.2 },
  { concurrency: 16, seconds: 2 },
];
/** Children that end with their conversations are counted when their parent has collected them. */
const SETTLE_MS = 150;

const title = (concurrency: number): string => `connections, ${concurrency} at a time`;

export const CONNECTIONS: Part = {
  name: 'connections',
  tables: CONCURRENCY.map(({ concurrency }) => ({
    title: title(concurrency),
    columns: ['per s', 'p50 us', 'p99 us', 'CPU s/1000', 'failed'],
  })),
  takes: ({ protocols, bulkOnly }) => protocols.includes('tcp') && !bulkOnly,
  async turn({ relay, network, load }: Turn) {
    const started = await relay.start(network, single('tcp', PORT, ECHO_PORT));
    await load.knock(network, started);
    const pid = started.process?.pid;
    const figures: Record<string, (number | undefined)[]> = {};
    for (const { concurrency, seconds } of CONCURRENCY) {
      const before = pid && cpuSecondsOf(pid);
      const sample = await load.connections(network, started, concurrency, seconds);
      await delay(SETTLE_MS);
      const cpuSeconds = pid && before !== undefined ? cpuSecondsOf(pid) - before : undefined;
      figures[title(concurrency)] = [
        sample.perSecond,
        sample.p50Us,
        sample.p99Us,
        cpuSeconds === undefined ? undefined : (cpuSeconds * 1000) / sample.all,
        sample.failed,
      ];
    }
    return figures;
  },
};
