/** How conversations begin: with a target that listens, one that does not, and one that says nothing. */

import { setTimeout as delay } from 'node:timers/promises';
import { connect } from 'node:net';
import { Worker } from 'node:worker_threads';
import type { Case } from '../case.ts';
import type { Context } from '../context.ts';
import type { Endpoint } from '../program.ts';
import { openTcp, turnedAway } from '../tcp-peer.ts';
import { echoTarget, tcpTarget } from '../tcp-target.ts';

const REFUSED_WITHIN_MS = 1000;
const TIMED_OUT_WITHIN_MS = 3000;
const LOOK_LIMIT_MS = 8000;
const FULL_AFTER_MS = 300;
const FILLERS = 8;

export const tcpConnecting: readonly Case[] = [
  {
    name: 'a server that speaks first is heard by a client that says nothing',
    protocol: 'tcp',
    async run(subject, context) {
      const target = await tcpTarget(context, ({ socket }) => socket.write('banner'));
      const { at } = await subject.forward('tcp', target.endpoint);
      const client = await openTcp(context, at);
      const heard = await client.read(6, 1000);
      if (heard.toString() !== 'banner') throw new Error(`heard ${heard.toString()}`);
    },
  },
  {
    name: 'a client is turned away within a second where the target refuses',
    protocol: 'tcp',
    async run(subject, context) {
      const { at } = await subject.forward('tcp', await context.freeEndpoint('tcp'));
      const { how, afterMs } = await turnedAway(context, at, LOOK_LIMIT_MS);
      if (afterMs > REFUSED_WITHIN_MS)
        throw new Error(`the client was left waiting for ${Math.round(afterMs)} ms (then ${how})`);
    },
  },
  {
    name: 'a target that opens after it has refused is reached',
    protocol: 'tcp',
    async run(subject, context) {
      const target = await context.freeEndpoint('tcp');
      const { at } = await subject.forward('tcp', target);
      await turnedAway(context, at, LOOK_LIMIT_MS);
      await echoTarget(context, target);
      const client = await openTcp(context, at);
      await client.write('hello');
      await client.read(5);
    },
  },
  {
    name: 'a client is turned away soon after the connect timeout of one second',
    protocol: 'tcp',
    needs: ['connect timeout'],
    async run(subject, context) {
      const { at } = await subject.forward('tcp', await silentTarget(context), { connectTimeoutMs: 1000 });
      const { how, afterMs } = await turnedAway(context, at, LOOK_LIMIT_MS);
      if (afterMs > TIMED_OUT_WITHIN_MS || afterMs < 500)
        throw new Error(`the client was turned away after ${Math.round(afterMs)} ms (${how})`);
    },
  },
];

/** A listener that never accepts, with a backlog that is full: the kernel drops each further SYN. */
async function silentTarget(context: Context): Promise<Endpoint> {
  const code = `
    const { createServer } = require('node:net');
    const { parentPort } = require('node:worker_threads');
    const server = createServer().listen({ host: '127.0.0.1', port: 0, backlog: 1 }, () => {
      parentPort.postMessage(server.address().port);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    });`;
  const worker = new Worker(code, { eval: true });
  context.defer(() => worker.terminate());
  const port = await new Promise<number>((resolve, reject) => {
    worker.once('message', resolve).once('error', reject);
  });
  let open = 0;
  for (let filler = 0; filler < FILLERS; filler++) {
    const socket = connect({ host: '127.0.0.1', port })
      .on('error', () => {})
      .on('connect', () => open++);
    context.defer(() => socket.destroy());
  }
  await delay(FULL_AFTER_MS);
  if (open === FILLERS) throw new Error('the suite could not fill the backlog of its target');
  return { address: '127.0.0.1', port };
}
