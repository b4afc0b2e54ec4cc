/**
 * The HTTP side of the gateway: the description, the service descriptions and the control URLs, on every
 * inner address at one port. Small limits throughout: what a control point sends fits in a few kilobytes.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { bracketed, family, type IpAddress, parseAddress, withoutZone } from '../net/address.ts';
import type { Endpoint } from '../net/endpoint.ts';
import { encodeDescription } from '../wire/description.ts';
import { deviceTree } from './device-tree.ts';
import { type HttpReply, type HttpRequest, plainAnswer, xmlAnswer } from './http-reply.ts';
import { type Opened, openOnOnePort } from './one-port.ts';
import { encodeScpd } from './scpd.ts';
import { controlPath, isActionName, scpdPath, type Service, servicesOf } from './services.ts';
import { exchanged, type Site } from './site.ts';
import { answerSoap, soapActionOf } from './soap.ts';

const DESCRIPTION_PATH = '/rootDesc.xml';
export const SERVER_NAME: string = `${process.platform}/1 UPnP/1.1 natward/1`;

const MAX_BODY_BYTES = 65_536;
const MAX_HEADER_BYTES = 16_384;
const MAX_CONNECTIONS = 64;
const REQUEST_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 5_000;

export class HttpSide {
  readonly #site: Site;
  readonly #services: readonly Service[];
  readonly #servers = new Set<Server>();
  #main: readonly Server[] = [];
  #port = 0;

  constructor(site: Site) {
    this.#site = site;
    this.#services = servicesOf(site.settings);
  }

  get port(): number {
    return this.#port;
  }

  /** LOCATION for whoever reaches the gateway at `address`. */
  location(address: IpAddress): string {
    // A zone means nothing to another host (UDA 2.0, annex A).
    const own = `http://${bracketed(withoutZone(address))}:${this.#port}${DESCRIPTION_PATH}`;
    return this.#site.hooks.all('location').reduce((url, change) => change(url), own);
  }

  /** Listens on every inner address at one port, 0 for any, and no longer where it did before. */
  async open(port: number): Promise<void> {
    const before = this.#main;
    this.#main = await openOnOnePort(this.#site.settings.addresses, port, (at) => this.#listen(at));
    this.#port = portOf(this.#main[0]);
    await Promise.all(before.map((server) => this.#shut(server)));
  }

  /** Listens in one more place. */
  async openAlso(at: Endpoint): Promise<{ readonly port: number; close(): Promise<void> }> {
    return this.#listen(at);
  }

  async #listen(at: Endpoint): Promise<Opened<Server>> {
    const server = createServer(
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: REQUEST_TIMEOUT_MS,
        requestTimeout: REQUEST_TIMEOUT_MS,
        keepAliveTimeout: KEEP_ALIVE_MS,
      },
      (incoming, outgoing) => {
        void this.#receive(incoming, outgoing);
      },
    );
    server.maxConnections = MAX_CONNECTIONS;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      const ipv6Only = family(at.address) === 6;
      server.listen({ host: at.address, port: at.port, exclusive: true, ipv6Only }, () => {
        server.off('error', reject);
        resolve();
      });
    });
    this.#servers.add(server);
    return { port: portOf(server), value: server, close: () => this.#shut(server) };
  }

  async close(): Promise<void> {
    await Promise.all([...this.#servers].map((server) => this.#shut(server)));
  }

  #shut(server: Server): Promise<void> {
    this.#servers.delete(server);
    return new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  }

  async #receive(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    try {
      const body = await bodyOf(incoming);
      if (body === undefined) {
        outgoing.writeHead(413, { Connection: 'close' }).end();
        return;
      }
      const request: HttpRequest = {
        method: incoming.method ?? '',
        path: incoming.url ?? '',
        soapAction: incoming.headers['soapaction']?.toString(),
        body,
        source: withoutZone(incoming.socket.remoteAddress ?? ''),
        address: incoming.socket.localAddress ?? '',
      };
      const kind = this.#kind(request);
      const reply = await exchanged(this.#site, 'http', kind, () =>
        this.#reply(request, incoming.headers.host),
      );
      // Without an answer the connection stays open: a gateway that hangs does just that.
      if (reply !== undefined) write(reply, incoming, outgoing);
    } catch {
      if (!incoming.complete || outgoing.headersSent) incoming.socket.destroy();
      else {
        this.#site.counters.count('internal error');
        outgoing.writeHead(500).end();
      }
    }
  }

  /** The word for the counters; a path or an action that nobody knows has none of its own. */
  #kind(request: HttpRequest): string {
    const path = this.#route(request.path);
    if (request.method === 'POST') {
      const action = soapActionOf(request.soapAction)?.action;
      return action !== undefined && isActionName(action) ? `soap ${action}` : 'soap other';
    }
    const known = path === DESCRIPTION_PATH || this.#services.some((service) => scpdPath(service) === path);
    return known ? `http ${request.method === 'GET' ? 'GET' : 'other'} ${path}` : 'http other';
  }

  #route(path: string): string {
    return this.#site.hooks.all('route').reduce((routed, change) => change(routed), path);
  }

  async #reply(request: HttpRequest, host: string | undefined): Promise<HttpReply> {
    const reply = isLiteral(host) ? await this.#found(request) : plainAnswer(400);
    return this.#site.hooks.all('http').reduce((changed, change) => change(changed, request), reply);
  }

  async #found(request: HttpRequest): Promise<HttpReply> {
    const path = this.#route(request.path);
    const called = this.#services.find((service) => controlPath(service) === path);
    if (called !== undefined) {
      if (request.method !== 'POST') return plainAnswer(405, { Allow: 'POST' });
      return answerSoap(request, called, this.#site);
    }
    const document = this.#document(path, request.address);
    if (document === undefined) return plainAnswer(404);
    if (request.method !== 'GET' && request.method !== 'HEAD')
      return plainAnswer(405, { Allow: 'GET, HEAD' });
    return document;
  }

  #document(path: string, address: IpAddress): HttpReply | undefined {
    const minor = this.#site.settings.igdVersion === 1 ? 0 : 1;
    const changed = (xml: string, kind: 'description' | 'scpd') =>
      xmlAnswer(
        200,
        this.#site.hooks.all('document').reduce((text, change) => change(text, kind), xml),
      );
    if (path === DESCRIPTION_PATH) {
      return changed(encodeDescription(deviceTree(this.#site, address), minor), 'description');
    }
    const service = this.#services.find((candidate) => scpdPath(candidate) === path);
    return service === undefined ? undefined : changed(encodeScpd(service, minor), 'scpd');
  }
}

function portOf(server: Server | undefined): number {
  const bound = server?.address();
  return typeof bound === 'object' ? (bound?.port ?? 0) : 0;
}

/**
 * A Host that is a name is somebody's web page whose name was made to point here (DNS rebinding): control
 * points call the address from LOCATION.
 */
function isLiteral(host: string | undefined): boolean {
  if (host === undefined) return true;
  const name = /^(?:\[([^\]]*)\]|([^:]*))(?::\d{1,5})?$/.exec(host);
  return name !== null && parseAddress(name[1] ?? name[2] ?? '') !== undefined;
}

/** undefined: too large. Rejects where the connection breaks. */
async function bodyOf(incoming: IncomingMessage): Promise<string | undefined> {
  if (Number(incoming.headers['content-length'] ?? 0) > MAX_BODY_BYTES) return undefined;
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of incoming as AsyncIterable<Uint8Array>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function write(reply: HttpReply, incoming: IncomingMessage, outgoing: ServerResponse): void {
  switch (reply.kind) {
    case 'reset':
      incoming.socket.resetAndDestroy();
      return;
    case 'raw':
      reply.write(incoming.socket);
      return;
    case 'answer': {
      const length = String(Buffer.byteLength(reply.body));
      outgoing.writeHead(reply.status, { ...reply.headers, Server: SERVER_NAME, 'Content-Length': length });
      outgoing.end(incoming.method === 'HEAD' ? '' : reply.body);
    }
  }
}
