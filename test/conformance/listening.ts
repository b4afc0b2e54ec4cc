/**
 * Which sockets wait for somebody, read from /proc/net: a connection that only looks would be one that the
 * forwarder forwards.
 */

import { closeSync, openSync, readSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Endpoint, ForwardRule, Protocol } from './program.ts';

const LISTEN = '0A';
const ANYBODY = '00000000:0000';
const PAGE_BYTES = 65_536;
const LOOK_EVERY_MS = 10;

/** Where a socket listens (TCP), or takes datagrams from anybody (UDP), as the kernel prints it. */
function listeners(protocol: Protocol): Set<string> {
  const found = new Set<string>();
  const file = openSync(`/proc/net/${protocol}`, 'r');
  try {
    const page = Buffer.alloc(PAGE_BYTES);
    for (let rest = '', length = readSync(file, page); length > 0; length = readSync(file, page)) {
      const lines = (rest + page.toString('latin1', 0, length)).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const [number, local = '', remote, state] = line.trim().split(/\s+/);
        if (number === 'sl') continue;
        // TCP prints its listeners first. What follows may be thousands of closed conversations.
        if (protocol === 'tcp' && state !== LISTEN) return found;
        if (protocol === 'tcp' || remote === ANYBODY) found.add(local);
      }
    }
    return found;
  } finally {
    closeSync(file);
  }
}

/** Waits until every one of `rules` has its listener, and none of `gone`. */
export async function untilListening(
  rules: readonly ForwardRule[],
  gone: readonly ForwardRule[] = [],
  withinMs: number = 10_000,
): Promise<void> {
  const kept = new Set(rules.map(({ protocol, listen }) => protocol + hexadecimal(listen)));
  const unwanted = gone.filter(({ protocol, listen }) => !kept.has(protocol + hexadecimal(listen)));
  for (const startedMs = performance.now(); ; await delay(LOOK_EVERY_MS)) {
    const open = { tcp: listeners('tcp'), udp: listeners('udp') };
    const listens = ({ protocol, listen }: ForwardRule) => open[protocol].has(hexadecimal(listen));
    const absent = rules.find((rule) => !listens(rule));
    const present = unwanted.find(listens);
    if (absent === undefined && present === undefined) return;
    if (performance.now() - startedMs < withinMs) continue;
    const [rule, word] = absent === undefined ? [present, 'still'] : [absent, 'not'];
    throw new Error(`${rule?.protocol} ${rule?.listen.port} is ${word} open after ${withinMs} ms`);
  }
}

/** As the kernel prints it: the address with its bytes the other way round. */
function hexadecimal({ address, port }: Endpoint): string {
  const bytes = address.split('.').toReversed().map(Number);
  return `${Buffer.from(bytes).toString('hex')}:${port.toString(16).padStart(4, '0')}`.toUpperCase();
}
