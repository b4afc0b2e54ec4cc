/** The end of the program: nothing new is taken, what runs may end, and nothing is left. */

import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Case } from '../case.ts';
import { untilListening } from '../listening.ts';
import type { Context, Subject } from '../context.ts';
import { Pattern } from '../pattern.ts';
import { openTcp, turnedAway } from '../tcp-peer.ts';
import { echoTarget, tcpTarget } from '../tcp-target.ts';
import type { Endpoint, ForwardRule } from '../program.ts';
import { openUdp, udpEcho } from '../udp-peer.ts';

const TRANSFER_BYTES = 16 * 1024 * 1024;
const SLICES = 16;
const SLICE_EVERY_MS = 200;
const GONE_WITHIN_MS = 1000;
const ENDED_WITHIN_MS = 5000;
const RULES = 5;
const QUIET_MS = 300;
const LOOK_EVERY_MS = 20;

export const stopping: readonly Case[] = [
  {
    name: 'a graceful stop takes nothing new at once, and lets a transfer end',
    protocol: 'tcp',
    needs: ['drain'],
    async run(subject, context) {
      const download = new Pattern(40);
      const target = await tcpTarget(context, (server) => {
        if (target.count > 1) return;
        context.beside(server.pour(download, TRANSFER_BYTES).then(() => server.socket.end()));
      });
      const { at, forwarder, rule } = await subject.forward('tcp', target.endpoint);
      const client = await openTcp(context, at);
      const slice = TRANSFER_BYTES / SLICES;
      await client.drink(download, slice);
      const stopped = forwarder.stop({ drain: true });
      context.beside(stopped);
      await untilListening([], [rule], GONE_WITHIN_MS);
      await untilRefused(at);
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
      await untilListening([], rules, GONE_WITHIN_MS);
      // Not everything that forwards listens.
      await (protocol === 'tcp' ? echoTarget(context, target) : udpEcho(context, target));
      await Promise.all(rules.map((rule) => expectNobody(context, rule)));
    },
  })),
];

/** What does not listen is not seen to go: somebody has to try. */
async function untilRefused(at: Endpoint): Promise<void> {
  for (const startedMs = performance.now(); ; await delay(LOOK_EVERY_MS)) {
    const socket = connect({ host: at.address, port: at.port });
    const isTaken = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    });
    socket.resetAndDestroy();
    if (!isTaken) return;
    if (performance.now() - startedMs > GONE_WITHIN_MS) throw new Error('a new client was taken');
  }
}

async function expectNobody(context: Context, { protocol, listen }: ForwardRule): Promise<void> {
  if (protocol === 'tcp') {
    const { how } = await turnedAway(context, listen, 1000);
    if (how !== 'refused') throw new Error(`after the stop a client saw ${how}`);
    return;
  }
  const client = await openUdp(context, listen);
  client.send('anybody?');
  const answer = await client.maybe(QUIET_MS).catch(() => undefined);
  if (answer !== undefined) throw new Error('a datagram got through after the stop');
}
