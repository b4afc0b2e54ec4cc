/** Datagrams: each one whole, by itself, to the right one, and none made up. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Case } from '../case.ts';
import { Pattern } from '../pattern.ts';
import { openUdp, udpEcho, udpTarget } from '../udp-peer.ts';

const LARGEST_BYTES = 65_507;
const CLIENTS = 50;
const ROUNDS = 20;
const BORDERS = [1, 1400, 2, 700, 3, 1, 1, 1472, 512, 9, 1200, 4];
const ERROR_WITHIN_MS = 1000;
const QUIET_MS = 300;

export const udp: readonly Case[] = [
  {
    name: 'the largest datagram (65,507 bytes) is echoed',
    protocol: 'udp',
    async run(subject, context) {
      const target = await udpTarget(context);
      const { at } = await subject.forward('udp', target.endpoint);
      const client = await openUdp(context, at);
      const content = new Pattern(20).bytes(0, LARGEST_BYTES);
      client.send(content);
      const there = await target.next();
      if (!there.bytes.equals(content))
        throw new Error(`${there.bytes.length} bytes arrived, or others than were sent`);
      target.send(content, there.from);
      const back = await client.next();
      if (!back.bytes.equals(content)) throw new Error(`${back.bytes.length} bytes came back, or others`);
    },
  },
  {
    name: 'only datagrams that were sent arrive, on either side',
    protocol: 'udp',
    async run(subject, context) {
      const target = await udpTarget(context, true);
      const { at } = await subject.forward('udp', target.endpoint);
      for (const content of ['one', 'two', 'three']) {
        const client = await openUdp(context, at, { keepEmpty: true });
        client.send(content);
        const { bytes, from } = await target.next();
        if (bytes.toString() !== content)
          throw new Error(`a datagram of ${bytes.length} bytes was made up for the target`);
        target.send(content, from);
        const back = (await client.next()).bytes;
        if (back.toString() !== content)
          throw new Error(`a datagram of ${back.length} bytes was made up for the client`);
        const more = await Promise.all([target.maybe(QUIET_MS), client.maybe(QUIET_MS)]);
        if (more.some((datagram) => datagram !== undefined))
          throw new Error('a datagram was made up, or doubled');
      }
    },
  },
  {
    name: 'empty datagrams pass both ways',
    protocol: 'udp',
    async run(subject, context) {
      const target = await udpTarget(context, true);
      const { at } = await subject.forward('udp', target.endpoint);
      const client = await openUdp(context, at, { keepEmpty: true });
      client.send('open');
      let { bytes, from } = await target.next();
      if (bytes.length === 0) ({ bytes, from } = await target.next());
      client.send('');
      if ((await target.next(1000)).bytes.length !== 0) throw new Error('another datagram arrived');
      target.send('', from);
      if ((await client.next(1000)).bytes.length !== 0) throw new Error('another datagram came back');
    },
  },
  {
    name: 'datagrams that follow each other at once keep their borders and their order',
    protocol: 'udp',
    async run(subject, context) {
      const target = await udpEcho(context);
      const { at } = await subject.forward('udp', target);
      const client = await openUdp(context, at);
      const content = BORDERS.map((length, index) => new Pattern(30 + index).bytes(0, length));
      for (const datagram of content) client.send(datagram);
      for (const [index, sent] of content.entries()) {
        const { bytes } = await client.next();
        if (!bytes.equals(sent)) throw new Error(`${index + 1}: ${bytes.length} bytes for ${sent.length}`);
      }
    },
  },
  {
    name: 'replies go to the right one of 50 clients, from one source port each',
    protocol: 'udp',
    async run(subject, context) {
      const sources = new Map<string, Set<number>>();
      const target = await udpEcho(context, undefined, ({ bytes, from }) => {
        const [name = ''] = bytes.toString().split(' ');
        sources.set(name, (sources.get(name) ?? new Set()).add(from.port));
      });
      const { at } = await subject.forward('udp', target);
      const talk = async (name: string): Promise<void> => {
        const client = await openUdp(context, at);
        for (let round = 0; round < ROUNDS; round++) {
          client.send(`${name} ${round}`);
          const answer = (await client.next()).bytes.toString();
          if (answer !== `${name} ${round}`) throw new Error(`${name} ${round} was answered ${answer}`);
        }
      };
      await Promise.all(Array.from({ length: CLIENTS }, (_, index) => talk(`client${index}`)));
      const shifting = [...sources.values()].filter(({ size }) => size > 1).length;
      if (shifting > 0) throw new Error(`${shifting} clients had more than one source port at the target`);
    },
  },
  {
    name: 'several replies to one datagram arrive, the late ones too',
    protocol: 'udp',
    async run(subject, context) {
      const target = await udpTarget(context);
      const { at } = await subject.forward('udp', target.endpoint);
      const client = await openUdp(context, at);
      client.send('subscribe');
      const { from } = await target.next();
      for (const reply of ['one', 'two', 'three']) {
        target.send(reply, from);
        const heard = (await client.next()).bytes.toString();
        if (heard !== reply) throw new Error(`${heard} arrived for ${reply}`);
        await delay(500);
      }
    },
  },
  {
    name: 'a target that opens after it was closed is reached by the same client',
    protocol: 'udp',
    async run(subject, context) {
      const target = await context.freeEndpoint('udp');
      const { at } = await subject.forward('udp', target);
      const client = await openUdp(context, at);
      for (let lost = 0; lost < 3; lost++) {
        client.send('lost');
        // An error that is passed on is as good as silence.
        await client.maybe(200).catch(() => undefined);
      }
      await udpEcho(context, target);
      client.send('found');
      const heard = (await client.next()).bytes.toString();
      if (heard !== 'found') throw new Error(`${heard} arrived`);
    },
  },
  {
    name: "a closed port of the target is the client's error (ICMP)",
    protocol: 'udp',
    needs: ['ICMP errors'],
    async run(subject, context) {
      const { at } = await subject.forward('udp', await context.freeEndpoint('udp'));
      const client = await openUdp(context, at);
      client.send('anybody?');
      const error = await client.maybe(ERROR_WITHIN_MS).then(
        () => undefined,
        (reason: NodeJS.ErrnoException) => reason.code,
      );
      if (error !== 'ECONNREFUSED') throw new Error(`the client saw ${error ?? 'nothing'}`);
    },
  },
];
