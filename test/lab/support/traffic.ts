/**
 * Bytes through the gateway: a server in one place, a peer in another. Both are small node programs, since
 * a namespace is entered by a process and not by a socket.
 */

import type { LabProcess } from './processes.ts';

/** What a server of `lab.serve` has received from one peer (TCP), or in one datagram. */
export interface Received {
  readonly from: string;
  readonly port: number;
  readonly text: string;
}

export class Server {
  readonly #process: LabProcess;

  constructor(process: LabProcess) {
    this.#process = process;
  }

  get received(): Received[] {
    const lines = this.#process.stdout.split('\n').slice(1, -1);
    return lines.map((line): Received => JSON.parse(line));
  }

  async stop(): Promise<void> {
    await this.#process.stop();
  }
}

const HEAD = `
  const [protocol, address, port, text, timeoutMs] = process.argv.slice(1);
  const net = require('node:net');
  const udp = require('node:dgram');
  const kind = address.includes(':') ? 'udp6' : 'udp4';
`;

// A TCP peer is answered when it connects, so that clients which only read are served as well.
const SERVE = `${HEAD}
  const say = (from, port, text) => console.log(JSON.stringify({ from, port, text: String(text) }));
  if (protocol === 'tcp') {
    net.createServer({ allowHalfOpen: true }, (socket) => {
      const { remoteAddress, remotePort } = socket;
      const chunks = [];
      socket.on('error', () => {}).on('data', (chunk) => chunks.push(chunk));
      socket.on('close', () => say(remoteAddress, remotePort, Buffer.concat(chunks)));
      socket.end(text);
    }).listen(Number(port), address, () => console.log('listening'));
  } else {
    const socket = udp.createSocket({ type: kind });
    socket.on('message', (bytes, peer) => {
      say(peer.address, peer.port, bytes);
      socket.send(text, peer.port, peer.address);
    });
    socket.bind(Number(port), address, () => console.log('listening'));
  }
`;

// Bytes go in and come out as hex. A connected UDP socket hears of ICMP unreachable, and need not wait.
const CONNECT = `${HEAD}
  const end = (outcome) => process.stdout.write(outcome, () => process.exit(0));
  const bytes = Buffer.from(text, 'hex');
  const fail = (error) => end(error.code === 'ECONNREFUSED' ? 'refused' : 'silence');
  const give = (received) => end('bytes ' + received.toString('hex'));
  setTimeout(() => end('silence'), Number(timeoutMs));
  if (protocol === 'tcp') {
    const chunks = [];
    const socket = net.connect(Number(port), address, () => socket.end(bytes));
    socket.on('error', fail).on('data', (chunk) => chunks.push(chunk));
    socket.on('end', () => give(Buffer.concat(chunks)));
  } else {
    const socket = udp.createSocket(kind);
    socket.on('error', fail).on('message', give);
    socket.connect(Number(port), address, () => socket.send(bytes));
  }
`;

export interface Endpoint {
  readonly protocol: 'tcp' | 'udp';
  readonly address: string;
  readonly port: number;
}

export function serveCommand({ protocol, address, port }: Endpoint, reply: string): string[] {
  return [process.execPath, '-e', SERVE, protocol, address, String(port), reply];
}

export function connectCommand(endpoint: Endpoint, send: Uint8Array, timeoutMs: number): string[] {
  const { protocol, address, port } = endpoint;
  const hex = Buffer.from(send).toString('hex');
  return [process.execPath, '-e', CONNECT, protocol, address, String(port), hex, String(timeoutMs)];
}

/** What a connection met: bytes, nothing in time, or a refusal (ICMP unreachable, TCP reset). */
export type Answer = Buffer | 'silence' | 'refused';

export function parseAnswer(stdout: string): Answer {
  if (stdout.startsWith('bytes ')) return Buffer.from(stdout.slice('bytes '.length), 'hex');
  return stdout === 'refused' ? 'refused' : 'silence';
}
