/** A new table while conversations run: what it does not change is not touched, what it changes is. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Case } from '../case.ts';
import type { Context } from '../context.ts';
import { Pattern } from '../pattern.ts';
import type { ForwardRule } from '../program.ts';
import { openTcp, type TcpPeer, turnedAway } from '../tcp-peer.ts';
import { echoTarget, tcpTarget } from '../tcp-target.ts';
import { openUdp, udpTarget } from '../udp-peer.ts';

const CONVERSATIONS = 200;
const RELOADS = 100;
const RELOADS_WITH_NEWCOMERS = 40;
const NEWCOMERS_AT_ONCE = 4;
const BLOCK_BYTES = 4096;
const BLOCK_EVERY_MS = 50;

export const reload: readonly Case[] = [
  {
    name: '200 conversations of an unchanged rule lose nothing while the table is replaced 100 times',
    protocol: 'tcp',
    needs: ['reload'],
    alone: 'loads',
    limitMs: 75_000,
    async run(subject, context) {
      const target = await echoTarget(context);
      const { at, forwarder, rule } = await subject.forward('tcp', target.endpoint);
      const tables = await changingTables(context, rule);
      const clients = await Promise.all(
        Array.from({ length: CONVERSATIONS }, async (_, index) => {
          const client = await openTcp(context, at);
          await exchange(client, new Pattern(index), 0);
          return client;
        }),
      );
      const done = new AbortController();
      const talk = async (client: TcpPeer, pattern: Pattern): Promise<void> => {
        for (let offset = BLOCK_BYTES; !done.signal.aborted; offset += BLOCK_BYTES) {
          await exchange(client, pattern, offset);
          await delay(BLOCK_EVERY_MS);
        }
        client.socket.end();
        await client.expectEnd();
      };
      const talks = Promise.all(clients.map((client, index) => talk(client, new Pattern(index))));
      context.beside(talks);
      for (let count = 0; count < RELOADS; count++)
        await forwarder.reload(tables[count % tables.length] ?? []);
      done.abort();
      await talks;
    },
  },
  {
    name: 'conversations that begin while the table is replaced are taken',
    protocol: 'tcp',
    needs: ['reload'],
    alone: 'loads',
    limitMs: 60_000,
    async run(subject, context) {
      const target = await echoTarget(context);
      const { at, forwarder, rule } = await subject.forward('tcp', target.endpoint);
      const tables = await changingTables(context, rule);
      const done = new AbortController();
      let begun = 0;
      const begin = async (): Promise<void> => {
        while (!done.signal.aborted) {
          const name = `conversation ${++begun}`;
          const client = await openTcp(context, at).catch((error: Error) => {
            throw new Error(`${name} was not taken: ${error.message}`);
          });
          await client.write('hello');
          await client.read(5).catch((error: Error) => {
            throw new Error(`${name} was dropped: ${error.message}`);
          });
          client.socket.destroy();
          await delay(1);
        }
      };
      const newcomers = Promise.all(Array.from({ length: NEWCOMERS_AT_ONCE }, begin));
      context.beside(newcomers);
      for (let count = 0; count < RELOADS_WITH_NEWCOMERS; count++)
        await forwarder.reload(tables[count % tables.length] ?? []);
      done.abort();
      await newcomers;
    },
  },
  {
    name: 'a UDP conversation of an unchanged rule stays the same one when the table is replaced',
    protocol: 'udp',
    needs: ['reload'],
    async run(subject, context) {
      const target = await udpTarget(context);
      const { at, forwarder, rule } = await subject.forward('udp', target.endpoint);
      const client = await openUdp(context, at);
      const tables = await changingTables(context, rule);
      const ports = new Set<number>();
      for (const table of [[rule], ...tables]) {
        await forwarder.reload(table);
        client.send('ping');
        const { from } = await target.next();
        ports.add(from.port);
        target.send('pong', from);
        await client.next();
      }
      if (ports.size > 1) throw new Error(`the target saw ${ports.size} conversations`);
    },
  },
  {
    name: 'a rule that goes stops listening, and one that has a new target leads there',
    protocol: 'tcp',
    needs: ['reload'],
    async run(subject, context) {
      const [old, next] = [await tcpTarget(context), await tcpTarget(context)];
      const { at, forwarder, rule } = await subject.forward('tcp', old.endpoint);
      const gone = { ...rule, listen: await context.freeEndpoint('tcp') };
      await forwarder.reload([rule, gone]);
      await openTcp(context, gone.listen);
      await forwarder.reload([{ ...rule, target: next.endpoint }]);
      const { how } = await turnedAway(context, gone.listen, 1000);
      if (how !== 'refused') throw new Error(`the listener of the rule that went answered with ${how}`);
      const client = await openTcp(context, at);
      await client.write('hello');
      await (await next.accepted()).read(5);
    },
  },
];

async function exchange(client: TcpPeer, pattern: Pattern, offset: number): Promise<void> {
  await client.write(pattern.bytes(offset, BLOCK_BYTES));
  await client.drink(pattern, BLOCK_BYTES, offset, 10_000);
}

/** Four tables around a rule that is the same in all: alone, with another, with that one changed, before it. */
async function changingTables(context: Context, rule: ForwardRule): Promise<readonly ForwardRule[][]> {
  const other = { ...rule, listen: await context.freeEndpoint(rule.protocol) };
  const changed = { ...other, target: await context.freeEndpoint(rule.protocol) };
  return [[rule, other], [rule, changed], [changed, rule], [rule]];
}
