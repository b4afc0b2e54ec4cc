/** rinetd 0.73 in the foreground, with a file of rules and nothing else set. */

import { join } from 'node:path';
import type { Forwarder, ForwardRule, Program } from '../program.ts';
import { startFromFile } from './config-file.ts';

export const rinetd: Program = {
  name: 'rinetd',
  file: '/usr/sbin/rinetd',
  lacks: {
    'TCP idle timeout': 'timeout= is for UDP only',
    'connect timeout': 'no such option: the kernel decides',
    drain: 'its only way to stop ends every conversation',
    'ICMP errors': 'no relay without raw sockets can send ICMP',
  },
  setting: 'no options but timeout= and allow where a case asks for them',

  start(rules: readonly ForwardRule[], directory: string): Promise<Forwarder> {
    const file = join(directory, 'rinetd.conf');
    return startFromFile(
      {
        command: ['rinetd', '-f', '-c', file],
        file,
        configuration: (rules) => configuration(rules, directory),
        says: { words: 'rinetd: ', times: 1 },
        signals: { reload: 'SIGHUP', stop: 'SIGTERM' },
      },
      rules,
    );
  },
};

function configuration(rules: readonly ForwardRule[], directory: string): string {
  const lines = rules.flatMap(({ protocol, listen, target, allow = [], idleMs }) => {
    const option = protocol === 'udp' && idleMs !== undefined ? ` [timeout=${Math.ceil(idleMs / 1000)}]` : '';
    const [from, to] = [listen, target].map(({ address, port }) => `${address} ${port}/${protocol}`);
    return [`${from} ${to}${option}`, ...allow.map((network) => `allow ${pattern(network)}`)];
  });
  return `pidlogfile ${join(directory, 'rinetd.pid')}\n${lines.join('\n')}\n`;
}

/** rinetd compares addresses as text: networks that end between two bytes cannot be said. */
function pattern(network: string): string {
  const [address = '', bits = '32'] = network.split('/');
  if (Number(bits) % 8 !== 0) throw new Error(`rinetd cannot say ${network}`);
  const bytes = address.split('.').slice(0, Number(bits) / 8);
  return bytes.length === 4 ? bytes.join('.') : [...bytes, '*'].join('.');
}
