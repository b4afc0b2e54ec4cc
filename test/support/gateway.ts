/**
 * The embedded gateway on loopback, as tests need it: on free ports, with an outer address of its own (so that
 * the mapped ports of two tests never meet), with the `Gateway` value that leads to it, and a `System` with
 * real sockets and the test's clock. Everything closes with the test.
 */

import { randomInt } from 'node:crypto';
import { onTestFinished } from 'vitest';
// Loaded when they are wanted; here already, so that no virtual time passes meanwhile.
import '../../src/discovery/describe.ts';
import '../../src/mapping/upnp.ts';
import type { Gateway } from '../../src/discovery/gateway.ts';
import { NatwardError } from '../../src/errors.ts';
import { family, type IpAddress } from '../../src/net/address.ts';
import { type EmbeddedGateway, startGateway } from '../../src/responder/gateway.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import { type HttpRequest, type HttpResponse, httpRequest } from '../../src/system/http.ts';
import { realSystem, type System } from '../../src/system/system.ts';
import type { UdpOptions, UdpSocket } from '../../src/system/udp.ts';
import { SSDP_PORT } from '../../src/wire/ssdp.ts';
import { TestClock } from './test-clock.ts';

export interface TestGateway {
  readonly embedded: EmbeddedGateway;
  /** What discovery would ask. Its ports are the embedded gateway's. */
  readonly gateway: Gateway;
  readonly clock: TestClock;
  readonly system: System;
}

/** As src/system/http.ts has it. */
const HTTP_LIMIT_MS = 5000;
const INNER: IpAddress = '127.0.0.1';

/**
 * Starts a gateway that closes with the test. Gateway and system share one clock: `clock.settle(promise)`
 * runs what waits for either. All three protocols answer where nothing else is said.
 */
export async function gatewayFor(settings: Partial<GatewaySettings> = {}): Promise<TestGateway> {
  const clock = new TestClock();
  const address = settings.address ?? INNER;
  const embedded = await startGateway({ address, outerAddress: freshOuterAddress(), ...settings }, clock);
  onTestFinished(() => embedded.close());
  const gateway = gatewayAt(address, await embeddedPorts(embedded));
  return { embedded, gateway, clock, system: systemFor(gateway, clock) };
}

/** A `Gateway` at an own loopback address, asked from that same address. */
export function gatewayAt(address: IpAddress, ports: Gateway['ports']): Gateway {
  const ipv6 = family(address) === 6;
  return {
    address,
    family: ipv6 ? 6 : 4,
    interface: 'lo',
    localAddress: address,
    prefixLength: ipv6 ? 128 : 8,
    ports,
    chosenBy: 'route',
  };
}

/**
 * The real machine with the test's clock, on a network of loopback alone. A multicast search goes to the
 * gateway's own SSDP port, at which the embedded gateway has joined the group: no other test hears it.
 */
export function systemFor(gateway: Gateway, clock: TestClock): System {
  clock.willBeTold();
  return {
    ...realSystem,
    clock,
    openUdp: (options) => clock.during(openTold(gateway, clock, options)),
    http: (request) => clock.during(httpWithin(clock, request)),
    web: (request) => clock.during(realSystem.web(request)),
    runProgram: (request) => clock.during(realSystem.runProgram(request)),
    network: async () => ({
      defaultRoutes: [
        { family: gateway.family, interface: gateway.interface, gateway: gateway.address, metric: 0 },
      ],
      addresses: [
        {
          interface: gateway.interface,
          address: gateway.localAddress,
          family: gateway.family,
          prefixLength: gateway.prefixLength,
          internal: true,
        },
      ],
    }),
  };
}

async function openTold(gateway: Gateway, clock: TestClock, options: UdpOptions): Promise<UdpSocket> {
  const ends = {};
  const socket = await realSystem.openUdp({
    ...options,
    onDatagram: (data, source) => {
      clock.heard(ends);
      options.onDatagram(data, source);
    },
  });
  return {
    local: socket.local,
    send(data, to) {
      clock.asked(ends);
      socket.send(data, to?.port === SSDP_PORT ? { ...to, port: gateway.ports.ssdp } : to);
    },
    [Symbol.asyncDispose]: () => clock.during(socket[Symbol.asyncDispose]()),
  };
}

/** The real client has a limit of real seconds; this one's are the clock's. */
async function httpWithin(clock: TestClock, request: HttpRequest): Promise<HttpResponse> {
  const [done, cut] = [new AbortController(), new AbortController()];
  const error = new NatwardError('TIMEOUT', `${new URL(request.url).host} did not finish its answer`);
  clock.sleep(HTTP_LIMIT_MS, done.signal).then(
    () => cut.abort(error),
    () => undefined,
  );
  // Not AbortSignal.any(): what a signal of a long test is in would stay there until the end.
  const stop = () => cut.abort(request.signal?.reason);
  if (request.signal?.aborted) stop();
  request.signal?.addEventListener('abort', stop, { once: true });
  try {
    return await httpRequest({ ...request, signal: cut.signal });
  } finally {
    request.signal?.removeEventListener('abort', stop);
    done.abort();
  }
}

/** Its own addresses of 127/8 for each gateway: ports that are mapped there are nobody else's. */
export function freshOuterAddress(): IpAddress {
  return `127.${randomInt(64, 250)}.${randomInt(250)}.${randomInt(1, 250)}`;
}

/** Where a protocol is not spoken, a port at which nobody listens: asking there is refused by ICMP. */
async function embeddedPorts({ ports }: EmbeddedGateway): Promise<Gateway['ports']> {
  return { pcp: ports.pcp || (await closedPort()), ssdp: ports.ssdp || (await closedPort()) };
}

/** A UDP port that was free a moment ago, below those that the kernel hands out by itself. */
async function closedPort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 30_000);
    const options = { family: 4, localAddress: INNER, localPort: port, onDatagram: () => undefined } as const;
    const socket = await realSystem.openUdp(options).catch(() => undefined);
    await socket?.[Symbol.asyncDispose]();
    if (socket !== undefined) return port;
  }
}
