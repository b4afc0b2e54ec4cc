/** Raw sockets and the codecs: what a test asks a gateway with, and no more. */

import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { family, type IpAddress } from '../../../src/net/address.ts';
import type { Endpoint } from '../../../src/net/endpoint.ts';
import type { EmbeddedGateway } from '../../../src/responder/gateway.ts';
import {
  decodeNatpmpResponse,
  encodeNatpmpRequest,
  type NatpmpRequest,
  type NatpmpResponse,
} from '../../../src/wire/natpmp.ts';
import {
  decodePcpResponse,
  encodePcpRequest,
  type PcpMap,
  type PcpOptions,
  type PcpResponse,
} from '../../../src/wire/pcp.ts';
import { decodeSoapReply, encodeSoapCall, type SoapReply, type SoapValues } from '../../../src/wire/soap.ts';
import { decodeSsdp, encodeSsdp, type SsdpResponse } from '../../../src/wire/ssdp.ts';

export const INNER = '127.0.0.1';

export interface Heard {
  readonly packet: Uint8Array;
  readonly from: RemoteInfo;
}

/** A UDP socket that remembers what it hears. */
export class Ear implements AsyncDisposable {
  readonly heard: Heard[] = [];
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('message', (packet, from) => this.heard.push({ packet: Uint8Array.from(packet), from }));
  }

  static open(address: IpAddress = INNER, port = 0): Promise<Ear> {
    const socket = createSocket(family(address) === 6 ? 'udp6' : 'udp4');
    return new Promise((resolve, reject) => {
      socket.once('error', reject);
      socket.bind(port, address, () => resolve(new Ear(socket)));
    });
  }

  get port(): number {
    return this.#socket.address().port;
  }

  get socket(): Socket {
    return this.#socket;
  }

  send(packet: Uint8Array, to: Endpoint): void {
    this.#socket.send(packet, to.port, to.address);
  }

  /** Resolves with the packet number `count`, or undefined after `withinMs`. */
  async wait(count = 1, withinMs = 2_000): Promise<Heard | undefined> {
    const untilMs = Date.now() + withinMs;
    while (this.heard.length < count && Date.now() < untilMs) await sleep(2);
    return this.heard[count - 1];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => this.#socket.close(() => resolve()));
  }
}

export interface From {
  /** The client's address. */
  readonly from?: IpAddress;
  /** How long to wait for an answer that may not come. */
  readonly withinMs?: number;
}

/** Sends a datagram and resolves with the first answer. */
export async function ask(
  packet: Uint8Array,
  to: Endpoint,
  { from = family(to.address) === 6 ? '::1' : INNER, withinMs = 2_000 }: From = {},
): Promise<Uint8Array | undefined> {
  await using ear = await Ear.open(from);
  ear.send(packet, to);
  return (await ear.wait(1, withinMs))?.packet;
}

export async function natpmp(
  gateway: EmbeddedGateway,
  request: NatpmpRequest,
  options: From = {},
): Promise<NatpmpResponse | undefined> {
  const answer = await ask(
    encodeNatpmpRequest(request),
    { address: INNER, port: gateway.ports.pcp },
    options,
  );
  return answer === undefined ? undefined : decodeNatpmpResponse(answer);
}

export function natpmpMap(
  gateway: EmbeddedGateway,
  internalPort: number,
  suggestedExternalPort: number,
  options: From & { readonly lifetimeSeconds?: number; readonly protocol?: 'tcp' | 'udp' } = {},
): Promise<NatpmpResponse | undefined> {
  const { lifetimeSeconds = 7200, protocol = 'tcp' } = options;
  const request = { opcode: 'map', protocol, internalPort, suggestedExternalPort, lifetimeSeconds } as const;
  return natpmp(gateway, request, options);
}

export const NONCE: Uint8Array = Uint8Array.from({ length: 12 }, (_, at) => at + 1);

export interface MapOptions extends From {
  readonly nonce?: Uint8Array;
  readonly lifetimeSeconds?: number;
  readonly protocol?: number;
  readonly externalAddress?: IpAddress;
  readonly clientAddress?: IpAddress;
  readonly to?: IpAddress;
  readonly options?: PcpOptions;
}

export function pcpMapPacket(
  internalPort: number,
  externalPort: number,
  options: MapOptions = {},
): Uint8Array {
  const map: PcpMap = {
    nonce: options.nonce ?? NONCE,
    protocol: options.protocol ?? 6,
    internalPort,
    externalPort,
    externalAddress: options.externalAddress ?? '::',
    options: options.options ?? {},
  };
  const { lifetimeSeconds = 7200, from = INNER } = options;
  return encodePcpRequest({
    opcode: 'map',
    lifetimeSeconds,
    clientAddress: options.clientAddress ?? from,
    map,
  });
}

/** Resolves with the answer of a MAP; throws where another one comes. */
export async function pcpMap(
  gateway: EmbeddedGateway,
  internalPort: number,
  externalPort: number,
  options: MapOptions = {},
): Promise<(PcpResponse & { readonly opcode: 'map' }) | undefined> {
  const to = { address: options.to ?? INNER, port: gateway.ports.pcp };
  const answer = await ask(pcpMapPacket(internalPort, externalPort, options), to, options);
  if (answer === undefined) return undefined;
  const response = decodePcpResponse(answer);
  if (response.opcode !== 'map') throw new Error(`an answer to ${response.opcode}`);
  return response;
}

export function pcpPeerPacket(
  internalPort: number,
  remote: Endpoint,
  options: MapOptions & { readonly externalPort?: number } = {},
): Uint8Array {
  const { lifetimeSeconds = 7200, from = INNER } = options;
  return encodePcpRequest({
    opcode: 'peer',
    lifetimeSeconds,
    clientAddress: options.clientAddress ?? from,
    peer: {
      nonce: options.nonce ?? NONCE,
      protocol: options.protocol ?? 6,
      internalPort,
      externalPort: options.externalPort ?? 0,
      externalAddress: options.externalAddress ?? '::',
      remotePort: remote.port,
      remoteAddress: remote.address,
      options: options.options ?? {},
    },
  });
}

export function searchPacket(searchTarget: string, maxWaitSeconds = 2): Uint8Array {
  return encodeSsdp({ kind: 'search', searchTarget, maxWaitSeconds, host: '239.255.255.250:1900' });
}

/** Sends a search to the gateway's own address and collects what comes while answers keep coming. */
export async function search(
  gateway: EmbeddedGateway,
  searchTarget = 'upnp:rootdevice',
  { to = INNER, withinMs = 300 }: { readonly to?: IpAddress; readonly withinMs?: number } = {},
): Promise<{ readonly message: SsdpResponse; readonly text: string; readonly from: RemoteInfo }[]> {
  await using ear = await Ear.open(family(to) === 6 ? '::1' : INNER);
  ear.send(searchPacket(searchTarget), { address: to, port: gateway.ports.ssdp });
  await ear.wait(1, withinMs);
  for (let before = -1; before !== ear.heard.length; ) {
    before = ear.heard.length;
    await sleep(20);
  }
  return ear.heard.flatMap(({ packet, from }) => {
    const message = decodeSsdp(packet);
    const text = Buffer.from(packet).toString('utf8');
    return message.kind === 'response' ? [{ message, text, from }] : [];
  });
}

export interface HttpResult {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly httpVersion: string;
  readonly body: string;
}

export interface HttpOptions extends From {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** Rejects as node:http does. */
export function http(url: string, options: HttpOptions = {}): Promise<HttpResult> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      url,
      {
        method: options.method ?? 'GET',
        agent: false,
        headers: options.headers ?? {},
        ...(options.from === undefined ? {} : { localAddress: options.from }),
        ...(options.withinMs === undefined ? {} : { signal: AbortSignal.timeout(options.withinMs) }),
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const { statusCode = 0, headers, httpVersion } = response;
          resolve({ status: statusCode, headers, httpVersion, body: Buffer.concat(chunks).toString('utf8') });
        });
      },
    );
    request.on('error', reject);
    request.end(options.body);
  });
}

export interface SoapOptions extends From {
  readonly service?: string;
  readonly version?: number;
  readonly path?: string;
  readonly urn?: string;
}

export async function soapHttp(
  gateway: EmbeddedGateway,
  action: string,
  values: SoapValues = {},
  options: SoapOptions = {},
): Promise<HttpResult> {
  const { service = 'WANIPConnection', version = 2, urn = 'urn:schemas-upnp-org' } = options;
  const serviceType = `${urn}:service:${service}:${version}`;
  return http(new URL(options.path ?? `/control/${service}`, gateway.location).href, {
    ...options,
    method: 'POST',
    headers: { SOAPACTION: `"${serviceType}#${action}"`, 'Content-Type': 'text/xml' },
    body: encodeSoapCall({ serviceType, action, values }),
  });
}

export async function soap(
  gateway: EmbeddedGateway,
  action: string,
  values: SoapValues = {},
  options: SoapOptions = {},
): Promise<SoapReply> {
  return decodeSoapReply((await soapHttp(gateway, action, values, options)).body);
}

/** The error code of a fault, 0 for a success. */
export function codeOf(reply: SoapReply): number {
  return reply.kind === 'fault' ? reply.errorCode : 0;
}

export function mappingValues(externalPort: number, internalPort: number, more: SoapValues = {}): SoapValues {
  return {
    NewRemoteHost: '',
    NewExternalPort: String(externalPort),
    NewProtocol: 'TCP',
    NewInternalPort: String(internalPort),
    NewInternalClient: INNER,
    NewEnabled: '1',
    NewPortMappingDescription: 'a test',
    NewLeaseDuration: '3600',
    ...more,
  };
}

export function addMapping(
  gateway: EmbeddedGateway,
  externalPort: number,
  internalPort: number,
  more: SoapValues = {},
  options: SoapOptions = {},
): Promise<SoapReply> {
  return soap(gateway, 'AddPortMapping', mappingValues(externalPort, internalPort, more), options);
}

export function outerValues(externalPort: number, more: SoapValues = {}): SoapValues {
  return { NewRemoteHost: '', NewExternalPort: String(externalPort), NewProtocol: 'TCP', ...more };
}

/** Sends `text` over TCP, ends its half, and resolves with all that comes back. */
export function exchangeTcp(to: Endpoint, text: string, from: IpAddress = '127.0.0.9'): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: to.address, port: to.port, localAddress: from, allowHalfOpen: true });
    let received = '';
    socket.on('data', (chunk) => {
      received += chunk.toString();
    });
    socket.on('error', reject);
    socket.on('end', () => resolve(received));
    socket.end(text);
  });
}
