/** Memory: of a relay that has just started, and of thousands of conversations that say nothing. */

import { MOST_CONVERSATIONS } from './descriptors.ts';
import { memoryMbOf, processesOf } from './family.ts';
import { ECHO_PORT } from './load.ts';
import { single } from './programs.ts';
import type { Part, Turn } from './rounds.ts';

const PORT = 7000;

const TITLE = `memory, ${MOST_CONVERSATIONS} idle conversations`;

export const MEMORY: Part = {
  name: 'memory',
  mostRounds: 2,
  tables: [{ title: TITLE, columns: ['kB each', 'at start MB', 'then MB', 'open', 'processes'] }],
  takes: ({ name, protocols, bulkOnly }) => protocols.includes('tcp') && !bulkOnly && name !== 'routed',
  async turn({ relay, network, load }: Turn) {
    const started = await relay.start(network, single('tcp', PORT, ECHO_PORT));
    await load.knock(network, started);
    const pid = started.process?.pid;
    if (pid === undefined) throw new Error('it has no process');
    const startMb = memoryMbOf(pid);
    const open = await load.idle(network, started, MOST_CONVERSATIONS);
    const thenMb = memoryMbOf(pid);
    return { [TITLE]: [((thenMb - startMb) * 1024) / open, startMb, thenMb, open, processesOf(pid)] };
  },
};
