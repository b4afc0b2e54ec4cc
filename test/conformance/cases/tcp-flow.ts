/** How bytes flow: no faster than they are taken, no later than they can be, and the right ones. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Case } from '../case.ts';
import { Pattern } from '../pattern.ts';
import { openTcp, type TcpPeer } from '../tcp-peer.ts';
import { tcpTarget } from '../tcp-target.ts';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const READ_AFTER_PAUSE = 256 * MIB;
const RSS_GROWTH_LIMIT = 64 * MIB;
const STALLED_AFTER_MS = 1000;
const BOTH_WAYS = 32 * MIB;
const SLOW_BYTES = 40;
const SLOW_BYTE_EVERY_MS = 50;
const PROMPT_MS = 300;
const SINGLE_BYTES = 2000;
/** Less than the kernel waits before it acknowledges what nobody answers (40 ms). */
const ACKNOWLEDGED_MS = 35;
const LATE_PAIRS_ALLOWED = 100;

export const tcpFlow: readonly Case[] = [
  {
    name: 'a client that does not read costs no memory, and gets everything when it reads again',
    protocol: 'tcp',
    alone: 'measures',
    limitMs: 40_000,
    async run(subject, context) {
      const download = new Pattern(5);
      const target = await tcpTarget(context);
      const { at, forwarder } = await subject.forward('tcp', target.endpoint);
      const client = await openTcp(context, at);
      const server = await target.accepted();
      const before = forwarder.usage().rssBytes;
      context.beside(server.pour(download, GIB, 0, 60_000));
      for (let sent = -1; sent !== server.socket.bytesWritten; await delay(STALLED_AFTER_MS))
        sent = server.socket.bytesWritten;
      const grown = forwarder.usage().rssBytes - before;
      if (grown > RSS_GROWTH_LIMIT) throw new Error(`memory grew by ${Math.round(grown / MIB)} MiB`);
      await client.drink(download, READ_AFTER_PAUSE);
    },
  },
  {
    name: 'a byte each 50 ms arrives promptly',
    protocol: 'tcp',
    async run(subject, context) {
      const target = await tcpTarget(context);
      const { at } = await subject.forward('tcp', target.endpoint);
      const client = await openTcp(context, at);
      const server = await target.accepted();
      const bytes = new Pattern(6);
      const tooLate: number[] = [];
      for (let sent = 0; sent < SLOW_BYTES; sent++) {
        const sentMs = performance.now();
        await client.write(bytes.bytes(sent, 1));
        await server.drink(bytes, 1, sent);
        const tookMs = performance.now() - sentMs;
        if (tookMs > PROMPT_MS) tooLate.push(Math.round(tookMs));
        await delay(SLOW_BYTE_EVERY_MS);
      }
      // One may be the machine's.
      if (tooLate.length > 1) throw new Error(`${tooLate.length} bytes were late: ${tooLate.join(', ')} ms`);
    },
  },
  {
    name: '2,000 single bytes are echoed without waiting for one another',
    protocol: 'tcp',
    alone: 'measures',
    async run(subject, context) {
      const target = await tcpTarget(context);
      const { at } = await subject.forward('tcp', target.endpoint);
      const client = await openTcp(context, at);
      const server = await target.accepted();
      const bytes = new Pattern(7);
      let late = 0;
      for (let sent = 0; sent < SINGLE_BYTES; sent += 2) {
        const sentMs = performance.now();
        await singly(client, bytes, sent);
        await server.drink(bytes, 2, sent);
        await singly(server, bytes, sent);
        await client.drink(bytes, 2, sent);
        if (performance.now() - sentMs > ACKNOWLEDGED_MS && ++late > LATE_PAIRS_ALLOWED)
          throw new Error(`${late} of ${sent / 2 + 1} pairs of bytes took more than ${ACKNOWLEDGED_MS} ms`);
      }
    },
  },
  {
    name: '32 MiB go both ways at once',
    protocol: 'tcp',
    async run(subject, context) {
      const target = await tcpTarget(context);
      const { at } = await subject.forward('tcp', target.endpoint);
      const client = await openTcp(context, at);
      const server = await target.accepted();
      const [up, down] = [new Pattern(8), new Pattern(9)];
      await Promise.all([
        client.pour(up, BOTH_WAYS),
        server.pour(down, BOTH_WAYS),
        server.drink(up, BOTH_WAYS),
        client.drink(down, BOTH_WAYS),
      ]);
    },
  },
];

/**
 * Two bytes in two segments, and no answer to the first: a relay that does not set TCP_NODELAY keeps the second
 * until the kernel acknowledges the first by itself.
 */
async function singly(peer: TcpPeer, bytes: Pattern, offset: number): Promise<void> {
  await peer.write(bytes.bytes(offset, 1));
  await delay(1);
  await peer.write(bytes.bytes(offset + 1, 1));
}
