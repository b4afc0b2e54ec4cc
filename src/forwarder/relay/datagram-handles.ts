/**
 * Datagrams on Node's own UDP handles. node:dgram looks an address up, makes a request and emits an event for each
 * datagram, and drops what a send reports where nobody waits for it. Node does not promise that these handles stay as
 * they are: `nodeDatagramHandles` answers undefined where anything is not as expected, and datagram-sockets.ts serves.
 *
 * A handle sends at once where it can. Only what must wait needs its request and its list, so one of each serves all
 * sockets until then.
 */

import { getSystemErrorName } from 'node:util';
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

type Chunks = (Uint8Array | undefined)[];

interface UdpHandle {
  socket?: HandleSocket;
  onmessage?: (status: number, handle: UdpHandle, datagram: Uint8Array | undefined, from: Sender) => void;
  bind(address: string, port: number, flags: number): number;
  bind6(address: string, port: number, flags: number): number;
  connect(address: string, port: number): number;
  connect6(address: string, port: number): number;
  send(request: object, chunks: Chunks, count: number, isTold: boolean): number;
  send(request: object, chunks: Chunks, count: number, port: number, to: string, isTold: boolean): number;
  send6(request: object, chunks: Chunks, count: number, isTold: boolean): number;
  send6(request: object, chunks: Chunks, count: number, port: number, to: string, isTold: boolean): number;
  getSendQueueCount(): number;
  recvStart(): number;
  bufferSize(bytes: number, ofReceiving: boolean, context: object): number | undefined;
  getsockname(name: { port?: number }): number;
  close(): void;
}

interface UdpBinding {
  readonly UDP: new () => UdpHandle;
  readonly SendWrap: new () => object;
  readonly constants: { readonly UV_UDP_IPV6ONLY: number };
}

const METHODS = ['bind', 'bind6', 'connect', 'connect6', 'send', 'send6', 'getSendQueueCount', 'recvStart'];
METHODS.push('bufferSize', 'getsockname', 'close');

/** Node's handles, or undefined where this Node does not have them as expected. */
export function nodeDatagramHandles(): Datagrams | undefined {
  const { binding } = process as unknown as { binding?: (name: string) => unknown };
  try {
    const udp = binding?.call(process, 'udp_wrap') as Partial<UdpBinding> | undefined;
    return isUdpBinding(udp) ? new HandleDatagrams(udp) : undefined;
  } catch {
    // The permission model and other runtimes have no bindings.
    return undefined;
  }
}

function isUdpBinding(binding: Partial<UdpBinding> | undefined): binding is UdpBinding {
  const prototype = binding?.UDP?.prototype as Record<string, unknown> | undefined;
  return (
    typeof binding?.SendWrap === 'function' &&
    typeof binding.constants?.UV_UDP_IPV6ONLY === 'number' &&
    METHODS.every((name) => typeof prototype?.[name] === 'function')
  );
}

class HandleDatagrams implements Datagrams {
  readonly #binding: UdpBinding;
  readonly #outbox: Outbox;

  constructor(binding: UdpBinding) {
    this.#binding = binding;
    this.#outbox = new Outbox(binding);
  }

  listen(at: { readonly address: string; readonly port: number }): DatagramListener {
    const handle = new this.#binding.UDP();
    const flags = at.address === '::' ? 0 : this.#binding.constants.UV_UDP_IPV6ONLY;
    const status = bind(handle, at.address, at.port, flags) || begin(handle);
    if (status !== 0) {
      handle.close();
      throw new ListenError(nameOf(status));
    }
    const name: { port?: number } = {};
    handle.getsockname(name);
    return new HandleListener(handle, this.#outbox, at.address, name.port ?? at.port);
  }

  connect({ to, from, done }: DatagramDial): void {
    const handle = new this.#binding.UDP();
    const is6 = family(to.address) === 6;
    let status = 0;
    if (from !== undefined) {
      status = bind(handle, from.address ?? (is6 ? '::' : '0.0.0.0'), from.port ?? 0, 0);
    }
    if (status === 0) {
      status = is6 ? handle.connect6(to.address, to.port) : handle.connect(to.address, to.port);
    }
    status ||= begin(handle);
    if (status === 0) {
      done(new HandleSocket(handle, this.#outbox, is6), undefined);
    } else {
      handle.close();
      done(undefined, nameOf(status));
    }
  }
}

class HandleSocket implements DatagramSocket {
  owner: DatagramOwner = DEAF;
  readonly #handle: UdpHandle;
  readonly #outbox: Outbox;
  readonly #is6: boolean;
  #isClosed = false;
  /** Something may wait in the handle. */
  #isFull = false;

  constructor(handle: UdpHandle, outbox: Outbox, is6: boolean) {
    this.#handle = handle;
    this.#outbox = outbox;
    this.#is6 = is6;
    handle.socket = this;
  }

  sendTo(datagram: Uint8Array, { address, port }: Sender): void {
    if (this.#isClosed || (this.#isFull && this.#mustWait())) return;
    const handle = this.#handle;
    const { request, chunks } = this.#outbox;
    chunks[0] = datagram;
    const status = this.#is6
      ? handle.send6(request, chunks, 1, port, address, false)
      : handle.send(request, chunks, 1, port, address, false);
    if (status === 0) this.#waits();
  }

  send(datagram: Uint8Array, header: Uint8Array | undefined): void {
    if (this.#isClosed || (this.#isFull && this.#mustWait())) return;
    const { request, chunks } = this.#outbox;
    let count = 1;
    if (header === undefined) chunks[0] = datagram;
    else {
      chunks[0] = header;
      chunks[1] = datagram;
      count = 2;
    }
    const status = this.#handle.send(request, chunks, count, false);
    if (status === 0) this.#waits();
    // Its owner may close it; that is to be after this call.
    else if (status < 0) queueMicrotask(() => this.#isClosed || this.owner.failed(nameOf(status)));
  }

  /** The request and its list are the handle's until the datagram has gone. */
  #waits(): void {
    this.#isFull = true;
    this.#outbox.renew();
  }

  #mustWait(): boolean {
    this.#isFull = this.#handle.getSendQueueCount() > 0;
    return this.#isFull;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#handle.close();
  }
}

class HandleListener extends HandleSocket implements DatagramListener {
  readonly endpoint: Endpoint;

  constructor(handle: UdpHandle, outbox: Outbox, address: string, port: number) {
    super(handle, outbox, family(address) === 6);
    this.endpoint = { address, port };
  }
}

/** What a send needs besides the datagram. */
class Outbox {
  readonly #binding: UdpBinding;
  request: object;
  chunks: Chunks = [undefined, undefined];

  constructor(binding: UdpBinding) {
    this.#binding = binding;
    this.request = new binding.SendWrap();
  }

  renew(): void {
    // Keeps what is being sent.
    Object.assign(this.request, { chunks: this.chunks });
    this.request = new this.#binding.SendWrap();
    this.chunks = [undefined, undefined];
  }
}

function begin(handle: UdpHandle): number {
  // Where the system allows less, it loses more of a burst.
  handle.bufferSize(RECEIVE_BUFFER_BYTES, true, {});
  Object.assign(handle, { onmessage: onMessage });
  return handle.recvStart();
}

/** Called by the handle with each datagram, and with each error. */
function onMessage(status: number, handle: UdpHandle, datagram: Uint8Array | undefined, from: Sender): void {
  const { owner } = handle.socket as HandleSocket;
  if (datagram !== undefined) owner.received(datagram, from);
  else if (status < 0) owner.failed(nameOf(status));
}

function bind(handle: UdpHandle, address: string, port: number, flags: number): number {
  return family(address) === 6 ? handle.bind6(address, port, flags) : handle.bind(address, port, 0);
}

function nameOf(status: number): string {
  return getSystemErrorName(status);
}
