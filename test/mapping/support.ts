/** What the tests of mapping share. */

import { onTestFinished } from 'vitest';
import { describe } from '../../src/discovery/describe.ts';
import type { Offer } from '../../src/discovery/gateway.ts';
import { GatewayLink } from '../../src/discovery/link.ts';
import { probeNatpmp, probePcp } from '../../src/discovery/probe.ts';
import type { HeldMapping, Mapping, MappingRequest, PortMapper } from '../../src/mapping/mapping.ts';
import { createMapper } from '../../src/mapping/race.ts';
import type { MappingProtocol, TransportProtocol } from '../../src/net/protocol.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import { gatewayFor, type TestGateway } from '../support/gateway.ts';

/** A request of this host for TCP 8080, for an hour, where nothing else is said. */
export function requestFor(wanted: Partial<MappingRequest> = {}): MappingRequest {
  return {
    protocol: 'tcp',
    internalClient: '127.0.0.1',
    internalPort: 8080,
    suggestedExternalPort: wanted.internalPort ?? 8080,
    choice: 'any',
    lifetimeSeconds: 3600,
    description: 'a test',
    nonce: Uint8Array.from({ length: 12 }, (_, at) => at + 1),
    held: undefined,
    ...wanted,
  };
}

/** What is remembered of a mapping. */
export function heldOf({ internalClient, externalPort, lifetimeSeconds, pinholeId }: Mapping): HeldMapping {
  return { internalClient, externalPort, lifetimeSeconds, pinholeId };
}

export interface MapperAt extends TestGateway {
  readonly mapper: PortMapper;
  /** Asks and looks, as the race does. */
  readonly map: (wanted?: Partial<MappingRequest>) => Promise<Mapping>;
  /** Switches quirks on that would have been in the way of finding the gateway. */
  readonly quirk: TestGateway['embedded']['set'];
}

/** An embedded gateway that was found over `protocol`. `afterwards` are quirks that it has from then on. */
export async function mapperAt(
  protocol: MappingProtocol,
  settings: Partial<GatewaySettings> = {},
): Promise<MapperAt> {
  const at = await gatewayFor(settings);
  const mapper = await mapperOf(at, protocol);
  const { clock } = at;
  const map = (wanted: Partial<MappingRequest> = {}) => {
    const request = requestFor({ internalClient: at.gateway.localAddress, ...wanted });
    return clock.settle(mapper.map(request).then((mapping) => mapper.verify(request, mapping)));
  };
  return { ...at, mapper, map, quirk: (change) => at.embedded.set(change) };
}

/** A mapper to a gateway that runs. */
export async function mapperOf(at: TestGateway, protocol: MappingProtocol): Promise<PortMapper> {
  return createMapper(await at.clock.settle(offerOf(at, protocol)), at.system);
}

async function offerOf(
  { embedded, gateway, system }: TestGateway,
  protocol: MappingProtocol,
): Promise<Offer> {
  if (protocol === 'upnp') {
    const device = await describe(system, gateway, embedded.location, gateway.address);
    return { protocol, gateway, device };
  }
  const link = await GatewayLink.open(system, gateway);
  onTestFinished(() => link[Symbol.asyncDispose]());
  const { signal } = new AbortController();
  return protocol === 'pcp' ? probePcp(gateway, link, signal) : probeNatpmp(gateway, link, signal);
}

/** A mapping of another host, made by hand and without an end. */
export async function occupy(
  at: TestGateway,
  externalPort: number,
  protocol: TransportProtocol = 'tcp',
): Promise<void> {
  const { embedded, gateway, system, clock } = at;
  const stranger = { ...gateway, localAddress: '127.0.0.200' };
  const device = await clock.settle(describe(system, stranger, embedded.location, gateway.address));
  const mapper = await createMapper({ protocol: 'upnp', gateway: stranger, device }, system);
  const request = requestFor({ internalClient: '127.0.0.200', internalPort: externalPort, protocol });
  await clock.settle(mapper.map(request));
}

/** The table in short: `tcp 8080 -> 127.0.0.1:8080`. */
export function tableOf({ embedded }: TestGateway): string[] {
  return embedded.table.map(
    ({ protocol, externalPort, internalClient, internalPort }) =>
      `${protocol} ${externalPort} -> ${internalClient}:${internalPort}`,
  );
}
