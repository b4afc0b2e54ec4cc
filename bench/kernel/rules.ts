/**
 * How long a conversation takes where there are many rules, and the last of them is meant. All sizes are there at
 * the same time, each in a network of its own, and are measured by turns: their quotient is the same moment's.
 */

import { median, quotient } from '../report.ts';
import { ECHO_PORT } from '../relay/load.ts';
import { createNetwork, type Network } from '../relay/network.ts';
import type { Part, Turn } from '../relay/rounds.ts';
import { type KernelProgram, NATWARD } from './programs.ts';

const FIRST_PORT = 1024;
const RULES = [1, 1_000, 10_000, 60_000];
const TURNS = 5;
const SECONDS = 0.4;
const KNOCK_SECONDS = 60;

const TITLE = 'connect and echo, one at a time, by the last of so many rules';

export const RULES_PART: Part<KernelProgram> = {
  name: 'rules',
  mostRounds: 3,
  measures: [],
  tables: [
    {
      title: TITLE,
      columns: [
        '60000 / 1',
        ...RULES.map((rules) => `p50 us, ${rules}`),
        ...RULES.map((rules) => `p99 us, ${rules}`),
      ],
      targets: [{ program: NATWARD, column: '60000 / 1', at: 'most', limit: 1.3 }],
    },
  ],
  takes: ({ open }) => open !== undefined,
  async turn({ relay, load }: Turn<KernelProgram>) {
    const networks: Network[] = [];
    try {
      const targets = [];
      for (const ports of RULES) {
        const network = await createNetwork();
        networks.push(network);
        await load.serve(network);
        const forward = {
          protocol: 'tcp',
          port: FIRST_PORT,
          ports,
          as: 'rules',
          serverPort: ECHO_PORT,
        } as const;
        const started = await relay.start(network, forward);
        const to = { ...started, port: FIRST_PORT + ports - 1 };
        await Promise.all([load.echo(network, to, KNOCK_SECONDS), started.told]);
        targets.push({ network, to, p50: [] as number[], p99: [] as number[] });
      }
      for (let turn = 0; turn < TURNS; turn++) {
        for (const { network, to, p50, p99 } of targets) {
          const { p50Us, p99Us } = await load.connections(network, to, 1, SECONDS);
          p50.push(p50Us);
          p99.push(p99Us);
        }
      }
      const first = targets[0];
      const last = targets.at(-1);
      const ratios = last?.p50.flatMap((us, turn) => quotient(us, first?.p50[turn]) ?? []) ?? [];
      return {
        [TITLE]: [
          median(ratios),
          ...targets.map(({ p50 }) => median(p50)),
          ...targets.map(({ p99 }) => median(p99)),
        ],
      };
    } finally {
      for (const network of networks) await network.close();
    }
  },
};
