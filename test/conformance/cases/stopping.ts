/** The end of the program: nothing new is taken, what runs may end, and nothing is left. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Case } from '../case.ts';
import { untilListening } from '../listening.ts';
import type { Context, Subject } from '../context.ts';
import { Pattern } from '../pattern.ts';
import { openTcp, turnedAway } from '../tcp-peer.ts';
import { tcpTarget } from '../tcp-target.ts';
import type { ForwardRule } from '../program.ts';

const TRANSFER_BYTES = 16 * 1024 * 1024;
const SLICES = 16;
const SLICE_EVERY_MS = 200;
const LISTENER_GONE_WITHIN_MS = 1000;
const ENDED_WITHIN_MS = 5000;
const RULES = 5;

export const stopping: readonly Case[] = [
  {
    name: 'a graceful stop takes nothing new at once, and lets a transfer end',
    protocol: 'tcp',
    needs: ['drain'],
    async run(subject, context) {
      const download = new Pattern(40);
      const target = await tcpTarget(context, (server) => {
        context.beside(server.pour(download, TRANSFER_BYTES).then(() => server.socket.end()));
      });
      const { at, forwarder, rule } = await subject.forward('tcp', target.endpoint);
      const client = await openTcp(context, at);
      const slice = TRANSFER_BYTES / SLICES;
      await client.drink(download, slice);
      const stopped = forwarder.stop({ drain: true });
      context.beside(stopped);
      await untilListening([], [rule], LISTENER_GONE_WITHIN_MS);
      const { how } = await turnedAway(context, at, 1000);
      if (how !== 'refused') throw new Error(`a new client saw ${how}`);
      for (let offset = slice; offset < TRANSFER_BYTES; offset += slice) {
        await delay(SLICE_EVERY_MS);
        await client.drink(download, slice, offset);
      }
      await client.expectEnd();
      client.socket.end();
      const ended = await Promise.race([stopped.then(() => true), delay(ENDED_WITHIN_MS, false)]);
      if (!ended) throw new Error(`it still runs ${ENDED_WITHIN_MS} ms after the last conversation`);
    },
  },
  ...(['tcp', 'udp'] as const).map((protocol) => ({
    name: `after a stop nothing listens (${protocol.toUpperCase()})`,
    protocol,
    async run(subject: Subject, context: Context): Promise<void> {
      const target = await context.freeEndpoint(protocol);
      const rules: ForwardRule[] = [];
      for (let count = 0; count < RULES; count++)
        rules.push({ protocol, listen: await context.freeEndpoint(protocol), target });
      const forwarder = await subject.start(rules);
      await forwarder.stop({ drain: false });
      await untilListening([], rules, LISTENER_GONE_WITHIN_MS);
    },
  })),
];
