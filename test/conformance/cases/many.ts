/** Many conversations at once, and what is left when they are gone. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Case } from '../case.ts';
import { openTcp, type TcpPeer } from '../tcp-peer.ts';
import { echoTarget } from '../tcp-target.ts';
import { Pattern } from '../pattern.ts';

const CONVERSATIONS = 5000;
const OPENING_AT_ONCE = 200;
const ECHO_BYTES = 512;
/** Capacity is the question, not speed. */
const OPEN_LIMIT_MS = 40_000;
const RELEASE_LIMIT_MS = 5000;
/** A log, a timer: what is not a conversation's. */
const DESCRIPTORS_SPARE = 20;

export const many: readonly Case[] = [
  {
    name: '5,000 conversations are open at once, each with its own bytes, and leave nothing behind',
    protocol: 'tcp',
    alone: 'loads',
    limitMs: 90_000,
    async run(subject, context) {
      const target = await echoTarget(context);
      const { at, forwarder } = await subject.forward('tcp', target.endpoint);
      const before = forwarder.usage().descriptors;
      const clients = new Map<TcpPeer, Pattern>();
      const deadlineMs = performance.now() + OPEN_LIMIT_MS;
      let begun = 0;
      const open = async (): Promise<void> => {
        while (begun < CONVERSATIONS) {
          const pattern = new Pattern(begun++);
          const client = await openTcp(context, at);
          // Open is what has been heard at both ends: the kernel alone says yes to more than it keeps.
          await client.write(pattern.bytes(0, 1));
          await client.drink(pattern, 1, 0, deadlineMs - performance.now()).catch((error: Error) => {
            throw new Error(`after ${clients.size} conversations: ${error.message}`);
          });
          clients.set(client, pattern);
        }
      };
      await Promise.all(Array.from({ length: OPENING_AT_ONCE }, open));
      await Promise.all(
        [...clients].map(async ([client, pattern]) => {
          await client.write(pattern.bytes(1, ECHO_BYTES));
          await client.drink(pattern, ECHO_BYTES, 1, OPEN_LIMIT_MS);
          client.socket.end();
          await client.expectEnd(OPEN_LIMIT_MS);
        }),
      );
      for (const closedMs = performance.now(); ; await delay(100)) {
        const left = forwarder.usage().descriptors - before;
        if (left <= DESCRIPTORS_SPARE) break;
        if (performance.now() - closedMs > RELEASE_LIMIT_MS)
          throw new Error(`${left} descriptors are left ${RELEASE_LIMIT_MS} ms after the last has closed`);
      }
    },
  },
];
