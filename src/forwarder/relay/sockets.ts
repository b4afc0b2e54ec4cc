/** Streams on node:net, for where Node's own handles are not to be had: slower, and the same in all else. */

import { connect, createServer, Socket } from 'node:net';
import type { Endpoint } from '../../net/endpoint.ts';
import { parseAddress } from '../../net/address.ts';
import {
  type Dial,
  KEEP_ALIVE_SECONDS,
  ListenError,
  NOBODY,
  type Stream,
  type StreamListener,
  type StreamOwner,
  type Streams,
} from './stream.ts';

const BACKLOG = 1024;

export const nodeSockets: Streams = {
  listen({ address, port }, accepted, failed) {
    const server = createServer(
      {
        allowHalfOpen: true,
        pauseOnConnect: true,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: KEEP_ALIVE_SECONDS * 1000,
      },
      (socket) => accepted(new SocketStream(socket)),
    );
    return new Promise<StreamListener>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) =>
        reject(new ListenError(error.code ?? error.message)),
      );
      server.listen(
        { host: address, port, backlog: BACKLOG, ipv6Only: address !== '::', exclusive: true },
        () => {
          server.removeAllListeners('error');
          server.on('error', (error: NodeJS.ErrnoException) => failed(error.code ?? error.message));
          const bound = server.address() as { readonly port: number };
          resolve({ endpoint: { address, port: bound.port }, close: () => server.close() });
        },
      );
    });
  },

  connect({ to, from, done }: Dial): () => void {
    const socket = connect({
      host: to.address,
      port: to.port,
      allowHalfOpen: true,
      noDelay: true,
      ...(from?.address === undefined ? {} : { localAddress: from.address }),
      ...(from?.port === undefined ? {} : { localPort: from.port }),
    });
    const refused = (error: NodeJS.ErrnoException) => done(undefined, error.code ?? error.message);
    socket.once('error', refused);
    socket.once('connect', () => {
      socket.off('error', refused);
      done(new SocketStream(socket), undefined);
    });
    return () => {
      socket.removeAllListeners();
      socket.on('error', () => undefined);
      socket.destroy();
    };
  },
};

class SocketStream implements Stream {
  owner: StreamOwner = NOBODY;
  readonly #socket: Socket;
  #isClosed = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.pause();
    socket.on('data', (chunk: Buffer) => this.owner.received(this, chunk));
    socket.on('end', () => this.#isClosed || this.owner.ended(this));
    socket.on('error', (error: NodeJS.ErrnoException) => this.#failed(error.code ?? error.message));
    socket.pause();
  }

  get remote(): Endpoint | undefined {
    return endpointOf(this.#socket.remoteAddress, this.#socket.remotePort);
  }

  get local(): Endpoint | undefined {
    return endpointOf(this.#socket.localAddress, this.#socket.localPort);
  }

  start(): void {
    if (!this.#isClosed) this.#socket.resume();
  }

  stop(): void {
    this.#socket.pause();
  }

  write(chunk: Uint8Array): 'sent' | 'pending' {
    if (this.#isClosed || !this.#socket.writable) return 'sent';
    this.#socket.write(chunk, (error) => {
      if (!error && !this.#isClosed && this.#socket.writableLength === 0) this.owner.drained(this);
    });
    return 'pending';
  }

  end(): void {
    if (!this.#isClosed) this.#socket.end();
  }

  reset(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { writableEnded, writableLength, writableFinished } = this.#socket;
    // While FIN is on its way a reset is refused, and Node then never closes the handle.
    if (!writableEnded || writableLength > 0 || writableFinished) this.#socket.resetAndDestroy();
    else this.#socket.once('finish', () => this.#socket.resetAndDestroy());
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.destroy();
  }

  rest(): void {
    // Its buffers are its own.
  }

  #failed(code: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.destroy();
    this.owner.failed(this, code);
  }
}

function endpointOf(text: string | undefined, port: number | undefined): Endpoint | undefined {
  const address = text === undefined ? undefined : parseAddress(text);
  return address === undefined || port === undefined ? undefined : { address, port };
}
