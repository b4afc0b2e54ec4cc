/**
 * The gateway for other programs, on one interface of this host: it answers PCP, NAT-PMP and UPnP to the hosts of
 * that interface's networks, and has what they ask for held by the outer gateway.
 */

import { setMaxListeners } from 'node:events';
import { NatwardError } from '../errors.ts';
import { family, type IpAddress, sameNetwork } from '../net/address.ts';
import type { MappingProtocol } from '../net/protocol.ts';
import type { Clock } from '../system/clock.ts';
import { GATEWAY_PORT } from '../wire/natpmp.ts';
import { SSDP_PORT } from '../wire/ssdp.ts';
import { ClientGuard } from './client-guard.ts';
import { Counters } from './counters.ts';
import { EventSource } from './events/source.ts';
import { Faces } from './faces.ts';
import { HookSet } from './hooks.ts';
import { Identity } from './identity.ts';
import type { LeaseGrants } from './lease-grants.ts';
import type { LeasePinholes } from './lease-pinholes.ts';
import { type MappingUpdate, mappingUpdate } from './pcp-update.ts';
import type { RightsOf } from './rights.ts';
import type { FaceSettings, GatewayPorts } from './settings.ts';
import type { Site } from './site.ts';
import type { TableEntry } from './table.ts';
import type { Upstream } from './upstream.ts';

/** An address of this host, and its network. */
export interface InnerNetwork {
  readonly address: IpAddress;
  readonly prefixLength: number;
}

export interface ResponderOptions {
  readonly interface: string;
  /** Of the interface: one of IPv4, one of IPv6, or both. Whoever is in none of them gets no answer. */
  readonly networks: readonly InnerNetwork[];
  readonly protocols: readonly MappingProtocol[];
  readonly igdVersion: 1 | 2;
  readonly friendlyName: string;
  /** Of the UPnP device: the same after a restart. */
  readonly uuid: string;
  readonly rightsOf: RightsOf;
  /** Reports whether it is an address of this host: those are not answered, so that it is never its own gateway. */
  readonly isOwn: (address: IpAddress) => boolean;
  /** One of each for all interfaces. */
  readonly grants: LeaseGrants;
  readonly pinholes: LeasePinholes;
  readonly upstream: Upstream;
  readonly clock: Clock;
  /** The standard ones where nothing is said. */
  readonly ports?: GatewayPorts;
}

export interface Responder extends AsyncDisposable {
  readonly interface: string;
  readonly addresses: readonly IpAddress[];
  /** By kind, as EmbeddedGateway has them. */
  readonly counters: Readonly<Record<string, number>>;
  /** It no longer answers; UPnP's clients are told. What is held for its clients stays. */
  close(): Promise<void>;
}

/** UPnP's clients forget a device that says nothing for 1800 s (UDA 2.0, section 1.2.2). */
const ALIVE_MS = 800_000;

/** Throws FAILED where a port or an address cannot be had; nothing is left open then. */
export async function startResponder(options: ResponderOptions): Promise<Responder> {
  const { clock, grants, pinholes, upstream, networks } = options;
  const closing = new AbortController();
  setMaxListeners(0, closing.signal); // As many as there are conversations.
  const site: Site = {
    settings: settingsOf(options),
    clock,
    hooks: new HookSet(),
    counters: new Counters(),
    identity: new Identity(clock, upstream.externalAddress, options.uuid),
    grants,
    pinholes,
    closing: closing.signal,
    guard: new ClientGuard(options),
    events: new EventSource(),
  };
  const faces = new Faces(site);
  const isOurs = ({ internalClient }: TableEntry) =>
    networks.some(
      ({ address, prefixLength }) =>
        family(address) === family(internalClient) && sameNetwork(address, internalClient, prefixLength),
    );
  const update = (fate: 'moved' | 'gone') => (entry: TableEntry) => {
    const message = isOurs(entry) ? mappingUpdate(entry, fate, site) : undefined;
    if (message !== undefined) void sendRepeated(faces, message, site);
  };
  let lastKnown = upstream.externalAddress;
  const ends = [
    grants.listen({
      moved: update('moved'),
      gone: update('gone'),
      changed: () => site.events.tableChanged(),
    }),
    upstream.onExternalAddress((address) => {
      const previous = site.identity.externalAddress;
      site.identity.externalAddress = address;
      site.events.changed();
      if (address === undefined || address === lastKnown) return;
      // RFC 6886, section 3.6; RFC 6887, section 8.5: another address is a new life.
      if (lastKnown !== undefined) site.identity.resetEpoch();
      lastKnown = address;
      void faces.announceMappingPort(previous === undefined ? ['natpmp'] : ['natpmp', 'pcp']);
    }),
  ];
  const close = async () => {
    if (closing.signal.aborted) return;
    for (const end of ends) end();
    await faces.announce('ssdp byebye');
    closing.abort();
    await faces.close();
  };
  try {
    await faces.open(options.ports ?? STANDARD_PORTS);
  } catch (cause) {
    await close();
    throw cannotStart(options, cause);
  }
  void faces.announceRestart();
  void repeatAlive(faces, clock, closing.signal);
  return {
    interface: options.interface,
    addresses: site.settings.addresses,
    get counters() {
      return site.counters.snapshot();
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

const STANDARD_PORTS: GatewayPorts = { pcp: GATEWAY_PORT, ssdp: SSDP_PORT, http: 0 };

function settingsOf({ networks, protocols, igdVersion, friendlyName }: ResponderOptions): FaceSettings {
  return {
    addresses: networks.map(({ address }) => address),
    protocols,
    igdVersion,
    friendlyName,
    connectionService: 'WANIPConnection',
    minLifetimeSeconds: 120,
    maxLifetimeSeconds: undefined,
    firewallEnabled: true,
    inboundPinholeAllowed: true,
    // There may be a thousand other devices here.
    spreadSearchAnswers: true,
    maxFilters: 1,
  };
}

/** Nobody confirms them. */
const UPDATES = 3;
const UPDATE_PAUSE_MS = 500;

async function sendRepeated(
  faces: Faces,
  { packet, to }: MappingUpdate,
  { clock, closing }: Site,
): Promise<void> {
  try {
    for (let count = 1; count <= UPDATES; count++) {
      await faces.send(packet, to);
      if (count < UPDATES) await clock.sleep(count * UPDATE_PAUSE_MS, closing);
    }
  } catch {
    // It closes.
  }
}

async function repeatAlive(faces: Faces, clock: Clock, signal: AbortSignal): Promise<void> {
  try {
    for (;;) {
      await clock.sleep(ALIVE_MS, signal);
      await faces.announce('ssdp alive');
    }
  } catch {
    // It closes.
  }
}

function cannotStart({ interface: name, networks }: ResponderOptions, cause: unknown): NatwardError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const places = networks.map(({ address }) => address).join(', ');
  return new NatwardError('FAILED', `nobody is answered on ${name} (${places}): ${reason}`, {
    cause,
    advice:
      'Where another gateway answers there (miniupnpd, dnsmasq, a second natward), stop one of the two, or leave this interface out.',
  });
}
