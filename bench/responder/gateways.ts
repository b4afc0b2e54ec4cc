/** Those who answer: natward's responder and miniupnpd, each as it stands before the same clients. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ADDRESSES, type Lab } from '../../test/lab/support/lab.ts';
import { NATWARD } from '../peers.ts';
import type { Between } from './load.ts';

export interface Answering {
  readonly pid: number;
  readonly between: Between;
  /** Gives it the mappings of `count` ports from `first` on, other than by asking for them. */
  readonly fill?: (first: number, count: number) => Promise<unknown>;
  stop(): Promise<unknown>;
}

export interface Answerer {
  readonly name: string;
  /** Starts it with nothing mapped. */
  start(lab: Lab): Promise<Answering>;
}

const READY_MS = 20_000;
const RESPONDER = fileURLToPath(new URL('responder.ts', import.meta.url));
const EMBEDDED = fileURLToPath(new URL('../embedded.ts', import.meta.url));
const AT_GATEWAY: Between = { place: 'lan', own: ADDRESSES.lan, gateway: ADDRESSES.gateway };
const AT_AGENT: Between = { place: 'inner1', own: ADDRESSES.inner1, gateway: ADDRESSES.inner0 };

export const MINIUPNPD: Answerer = {
  name: 'miniupnpd',
  async start(lab) {
    const gateway = await lab.startGateway({ quiet: true });
    return {
      pid: gateway.pid,
      between: AT_GATEWAY,
      fill: (first, count) => writeRules(lab, first, count),
      stop: () => gateway.stop(),
    };
  },
};

/** miniupnpd's table is the kernel's: these are its rules, as it writes them, without their descriptions. */
async function writeRules(lab: Lab, first: number, count: number): Promise<void> {
  const client = ADDRESSES.lan;
  const hex = client.split('.').map((byte) => Number(byte).toString(16).padStart(2, '0'));
  const rules = Array.from({ length: count }, (_, at) => first + at).flatMap((port) => [
    `prerouting_miniupnpd iif "ext0" ip protocol tcp tcp dport ${port} dnat ip to ${client}:${port}`,
    `miniupnpd iif "ext0" th dport ${port} @nh,128,32 0x${hex.join('')} @nh,72,8 0x6 accept`,
  ]);
  const file = join(lab.directory, 'mappings.nft');
  writeFileSync(file, rules.map((one) => `add rule inet filter ${one}\n`).join(''));
  await lab.must('gw', ['nft', '-f', file], { timeoutMs: READY_MS });
}

/** On the same interface of the same machine. */
export const RESPONDER_ALONE: Answerer = {
  name: 'natward responder',
  start: (lab) => script(lab, RESPONDER, ['int0', ADDRESSES.gateway]),
};

async function script(lab: Lab, file: string, args: readonly string[]): Promise<Answering> {
  const started = lab.spawn('gw', [process.execPath, '--import', import.meta.resolve('tsx'), file, ...args]);
  await started.waitFor(/^ready$/m, READY_MS);
  return { pid: started.pid, between: AT_GATEWAY, stop: () => started.stop() };
}

/** The whole road: the agent, and a real gateway behind it. */
export function agentBefore(outer: 'miniupnpd' | 'embedded'): Answerer {
  return {
    name: `natward agent before ${outer}`,
    async start(lab) {
      const behind =
        outer === 'miniupnpd'
          ? await MINIUPNPD.start(lab)
          : await script(lab, EMBEDDED, [ADDRESSES.gateway, ADDRESSES.outer]);
      const file = join(lab.directory, `bench-respond-${homes}.toml`);
      writeFileSync(file, CONFIGURATION);
      const env = { NATWARD_HOME: join(lab.directory, `responder-${homes++}`), NATWARD_ENGINE: undefined };
      const agent = lab.spawn('lan', [process.execPath, NATWARD, 'agent', '--config', file], { env });
      const stop = async () => {
        // It would give all of it back, one by one, which is not measured.
        await agent.stop('SIGKILL');
        await behind.stop();
      };
      try {
        await agent.waitFor(/listens on/, READY_MS);
        await lab.exec('lan', ['sh', '-c', 'until ss -Hlun | grep -q 10.77.0.1:5351; do sleep 0.1; done']);
      } catch (error) {
        await stop();
        throw error;
      }
      return { pid: agent.pid, between: AT_AGENT, stop };
    },
  };
}

let homes = 0;

const CONFIGURATION = `respondMaxMappings = 60000
[[respond]]
interface = "inner0"
maxMappings = 60000
requestsPerSecond = 100000
`;
