/** Clients: sends first packets as lines of JSON say, and keeps what began open until the next line. */

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { FirstPacket } from '../../../../src/forwarder/decide.ts';

export type SenderRequest = Pick<FirstPacket, 'protocol' | 'source' | 'destination'>[];

export interface SenderAnswer {
  /** Connections that nobody answered. */
  readonly silent: number;
}

/** Before a second is over: the kernel would say it again. */
const SILENT_MS = 900;

const open: (Socket | UdpSocket)[] = [];

/** Reports whether somebody answered. */
async function sends({ protocol, source, destination }: SenderRequest[number]): Promise<boolean> {
  if (protocol === 'udp') {
    const socket = createSocket('udp4');
    open.push(socket);
    socket.on('error', () => undefined);
    socket.bind(source.port, source.address);
    await once(socket, 'listening');
    await new Promise((resolve) => socket.send('first', destination.port, destination.address, resolve));
    return true;
  }
  const socket = connect({
    host: destination.address,
    port: destination.port,
    localAddress: source.address,
    localPort: source.port,
  });
  open.push(socket);
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      socket.destroy();
      resolve(false);
    }, SILENT_MS);
    const answered = () => {
      clearTimeout(timer);
      resolve(true);
    };
    socket.on('connect', answered);
    socket.on('error', answered);
  });
}

function close(): void {
  for (const socket of open.splice(0)) {
    if ('resetAndDestroy' in socket) {
      if (!socket.destroyed) socket.resetAndDestroy();
    } else socket.close();
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  close();
  const packets: SenderRequest = JSON.parse(line);
  const answered = await Promise.all(packets.map(sends));
  const answer: SenderAnswer = { silent: answered.filter((one) => !one).length };
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
close();
