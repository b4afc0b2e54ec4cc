/**
 * The whole road on loopback: an embedded gateway is started and found, a port is mapped over each protocol,
 * bytes go through, the mapping is renewed and released. Every step is what natward does with a router, with
 * the same code; only the gateway is our own. Needs neither root nor a network, and leaves nothing behind.
 */

import { connect, createServer, type Server } from 'node:net';
import { OneShot } from '../agent/one-shot.ts';
import type { MapAsk } from '../agent/map.ts';
import type { Granted } from '../agent/port.ts';
import { MemoryStore } from '../agent/store.ts';
import { NatwardError } from '../errors.ts';
import type { IpAddress } from '../net/address.ts';
import { formatEndpoint } from '../net/endpoint.ts';
import { MAPPING_PROTOCOL_NAME, MAPPING_PROTOCOLS, type MappingProtocol } from '../net/protocol.ts';
import { startGateway } from '../responder/gateway.ts';
import { realSystem } from '../system/system.ts';

export interface DemoStep {
  readonly step: 'gateway' | 'service' | 'found' | 'map' | 'traffic' | 'renew' | 'release' | 'closed';
  readonly via: MappingProtocol | undefined;
  readonly message: string;
  readonly elapsedMs: number;
}

const INSIDE: IpAddress = '127.0.0.1';
/** macOS answers on 127.0.0.1 alone; the outer side then differs by its port. */
const OUTSIDE: IpAddress = process.platform === 'darwin' ? INSIDE : '127.0.0.2';
const LIFETIME_SECONDS = 3600;
const TIMEOUT_MS = 5000;
const GREETING = 'hello from the inside';

/** Runs the demo and reports each step as it is done. Throws what natward would throw, or FAILED. */
export async function runDemo(signal: AbortSignal, onStep: (step: DemoStep) => void): Promise<void> {
  const startMs = performance.now();
  const report = (step: DemoStep['step'], via: MappingProtocol | undefined, message: string) =>
    onStep({ step, via, message, elapsedMs: Math.round(performance.now() - startMs) });

  const service = await startService();
  try {
    await using gateway = await startGateway({ address: INSIDE, outerAddress: OUTSIDE }, realSystem.clock);
    const { pcp, ssdp } = gateway.ports;
    report(
      'gateway',
      undefined,
      `an embedded gateway runs on ${INSIDE}: PCP and NAT-PMP on UDP ${pcp}, SSDP on UDP ${ssdp}`,
    );
    report('service', undefined, `a service waits on ${INSIDE}:${service.port}, inside`);
    await using agent = new OneShot(realSystem, new MemoryStore(realSystem.clock));
    const asking = { gateway: INSIDE, ports: gateway.ports, timeoutMs: TIMEOUT_MS, signal };
    await agent.gateways({
      ...asking,
      onOffer: (offer) =>
        report('found', offer.protocol, `the gateway answers over ${MAPPING_PROTOCOL_NAME[offer.protocol]}`),
      onGateway: () => undefined,
    });
    for (const via of MAPPING_PROTOCOLS) {
      await showMapping(agent, { ...asking, via }, service.port, (step, message) =>
        report(step, via, message),
      );
    }
  } finally {
    service.server.close();
  }
}

async function showMapping(
  agent: OneShot,
  asking: Parameters<OneShot['list']>[0],
  port: number,
  report: (step: DemoStep['step'], message: string) => void,
): Promise<void> {
  const range = { first: port, last: port };
  const ask: MapAsk = {
    spec: String(port),
    protocols: ['tcp'],
    external: range,
    internal: range,
    host: undefined,
  };
  const onWarning = (warning: NatwardError) => {
    throw warning;
  };
  const map = async (): Promise<Granted> => {
    const { mappings, failures } = await agent.map([ask], {
      ...asking,
      lifetimeSeconds: LIFETIME_SECONDS,
      choice: 'any',
      description: undefined,
      onWarning,
    });
    const [mapping] = mappings;
    if (mapping === undefined) throw failures[0]?.error ?? new NatwardError('FAILED', 'nothing was granted');
    return mapping;
  };

  const granted = await map();
  const outside = { address: OUTSIDE, port: granted.externalPort };
  const inside = formatEndpoint({ address: granted.internalClient, port: granted.internalPort });
  report('map', `granted tcp ${formatEndpoint(outside)} -> ${inside} for ${granted.lifetimeSeconds} s`);
  report(
    'traffic',
    `connected to ${formatEndpoint(outside)} from outside, received “${await receive(outside)}”`,
  );
  const renewed = await map();
  report('renew', `renewed: the same port ${renewed.externalPort}, again for ${renewed.lifetimeSeconds} s`);
  const { failures } = await agent.unmap([ask], { ...asking, others: 'refuse', onWarning });
  if (failures[0] !== undefined) throw failures[0].error;
  report('release', `released tcp ${formatEndpoint(outside)}`);
  const after = await receive(outside).catch(() => undefined);
  if (after !== undefined)
    throw new NatwardError('FAILED', `${formatEndpoint(outside)} answers after its release`);
  report('closed', `${formatEndpoint(outside)} refuses connections again`);
}

async function startService(): Promise<{ server: Server; port: number }> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.end(GREETING);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, INSIDE, resolve);
  });
  const bound = server.address();
  if (bound === null || typeof bound === 'string')
    throw new NatwardError('FAILED', 'the demo service has no port');
  return { server, port: bound.port };
}

/** What a peer on the outer side gets from there. */
function receive(endpoint: { address: IpAddress; port: number }): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(endpoint.port, endpoint.address);
    let text = '';
    socket.setEncoding('utf8');
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)));
    socket.on('data', (chunk: string) => {
      text += chunk;
    });
    socket.on('error', reject);
    socket.on('close', () => (text === '' ? reject(new Error('nothing came back')) : resolve(text)));
  });
}
