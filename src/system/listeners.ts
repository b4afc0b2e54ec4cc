/** Whether a program of this machine waits for others at a port, from the kernel's own lists. Linux. */

import { readFileSync } from 'node:fs';
import type { TransportProtocol } from '../net/protocol.ts';

/** The states of such sockets: TCP_LISTEN, and that of UDP without a peer. */
const WAITING: Readonly<Record<TransportProtocol, string>> = { tcp: '0A', udp: '07' };
/** 127.0.0.0/8 and ::1 as /proc/net writes them: nobody from outside reaches these. */
const LOOPBACK = /7F$|^00000000000000000000000001000000$/;

/** False where the system does not tell. */
export function isListenedAt(
  protocol: TransportProtocol,
  port: number,
  directory = '/proc/self/net',
): boolean {
  const wanted = port.toString(16).toUpperCase().padStart(4, '0');
  return [protocol, `${protocol}6`].some((name) =>
    linesOf(`${directory}/${name}`).some((line) => {
      const [, address = '', at, state] =
        /^\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) \S+ ([0-9A-F]{2}) /.exec(line) ?? [];
      return at === wanted && state === WAITING[protocol] && !LOOPBACK.test(address);
    }),
  );
}

function linesOf(file: string): readonly string[] {
  try {
    return readFileSync(file, 'latin1').split('\n');
  } catch {
    return [];
  }
}
