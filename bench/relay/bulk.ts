/** Throughput: how fast bytes come from the server to the client, and what each gigabyte costs the relay. */

import { setTimeout as delay } from 'node:timers/promises';
import { cpuSecondsOf, memoryMbOf } from './family.ts';
import { SOURCE_PORT } from './load.ts';
import { single } from './programs.ts';
import type { Part, Turn } from './rounds.ts';

const SECONDS = 2;
const CONVERSATIONS = [1, 50];
const PORT = 7001;
/** Children that end with their conversations are counted when their parent has collected them. */
const SETTLE_MS = 150;

const title = (conversations: number): string =>
  `bulk, TCP, ${conversations} conversation${conversations === 1 ? '' : 's'}`;

export const BULK: Part = {
  name: 'bulk',
  tables: CONVERSATIONS.map((count) => ({
    title: title(count),
    columns: ['Gbit/s', 'CPU s/GB', 'memory MB'],
  })),
  takes: ({ protocols }) => protocols.includes('tcp'),
  async turn({ relay, network, load }: Turn) {
    const started = await relay.start(network, single('tcp', PORT, SOURCE_PORT));
    await load.knock(network, started);
    const pid = started.process?.pid;
    const figures: Record<string, (number | undefined)[]> = {};
    for (const conversations of CONVERSATIONS) {
      const before = pid && cpuSecondsOf(pid);
      const sampling = load.bulk(network, started, conversations, SECONDS);
      await Promise.race([sampling, delay((SECONDS * 1000) / 2)]);
      const memoryMb = pid && memoryMbOf(pid);
      const { bytes, seconds, allBytes, ended } = await sampling;
      if (ended > 0) throw new Error(`${ended} of ${conversations} conversations broke off`);
      await delay(SETTLE_MS);
      const cpuSeconds = pid && before !== undefined ? cpuSecondsOf(pid) - before : undefined;
      figures[title(conversations)] = [
        (bytes * 8) / seconds / 1e9,
        cpuSeconds === undefined ? undefined : cpuSeconds / (allBytes / 1e9),
        memoryMb,
      ];
    }
    return figures;
  },
};
