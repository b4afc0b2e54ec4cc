/** HAProxy in master-worker mode, with the time-outs of Debian's haproxy.cfg and its other defaults. */

import { join } from 'node:path';
import type { Forwarder, ForwardRule, Program } from '../program.ts';
import { startFromFile } from './config-file.ts';

export const haproxy: Program = {
  name: 'haproxy',
  file: '/usr/sbin/haproxy',
  lacks: { udp: 'HAProxy 2.6 forwards no UDP', 'ICMP errors': 'HAProxy 2.6 forwards no UDP' },
  setting: "mode tcp, Debian's time-outs (client and server 50 s), maxconn 8000, retries 3 (default)",

  start(rules: readonly ForwardRule[], directory: string): Promise<Forwarder> {
    const file = join(directory, 'haproxy.cfg');
    const command = ['haproxy', '-W', '-f', file];
    const says = { words: 'Loading success.', times: 1 };
    const signals = { reload: 'SIGUSR2', stop: 'SIGTERM', drain: 'SIGUSR1' } as const;
    return startFromFile({ command, file, configuration, says, signals }, rules);
  },
};

function configuration(rules: readonly ForwardRule[]): string {
  const sections = rules.map((rule, index) => {
    const { listen, target, allow, idleMs, connectTimeoutMs } = rule;
    return [
      `listen rule${index}`,
      `  bind ${listen.address}:${listen.port}`,
      ...(allow === undefined ? [] : [`  tcp-request connection reject unless { src ${allow.join(' ')} }`]),
      ...(idleMs === undefined ? [] : [`  timeout client ${idleMs}ms`, `  timeout server ${idleMs}ms`]),
      ...(connectTimeoutMs === undefined ? [] : [`  timeout connect ${connectTimeoutMs}ms`]),
      `  server target ${target.address}:${target.port}`,
      '',
    ].join('\n');
  });
  return `global
  maxconn 8000
defaults
  mode tcp
  timeout connect 5s
  timeout client 50s
  timeout server 50s
${sections.join('')}`;
}
