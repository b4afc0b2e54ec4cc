/** natward as a relay: an agent in the router, told by `natward apply`. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { NATWARD as PROGRAM } from '../peers.ts';
import { ROUTER, SERVER } from './network.ts';
import { type Forward, lines, type Relay, type Started, single } from './programs.ts';

const ANSWER_LIMIT_MS = 10_000;
const APPLY_LIMIT_MS = 60_000;

export const NATWARD: Relay = {
  name: 'natward',
  protocols: ['tcp', 'udp'],
  many: ['rules', 'range'],
  commandLine: `node dist/bin/natward.cjs agent --engine relay; natward apply FILE | ${rules(
    single('tcp', 7000, 5000),
  )
    .trim()
    .replace('\n', ' | ')}`,
  async start(network, forward): Promise<Started> {
    const env = { NATWARD_HOME: join(network.directory, 'natward') };
    const command = (...args: string[]): string[] => [process.execPath, PROGRAM, ...args];
    const agent = network.start('router', command('agent', '--engine', 'relay'), { env });
    for (const startedMs = performance.now(); ; await delay(20)) {
      const { code } = await network.run('router', command('status', '--json'), ANSWER_LIMIT_MS, { env });
      if (code === 0) break;
      if (performance.now() - startedMs > ANSWER_LIMIT_MS || !agent.running) {
        throw new Error(`the agent does not answer: ${agent.output.trim()}`);
      }
    }
    const file = join(network.directory, 'rules.toml');
    writeFileSync(file, rules(forward));
    const toldAtMs = performance.now();
    const apply = network.run('router', command('apply', file), APPLY_LIMIT_MS, { env });
    const told = apply.then(({ code, stderr }) => {
      if (code !== 0) throw new Error(`natward apply: exit ${code}: ${stderr.trim()}`);
    });
    return { host: ROUTER, port: forward.port, process: agent, toldAtMs, told };
  },
};

function rules(forward: Forward): string {
  const { protocol, serverPort } = forward;
  return lines(
    forward,
    (port) =>
      `[[rule]]\nrule = "in ${protocol} ${ROUTER}:${port} -> ${SERVER}:${serverPort} per-client 100000"\n`,
  );
}
