/** Idle timeouts of two seconds: who is silent is let go, who is not is kept, in whichever direction. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Case } from '../case.ts';
import { openTcp } from '../tcp-peer.ts';
import { echoTarget, tcpTarget } from '../tcp-target.ts';
import { openUdp, udpTarget } from '../udp-peer.ts';

const IDLE_MS = 2000;
const EARLIEST_MS = 1000;
const LATEST_MS = 5000;
const BUSY_MS = 5000;
const BUSY_EVERY_MS = 400;

export const idle: readonly Case[] = [
  {
    name: 'an idle TCP conversation is closed on both sides in time',
    protocol: 'tcp',
    needs: ['TCP idle timeout', 'idle TCP closed'],
    async run(subject, context) {
      const target = await tcpTarget(context);
      const { at } = await subject.forward('tcp', target.endpoint, { idleMs: IDLE_MS });
      const client = await openTcp(context, at);
      await client.write('x');
      const server = await target.accepted();
      await server.read(1);
      const startedMs = performance.now();
      for (const [peer, name] of [[client, 'client'] as const, [server, 'server'] as const]) {
        await peer.ending(LATEST_MS);
        const afterMs = performance.now() - startedMs;
        if (afterMs < EARLIEST_MS || afterMs > LATEST_MS)
          throw new Error(`the ${name} was let go after ${Math.round(afterMs)} ms`);
      }
    },
  },
  {
    name: 'a TCP conversation that is busy in one direction outlives the idle timeout',
    protocol: 'tcp',
    needs: ['TCP idle timeout'],
    async run(subject, context) {
      const target = await tcpTarget(context);
      const { at } = await subject.forward('tcp', target.endpoint, { idleMs: IDLE_MS });
      const client = await openTcp(context, at);
      const server = await target.accepted();
      for (const startedMs = performance.now(); performance.now() - startedMs < BUSY_MS; ) {
        await server.write('x');
        await client.read(1);
        await delay(BUSY_EVERY_MS);
      }
      await client.write('y');
      await server.read(1);
    },
  },
  {
    name: 'a silent TCP conversation is kept where no idle timeout is set',
    protocol: 'tcp',
    async run(subject, context) {
      const target = await echoTarget(context);
      const { at } = await subject.forward('tcp', target.endpoint);
      const client = await openTcp(context, at);
      await client.write('x');
      await client.read(1);
      await delay(BUSY_MS);
      await client.write('y');
      await client.read(1);
    },
  },
  {
    name: 'the way back of an idle UDP conversation is closed, and its next datagram begins another',
    protocol: 'udp',
    needs: ['UDP idle timeout'],
    async run(subject, context) {
      const target = await udpTarget(context);
      const { at } = await subject.forward('udp', target.endpoint, { idleMs: IDLE_MS });
      const client = await openUdp(context, at);
      client.send('first');
      const first = await target.next();
      target.send('reply', first.from);
      await client.next();
      await delay(LATEST_MS);
      target.send('late', first.from);
      if ((await client.maybe(500)) !== undefined) throw new Error('a late reply still reached the client');
      client.send('second');
      const second = await target.next();
      target.send('reply', second.from);
      if ((await client.next()).bytes.toString() !== 'reply') throw new Error('the second reply is wrong');
    },
  },
  {
    name: 'a busy UDP conversation outlives the idle timeout',
    protocol: 'udp',
    needs: ['UDP idle timeout'],
    async run(subject, context) {
      const target = await udpTarget(context);
      const { at } = await subject.forward('udp', target.endpoint, { idleMs: IDLE_MS });
      const client = await openUdp(context, at);
      const ports = new Set<number>();
      for (const startedMs = performance.now(); performance.now() - startedMs < BUSY_MS; ) {
        client.send('ping');
        const { from } = await target.next();
        ports.add(from.port);
        target.send('pong', from);
        await client.next();
        await delay(BUSY_EVERY_MS);
      }
      if (ports.size > 1) throw new Error(`the target saw ${ports.size} conversations`);
    },
  },
];
