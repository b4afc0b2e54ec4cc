/**
 * The embedded gateway: answers SSDP, HTTP, SOAP, NAT-PMP and PCP on real sockets, keeps one table of
 * mappings behind all of them, and carries the mapped traffic itself. It does what the standards say; where
 * a real router does otherwise, a quirk can be switched on.
 */

import { setMaxListeners } from 'node:events';
import { NatwardError } from '../errors.ts';
import type { IpAddress } from '../net/address.ts';
import type { Endpoint } from '../net/endpoint.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import type { Clock } from '../system/clock.ts';
import { Counters } from './counters.ts';
import { bindDatagram, closeDatagram } from './datagram.ts';
import { EventSource } from './events/source.ts';
import { type Announcement, type AnnouncementPlaces, Faces } from './faces.ts';
import { Grants } from './grants.ts';
import { EVERYBODY } from './guard.ts';
import { HookSet } from './hooks.ts';
import { Identity } from './identity.ts';
import { type Pinhole, Pinholes } from './pinholes.ts';
import type { Quirks } from './quirks/quirks.ts';
import type { EmbeddedSite } from './quirks/inside.ts';
import { switchQuirks } from './quirks/switch.ts';
import {
  type GatewayPorts,
  type GatewaySettings,
  type ResolvedSettings,
  resolveSettings,
} from './settings.ts';
import type { TableEntry } from './table.ts';

export interface EmbeddedGateway extends AsyncDisposable {
  /** 0 where the protocol is not spoken. */
  readonly ports: GatewayPorts;
  /** Where the description is, as searches are told at the first inner address; empty without UPnP. */
  readonly location: string;
  /** The live mappings, in the order in which they were made. */
  readonly table: readonly TableEntry[];
  /** The live pinholes, of AddPinhole and of PCP over IPv6. */
  readonly pinholes: readonly Pinhole[];
  /** How many requests of each kind came: `{ 'ssdp search': 2, 'pcp map': 1, 'soap AddPortMapping': 1 }`. */
  readonly counters: Readonly<Record<string, number>>;
  /**
   * Switches quirks while running; one that is not named stays as it is, one that is set to another object
   * begins anew (`loseAnswers` counts from the start).
   */
  set(change: Partial<Quirks>): void;
  /** A reboot: empties the table and closes its ports, resets the epoch, raises BOOTID. */
  wipe(): Promise<void>;
  /** Ends one mapping behind its client's back, and closes its port. Reports whether there was one. */
  remove(protocol: TransportProtocol, externalPort: number): Promise<boolean>;
  /** Gives a port to a client that never asked, in place of whoever had it: an entry of UPnP without an end. */
  give(protocol: TransportProtocol, externalPort: number, to: Endpoint): Promise<void>;
  /** A new external address: the epoch is reset (RFC 6886, section 3.6), the mappings stay. */
  changeExternalAddress(address: IpAddress): void;
  /** Moves description and control to another HTTP port, as some routers do at each reboot. */
  moveControlPort(): Promise<void>;
  /** Sends the announcement once: to `destination`, or to its group. */
  announce(announcement: Announcement, destination?: Endpoint): Promise<void>;
  /**
   * Says that it is back, as the standards would have it: SSDP byebye and alive, as `wipe()` has set BOOTID; NAT-PMP
   * and PCP ten times, after 250 ms and doubling (RFC 6886, section 3.2.1; RFC 6887, section 14.1.1). Each goes
   * to its group where nothing else is said. Resolves after the last one, two minutes later, or when it closes.
   */
  announceRestart(destinations?: AnnouncementPlaces): Promise<void>;
  /** Ends all mappings and closes all ports. */
  close(): Promise<void>;
}

/**
 * Starts a gateway. Throws USAGE for settings that cannot be, FAILED where an address or a port cannot be
 * had; nothing is left open then.
 */
export async function startGateway(settings: GatewaySettings, clock: Clock): Promise<EmbeddedGateway> {
  const resolved = resolveSettings(settings);
  const closing = new AbortController();
  setMaxListeners(0, closing.signal); // As many as there are conversations.
  const hooks = new HookSet();
  const events = new EventSource();
  const site: EmbeddedSite = {
    settings: resolved,
    clock,
    hooks,
    counters: new Counters(),
    identity: new Identity(clock, resolved.externalAddress),
    grants: new Grants(resolved, clock, hooks, events),
    pinholes: new Pinholes(clock, resolved.maxMappings),
    closing: closing.signal,
    guard: EVERYBODY,
    events,
  };
  const faces = new Faces(site);
  const { http } = faces;
  const set = (change: Partial<Quirks>) => switchQuirks(hooks, change, { site, http });
  const close = async () => {
    closing.abort();
    await hooks.ready.catch(() => undefined);
    await faces.close();
    await site.grants.close();
  };
  try {
    if (resolved.carriesTraffic) await checkOuterAddress(resolved);
    await faces.open(resolved.ports);
    set(settings.quirks ?? {});
    await hooks.ready;
  } catch (error) {
    await close();
    throw error instanceof NatwardError ? error : cannotStart(resolved, error);
  }

  return {
    get ports() {
      return faces.ports;
    },
    get location() {
      return faces.location(resolved.address);
    },
    get table() {
      return site.grants.list();
    },
    get pinholes() {
      return site.pinholes.list();
    },
    get counters() {
      return site.counters.snapshot();
    },
    set,
    async wipe() {
      await site.grants.clear();
      site.pinholes.clear();
      site.identity.reboot();
      if (!hooks.has('keepsEpoch')) site.identity.resetEpoch();
      if (hooks.has('movesControlPort')) await http.open(0);
    },
    remove: (protocol, externalPort) => site.grants.removeAt(protocol, externalPort),
    give: (protocol, externalPort, to) =>
      site.grants.plant('upnp', {
        protocol,
        externalPort,
        internalClient: to.address,
        internalPort: to.port,
        expiresAtMs: undefined,
        description: '',
        enabled: true,
        via: 'upnp',
        nonce: undefined,
        remotePeers: [],
      }),
    changeExternalAddress(address) {
      site.identity.externalAddress = address;
      events.changed();
      if (!hooks.has('keepsEpoch')) site.identity.resetEpoch();
    },
    moveControlPort: () => http.open(0),
    announce: (announcement, destination) => faces.announce(announcement, destination),
    announceRestart: (destinations) => faces.announceRestart(destinations),
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** Mapped traffic has nowhere to arrive where this fails; better said now than at the first mapping. */
async function checkOuterAddress(settings: ResolvedSettings): Promise<void> {
  await closeDatagram(await bindDatagram({ address: settings.outerAddress, port: 0 }));
}

function cannotStart(settings: ResolvedSettings, cause: unknown): NatwardError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const { addresses, outerAddress } = settings;
  const places = [...addresses, outerAddress].join(', ');
  return new NatwardError('FAILED', `the gateway cannot start on ${places}: ${reason}`, { cause });
}
