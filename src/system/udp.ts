/**
 * UDP sockets. A socket may have a peer: then it is connected, which is the only way to learn that the
 * peer's host answers "port unreachable" (ICMP) and that waiting is in vain. A connected socket hears its
 * peer alone, so a second one on the same port hears everybody else: some routers answer from another port
 * (TP-Link ER605, BT HomeHub), and what strangers send is to be counted, not silently lost.
 */

import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { NatwardError } from '../errors.ts';
import { type Family, type IpAddress, parseAddress } from '../net/address.ts';
import type { Endpoint } from '../net/endpoint.ts';

export interface UdpOptions {
  readonly family: Family;
  /** Where to send from; the kernel chooses where it is left out. */
  readonly localAddress?: IpAddress;
  /** 0, the default: any free port. */
  readonly localPort?: number;
  readonly peer?: Endpoint;
  readonly multicast?: UdpMulticast;
  /** False: the socket alone keeps no process alive. */
  readonly keepsAlive?: boolean;
  readonly onDatagram: (data: Uint8Array, source: Endpoint) => void;
  /** The peer's host refused a datagram, or the way to it is gone. May come more than once. */
  readonly onRefused?: (error: NodeJS.ErrnoException) => void;
}

export interface UdpMulticast {
  /** IPv4: the interface's own address. IPv6: `::%eth0`. */
  readonly interface: string;
  /** Hop limit of what is sent. */
  readonly hops: number;
  /** Groups to listen to. */
  readonly join: readonly IpAddress[];
}

export interface UdpSocket extends AsyncDisposable {
  readonly local: Endpoint;
  /** To the peer where no `to` is given. What cannot be sent is lost, as datagrams are, or reported as refused. */
  send(data: Uint8Array, to?: Endpoint): void;
}

/** Opens a socket. Throws FAILED where the address is not ours or the port is taken. */
export type OpenUdp = (options: UdpOptions) => Promise<UdpSocket>;

export const openUdp: OpenUdp = async (options) => {
  const { peer, multicast } = options;
  const main = newSocket(options, peer !== undefined || (options.localPort ?? 0) !== 0);
  const open = [main];
  try {
    await bind(main, options.localPort ?? 0, options.localAddress);
    if (multicast !== undefined) {
      main.setMulticastTTL(multicast.hops);
      main.setMulticastInterface(multicast.interface);
      for (const group of multicast.join) main.addMembership(group, multicast.interface);
    }
    if (peer !== undefined) {
      await connect(main, peer);
      open.push(listenToOthers(main, options));
    }
  } catch (cause) {
    for (const socket of open) socket.close();
    const from = options.localAddress ?? 'any address';
    throw new NatwardError('FAILED', `cannot open a UDP socket on ${from}: ${(cause as Error).message}`, {
      cause,
    });
  }
  const { address, port } = main.address();
  return {
    local: { address, port },
    send(data, to) {
      const sent = (error: Error | null) => {
        if (error !== null) options.onRefused?.(error);
      };
      if (to === undefined) main.send(data, sent);
      else main.send(data, to.port, to.address, sent);
    },
    async [Symbol.asyncDispose]() {
      // Once: a socket that is closed already would throw.
      for (const socket of open.splice(0)) socket.close();
    },
  };
};

/** Not waited for, and not missed where the platform does not share ports: the peer's answers come without it. */
function listenToOthers(main: Socket, { onRefused: _peer, ...options }: UdpOptions): Socket {
  const { address, port } = main.address();
  const others = newSocket(options, true);
  others.bind({ address, port });
  return others;
}

function newSocket(options: UdpOptions, reuseAddr: boolean): Socket {
  const socket = createSocket({
    type: options.family === 6 ? 'udp6' : 'udp4',
    ipv6Only: options.family === 6,
    reuseAddr,
    // Only addresses come here: the resolver need not be loaded.
    lookup: (address, _options, callback) => callback(null, address, options.family),
  });
  if (options.keepsAlive === false) socket.unref();
  socket.on('message', (data: Uint8Array, source: RemoteInfo) => {
    const address = parseAddress(source.address);
    if (address !== undefined) options.onDatagram(data, { address, port: source.port });
  });
  socket.on('error', (error: NodeJS.ErrnoException) => options.onRefused?.(error));
  return socket;
}

function bind(socket: Socket, port: number, address: IpAddress | undefined): Promise<void> {
  return settled(socket, 'listening', () =>
    socket.bind({ port, ...(address === undefined ? {} : { address }) }),
  );
}

function connect(socket: Socket, peer: Endpoint): Promise<void> {
  return settled(socket, 'connect', () => socket.connect(peer.port, peer.address));
}

function settled(socket: Socket, event: 'listening' | 'connect', start: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = () => {
      socket.off('error', failed);
      resolve();
    };
    const failed = (error: Error) => {
      socket.off(event, done);
      reject(error);
    };
    socket.once(event, done);
    socket.once('error', failed);
    start();
  });
}
