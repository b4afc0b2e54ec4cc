/** A control point's other side: a server that takes NOTIFYs and answers as it is told. */

import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { IpAddress } from '../../../src/net/address.ts';
import type { EmbeddedGateway } from '../../../src/responder/gateway.ts';
import { parseXml } from '../../../src/wire/xml.ts';
import { http, type HttpResult, INNER } from './client.ts';

export interface Notified {
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly seq: number;
  readonly values: Readonly<Record<string, string>>;
}

export class Subscriber implements AsyncDisposable {
  readonly notified: Notified[] = [];
  /** What it answers; undefined: nothing. */
  status: number | undefined = 200;
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const { url = '', headers } = request;
        const body = Buffer.concat(chunks).toString('utf8');
        this.notified.push({ url, headers, seq: Number(headers['seq']), values: valuesOf(body) });
        if (this.status !== undefined) response.writeHead(this.status).end();
      });
    });
  }

  static open(address: IpAddress = INNER): Promise<Subscriber> {
    const subscriber = new Subscriber();
    return new Promise((resolve, reject) => {
      subscriber.#server.once('error', reject);
      subscriber.#server.listen(0, address, () => resolve(subscriber));
    });
  }

  get callback(): string {
    const { address, port } = this.#server.address() as AddressInfo;
    return `<http://${address.includes(':') ? `[${address}]` : address}:${port}/notify?me=1>`;
  }

  /** Resolves with message number `count`, counted from 1; undefined where it does not come in time. */
  async wait(count: number, withinMs = 2_000): Promise<Notified | undefined> {
    const untilMs = Date.now() + withinMs;
    while (this.notified.length < count && Date.now() < untilMs) await sleep(2);
    return this.notified[count - 1];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }
}

function valuesOf(body: string): Record<string, string> {
  const properties = parseXml(body).children.flatMap((property) => property.children);
  return Object.fromEntries(properties.map(({ name, text }) => [name, text]));
}

export function gena(
  gateway: EmbeddedGateway,
  method: 'SUBSCRIBE' | 'UNSUBSCRIBE',
  headers: Readonly<Record<string, string>>,
  {
    service = 'WANIPConnection',
    from = INNER,
  }: { readonly service?: string; readonly from?: IpAddress } = {},
): Promise<HttpResult> {
  return http(new URL(`/events/${service}`, gateway.location).href, { method, headers, from });
}

/** Resolves with the SID. */
export async function subscribe(
  gateway: EmbeddedGateway,
  subscriber: Subscriber,
  service = 'WANIPConnection',
  from: IpAddress = INNER,
): Promise<string> {
  const headers = { CALLBACK: subscriber.callback, NT: 'upnp:event', TIMEOUT: 'Second-1800' };
  const answer = await gena(gateway, 'SUBSCRIBE', headers, { service, from });
  if (answer.status !== 200) throw new Error(`SUBSCRIBE: ${answer.status}`);
  return String(answer.headers['sid']);
}

/** Resolves when the gateway has sent so many messages, and has heard what became of them. */
export async function sent(gateway: EmbeddedGateway, count: number): Promise<void> {
  for (let tries = 0; (gateway.counters['gena notify'] ?? 0) < count; tries++) {
    if (tries === 1_000) throw new Error(`${gateway.counters['gena notify']} of ${count} messages were sent`);
    await sleep(2);
  }
  // What follows from it is done by now.
  await sleep(2);
}
