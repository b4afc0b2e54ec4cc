/** How conversations end: each direction by itself, in order or with a reset, and nothing is lost with it. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Case } from '../case.ts';
import { Pattern } from '../pattern.ts';
import { openTcp } from '../tcp-peer.ts';
import { tcpTarget } from '../tcp-target.ts';

const REPLY_AFTER_MS = 2000;
const REPLY_BYTES = 256 * 1024;
const CLOSED_AT_ONCE_BYTES = 200_000;
const SLOW_READER_BYTES = 10_000_000;

export const tcpClosing: readonly Case[] = [
  {
    name: "the reply arrives whole two seconds after the client's FIN",
    protocol: 'tcp',
    async run(subject, context) {
      const target = await tcpTarget(context);
      const { at } = await subject.forward('tcp', target.endpoint);
      const client = await openTcp(context, at);
      client.socket.end('request');
      const server = await target.accepted();
      await server.read(7);
      await server.expectEnd(1000);
      await delay(REPLY_AFTER_MS);
      const reply = new Pattern(1);
      context.beside(server.pour(reply, REPLY_BYTES).then(() => server.socket.end()));
      await client.drink(reply, REPLY_BYTES);
      await client.expectEnd();
    },
  },
  {
    name: "what the client sends after the server's FIN arrives whole",
    protocol: 'tcp',
    async run(subject, context) {
      const target = await tcpTarget(context);
      const { at } = await subject.forward('tcp', target.endpoint);
      const client = await openTcp(context, at);
      const server = await target.accepted();
      server.socket.end('banner');
      await client.read(6);
      await client.expectEnd();
      await delay(REPLY_AFTER_MS);
      const upload = new Pattern(2);
      context.beside(client.pour(upload, REPLY_BYTES).then(() => client.socket.end()));
      await server.drink(upload, REPLY_BYTES);
      await server.expectEnd();
    },
  },
  {
    name: "the client's reset reaches the server as a reset",
    protocol: 'tcp',
    async run(subject, context) {
      const target = await tcpTarget(context);
      const { at } = await subject.forward('tcp', target.endpoint);
      const client = await openTcp(context, at);
      await client.write('x');
      const server = await target.accepted();
      await server.read(1);
      client.socket.resetAndDestroy();
      if ((await server.ending()) !== 'RST') throw new Error('the server saw a FIN');
    },
  },
  {
    name: "the server's reset reaches the client as a reset",
    protocol: 'tcp',
    async run(subject, context) {
      const target = await tcpTarget(context);
      const { at } = await subject.forward('tcp', target.endpoint);
      const client = await openTcp(context, at);
      const server = await target.accepted();
      await server.write('x');
      await client.read(1);
      server.socket.resetAndDestroy();
      if ((await client.ending()) !== 'RST') throw new Error('the client saw a FIN');
    },
  },
  {
    name: 'a client that sends and closes at once loses nothing',
    protocol: 'tcp',
    async run(subject, context) {
      const target = await tcpTarget(context);
      const { at } = await subject.forward('tcp', target.endpoint);
      const upload = new Pattern(3);
      const client = await openTcp(context, at);
      context.beside(client.pour(upload, CLOSED_AT_ONCE_BYTES).then(() => client.socket.end()));
      const server = await target.accepted();
      await server.drink(upload, CLOSED_AT_ONCE_BYTES);
      await server.expectEnd();
    },
  },
  {
    name: 'a server that sends and closes at once loses nothing to a client that is slow',
    protocol: 'tcp',
    async run(subject, context) {
      const download = new Pattern(4);
      const target = await tcpTarget(context, (server) => {
        context.beside(server.pour(download, SLOW_READER_BYTES).then(() => server.socket.end()));
      });
      const { at } = await subject.forward('tcp', target.endpoint);
      const client = await openTcp(context, at);
      const slice = SLOW_READER_BYTES / 20;
      for (let offset = 0; offset < SLOW_READER_BYTES; offset += slice) {
        await delay(100);
        await client.drink(download, slice, offset);
      }
      await client.expectEnd();
    },
  },
];
