/**
 * Both ends of a UDP conversation through a forwarder: every datagram is kept until a case takes it. Empty ones
 * count only where a case is about them: rinetd makes them up, and is to fail that case alone.
 */

import { createSocket, type Socket } from 'node:dgram';
import type { Context } from './context.ts';
import type { Endpoint } from './program.ts';

export interface Datagram {
  readonly bytes: Buffer;
  readonly from: Endpoint;
}

const LIMIT_MS = 5000;
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;

export class UdpPeer {
  readonly endpoint: Endpoint;
  readonly #socket: Socket;
  readonly #arrived: Datagram[] = [];
  #error: Error | undefined;
  #wake: () => void = () => {};

  constructor(socket: Socket, context: Context, keepEmpty: boolean) {
    this.#socket = socket;
    this.endpoint = socket.address();
    context.defer(() => socket.close());
    socket.setRecvBufferSize(RECEIVE_BUFFER_BYTES);
    socket.on('message', (bytes, { address, port }) => {
      if (bytes.length === 0 && !keepEmpty) return;
      this.#arrived.push({ bytes, from: { address, port } });
      this.#wake();
    });
    socket.on('error', (error) => {
      this.#error = error;
      this.#wake();
    });
  }

  /** To the endpoint that it is connected to, or to `to`. */
  send(bytes: Buffer | string, to?: Endpoint): void {
    if (to === undefined) this.#socket.send(bytes);
    else this.#socket.send(bytes, to.port, to.address);
  }

  /** The next datagram. Rejects with the socket's error where the kernel reports one. */
  async next(withinMs: number = LIMIT_MS): Promise<Datagram> {
    const datagram = await this.maybe(withinMs);
    if (datagram === undefined) throw new Error(`no datagram arrived in ${withinMs} ms`);
    return datagram;
  }

  /** The next datagram, or nothing where none arrives in time. */
  async maybe(withinMs: number): Promise<Datagram | undefined> {
    if (this.#arrived.length === 0 && this.#error === undefined)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, withinMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    const [datagram, error] = [this.#arrived.shift(), this.#error];
    if (datagram === undefined && error !== undefined) {
      this.#error = undefined;
      throw error;
    }
    return datagram;
  }
}

/** A client of whatever takes datagrams at `endpoint`, on a connected socket. */
export async function openUdp(
  context: Context,
  endpoint: Endpoint,
  { from = '127.0.0.1', keepEmpty = false }: { readonly from?: string; readonly keepEmpty?: boolean } = {},
): Promise<UdpPeer> {
  const socket = await bound({ address: from, port: 0 });
  await new Promise<void>((resolve) => {
    socket.connect(endpoint.port, endpoint.address, resolve);
  });
  return new UdpPeer(socket, context, keepEmpty);
}

/** A server for a rule to point at. */
export async function udpTarget(context: Context, keepEmpty: boolean = false): Promise<UdpPeer> {
  return new UdpPeer(await bound({ address: '127.0.0.1', port: 0 }), context, keepEmpty);
}

/** A server that sends back what it gets and is not empty, after it has shown it to `look`. */
export async function udpEcho(
  context: Context,
  endpoint?: Endpoint,
  look?: (datagram: Datagram) => void,
): Promise<Endpoint> {
  const socket = await bound(endpoint ?? { address: '127.0.0.1', port: 0 });
  context.defer(() => socket.close());
  socket.on('message', (bytes, { address, port }) => {
    if (bytes.length === 0) return;
    look?.({ bytes, from: { address, port } });
    socket.send(bytes, port, address);
  });
  // Its client gets too little, and says so.
  socket.on('error', () => {});
  return socket.address();
}

function bound({ address, port }: Endpoint): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4');
    socket.once('error', reject);
    socket.bind({ address, port }, () => {
      socket.removeListener('error', reject);
      resolve(socket);
    });
  });
}
