/** UDP: the highest rate of datagrams that a relay carries to the server and back with less than 1 % lost. */

import { setTimeout as delay } from 'node:timers/promises';
import { cpuSecondsOf, memoryMbOf } from './family.ts';
import { ECHO_PORT } from './load.ts';
import { single } from './programs.ts';
import type { Part, Turn } from './rounds.ts';

const PORT = 7000;
const SIZES = [64, 1400];
const FIRST_RATE = 20_000;
/** Children are counted when their parent has collected them. */
const SETTLE_MS = 100;

const title = (size: number): string => `udp, ${size} bytes, 8 conversations`;

export function datagrams(): Part {
  /** Where the search began in the round before, so that the next one is short. */
  const found = new Map<string, number>();
  return {
    name: 'udp',
    tables: SIZES.map((size) => ({ title: title(size), columns: ['echoes/s', 'CPU s/100k', 'memory MB'] })),
    takes: ({ protocols, bulkOnly }) => protocols.includes('udp') && !bulkOnly,
    async turn({ relay, network, load }: Turn) {
      const started = await relay.start(network, single('udp', PORT, ECHO_PORT));
      await started.told;
      const pid = started.process?.pid;
      const figures: Record<string, (number | undefined)[]> = {};
      for (const size of SIZES) {
        const before = pid && cpuSecondsOf(pid);
        const key = `${relay.name} ${size}`;
        const { perSecond, all } = await load.datagrams(network, started, size, found.get(key) ?? FIRST_RATE);
        if (perSecond > 0) found.set(key, perSecond / 1.2);
        await delay(SETTLE_MS);
        const cpuSeconds = pid && before !== undefined ? cpuSecondsOf(pid) - before : undefined;
        figures[title(size)] = [
          perSecond,
          cpuSeconds === undefined ? undefined : (cpuSeconds * 100_000) / all,
          pid && memoryMbOf(pid),
        ];
      }
      return figures;
    },
  };
}
