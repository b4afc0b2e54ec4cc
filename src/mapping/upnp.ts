/**
 * UPnP IGD (WANIPConnection:1 and :2, WANPPPConnection:1) as a PortMapper.
 *
 * AddPortMapping names the external port and either gets it or a conflict; version 2 has AddAnyPortMapping,
 * which picks another. Routers differ from the standard more than they follow it: each deviation handled
 * here names the router it was seen on. IPv6 pinholes are a service of their own: pinhole.ts.
 */

import type { UpnpOffer, UpnpService } from '../discovery/gateway.ts';
import { callAction, soapValue, UpnpFault } from '../discovery/soap-call.ts';
import { isNatwardError, NatwardError } from '../errors.ts';
import { family, type IpAddress, kindOf, parseAddress } from '../net/address.ts';
import type { RemotePeer } from '../net/endpoint.ts';
import type { System } from '../system/system.ts';
import type { SoapValues } from '../wire/soap.ts';
import { listMappings, portOf, toListed } from './list.ts';
import {
  type ListedMapping,
  type Mapping,
  type MappingKey,
  type MappingRequest,
  type PortMapper,
} from './mapping.ts';
import { PinholeService } from './pinhole.ts';
import { isTaken, IGNORED_LIFETIME_NOTE, PERMANENT_NOTE, withAcceptedLifetime } from './quirks.ts';
import { refusal, UPNP_ERROR } from './upnp-errors.ts';

/** Other external ports tried where the gateway cannot choose for itself. */
const OTHER_PORT_TRIES = 4;
/** IANA's dynamic ports (RFC 6335): least likely to be somebody's. */
const FIRST_DYNAMIC_PORT = 49_152;
/** Clock steps and the way there and back. */
const LIFETIME_SLACK_SECONDS = 30;
/** The gateway cannot tell what it holds. */
const UNKNOWN = Symbol('unknown');

export class UpnpMapper implements PortMapper {
  readonly protocol = 'upnp';
  readonly gateway: IpAddress;
  /** Small web servers: some take one connection at a time and let a few wait. */
  readonly window = 4;
  readonly #system: System;
  readonly #service: UpnpService;
  readonly #version: number;
  readonly #localAddress: IpAddress;
  readonly #pinholes: PinholeService | undefined;
  /**
   * What was mapped here, from outside to inside. A gateway lets a host replace what is its own (WANIPConnection:2,
   * section 2.5.16): two ports of ours that end up at one external port would take it from each other for ever.
   */
  readonly #places = new Map<string, string>();
  /** As last asked: the same for each of many mappings. */
  #externalAddress: Promise<IpAddress | undefined> | undefined;

  constructor(offer: UpnpOffer, system: System) {
    const { device, gateway } = offer;
    this.gateway = gateway.address;
    this.#system = system;
    this.#service = device.connection;
    this.#version = device.connectionVersion;
    this.#localAddress = gateway.localAddress;
    this.#pinholes = device.firewall && new PinholeService(system, device.firewall, this.gateway);
  }

  async map(request: MappingRequest, signal?: AbortSignal, enough?: AbortSignal): Promise<Mapping> {
    if (family(request.internalClient) === 6) return this.#needPinholes().add(request, signal);
    const port = request.suggestedExternalPort || request.internalPort;
    if (request.suggestedExternalPort === 0 && request.held === undefined && this.#version >= 2) {
      return this.#addAny(request, port, signal);
    }
    try {
      return await this.#add(request, port, signal);
    } catch (error) {
      if (!(error instanceof UpnpFault)) throw error;
      if (!isTaken(error)) throw this.#refusal(error, request, port);
      return this.#addInstead(request, port, error, signal, enough);
    }
  }

  /** The port is taken: by our own mapping under an address that we had, or by somebody else. */
  async #addInstead(
    request: MappingRequest,
    port: number,
    taken: UpnpFault,
    signal?: AbortSignal,
    enough?: AbortSignal,
  ): Promise<Mapping> {
    const { held } = request;
    if (enough?.aborted) throw this.#refusal(taken, request, port);
    if (held !== undefined && held.internalClient !== request.internalClient) {
      const stale = await this.#entry({ ...request, externalPort: port }, signal);
      if (stale?.internalClient === held.internalClient && stale.internalPort === request.internalPort) {
        if (await this.#deleteStale({ ...request, externalPort: port }, signal)) {
          return this.#add(request, port, signal);
        }
      }
    }
    if (request.choice === 'exact') throw this.#refusal(taken, request, port);
    const made = request.askedBefore && (await this.#madeBefore(request, signal));
    if (made) return this.#add(request, made.externalPort, signal);
    if (this.#version >= 2) {
      // The ports beside it may be wanted next, and what has one already loses it: see #places.
      const wish = this.#randomPort();
      try {
        return await this.#addAny(request, wish, signal).catch((error: unknown) => {
          if (isNatwardError(error, 'NOT_AUTHORIZED')) return this.#addAny(request, port, signal);
          throw error;
        });
      } catch (error) {
        if (!isNatwardError(error, 'UNSUPPORTED', 'REFUSED', 'CONFLICT', 'UNREACHABLE')) throw error;
      }
    }
    let last = taken;
    for (let tries = 0; tries < OTHER_PORT_TRIES; tries++) {
      if (enough?.aborted) break;
      try {
        return await this.#add(request, this.#randomPort(), signal);
      } catch (error) {
        if (!(error instanceof UpnpFault)) throw error;
        if (!isTaken(error)) throw this.#refusal(error, request, port);
        last = error;
      }
    }
    throw this.#refusal(last, request, port);
  }

  /** Reports whether it is gone: some gateways let only the address that it leads to delete it (miniupnpd, 606). */
  async #deleteStale(place: Place, signal?: AbortSignal): Promise<boolean> {
    try {
      await this.#delete(place, signal);
      return true;
    } catch (error) {
      if (error instanceof UpnpFault) return false;
      throw error;
    }
  }

  /** What the silent protocol was granted, under another external port: taken over, or there would be two. */
  async #madeBefore(request: MappingRequest, signal?: AbortSignal): Promise<ListedMapping | undefined> {
    const rows = await this.list(signal).catch((error: unknown) => {
      if (isNatwardError(error, 'ABORTED')) throw error;
      return [];
    });
    return rows.find(
      (row) =>
        row.protocol === request.protocol &&
        row.internalClient === request.internalClient &&
        row.internalPort === request.internalPort,
    );
  }

  async #add(request: MappingRequest, externalPort: number, signal?: AbortSignal): Promise<Mapping> {
    if (await this.#leadsElsewhere(request, externalPort, signal)) {
      throw new UpnpFault(
        'AddPortMapping',
        UPNP_ERROR.conflictInMapping,
        'natward has mapped another port there',
      );
    }
    const add = (lifetimeSeconds: number) =>
      this.#call('AddPortMapping', addArguments(request, externalPort, lifetimeSeconds), signal);
    const lifetimeSeconds = await withAcceptedLifetime(request.lifetimeSeconds, add);
    return this.#granted(request, externalPort, lifetimeSeconds);
  }

  /** Reports whether another port of ours was mapped there, and is. */
  async #leadsElsewhere(
    request: MappingRequest,
    externalPort: number,
    signal?: AbortSignal,
  ): Promise<boolean> {
    const place = { ...request, externalPort };
    const inside = this.#places.get(outsideOf(place));
    if (inside === undefined || inside === insideOf(request)) return false;
    const entry = await this.#entry(place, signal).catch((error: unknown) => {
      if (error instanceof UpnpFault) return undefined;
      throw error;
    });
    return entry !== undefined && insideOf(entry) === inside;
  }

  async #addAny(request: MappingRequest, wishedPort: number, signal?: AbortSignal): Promise<Mapping> {
    let reservedPort = 0;
    const add = async (lifetimeSeconds: number) => {
      const args = addArguments(request, wishedPort, lifetimeSeconds);
      const answer = await this.#call('AddAnyPortMapping', args, signal);
      reservedPort = portOf(soapValue(answer, 'NewReservedPort'));
    };
    try {
      const lifetimeSeconds = await withAcceptedLifetime(request.lifetimeSeconds, add);
      if (reservedPort === 0) throw new NatwardError('MALFORMED', `${this.gateway} names no external port`);
      return this.#granted(request, reservedPort, lifetimeSeconds);
    } catch (error) {
      throw error instanceof UpnpFault ? this.#refusal(error, request, wishedPort) : error;
    }
  }

  #granted(request: MappingRequest, externalPort: number, lifetimeSeconds: number): Mapping {
    this.#places.set(outsideOf({ ...request, externalPort }), insideOf(request));
    return {
      protocol: request.protocol,
      externalAddress: undefined,
      externalPort,
      internalClient: request.internalClient,
      internalPort: request.internalPort,
      lifetimeSeconds,
      expiresAtMs: this.#expiry(lifetimeSeconds),
      via: 'upnp',
      gateway: this.gateway,
      description: request.description,
      notes: lifetimeSeconds === 0 ? [PERMANENT_NOTE] : [],
      nonce: undefined,
      pinholeId: undefined,
      remotePeer: request.remotePeer,
    };
  }

  #expiry(lifetimeSeconds: number): number | undefined {
    return lifetimeSeconds === 0 ? undefined : this.#system.clock.now() + lifetimeSeconds * 1000;
  }

  async verify(request: MappingRequest, mapping: Mapping, signal?: AbortSignal): Promise<Mapping> {
    if (mapping.pinholeId !== undefined) return mapping; // Its number is the proof.
    const [entry, externalAddress] = await Promise.all([
      this.#readBack(mapping, signal),
      (this.#externalAddress ??= this.#askExternalAddress(signal)),
    ]);
    const known = { ...mapping, externalAddress };
    if (entry === UNKNOWN) return known;
    if (entry === undefined || entry.internalPort !== mapping.internalPort) {
      return this.#mapAgain(request, known, entry, signal);
    }
    const { remainingSeconds } = entry;
    if (mapping.lifetimeSeconds === 0 || remainingSeconds === undefined) return known;
    if (remainingSeconds === 0) {
      return {
        ...known,
        lifetimeSeconds: 0,
        expiresAtMs: undefined,
        notes: [...mapping.notes, IGNORED_LIFETIME_NOTE],
      };
    }
    const usual = Math.min(mapping.lifetimeSeconds, request.held?.lifetimeSeconds || mapping.lifetimeSeconds);
    if (request.held !== undefined && remainingSeconds < usual - LIFETIME_SLACK_SECONDS) {
      // Some gateways take a refresh and let the first lease run out all the same: make it anew.
      await this.#delete(mapping, signal);
      return {
        ...(await this.#add(request, mapping.externalPort, signal)),
        externalAddress: known.externalAddress,
      };
    }
    if (remainingSeconds >= mapping.lifetimeSeconds - LIFETIME_SLACK_SECONDS) return known;
    return { ...known, lifetimeSeconds: remainingSeconds, expiresAtMs: this.#expiry(remainingSeconds) };
  }

  /**
   * The gateway said yes and the entry is not there, or not ours. DD-WRT lets leased mappings end at once and
   * keeps permanent ones; others say yes with a full table.
   */
  async #mapAgain(
    request: MappingRequest,
    mapping: Mapping,
    entry: ListedMapping | undefined,
    signal?: AbortSignal,
  ): Promise<Mapping> {
    if (entry === undefined && mapping.lifetimeSeconds !== 0) {
      const permanent = { ...request, lifetimeSeconds: 0 };
      await this.#call('AddPortMapping', addArguments(permanent, mapping.externalPort, 0), signal).catch(
        () => undefined,
      );
      const again = await this.#readBack(mapping, signal);
      if (again !== undefined && again !== UNKNOWN) {
        return {
          ...this.#granted(request, mapping.externalPort, 0),
          externalAddress: mapping.externalAddress,
        };
      }
    }
    const what = `${mapping.protocol.toUpperCase()} ${mapping.externalPort}`;
    const instead =
      entry === undefined
        ? 'has no such mapping'
        : `has it for ${entry.internalClient}:${entry.internalPort}`;
    throw new NatwardError('NOT_MAPPED', `${this.gateway} said yes to ${what}, and its table ${instead}`, {
      advice: 'Its table may be full: look at natward list, remove what nobody needs, and try again.',
    });
  }

  /** UNKNOWN where the gateway cannot tell: some reset the connection at an action they do not have. */
  async #readBack(
    mapping: Mapping,
    signal?: AbortSignal,
  ): Promise<ListedMapping | undefined | typeof UNKNOWN> {
    try {
      const entry = await this.#entry(mapping, signal);
      return entry?.internalClient === mapping.internalClient || entry === undefined
        ? entry
        : { ...entry, internalPort: 0 };
    } catch (error) {
      if (isNatwardError(error, 'ABORTED')) throw error;
      return UNKNOWN;
    }
  }

  async #entry(place: Place, signal?: AbortSignal): Promise<ListedMapping | undefined> {
    const args = placeArguments(place);
    try {
      return toListed({ ...(await this.#call('GetSpecificPortMappingEntry', args, signal)), ...args });
    } catch (error) {
      if (error instanceof UpnpFault && error.errorCode === UPNP_ERROR.noSuchEntry) return undefined;
      throw error;
    }
  }

  async unmap(key: MappingKey, signal?: AbortSignal): Promise<void> {
    if (key.pinholeId !== undefined)
      return this.#needPinholes().delete(key.pinholeId, key.internalClient, signal);
    try {
      await this.#delete(key, signal);
    } catch (error) {
      throw error instanceof UpnpFault ? this.#refusal(error, key, key.externalPort) : error;
    }
  }

  async #delete(place: Place, signal?: AbortSignal): Promise<void> {
    this.#places.delete(outsideOf(place));
    try {
      await this.#call('DeletePortMapping', placeArguments(place), signal);
    } catch (error) {
      if (!(error instanceof UpnpFault) || error.errorCode !== UPNP_ERROR.noSuchEntry) throw error;
    }
  }

  externalAddress(signal?: AbortSignal): Promise<IpAddress | undefined> {
    this.#externalAddress = this.#askExternalAddress(signal);
    return this.#externalAddress;
  }

  /** Routers answer with 0.0.0.0 while they dial, with 127.x and with the bytes reversed (ZTE). */
  async #askExternalAddress(signal?: AbortSignal): Promise<IpAddress | undefined> {
    try {
      const values = await this.#call('GetExternalIPAddress', {}, signal);
      const address = parseAddress(soapValue(values, 'NewExternalIPAddress'));
      if (address === undefined || kindOf(address) === 'unspecified') return undefined;
      return kindOf(address) === 'loopback' && kindOf(this.gateway) !== 'loopback' ? undefined : address;
    } catch (error) {
      if (isNatwardError(error, 'ABORTED')) throw error;
      return undefined;
    }
  }

  readonly holds = async (key: MappingKey, signal?: AbortSignal): Promise<boolean> => {
    if (key.pinholeId !== undefined)
      return this.#needPinholes().isOpen(key.pinholeId, key.internalClient, signal);
    try {
      const entry = await this.#entry(key, signal);
      return entry?.internalClient === key.internalClient && entry.internalPort === key.internalPort;
    } catch (error) {
      throw error instanceof UpnpFault ? this.#refusal(error, key, key.externalPort) : error;
    }
  };

  readonly list = (signal?: AbortSignal): Promise<readonly ListedMapping[]> =>
    listMappings((action, values) => this.#call(action, values, signal), this.#version);

  #call(action: string, values: SoapValues, signal?: AbortSignal): Promise<SoapValues> {
    const target = { service: this.#service, localAddress: this.#localAddress };
    return callAction(this.#system, target, action, values, signal);
  }

  #refusal(
    fault: UpnpFault,
    { protocol, internalClient }: Pick<MappingRequest, 'protocol' | 'internalClient'>,
    port: number,
  ): NatwardError {
    const target = internalClient === this.#localAddress ? 'this-host' : 'another-host';
    return refusal(this.gateway, fault, `${protocol.toUpperCase()} ${port}`, { port, target });
  }

  #needPinholes(): PinholeService {
    if (this.#pinholes !== undefined) return this.#pinholes;
    throw new NatwardError('UNSUPPORTED', `${this.gateway} has no UPnP service that opens IPv6 pinholes`);
  }

  #randomPort(): number {
    const bytes = new Uint8Array(2);
    this.#system.fillRandom(bytes);
    return FIRST_DYNAMIC_PORT + (new DataView(bytes.buffer).getUint16(0) % (65_536 - FIRST_DYNAMIC_PORT));
  }
}

/** In the order of the standard's table: some routers read arguments by place. */
function addArguments(request: MappingRequest, externalPort: number, lifetimeSeconds: number): SoapValues {
  return {
    ...placeArguments({ ...request, externalPort }),
    NewInternalPort: String(request.internalPort),
    NewInternalClient: request.internalClient,
    NewEnabled: '1',
    NewPortMappingDescription: request.description,
    NewLeaseDuration: String(lifetimeSeconds),
  };
}

/** What a UPnP gateway knows a mapping by. */
type Place = Pick<Mapping, 'protocol' | 'externalPort' | 'remotePeer'>;

function outsideOf({ protocol, externalPort, remotePeer }: Place): string {
  return `${protocol} ${externalPort} ${remotePeer?.address ?? ''}`;
}

function insideOf({
  internalClient,
  internalPort,
}: Pick<Mapping, 'internalClient' | 'internalPort'>): string {
  return `${internalClient} ${internalPort}`;
}

function placeArguments({ protocol, externalPort, remotePeer }: Place): SoapValues {
  return {
    NewRemoteHost: remotePeer === undefined ? '' : remoteHost(remotePeer),
    NewExternalPort: String(externalPort),
    NewProtocol: protocol.toUpperCase(),
  };
}

/** UPnP lets one host in, or everybody. */
function remoteHost({ address, prefixLength, port }: RemotePeer): string {
  if (prefixLength === (family(address) === 4 ? 32 : 128) && port === 0) return address;
  throw new NatwardError(
    'UNSUPPORTED',
    'UPnP maps for one remote host: for no network, and for no port of it',
  );
}
