/** socat: one process a rule, as people write it (`TCP-LISTEN:...,fork`), and one more a conversation. */

import { untilListening } from '../listening.ts';
import type { Endpoint, Forwarder, ForwardRule, Program } from '../program.ts';
import { ProgramProcess, usageOf } from './process.ts';

/** Without it a process stays for every client that ever sent a datagram. */
const UDP_IDLE_SECONDS = 60;

export const socat: Program = {
  name: 'socat',
  file: '/usr/bin/socat',
  lacks: {
    reload: 'it has no table: one process a rule',
    'ICMP errors': 'no relay without raw sockets can send ICMP',
  },
  setting:
    '{TCP,UDP}-LISTEN with fork and reuseaddr; defaults -t 0.5, -b 8192, backlog 5, no nodelay; UDP -T 60',

  async start(rules: readonly ForwardRule[]): Promise<Forwarder> {
    const running = rules.map((rule) => new ProgramProcess(command(rule)));
    const kill = (): void => {
      for (const each of running) each.kill();
    };
    try {
      const listening = untilListening(rules);
      await Promise.all(running.map((each) => each.meanwhile(listening)));
    } catch (error) {
      kill();
      throw error;
    }
    return {
      pid: running[0]?.pid ?? 0,
      usage: () => usageOf(running.map(({ pid }) => pid)),
      reload: () => Promise.reject(new Error('socat has nothing to reload')),
      stop: async ({ drain }) => {
        await Promise.all(running.map((each) => each.stop('SIGTERM', 5000)));
        if (!drain) kill();
      },
      kill,
    };
  },
};

function command(rule: ForwardRule): string[] {
  const { protocol, listen, target, allow = [], idleMs, connectTimeoutMs } = rule;
  const [network, ...others] = allow;
  if (others.length > 0) throw new Error('socat knows one range');
  const idleSeconds = idleMs === undefined ? undefined : idleMs / 1000;
  const kind = protocol.toUpperCase();
  const range = network === undefined ? '' : `,range=${network}`;
  const limit = connectTimeoutMs === undefined ? '' : `,connect-timeout=${connectTimeoutMs / 1000}`;
  const idle = idleSeconds ?? (protocol === 'udp' ? UDP_IDLE_SECONDS : undefined);
  return [
    'socat',
    ...(idle === undefined ? [] : ['-T', String(idle)]),
    `${kind}-LISTEN:${listen.port},bind=${listen.address},fork,reuseaddr${range}`,
    `${kind}:${text(target)}${limit}`,
  ];
}

function text({ address, port }: Endpoint): string {
  return `${address}:${port}`;
}
