/**
 * The program that stands in each namespace of the kernel's lab and does there what it is asked to: it listens,
 * connects and answers for names. A namespace is entered by a process, and one that stays answers in a millisecond. It
 * is asked over a Unix socket, which namespaces do not part: a JSON document a line, each way.
 *
 * Its servers answer each line (TCP) or datagram with what they see of it: a `Sight`.
 */

import dgram from 'node:dgram';
import net from 'node:net';
import readline from 'node:readline';
import { NameServer, type Zone } from './name-server.ts';

/** What a server sees of what came, and who it is. */
export interface Sight {
  readonly name: string;
  readonly from: string;
  readonly fromPort: number;
  /** Where it arrived. UDP: the address that the server is bound to. */
  readonly to: string;
  readonly toPort: number;
  readonly text: string;
}

export interface ServeRequest {
  readonly op: 'serve';
  readonly id: string;
  readonly name: string;
  readonly protocol: 'tcp' | 'udp';
  /** `::` is IPv4 as well. */
  readonly address: string;
  readonly ports: readonly number[];
}

export interface OpenRequest {
  readonly op: 'open';
  readonly id: string;
  readonly protocol: 'tcp' | 'udp';
  readonly to: string;
  readonly port: number;
  readonly from: string | undefined;
  readonly fromPort: number | undefined;
  readonly text: string;
  readonly timeoutMs: number;
}

export interface SayRequest {
  readonly op: 'say';
  readonly id: string;
  readonly text: string;
  readonly timeoutMs: number;
}

export type StationRequest =
  | ServeRequest
  | OpenRequest
  | SayRequest
  /** Ends a server or a conversation. */
  | { readonly op: 'close'; readonly id: string }
  /** All that a server has seen. */
  | { readonly op: 'seen'; readonly id: string }
  | { readonly op: 'names'; readonly zone: Zone; readonly ttlSeconds: number };

/** What came back: what the server saw, a refusal (TCP reset, ICMP unreachable), or nothing in time. */
export type Outcome = Sight | 'refused' | 'silence';

/** Each end of a conversation that a station has. */
interface Conversation {
  say(text: string): void;
  close(): void;
  /** Called once for each of what comes next. */
  next: (outcome: Outcome) => void;
}

const closers = new Map<string, () => Promise<void>>();
const sights = new Map<string, Sight[]>();
const conversations = new Map<string, Conversation>();
let names: NameServer | undefined;

function linesOf(socket: net.Socket, heard: (line: string) => void): void {
  // The socket's errors come here as well, and end the program where nobody hears them.
  readline
    .createInterface(socket)
    .on('line', heard)
    .on('error', () => {});
}

function plain(address: string | undefined): string {
  return (address ?? '').replace(/^::ffff:(?=\d+\.)/, '');
}

async function serve({ id, name, protocol, address, ports }: ServeRequest): Promise<void> {
  const seen: Sight[] = [];
  sights.set(id, seen);
  const see = (sight: Sight): string => {
    seen.push(sight);
    return `${JSON.stringify(sight)}\n`;
  };
  const open = protocol === 'tcp' ? listen : bind;
  const ends = await Promise.all(ports.map((port) => open(name, address, port, see)));
  closers.set(id, async () => {
    await Promise.all(ends.map((end) => end()));
  });
}

type See = (sight: Sight) => string;

async function listen(name: string, address: string, port: number, see: See): Promise<() => Promise<void>> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    linesOf(socket, (text) => {
      const { remoteAddress, remotePort = 0, localAddress, localPort = 0 } = socket;
      const [from, to] = [plain(remoteAddress), plain(localAddress)];
      socket.write(see({ name, from, fromPort: remotePort, to, toPort: localPort, text }));
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(port, address, resolve);
  });
  return () =>
    new Promise((resolve) => {
      server.close(() => resolve());
      for (const socket of sockets) socket.resetAndDestroy();
    });
}

async function bind(name: string, address: string, port: number, see: See): Promise<() => Promise<void>> {
  const socket = dgram.createSocket({ type: address.includes(':') ? 'udp6' : 'udp4', reuseAddr: true });
  socket.on('message', (bytes, peer) => {
    const from = plain(peer.address);
    const answer = see({ name, from, fromPort: peer.port, to: address, toPort: port, text: String(bytes) });
    socket.send(answer, peer.port, peer.address, () => {});
  });
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject).bind(port, address, resolve);
  });
  return () => new Promise((resolve) => void socket.close(() => resolve()));
}

function open(request: OpenRequest): Promise<Outcome> {
  const { id, protocol, text, timeoutMs } = request;
  const conversation: Conversation = { say: () => {}, close: () => {}, next: () => {} };
  conversations.set(id, conversation);
  const answer = nextOf(conversation, timeoutMs);
  const fail = (error: NodeJS.ErrnoException): void => {
    const refused = error.code === 'ECONNREFUSED' || error.code === 'ECONNRESET';
    conversation.next(refused ? 'refused' : 'silence');
  };
  const give = (line: string): void => conversation.next(JSON.parse(line));
  if (protocol === 'tcp') callTcp(request, conversation, give, fail);
  else callUdp(request, conversation, give, fail);
  conversation.say(text);
  return answer;
}

type Give = (line: string) => void;
type Fail = (error: NodeJS.ErrnoException) => void;

function callTcp(request: OpenRequest, conversation: Conversation, give: Give, fail: Fail): void {
  const { to, port, from, fromPort } = request;
  const source = { ...(from && { localAddress: from }), ...(fromPort && { localPort: fromPort }) };
  const socket = net.connect({ host: to, port, ...source });
  socket.on('error', fail);
  linesOf(socket, give);
  conversation.say = (text) => socket.write(`${text}\n`);
  conversation.close = () => socket.destroy();
}

function callUdp(request: OpenRequest, conversation: Conversation, give: Give, fail: Fail): void {
  const { to, port, from, fromPort } = request;
  const socket = dgram.createSocket(to.includes(':') ? 'udp6' : 'udp4');
  socket.on('error', fail).on('message', (bytes) => give(String(bytes)));
  const waiting: string[] = [];
  conversation.say = (text) => waiting.push(text);
  conversation.close = () => socket.close();
  socket.bind(fromPort ?? 0, from, () => {
    socket.connect(port, to, () => {
      conversation.say = (text) => socket.send(text, (error) => error && fail(error));
      for (const text of waiting) conversation.say(text);
    });
  });
}

function nextOf(conversation: Conversation, timeoutMs: number): Promise<Outcome> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => conversation.next('silence'), timeoutMs);
    conversation.next = (outcome) => {
      clearTimeout(timer);
      conversation.next = () => {};
      resolve(outcome);
    };
  });
}

async function close(id: string): Promise<void> {
  await closers.get(id)?.();
  conversations.get(id)?.close();
  closers.delete(id);
  sights.delete(id);
  conversations.delete(id);
}

async function answer(request: StationRequest): Promise<unknown> {
  switch (request.op) {
    case 'serve':
      return serve(request);
    case 'open':
      return open(request);
    case 'say': {
      const conversation = conversations.get(request.id);
      if (conversation === undefined) throw new Error(`no conversation ${request.id}`);
      const answered = nextOf(conversation, request.timeoutMs);
      conversation.say(request.text);
      return answered;
    }
    case 'close':
      return close(request.id);
    case 'seen':
      return sights.get(request.id) ?? [];
    case 'names':
      names ??= await NameServer.open('127.0.0.1');
      names.zone = request.zone;
      names.ttlSeconds = request.ttlSeconds;
      return undefined;
  }
}

net
  .createServer((socket) => {
    socket.on('error', () => {});
    linesOf(socket, (line) => {
      const { at, request }: { at: number; request: StationRequest } = JSON.parse(line);
      answer(request).then(
        (result) => socket.write(`${JSON.stringify({ at, result })}\n`),
        (error: unknown) => socket.write(`${JSON.stringify({ at, error: String(error) })}\n`),
      );
    });
  })
  .listen(process.argv[2], () => console.log('ready'));
