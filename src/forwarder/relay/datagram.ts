/**
 * UDP sockets as the relay needs them: one that is bound where clients send to, and one towards each target. Two makers
 * keep this contract: datagram-handles.ts, Node's own handles without what node:dgram puts around them, and
 * datagram-sockets.ts, node:dgram itself, where the handles are not to be had.
 *
 * What a socket cannot send at once is lost, as on any line that is full: one datagram waits at most, and the queue is
 * the kernel's.
 */

import type { Endpoint } from '../../net/endpoint.ts';
import { type Dial, ignore } from './stream.ts';

/** As the socket writes it: on one for both families, an IPv4 address is `::ffff:192.0.2.1`. */
export interface Sender {
  readonly address: string;
  readonly port: number;
}

/** Hears what comes. None of it is called again after the owner has closed the socket. */
export interface DatagramOwner {
  /** The datagram is the owner's own from here on. */
  received(datagram: Uint8Array, from: Sender): void;
  /** By the system's word: ECONNREFUSED where ICMP says so, EMSGSIZE for what was too long. The socket is still open. */
  failed(code: string): void;
}

export interface DatagramSocket {
  owner: DatagramOwner;
  /** Tells no errors. They are the loss of that one receiver, and a bound socket has many. */
  sendTo(datagram: Uint8Array, to: Sender): void;
  /** To where it is connected. With a header the two are one datagram. */
  send(datagram: Uint8Array, header: Uint8Array | undefined): void;
  close(): void;
}

export interface DatagramListener extends DatagramSocket {
  /** Where it really listens. */
  readonly endpoint: Endpoint;
}

export interface DatagramDial {
  readonly to: Endpoint;
  /** Where it comes from; undefined: as the machine sees fit. */
  readonly from: Dial['from'];
  /** Called once, and perhaps before `connect` returns: with the socket, or the system's word for why not. */
  readonly done: (socket: DatagramSocket | undefined, code: string | undefined) => void;
}

export interface Datagrams {
  /** Throws or rejects with ListenError. `::` takes IPv4 as well. */
  listen(at: {
    readonly address: string;
    readonly port: number;
  }): DatagramListener | Promise<DatagramListener>;
  connect(dial: DatagramDial): void;
}

/** The loss of a burst is the loss of what the kernel cannot hold. */
export const RECEIVE_BUFFER_BYTES: number = 2 ** 22;

/** Owns what has no owner yet, and sockets that only send. */
export const DEAF: DatagramOwner = { received: ignore, failed: ignore };
