/** A relay with what stands on both sides of it: clients and servers on real sockets, names and time of the test's own. */

import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram';
import { createServer, Socket, type SocketConstructorOpts } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import type { ApplyReport, EngineEvent } from '../../../src/forwarder/engine.ts';
import type { Datagrams } from '../../../src/forwarder/relay/datagram.ts';
import { nodeDatagramHandles } from '../../../src/forwarder/relay/datagram-handles.ts';
import { nodeDatagramSockets } from '../../../src/forwarder/relay/datagram-sockets.ts';
import { Relay } from '../../../src/forwarder/relay/engine.ts';
import type { HostsTexts } from '../../../src/forwarder/relay/gate.ts';
import { nodeHandles } from '../../../src/forwarder/relay/handles.ts';
import { nodeSockets } from '../../../src/forwarder/relay/sockets.ts';
import type { Streams } from '../../../src/forwarder/relay/stream.ts';
import type { Table } from '../../../src/forwarder/table.ts';
import { parseRule } from '../../../src/forwarder/text.ts';
import type { NatwardError } from '../../../src/errors.ts';
import type { IpAddress } from '../../../src/net/address.ts';
import type { HostAddresses, Names } from '../../../src/system/names.ts';
import type { InterfaceAddress } from '../../../src/system/routes.ts';
import { TestClock } from '../../support/test-clock.ts';

const PATIENCE_MS = 8000;

/** Both makers of streams, by the words for them. */
export const STREAMS: readonly (readonly [name: string, streams: Streams])[] = [
  ['node handles', nodeHandles() as Streams],
  ['node:net', nodeSockets],
];

/** Waits for what real sockets bring about. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string = String(condition),
): Promise<void> {
  const endMs = performance.now() + PATIENCE_MS;
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`it never came to this: ${what}`);
    await pause(1);
  }
}

/** Time enough for what must not happen on loopback. */
export function aWhile(): Promise<void> {
  return pause(40);
}

let places = 0;

/** An address of 127.0.0.0/8 that no other test has. */
export function ownAddress(): IpAddress {
  places++;
  return `127.${1 + (process.pid % 250)}.${1 + Math.floor(places / 250)}.${1 + (places % 250)}`;
}

/** Nobody listens there. */
export async function freePort(address: IpAddress = '127.0.0.1'): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, address, resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export function table(...lines: readonly string[]): Table {
  return lines.map((line, index) => named(`r${index + 1}`, line));
}

export function named(id: string, line: string): Table[number] {
  return { ...parseRule(line), id, enabled: true };
}

/** One end of a TCP connection, with all that it has seen. */
export class Peer {
  readonly socket: Socket;
  readonly chunks: Buffer[] = [];
  isConnected = false;
  hasEnded = false;
  isClosed = false;
  error: string | undefined;
  bytes = 0;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('connect', () => (this.isConnected = true));
    socket.on('data', (chunk: Buffer) => {
      this.chunks.push(chunk);
      this.bytes += chunk.length;
    });
    socket.on('end', () => (this.hasEnded = true));
    socket.on('error', (error: NodeJS.ErrnoException) => (this.error = error.code));
    socket.on('close', () => (this.isClosed = true));
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString('latin1');
  }

  say(data: string | Uint8Array): void {
    this.socket.write(data);
  }

  async hears(text: string): Promise<void> {
    await until(() => this.text.includes(text), `"${text}" arrives; there is "${this.text.slice(0, 200)}"`);
  }
}

const HALF_OPEN: SocketConstructorOpts = { allowHalfOpen: true };

export function client(
  to: { readonly address: IpAddress; readonly port: number },
  from?: { readonly localAddress?: string; readonly localPort?: number },
): Peer {
  const socket = new Socket(HALF_OPEN);
  const peer = new Peer(socket);
  socket.connect({ host: to.address, port: to.port, ...from });
  onTestFinished(() => void socket.destroy());
  return peer;
}

export interface Server {
  readonly address: IpAddress;
  readonly port: number;
  readonly peers: readonly Peer[];
  /** The next one that has not been handed out. */
  accepted(): Promise<Peer>;
  close(): Promise<void>;
}

/** A server that answers as `each` says. */
export async function serve(
  each: (peer: Peer) => void = () => undefined,
  at: { readonly address?: IpAddress; readonly port?: number; readonly paused?: boolean } = {},
): Promise<Server> {
  const { address = '127.0.0.1', port = 0, paused = false } = at;
  const peers: Peer[] = [];
  let handedOut = 0;
  const server = createServer({ ...HALF_OPEN, pauseOnConnect: paused }, (socket) => {
    const peer = new Peer(socket);
    if (paused) socket.pause();
    peers.push(peer);
    each(peer);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, address, resolve);
  });
  const close = async () => {
    for (const { socket } of peers) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  };
  onTestFinished(close);
  return {
    address,
    port: (server.address() as { port: number }).port,
    peers,
    async accepted() {
      const at = handedOut++;
      await until(() => peers.length > at, 'a connection arrives at the target');
      return peers[at] as Peer;
    },
    close,
  };
}

export function echo(peer: Peer): void {
  peer.socket.pipe(peer.socket);
}

/** A UDP socket with all the datagrams that it has seen. */
export class UdpPeer {
  readonly socket: UdpSocket;
  readonly heard: string[] = [];
  readonly from: RemoteInfo[] = [];

  constructor(socket: UdpSocket) {
    this.socket = socket;
    socket.on('error', () => undefined);
    socket.on('message', (datagram, from) => {
      this.heard.push(datagram.toString('latin1'));
      this.from.push(from);
    });
  }

  get port(): number {
    return this.socket.address().port;
  }

  send(data: string | Uint8Array, to: { readonly address: IpAddress; readonly port: number }): void {
    this.socket.send(data, to.port, to.address);
  }
}

export async function udpPeer(
  address: IpAddress = '127.0.0.1',
  answer?: (data: Buffer) => string | Buffer,
  port = 0,
): Promise<UdpPeer> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  const peer = new UdpPeer(socket);
  if (answer !== undefined) {
    socket.on('message', (data, from) => socket.send(answer(data), from.port, from.address));
  }
  await new Promise<void>((resolve) => socket.bind(port, address, resolve));
  onTestFinished(() => void socket.close());
  return peer;
}

/** Names as the test says; asked counts the questions. */
export class TestNames implements Names {
  readonly known: Map<string, HostAddresses | Promise<HostAddresses>> = new Map();
  readonly back: Map<IpAddress, readonly string[] | Promise<readonly string[]>> = new Map();
  readonly asked: string[] = [];

  async addressesOf(name: string): Promise<HostAddresses> {
    this.asked.push(name);
    const found = await this.known.get(name);
    if (found === undefined) throw new Error(`there is no ${name}`);
    return found;
  }

  async namesOf(address: IpAddress): Promise<readonly string[]> {
    this.asked.push(address);
    return (await this.back.get(address)) ?? [];
  }
}

/** Bytes without a pattern that a buffer's size could hide. */
export function noise(length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let at = 0, value = 1; at < length; at++) {
    value = (Math.imul(value, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[at] = value >>> 24;
  }
  return bytes;
}

export const LOOPBACK: readonly InterfaceAddress[] = [
  { interface: 'lo', family: 4, address: '127.0.0.1', prefixLength: 8, internal: true },
  { interface: 'lo', family: 6, address: '::1', prefixLength: 128, internal: true },
];

export interface UnderTest {
  readonly relay: Relay;
  readonly clock: TestClock;
  readonly names: TestNames;
  readonly events: EngineEvent[];
  /** What is wrong now. */
  readonly troubles: Map<string, NatwardError>;
  /** What the machine has: to be changed. */
  readonly host: { own: readonly InterfaceAddress[]; hosts: HostsTexts };
  apply(...lines: readonly string[]): Promise<ApplyReport>;
}

export function relayOn(
  streams: Streams,
  options: { readonly own?: readonly InterfaceAddress[]; readonly fileLimit?: number } = {},
): UnderTest {
  const clock = new TestClock();
  const names = new TestNames();
  const host = { own: options.own ?? LOOPBACK, hosts: { allow: '', deny: '' } };
  const relay = new Relay({
    clock,
    names,
    streams,
    datagrams: streams === nodeSockets ? nodeDatagramSockets : (nodeDatagramHandles() as Datagrams),
    ownAddresses: () => host.own,
    readHosts: () => host.hosts,
    fileLimit: options.fileLimit ?? 4096,
    kernelCan: 'the kernel’s engine can',
  });
  const events: EngineEvent[] = [];
  relay.listen((event) => events.push(event));
  const troubles = new Map<string, NatwardError>();
  relay.onTrouble((key, error) => (error === undefined ? troubles.delete(key) : troubles.set(key, error)));
  onTestFinished(() => relay[Symbol.asyncDispose]());
  return {
    relay,
    clock,
    names,
    events,
    troubles,
    host,
    apply: (...lines) => relay.apply(table(...lines), { conversations: 'drain' }),
  };
}
