/**
 * Streams on Node's own TCP handles. node:net puts a stream, its events and its queues around each handle, which costs
 * a relay more than the kernel's part of a conversation does (docs/decisions/0012). Node does not promise that these
 * handles stay as they are: `nodeHandles` answers undefined where anything is not as expected, and sockets.ts serves.
 *
 * A handle reads into one buffer, again and again, and what it has read is written from there: so nothing is read
 * while a write of it is pending. The buffer grows with what comes, and all of them together have a limit.
 */

import { family, parseAddress } from '../../net/address.ts';
import type { Endpoint } from '../../net/endpoint.ts';
import { getSystemErrorName } from 'node:util';
import { Buffers, SIZES } from './buffers.ts';
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

interface Named {
  address?: string;
  port?: number;
}

interface TcpHandle {
  owner?: HandleStream;
  onread?: (this: TcpHandle) => Uint8Array | undefined;
  onconnection?: (status: number, client: TcpHandle | undefined) => void;
  bind(address: string, port: number): number;
  bind6(address: string, port: number, flags: number): number;
  listen(backlog: number): number;
  connect(request: object, address: string, port: number): number;
  connect6(request: object, address: string, port: number): number;
  useUserBuffer(buffer: Uint8Array): void;
  readStart(): number;
  readStop(): number;
  writeBuffer(request: object, chunk: Uint8Array): number;
  shutdown(request: object): number;
  setNoDelay(on: boolean): number;
  setKeepAlive(on: boolean, delaySeconds: number): number;
  reset(closed?: () => void): number;
  close(closed?: () => void): void;
  getpeername(name: Named): number;
  getsockname(name: Named): number;
}

interface TcpBinding {
  readonly TCP: new (type: number) => TcpHandle;
  readonly TCPConnectWrap: new () => { oncomplete?: (status: number) => void };
  readonly constants: { readonly SOCKET: number; readonly SERVER: number };
}

interface StreamBinding {
  readonly WriteWrap: new () => WriteRequest;
  readonly ShutdownWrap: new () => ShutdownRequest;
  /** Where the last read and write tell how they went. */
  readonly streamBaseState: Int32Array;
  readonly kReadBytesOrError: number;
  readonly kLastWriteWasAsync: number;
}

interface ShutdownRequest {
  stream?: HandleStream;
  oncomplete?: (this: ShutdownRequest, status: number) => void;
}

interface WriteRequest {
  handle?: TcpHandle;
  stream?: HandleStream;
  /** Keeps what is being written. */
  chunk?: Uint8Array | undefined;
  oncomplete?: (this: WriteRequest, status: number) => void;
}

const BACKLOG = 1024;
/** So many reads in a row would have fitted the smallest buffer. */
const SMALL_READS = 64;
/** tcp(7) does not say so, and inet_csk_clone_lock() does it since ever. */
const INHERITS_OPTIONS = process.platform === 'linux';
const EOF = 'EOF';
/** UV_TCP_IPV6ONLY */
const IPV6_ONLY = 1;

/** Node's handles, or undefined where this Node does not have them as expected. */
export function nodeHandles(): Streams | undefined {
  const { binding } = process as unknown as { binding?: (name: string) => unknown };
  try {
    const tcp = binding?.call(process, 'tcp_wrap') as Partial<TcpBinding> | undefined;
    const stream = binding?.call(process, 'stream_wrap') as Partial<StreamBinding> | undefined;
    if (!isTcpBinding(tcp) || !isStreamBinding(stream)) return undefined;
    return new HandleStreams(tcp, stream);
  } catch {
    // The permission model and other runtimes have no bindings.
    return undefined;
  }
}

function isTcpBinding(binding: Partial<TcpBinding> | undefined): binding is TcpBinding {
  const methods = [
    'bind',
    'bind6',
    'listen',
    'connect',
    'connect6',
    'useUserBuffer',
    'readStart',
    'readStop',
  ];
  methods.push(
    'writeBuffer',
    'shutdown',
    'setNoDelay',
    'setKeepAlive',
    'reset',
    'close',
    'getpeername',
    'getsockname',
  );
  const prototype = binding?.TCP?.prototype as Record<string, unknown> | undefined;
  return (
    typeof binding?.TCPConnectWrap === 'function' &&
    typeof binding.constants?.SERVER === 'number' &&
    methods.every((name) => typeof prototype?.[name] === 'function')
  );
}

function isStreamBinding(binding: Partial<StreamBinding> | undefined): binding is StreamBinding {
  return (
    typeof binding?.WriteWrap === 'function' &&
    typeof binding.ShutdownWrap === 'function' &&
    binding.streamBaseState instanceof Int32Array &&
    typeof binding.kReadBytesOrError === 'number' &&
    typeof binding.kLastWriteWasAsync === 'number'
  );
}

class HandleStreams implements Streams {
  readonly #tcp: TcpBinding;
  readonly #stream: StreamBinding;
  readonly #buffers = new Buffers();

  constructor(tcp: TcpBinding, stream: StreamBinding) {
    this.#tcp = tcp;
    this.#stream = stream;
  }

  listen(
    at: { readonly address: string; readonly port: number },
    accepted: (stream: Stream) => void,
    failed: (code: string) => void,
  ): StreamListener {
    const handle = new this.#tcp.TCP(this.#tcp.constants.SERVER);
    handle.onconnection = (status, client) => {
      if (status !== 0 || client === undefined) failed(nameOf(status));
      else {
        if (!INHERITS_OPTIONS) tune(client);
        accepted(new HandleStream(client, this.#stream, this.#buffers));
      }
    };
    const isWild = at.address === '::';
    const status = bind(handle, at.address, at.port, isWild ? 0 : IPV6_ONLY) || handle.listen(BACKLOG);
    if (status !== 0) {
      handle.close();
      throw new ListenError(nameOf(status));
    }
    // Linux hands both on to what is accepted; elsewhere each is told.
    tune(handle);
    const endpoint = endpointOf((name) => handle.getsockname(name)) ?? at;
    return { endpoint, close: () => handle.close() };
  }

  connect({ to, from, done }: Dial): () => void {
    const handle = new this.#tcp.TCP(this.#tcp.constants.SOCKET);
    let isOver = false;
    const fail = (status: number) => {
      isOver = true;
      handle.close();
      done(undefined, nameOf(status));
    };
    const request = new this.#tcp.TCPConnectWrap();
    request.oncomplete = (status) => {
      if (isOver) return;
      if (status !== 0) return fail(status);
      isOver = true;
      handle.setNoDelay(true);
      done(new HandleStream(handle, this.#stream, this.#buffers), undefined);
    };
    const is6 = family(to.address) === 6;
    let status = 0;
    if (from !== undefined)
      status = bind(handle, from.address ?? (is6 ? '::' : '0.0.0.0'), from.port ?? 0, 0);
    if (status === 0) {
      status = is6
        ? handle.connect6(request, to.address, to.port)
        : handle.connect(request, to.address, to.port);
    }
    if (status !== 0) queueMicrotask(() => isOver || fail(status));
    return () => {
      if (isOver) return;
      isOver = true;
      handle.close();
    };
  }
}

class HandleStream implements Stream {
  owner: StreamOwner = NOBODY;
  readonly handle: TcpHandle;
  readonly binding: StreamBinding;
  readonly buffers: Buffers;
  buffer: Uint8Array | undefined;
  smallReads = 0;
  isClosed = false;
  /** While it is not, what its buffer holds may be pending on another stream. */
  isReading = false;
  isPending = false;
  isEnding = false;
  /** FIN is on its way, and is to be followed by RST where it says so. */
  isShutting = false;
  isReset = false;
  isAskedAgain = false;

  constructor(handle: TcpHandle, binding: StreamBinding, buffers: Buffers) {
    this.handle = handle;
    this.binding = binding;
    this.buffers = buffers;
    handle.owner = this;
    handle.onread = onRead;
  }

  get remote(): Endpoint | undefined {
    return endpointOf((name) => this.handle.getpeername(name));
  }

  get local(): Endpoint | undefined {
    return endpointOf((name) => this.handle.getsockname(name));
  }

  start(): void {
    if (this.isClosed) return;
    if (this.buffer === undefined) {
      this.buffer = this.buffers.take(0) as Uint8Array;
      this.handle.useUserBuffer(this.buffer);
    }
    this.isReading = true;
    this.handle.readStart();
  }

  stop(): void {
    if (this.isClosed) return;
    this.isReading = false;
    this.handle.readStop();
  }

  write(chunk: Uint8Array): 'sent' | 'pending' {
    if (this.isClosed) return 'sent';
    const request = new this.binding.WriteWrap();
    request.handle = this.handle;
    request.stream = this;
    request.oncomplete = afterWrite;
    const status = this.handle.writeBuffer(request, chunk);
    if (status !== 0) {
      // Told when its owner has left this call.
      queueMicrotask(() => this.fail(status));
      return 'sent';
    }
    if (this.binding.streamBaseState[this.binding.kLastWriteWasAsync] === 0) return 'sent';
    request.chunk = chunk;
    this.isPending = true;
    return 'pending';
  }

  end(): void {
    if (this.isClosed) return;
    if (this.isPending) this.isEnding = true;
    else this.#shutdown();
  }

  #shutdown(): void {
    const request = new this.binding.ShutdownWrap();
    request.stream = this;
    request.oncomplete = afterShutdown;
    // One that the other end has closed needs no FIN any more: reading tells.
    this.isShutting = this.handle.shutdown(request) === 0;
  }

  reset(): void {
    if (this.isClosed) return;
    this.#over();
    // While FIN is on its way a reset is refused, and Node then never closes the handle.
    if (!this.isShutting) this.handle.reset();
    else {
      this.isReset = true;
      this.handle.readStop();
    }
  }

  close(): void {
    if (this.isClosed) return;
    this.#over();
    this.handle.close();
  }

  rest(): void {
    // Windows may have a read under way into the buffer that is there.
    if (this.isClosed || !this.isReading || this.buffer === undefined || process.platform === 'win32') return;
    if (this.buffer.length === SIZES[0]) return;
    this.swap(0);
    this.handle.useUserBuffer(this.buffer);
  }

  /** Takes another buffer, of this class of size. Answers it, or undefined where there is no room. */
  swap(size: number): Uint8Array | undefined {
    const next = this.buffers.take(size);
    if (next === undefined) return undefined;
    // One that is pending elsewhere stays with what is pending.
    this.buffers.giveBack(this.buffer as Uint8Array, this.isReading);
    this.smallReads = 0;
    this.buffer = next;
    return next;
  }

  #over(): void {
    this.isClosed = true;
    if (this.buffer !== undefined) this.buffers.giveBack(this.buffer, this.isReading);
  }

  /** To libuv an RST that comes right behind data is an end: where the peer is gone too, reading once more tells. */
  ended(): void {
    if (this.isAskedAgain || this.handle.getpeername({}) === 0) this.owner.ended(this);
    else {
      this.isAskedAgain = true;
      this.handle.readStart();
    }
  }

  /** Closes it and tells its owner. */
  fail(status: number): void {
    if (this.isClosed) return;
    this.close();
    this.owner.failed(this, nameOf(status));
  }

  /** What was pending has gone. */
  sent(): void {
    this.isPending = false;
    if (this.isClosed) return;
    if (this.isEnding) this.#shutdown();
    this.owner.drained(this);
  }
}

/** Called by the handle with each read. What it returns is the buffer from then on. */
function onRead(this: TcpHandle): Uint8Array | undefined {
  const stream = this.owner as HandleStream;
  if (stream.isClosed) return undefined;
  const { binding } = stream;
  const count = binding.streamBaseState[binding.kReadBytesOrError] as number;
  if (count > 0) {
    const buffer = stream.buffer as Uint8Array;
    const isFull = count === buffer.length;
    stream.owner.received(stream, isFull ? buffer : buffer.subarray(0, count));
    return stream.isClosed ? undefined : fitted(stream, buffer, count);
  }
  if (count === 0) return undefined;
  if (nameOf(count) === EOF) stream.ended();
  else stream.fail(count);
  return undefined;
}

/** Another buffer where this one is too small or too large for what comes. */
function fitted(stream: HandleStream, buffer: Uint8Array, count: number): Uint8Array | undefined {
  if (count === buffer.length) {
    const size = SIZES.findIndex((one) => one > count);
    return size < 0 ? undefined : stream.swap(size);
  }
  if (count > SIZES[0] || buffer.length === SIZES[0]) {
    stream.smallReads = 0;
    return undefined;
  }
  stream.smallReads++;
  return stream.smallReads < SMALL_READS ? undefined : stream.swap(0);
}

function afterWrite(this: WriteRequest, status: number): void {
  const stream = this.stream as HandleStream;
  this.chunk = undefined;
  if (status !== 0) stream.fail(status);
  else stream.sent();
}

function afterShutdown(this: ShutdownRequest): void {
  const stream = this.stream as HandleStream;
  stream.isShutting = false;
  if (stream.isReset) stream.handle.reset();
}

/** What a client sends goes on at once, and one that has vanished without a word does not stay for hours. */
function tune(handle: TcpHandle): void {
  handle.setNoDelay(true);
  handle.setKeepAlive(true, KEEP_ALIVE_SECONDS);
}

function bind(handle: TcpHandle, address: string, port: number, flags: number): number {
  return family(address) === 6 ? handle.bind6(address, port, flags) : handle.bind(address, port);
}

function endpointOf(ask: (name: Named) => number): Endpoint | undefined {
  const name: Named = {};
  if (ask(name) !== 0 || name.address === undefined || name.port === undefined) return undefined;
  // The kernel writes IPv4 as it is parsed; this is asked for each conversation.
  const address = name.address.includes(':') ? parseAddress(name.address) : name.address;
  return address === undefined ? undefined : { address, port: name.port };
}

function nameOf(status: number): string {
  return status === 0 ? 'UNKNOWN' : getSystemErrorName(status);
}
