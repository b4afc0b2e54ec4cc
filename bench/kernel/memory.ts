/** Memory of the agent with many rules in the kernel, and how long it takes from its start until they are carried. */

import { setTimeout as delay } from 'node:timers/promises';
import { ECHO_PORT } from '../relay/load.ts';
import { ROUTER } from '../relay/network.ts';
import type { Forward } from '../relay/programs.ts';
import type { Part, Turn } from '../relay/rounds.ts';
import { usageOf } from '../process.ts';
import { documents, ready, replace, startAgent } from './natward.ts';
import { type KernelProgram, NATWARD } from './programs.ts';

const RULES = 60_000;
const FIRST_PORT = 1024;
const LIMIT_SECONDS = 50;
const SETTLE_MS = 2_000;

const TITLE = `an agent that remembers ${RULES} rules`;

export const MEMORY: Part<KernelProgram> = {
  name: 'memory',
  mostRounds: 3,
  measures: [],
  tables: [
    {
      title: TITLE,
      columns: ['MB', 'after a listing MB', 'peak MB', 'when told MB', 'without rules MB', 'start to echo s'],
      targets: [{ program: NATWARD, column: 'MB', at: 'most', limit: 250 }],
    },
  ],
  takes: ({ name }) => name === NATWARD,
  async turn({ network, load }: Turn<KernelProgram>) {
    const forward: Forward = {
      protocol: 'tcp',
      port: FIRST_PORT,
      ports: RULES,
      as: 'rules',
      serverPort: ECHO_PORT,
    };
    const first = startAgent(network, 'nftables', '');
    await ready(first, 'nftables', 0);
    const emptyMb = usageOf(first.process.pid).rssMb;
    await replace(first, documents(forward));
    const toldMb = usageOf(first.process.pid).rssMb;
    await first.process.stop();
    const agent = startAgent(network, 'nftables', '');
    const { pid } = agent.process;
    const lastPort = {
      host: ROUTER,
      port: FIRST_PORT + RULES - 1,
      process: agent.process,
      toldAtMs: agent.startedAtMs,
    };
    // An echo asks nothing of the agent: a listing of so many rules is memory of its own.
    await load.echo(network, lastPort, LIMIT_SECONDS);
    const seconds = (performance.now() - agent.startedAtMs) / 1000;
    // What it did for that is over, and so are the tools that it ran.
    await delay(SETTLE_MS);
    const mb = usageOf(pid).rssMb;
    await ready(agent, 'nftables', RULES);
    return { [TITLE]: [mb, usageOf(pid).rssMb, usageOf(pid).peakRssMb, toldMb, emptyMb, seconds] };
  },
};
