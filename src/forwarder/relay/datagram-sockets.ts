/** Datagrams on node:dgram, for where Node's own handles are not to be had: slower, and the same in all else. */

import { createSocket, type Socket } from 'node:dgram';
import { family } from '../../net/address.ts';
import type { Endpoint } from '../../net/endpoint.ts';
import {
  DEAF,
  type DatagramDial,
  type DatagramListener,
  type DatagramOwner,
  type Datagrams,
  type DatagramSocket,
  RECEIVE_BUFFER_BYTES,
  type Sender,
} from './datagram.ts';
import { ListenError } from './stream.ts';

export const nodeDatagramSockets: Datagrams = {
  listen({ address, port }) {
    const socket = createSocket({
      type: typeOf(address),
      ipv6Only: family(address) === 6 && address !== '::',
      lookup: asItIs,
    });
    return new Promise<DatagramListener>((resolve, reject) => {
      socket.once('error', (error: NodeJS.ErrnoException) => {
        socket.close();
        reject(new ListenError(error.code ?? error.message));
      });
      socket.bind({ address, port, exclusive: true }, () => {
        const bound = socket.address() as { readonly port: number };
        resolve(new NodeListener(socket, { address, port: bound.port }));
      });
    });
  },

  connect({ to, from, done }: DatagramDial): void {
    const socket = createSocket({ type: typeOf(to.address), lookup: asItIs });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      socket.close();
      done(undefined, error.code ?? error.message);
    });
    const reach = () => socket.connect(to.port, to.address, () => done(new NodeSocket(socket), undefined));
    if (from === undefined) reach();
    else {
      const address = from.address === undefined ? {} : { address: from.address };
      socket.bind({ ...address, port: from.port ?? 0, exclusive: true }, reach);
    }
  },
};

class NodeSocket implements DatagramSocket {
  owner: DatagramOwner = DEAF;
  readonly #socket: Socket;
  #isClosed = false;
  readonly #sent = (error: Error | null): void => {
    if (error !== null) this.#failed(error);
  };

  constructor(socket: Socket) {
    this.#socket = socket;
    trySize(socket);
    socket.removeAllListeners('error');
    socket.on('error', (error) => this.#failed(error));
    socket.on('message', (datagram, from) => this.owner.received(datagram, from));
  }

  sendTo(datagram: Uint8Array, { address, port }: Sender): void {
    if (!this.#mayWait) return;
    this.#socket.send(datagram, port, address);
  }

  send(datagram: Uint8Array, header: Uint8Array | undefined): void {
    if (!this.#mayWait) return;
    this.#socket.send(header === undefined ? datagram : [header, datagram], this.#sent);
  }

  /** node:dgram queues without a limit what the kernel does not take. */
  get #mayWait(): boolean {
    return !this.#isClosed && this.#socket.getSendQueueCount() === 0;
  }

  #failed({ code, message }: NodeJS.ErrnoException): void {
    if (!this.#isClosed) this.owner.failed(code ?? message);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.close();
  }
}

class NodeListener extends NodeSocket implements DatagramListener {
  readonly endpoint: Endpoint;

  constructor(socket: Socket, endpoint: Endpoint) {
    super(socket);
    this.endpoint = endpoint;
  }
}

function typeOf(address: string): 'udp4' | 'udp6' {
  return family(address) === 6 ? 'udp6' : 'udp4';
}

/** Addresses need no look-up; Node's own would put each datagram off to a later turn. */
function asItIs(
  address: string,
  _: unknown,
  found: (error: null, address: string, family: number) => void,
): void {
  found(null, address, family(address));
}

function trySize(socket: Socket): void {
  try {
    socket.setRecvBufferSize(RECEIVE_BUFFER_BYTES);
  } catch {
    // The system's own size does, and loses more of a burst.
  }
}
