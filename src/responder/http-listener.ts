/**
 * Where HTTP clients connect: at one address and port. Connections are few, those of one client fewer, and each request
 * has a limit in size and in time, so that no client keeps the others out. node:http reads and writes.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { family, type IpAddress, withoutZone } from '../net/address.ts';
import type { Endpoint } from '../net/endpoint.ts';
import { type HttpAnswer, type HttpReply, type HttpRequest, plainAnswer } from './http-reply.ts';

export interface HttpHost {
  /** Reports whether one more request from there is to be served. */
  admits(source: IpAddress): boolean;
  /** Resolves with the answer; undefined: there is none, and the connection stays as it is. */
  serve(request: HttpRequest): Promise<HttpReply | undefined>;
  /** Of every answer. */
  readonly headers: Readonly<Record<string, string>>;
}

interface Connection {
  readonly socket: Socket;
  /** The client, with the zone that it is in. */
  readonly peer: IpAddress;
  readonly source: IpAddress;
  requests: number;
  isServing: boolean;
}

const MAX_CONNECTIONS = 256;
const MAX_CONNECTIONS_OF_ONE = 32;
const MAX_BODY_BYTES = 65_536;
const MAX_HEADER_BYTES = 16_384;
export interface HttpLimits {
  /** From a request's first byte to its last, however slowly it drips. */
  readonly requestMs: number;
  /** Between two requests. */
  readonly idleMs: number;
  /** How often what takes too long is looked for. */
  readonly watchMs: number;
}

const LIMITS: HttpLimits = { requestMs: 10_000, idleMs: 5_000, watchMs: 1_000 };

export class HttpListener {
  readonly #server: Server;
  readonly #host: HttpHost;
  /** In the order in which they came. */
  readonly #connections = new Map<Socket, Connection>();
  readonly #ofClient = new Map<IpAddress, number>();

  private constructor(host: HttpHost, limits: HttpLimits) {
    this.#host = host;
    this.#server = createServer(
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: limits.requestMs,
        requestTimeout: limits.requestMs,
        keepAliveTimeout: limits.idleMs,
        connectionsCheckingInterval: limits.watchMs,
        // Some control points leave it out.
        requireHostHeader: false,
        // An answer is one write: there is nothing to wait for.
        noDelay: false,
      },
      (incoming, outgoing) => void this.#receive(incoming, outgoing),
    );
    // Who has sent all of his request may close his half; the outer gateway may take its time with the answer.
    Object.assign(this.#server, { httpAllowHalfOpen: true });
    this.#server.on('connection', (socket: Socket) => this.#meet(socket));
    this.#server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
      if (!socket.writable || error.code === 'ECONNRESET') socket.destroy();
      else socket.end(refusalOf(error.code));
    });
  }

  /** Rejects where the port cannot be had. */
  static async open(at: Endpoint, host: HttpHost, limits: HttpLimits = LIMITS): Promise<HttpListener> {
    const listener = new HttpListener(host, limits);
    const server = listener.#server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      const ipv6Only = family(at.address) === 6;
      server.listen({ host: at.address, port: at.port, exclusive: true, ipv6Only }, () => {
        server.off('error', reject);
        // A connection that could not be taken, for want of files: the next one may be.
        server.on('error', () => undefined);
        resolve();
      });
    });
    return listener;
  }

  get port(): number {
    const bound = this.#server.address();
    return typeof bound === 'object' ? (bound?.port ?? 0) : 0;
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  #meet(socket: Socket): void {
    const peer = socket.remoteAddress ?? '';
    const source = withoutZone(peer);
    if (!this.#hasRoom(source) || !this.#host.admits(peer)) {
      socket.destroy();
      return;
    }
    this.#connections.set(socket, { socket, peer, source, requests: 0, isServing: false });
    this.#ofClient.set(source, (this.#ofClient.get(source) ?? 0) + 1);
    socket.on('close', () => this.#forget(socket));
  }

  #hasRoom(source: IpAddress): boolean {
    if ((this.#ofClient.get(source) ?? 0) >= MAX_CONNECTIONS_OF_ONE) return false;
    if (this.#connections.size < MAX_CONNECTIONS) return true;
    for (const { socket, isServing } of this.#connections.values()) {
      if (isServing) continue;
      this.#forget(socket);
      socket.destroy();
      return true;
    }
    return false;
  }

  #forget(socket: Socket): void {
    const connection = this.#connections.get(socket);
    if (connection === undefined) return;
    this.#connections.delete(socket);
    const left = (this.#ofClient.get(connection.source) ?? 1) - 1;
    if (left === 0) this.#ofClient.delete(connection.source);
    else this.#ofClient.set(connection.source, left);
  }

  async #receive(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const connection = this.#connections.get(incoming.socket);
    // The first request was counted when the connection was.
    if (connection === undefined || (connection.requests++ > 0 && !this.#host.admits(connection.peer))) {
      incoming.socket.destroy();
      return;
    }
    connection.isServing = true;
    try {
      const body = await bodyOf(incoming);
      const reply =
        body === undefined
          ? plainAnswer(413, { Connection: 'close' })
          : await this.#host.serve(requestOf(incoming, connection, body));
      // Without an answer the connection stays open: a gateway that hangs does just that.
      if (reply !== undefined) this.#write(reply, incoming, outgoing);
    } catch {
      // It broke off, or the request could not be served.
      if (!incoming.complete || outgoing.headersSent) incoming.socket.destroy();
      else this.#write(plainAnswer(500), incoming, outgoing);
    } finally {
      connection.isServing = false;
    }
  }

  #write(reply: HttpReply, incoming: IncomingMessage, outgoing: ServerResponse): void {
    switch (reply.kind) {
      case 'reset':
        incoming.socket.resetAndDestroy();
        return;
      case 'raw':
        reply.write(incoming.socket);
        return;
      case 'answer':
        this.#answer(reply, incoming, outgoing);
    }
  }

  #answer({ status, headers, body, sent }: HttpAnswer, incoming: IncomingMessage, out: ServerResponse): void {
    const length = String(Buffer.byteLength(body));
    out.writeHead(status, { ...headers, ...this.#host.headers, 'Content-Length': length });
    out.end(incoming.method === 'HEAD' ? '' : body, sent);
  }
}

/** What is no request, too large or too slow is told so, and ends. */
function refusalOf(code: string | undefined): string {
  const status =
    code === 'HPE_HEADER_OVERFLOW'
      ? '431 Request Header Fields Too Large'
      : code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? '408 Request Timeout'
        : '400 Bad Request';
  return `HTTP/1.1 ${status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`;
}

function requestOf(
  { method = '', url = '', headers, socket }: IncomingMessage,
  { peer, source }: Connection,
  body: string,
): HttpRequest {
  return {
    method,
    path: url,
    header: (name) => headers[name]?.toString(),
    body,
    source,
    peer,
    // Few ask, and each time it is a call of the system.
    get address() {
      return socket.localAddress ?? '';
    },
  };
}

/** undefined: too large. Rejects where the connection breaks. */
function bodyOf(incoming: IncomingMessage): Promise<string | undefined> {
  if (Number(incoming.headers['content-length'] ?? 0) > MAX_BODY_BYTES) return Promise.resolve(undefined);
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    incoming.on('data', (chunk: Uint8Array) => {
      bytes += chunk.length;
      if (bytes > MAX_BODY_BYTES) resolve(undefined);
      else chunks.push(chunk);
    });
    incoming.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
    incoming.on('error', reject);
    incoming.on('close', () => {
      if (!incoming.complete) reject(new Error('the request broke off'));
    });
  });
}
