/** Many ports: how long a relay needs until it has all of them, and how much memory. */

import { memoryMbOf } from './family.ts';
import { ECHO_PORT } from './load.ts';
import type { Forward } from './programs.ts';
import type { Part, Turn } from './rounds.ts';

const FIRST_PORT = 10_000;
const PORTS = [100, 1_900, 10_000, 30_000];
const LIMIT_SECONDS = 40;

/** A part for every number of ports, as rules of one port each and as one rule. */
export function rules(): Part[] {
  return (['rules', 'range'] as const).flatMap((as) => PORTS.map((ports) => part(ports, as)));
}

function part(ports: number, as: Forward['as']): Part {
  const title = as === 'range' ? `one rule of ${ports} ports` : `${ports} rules of one port`;
  return {
    name: title,
    mostRounds: 2,
    tables: [{ title, columns: ['last port ms', 'told ms', 'memory MB'] }],
    takes: ({ many }) => many.includes(as),
    async turn({ relay, network, load }: Turn) {
      const forward: Forward = { protocol: 'tcp', port: FIRST_PORT, ports, as, serverPort: ECHO_PORT };
      const started = await relay.start(network, forward);
      let toldAtMs: number | undefined;
      const told = started.told?.then(() => {
        toldAtMs = performance.now();
      });
      const lastPort = { ...started, port: FIRST_PORT + ports - 1 };
      let echoAtMs = 0;
      const echo = load.echo(network, lastPort, LIMIT_SECONDS).then(() => {
        echoAtMs = performance.now();
      });
      await Promise.all([echo, told]);
      const pid = started.process?.pid;
      return {
        [title]: [
          echoAtMs - started.toldAtMs,
          toldAtMs === undefined ? undefined : toldAtMs - started.toldAtMs,
          pid && memoryMbOf(pid),
        ],
      };
    },
  };
}
