/**
 * A relay in a process of its own, whose limit of files the test sets: it is told of a larger one, so that it meets
 * the kernel's. It echoes to itself; for each line on its input it says what is open.
 */

import { createServer } from 'node:net';
import { Relay } from '../../../src/forwarder/relay/engine.ts';
import { nodeHandles } from '../../../src/forwarder/relay/handles.ts';
import { nodeSockets } from '../../../src/forwarder/relay/sockets.ts';
import { nodeDatagramSockets } from '../../../src/forwarder/relay/datagram-sockets.ts';
import type { Streams } from '../../../src/forwarder/relay/stream.ts';
import { parseRule } from '../../../src/forwarder/text.ts';
import { systemClock } from '../../../src/system/clock.ts';
import { systemNames } from '../../../src/system/names.ts';

const streams = process.argv[2] === 'node:net' ? nodeSockets : (nodeHandles() as Streams);
const target = createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => socket.destroy());
  socket.pipe(socket);
});
await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
const { port: targetPort } = target.address() as { port: number };
const relay = new Relay({
  clock: systemClock,
  names: systemNames,
  streams,
  datagrams: nodeDatagramSockets,
  ownAddresses: () => [],
  readHosts: () => ({ allow: '', deny: '' }),
  fileLimit: 4096,
  kernelCan: 'the kernel’s engine can',
});
const probe = createServer();
await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
const { port } = probe.address() as { port: number };
await new Promise((resolve) => probe.close(resolve));
const line = `in tcp 127.0.0.1:${port} -> 127.0.0.1:${targetPort}`;
await relay.apply([{ ...parseRule(line), id: 'r1', enabled: true }], { conversations: 'drain' });
process.stdout.write(`listens ${port}\n`);
process.stdin.on('data', () => {
  void relay.conversations().then(({ length }) => process.stdout.write(`open ${length}\n`));
});
