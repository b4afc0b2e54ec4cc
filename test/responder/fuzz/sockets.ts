/** Sockets without a network: what the responder's faces take for theirs, and what the harness puts in and takes out. */

import { EventEmitter } from 'node:events';
import type { Socket as DatagramSocket } from 'node:dgram';
import type { Socket as StreamSocket } from 'node:net';
import { Duplex } from 'node:stream';
import { family, type IpAddress } from '../../../src/net/address.ts';
import type { Endpoint } from '../../../src/net/endpoint.ts';

export interface Sent {
  readonly packet: Uint8Array;
  readonly to: Endpoint;
}

export class MemoryDatagrams extends EventEmitter {
  sent: Sent[] = [];
  readonly #own: Endpoint;

  constructor(own: Endpoint) {
    super();
    this.#own = own;
  }

  /** As the faces know it. */
  get socket(): DatagramSocket {
    return this as unknown as DatagramSocket;
  }

  address(): Endpoint & { readonly family: string } {
    return { ...this.#own, family: `IPv${family(this.#own.address)}` };
  }

  send(packet: Uint8Array, port: number, address: IpAddress, done: () => void): void {
    this.sent.push({ packet: Uint8Array.from(packet), to: { address, port } });
    done();
  }

  close(done: () => void): void {
    done();
  }

  setMulticastTTL(): void {}

  receive(packet: Uint8Array, from: Endpoint): void {
    this.emit('message', Buffer.from(packet), {
      ...from,
      family: `IPv${family(from.address)}`,
      size: packet.length,
    });
  }

  /** What was sent since the last look. */
  take(): Sent[] {
    const { sent } = this;
    this.sent = [];
    return sent;
  }
}

/** One TCP connection, at the server's end. */
export class MemoryStream extends Duplex {
  readonly remoteAddress: IpAddress;
  readonly localAddress: IpAddress;
  readonly remotePort = 40_000;
  wasReset = false;
  hasEnded = false;
  readonly #written: Uint8Array[] = [];

  constructor(remoteAddress: IpAddress, localAddress: IpAddress) {
    super({ allowHalfOpen: true });
    this.remoteAddress = remoteAddress;
    this.localAddress = localAddress;
  }

  get socket(): StreamSocket {
    return this as unknown as StreamSocket;
  }

  get written(): Buffer {
    return Buffer.concat(this.#written);
  }

  override _read(): void {}

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: () => void): void {
    this.#written.push(chunk);
    done();
  }

  override _final(done: () => void): void {
    this.hasEnded = true;
    done();
  }

  resetAndDestroy(): void {
    this.wasReset = true;
    this.destroy();
  }

  setNoDelay(): void {}
  setTimeout(): void {}
  setKeepAlive(): void {}
}
