/**
 * The HTTP side of the gateway: the description, the service descriptions and the control URLs, on every
 * inner address at one port. Small limits throughout: what a control point sends fits in a few kilobytes.
 */

import { bracketed, type IpAddress, parseAddress, withoutZone } from '../net/address.ts';
import type { Endpoint } from '../net/endpoint.ts';
import { encodeDescription } from '../wire/description.ts';
import { deviceTree } from './device-tree.ts';
import { answerGena } from './events/answer.ts';
import { Publisher } from './events/publisher.ts';
import { HttpListener } from './http-listener.ts';
import { type HttpAnswer, type HttpReply, type HttpRequest, plainAnswer, xmlAnswer } from './http-reply.ts';
import { type Opened, openOnOnePort } from './one-port.ts';
import { encodeScpd } from './scpd.ts';
import { controlPath, eventPath, isActionName, scpdPath, type Service, servicesOf } from './services.ts';
import { exchanged, type Site } from './site.ts';
import { answerSoap, soapActionOf } from './soap.ts';

const DESCRIPTION_PATH = '/rootDesc.xml';
export const SERVER_NAME: string = `${process.platform}/1 UPnP/1.1 natward/1`;

export class HttpSide {
  readonly #site: Site;
  readonly #services: readonly Service[];
  readonly #publisher: Publisher;
  readonly #listeners = new Set<HttpListener>();
  /** By path and address, while no quirk changes them. */
  readonly #documents = new Map<string, HttpAnswer>();
  #main: readonly HttpListener[] = [];

  constructor(site: Site) {
    this.#site = site;
    this.#services = servicesOf(site.settings);
    this.#publisher = new Publisher(site);
  }

  get port(): number {
    return this.#main[0]?.port ?? 0;
  }

  /** LOCATION for whoever reaches the gateway at `address`. */
  location(address: IpAddress): string {
    // A zone means nothing to another host (UDA 2.0, annex A).
    const own = `http://${bracketed(withoutZone(address))}:${this.port}${DESCRIPTION_PATH}`;
    return this.#site.hooks.all('location').reduce((url, change) => change(url), own);
  }

  /** Listens on every inner address at one port, 0 for any, and no longer where it did before. */
  async open(port: number): Promise<void> {
    const before = this.#main;
    this.#main = await openOnOnePort(this.#site.settings.addresses, port, (at) => this.#listen(at));
    await Promise.all(before.map((listener) => this.#shut(listener)));
  }

  /** Listens in one more place. */
  async openAlso(at: Endpoint): Promise<{ readonly port: number; close(): Promise<void> }> {
    return this.#listen(at);
  }

  async #listen(at: Endpoint): Promise<Opened<HttpListener>> {
    const listener = await HttpListener.open(at, {
      admits: (source) => this.#site.guard.admits(source),
      serve: (request) => this.#serve(request),
      headers: { Server: SERVER_NAME },
    });
    this.#listeners.add(listener);
    return { port: listener.port, value: listener, close: () => this.#shut(listener) };
  }

  async close(): Promise<void> {
    await Promise.all([...this.#listeners].map((listener) => this.#shut(listener)));
  }

  #shut(listener: HttpListener): Promise<void> {
    this.#listeners.delete(listener);
    return listener.close();
  }

  async #serve(request: HttpRequest): Promise<HttpReply | undefined> {
    try {
      return await exchanged(this.#site, 'http', this.#kind(request), () => this.#reply(request));
    } catch (error) {
      this.#site.counters.count('internal error');
      throw error;
    }
  }

  /** The word for the counters; a path or an action that nobody knows has none of its own. */
  #kind(request: HttpRequest): string {
    const path = this.#route(request.path);
    if (request.method === 'POST') {
      const action = soapActionOf(request.header('soapaction'))?.action;
      return action !== undefined && isActionName(action) ? `soap ${action}` : 'soap other';
    }
    if (request.method === 'SUBSCRIBE' || request.method === 'UNSUBSCRIBE') {
      return `gena ${request.method.toLowerCase()}`;
    }
    const known = path === DESCRIPTION_PATH || this.#services.some((service) => scpdPath(service) === path);
    return known ? `http ${request.method === 'GET' ? 'GET' : 'other'} ${path}` : 'http other';
  }

  #route(path: string): string {
    return this.#site.hooks.all('route').reduce((routed, change) => change(routed), path);
  }

  async #reply(request: HttpRequest): Promise<HttpReply> {
    const reply = isLiteral(request.header('host')) ? await this.#found(request) : plainAnswer(400);
    return this.#site.hooks.all('http').reduce((changed, change) => change(changed, request), reply);
  }

  async #found(request: HttpRequest): Promise<HttpReply> {
    const path = this.#route(request.path);
    const called = this.#services.find((service) => controlPath(service) === path);
    if (called !== undefined) {
      if (request.method !== 'POST') return plainAnswer(405, { Allow: 'POST' });
      if (!isXml(request.header('content-type'))) return plainAnswer(415);
      return answerSoap(request, called, this.#site);
    }
    const watched = this.#services.find((service) => eventPath(service) === path);
    if (watched !== undefined) return answerGena(request, watched, this.#publisher, this.#site);
    const document = this.#document(path, request.address);
    if (document === undefined) return plainAnswer(404);
    if (request.method !== 'GET' && request.method !== 'HEAD')
      return plainAnswer(405, { Allow: 'GET, HEAD' });
    return document;
  }

  #document(path: string, address: IpAddress): HttpAnswer | undefined {
    const { hooks } = this.#site;
    if (hooks.has('device') || hooks.has('urn') || hooks.has('document')) return this.#written(path, address);
    const key = path === DESCRIPTION_PATH ? `${path} ${address}` : path;
    const document = this.#documents.get(key) ?? this.#written(path, address);
    if (document !== undefined) this.#documents.set(key, document);
    return document;
  }

  #written(path: string, address: IpAddress): HttpAnswer | undefined {
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

/** What says nothing is taken for what it should be (UDA 2.0, section 3.2.1: text/xml in UTF-8). */
function isXml(contentType: string | undefined): boolean {
  const [type = '', ...parameters] = (contentType ?? 'text/xml').toLowerCase().split(';');
  const charset = parameters.map((one) => /^\s*charset\s*=\s*"?([^"\s]*)"?\s*$/.exec(one)?.[1]).find(Boolean);
  return (
    /^\s*(?:text|application)\/(?:\w+\+)?xml\s*$/.test(type) &&
    /^(?:utf-?8|us-ascii)$/.test(charset ?? 'utf-8')
  );
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
