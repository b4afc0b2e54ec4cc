/** What the tests of discovery share. */

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { onTestFinished } from 'vitest';
import { GatewayLink } from '../../src/discovery/link.ts';
import type { IpAddress } from '../../src/net/address.ts';
import type { Endpoint } from '../../src/net/endpoint.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import { encodeDescription } from '../../src/wire/description.ts';
import { encodeSsdp } from '../../src/wire/ssdp.ts';
import { gatewayAt, gatewayFor, systemFor, type TestGateway } from '../support/gateway.ts';
import { TestClock } from '../support/test-clock.ts';

export const NEVER: AbortSignal = new AbortController().signal;

export interface LinkedGateway extends TestGateway {
  readonly link: GatewayLink;
}

/** An embedded gateway and a link to it. */
export async function linkedGateway(settings: Partial<GatewaySettings> = {}): Promise<LinkedGateway> {
  const { embedded, gateway, clock, system } = await gatewayFor(settings);
  const link = await GatewayLink.open(system, gateway);
  onTestFinished(() => link[Symbol.asyncDispose]());
  return { embedded, gateway, clock, system, link };
}

/** A UDP port on which a test answers by itself: for what no gateway does, right or wrong. */
export interface Peer {
  readonly endpoint: Endpoint;
  readonly heard: { readonly packet: Uint8Array; readonly from: Endpoint }[];
  send(packet: Uint8Array, to: Endpoint): Promise<void>;
}

export async function openPeer(
  onPacket: (packet: Uint8Array, from: Endpoint, peer: Peer) => void = () => undefined,
  address: IpAddress = '127.0.0.1',
): Promise<Peer> {
  const socket = createSocket('udp4');
  const heard: { packet: Uint8Array; from: Endpoint }[] = [];
  socket.bind(0, address);
  await once(socket, 'listening');
  onTestFinished(() => void socket.close());
  const peer: Peer = {
    endpoint: { address, port: socket.address().port },
    heard,
    send: (packet, to) => new Promise((resolve) => socket.send(packet, to.port, to.address, () => resolve())),
  };
  socket.on('message', (data: Uint8Array, { address, port }) => {
    const [packet, from] = [Uint8Array.from(data), { address, port }];
    heard.push({ packet, from });
    onPacket(packet, from, peer);
  });
  return peer;
}

/** A link to `peer`, which answers as the test wants. */
export async function linkTo(peer: Peer): Promise<{ readonly link: GatewayLink; readonly clock: TestClock }> {
  const clock = new TestClock();
  const { address, port } = peer.endpoint;
  const gateway = gatewayAt(address, { pcp: port, ssdp: port });
  const link = await GatewayLink.open(systemFor(gateway, clock), gateway);
  onTestFinished(() => link[Symbol.asyncDispose]());
  return { link, clock };
}

export interface WebServer {
  readonly port: number;
  /** The path of each request that came. */
  readonly asked: readonly string[];
}

/** A listener that counts who comes, and answers everybody with `body`. */
export async function openWebServer(address: IpAddress, body: (port: number) => string): Promise<WebServer> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? '');
    response.end(body(port));
  });
  server.listen(0, address);
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const bound = server.address();
  const port = typeof bound === 'object' ? (bound?.port ?? 0) : 0;
  return { port, asked };
}

export function searchAnswer(location: string, searchTarget: string = GATEWAY_TYPE): Uint8Array {
  return encodeSsdp({
    kind: 'response',
    searchTarget,
    usn: `uuid:00000000-0000-4000-8000-000000000000::${searchTarget}`,
    bootId: undefined,
    location,
    server: 'a test',
    maxAgeSeconds: 1800,
  });
}

const GATEWAY_TYPE = 'urn:schemas-upnp-org:device:InternetGatewayDevice:1';

/** A description with one WANIPConnection:1 whose control URL is `controlUrl`. */
export function descriptionWith(controlUrl: string): string {
  const service = {
    serviceType: 'urn:schemas-upnp-org:service:WANIPConnection:1',
    serviceId: 'urn:upnp-org:serviceId:WANIPConn1',
    controlUrl,
    eventUrl: '/event',
    scpdUrl: '/scpd.xml',
  };
  return encodeDescription(
    {
      deviceType: GATEWAY_TYPE,
      friendlyName: 'A test',
      manufacturer: 'Nobody',
      modelName: 'T',
      modelNumber: '1',
      udn: 'uuid:00000000-0000-4000-8000-000000000000',
      services: [service],
      devices: [],
    },
    0,
  );
}
