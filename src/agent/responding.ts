/**
 * The responders of this host: one for each interface that the configuration names, as long as the interface is there,
 * has an address, and is not the way to the outer gateway. Looks at the network as the keeper does, and has each
 * responder begin, begin again where its addresses are others, and end. What is mapped outlives all of that.
 */

import { createHash } from 'node:crypto';
import { isNatwardError, NatwardError } from '../errors.ts';
import type { FencedPlace } from '../forwarder/nftables/fence.ts';
import { type IpAddress, withoutZone } from '../net/address.ts';
import type { MappingProtocol } from '../net/protocol.ts';
import { LeaseGrants } from '../responder/lease-grants.ts';
import { LeasePinholes } from '../responder/lease-pinholes.ts';
import type { InnerNetwork, Responder, ResponderOptions } from '../responder/responder.ts';
import type { ClientRights, RightsOf } from '../responder/rights.ts';
import type { Upstream } from '../responder/upstream.ts';
import { OVER } from '../system/clock.ts';
import type { NetworkState } from '../system/routes.ts';
import type { System } from '../system/system.ts';
import { GATEWAY_PORT } from '../wire/natpmp.ts';
import { SSDP_PORT } from '../wire/ssdp.ts';
import type { Keeper } from './keeper.ts';
import { type GatewayStatus, type LeaseStatus, RESPONDER_OWNER } from './lease.ts';
import { HIGHEST_MAX_MAPPINGS, type RespondSection, rightsFrom } from './respond-config.ts';
import { isIn, obstacleOf } from './respond-obstacle.ts';
import { type RespondingStatus, type ResponderStatus, statusesOf } from './responder-status.ts';

export interface RespondingOptions {
  readonly system: Pick<System, 'clock' | 'network' | 'networkLookMs'>;
  readonly keeper: Pick<Keeper, 'drop' | 'intents' | 'log' | 'status' | 'warn'>;
  readonly start: (options: ResponderOptions) => Promise<Responder>;
  /**
   * Has hosts of other interfaces kept from speaking as clients of these. Told before anybody is answered there, now and
   * then, and of none at the end. What goes wrong with it is its own to tell.
   */
  readonly fence: (places: readonly FencedPlace[]) => Promise<void>;
  /** Made when there is the first section: it has the outer gateway looked at. */
  readonly upstream: () => Upstream;
  readonly hostName: string;
  /** Of this agent on this host: what is made of it is the same after a restart, and another's elsewhere. */
  readonly identity: string;
}

interface Place {
  section: RespondSection;
  rights: RightsOf;
  /** Whose hosts are its clients; none where it cannot be. */
  networks: readonly InnerNetwork[];
  /** Why it cannot be just now. */
  obstacle: NatwardError | undefined;
  responder: Responder | undefined;
  /** What it was started with. */
  startedAs: string | undefined;
  /** Not tried again before, by the steady clock. */
  retryAtMs: number;
  failingSinceMs: number | undefined;
  told: string | undefined;
}

type Shared = Pick<ResponderOptions, 'grants' | 'pinholes' | 'upstream'>;

const RETRY_MS = 5000;
/** A new IPv6 address can be listened at when the system has made sure that nobody else has it (RFC 4862). */
const SETTLING_MS = 5000;
/** The keeper's gateways are looked at when something has happened to one, and after so many looks at the network. */
const GATEWAY_LOOKS = 30;
/** The fence is told again after so many: whoever loads a firewall may have flushed all tables. */
const FENCE_LOOKS = 30;
const MAX_KNOWN_RIGHTS = 4096;
const MAX_NAME_LENGTH = 63;
const NO_FENCE = '[]';

export class Responding implements RespondingStatus, AsyncDisposable {
  readonly #options: RespondingOptions;
  readonly #places = new Map<string, Place>();
  readonly #over = new AbortController();
  readonly #rights = new Map<IpAddress, ClientRights | undefined>();
  #wake = new AbortController();
  #sections: readonly RespondSection[] = [];
  #maxMappings = 0;
  /** Rights may be others than when clients were given what they have. */
  #isReviewDue = false;
  #shared: Shared | undefined;
  #running: Promise<void> | undefined;
  #own: ReadonlySet<IpAddress> = new Set();
  #gateways: readonly GatewayStatus[] = [];
  #gatewayLooks = 0;
  /** As it was told last, as text. */
  #fenced = NO_FENCE;
  #fenceLooks = 0;

  constructor(options: RespondingOptions) {
    this.#options = options;
  }

  /** From now on these, and what they say; responders that need not begin again for it go on. */
  configure(sections: readonly RespondSection[], maxMappings: number): void {
    this.#sections = sections;
    this.#maxMappings = maxMappings;
    for (const section of sections) {
      const place = this.#places.get(section.interface);
      if (place === undefined) continue;
      place.section = section;
      place.rights = rightsFrom(section);
    }
    this.#rights.clear();
    this.#isReviewDue = true;
    if (sections.length > 0 && !this.#over.signal.aborted) {
      // Before the keeper has asked for what is remembered: it tells when it has it.
      this.#sharedByAll();
      this.#running ??= this.#run();
    } else if (this.#shared === undefined) this.#forgetClients();
    this.#wake.abort(OVER);
  }

  /** What clients were given before this start, when nobody is a client any more. */
  #forgetClients(): void {
    const { keeper } = this.#options;
    const stale = keeper.intents.filter(({ owner }) => owner === RESPONDER_OWNER);
    if (stale.length === 0) return;
    // Where there were clients there was a fence; an agent that was killed has left it.
    void this.#options.fence([]);
    const selectors = stale.map(({ id }) => ({ kind: 'id' as const, text: id, id }));
    void keeper.drop(selectors, { signal: this.#over.signal });
  }

  statuses(leases: readonly LeaseStatus[]): readonly ResponderStatus[] {
    const running = [...this.#places.values()].flatMap(({ responder, section, networks }) =>
      responder === undefined ? [] : [{ responder, protocols: section.protocols, networks }],
    );
    return statusesOf(running, leases);
  }

  async #run(): Promise<void> {
    const { system, keeper } = this.#options;
    const unlisten = keeper.log.listen(({ type }) => {
      if (type === 'gateway-up' || type === 'gateway-down') this.#gatewayLooks = 0;
    });
    while (!this.#over.signal.aborted) {
      const isBusy = this.#sections.length > 0 || this.#places.size > 0;
      if (isBusy) await this.#look();
      await system.clock
        .sleep(isBusy ? system.networkLookMs : Number.MAX_SAFE_INTEGER, this.#wake.signal)
        .catch(() => undefined);
      this.#wake = new AbortController();
    }
    unlisten();
  }

  async #look(): Promise<void> {
    let network: NetworkState;
    try {
      network = await this.#options.system.network();
    } catch (error) {
      // The keeper looks as well, and warns.
      if (!isNatwardError(error)) throw error;
      return;
    }
    if (this.#gatewayLooks-- <= 0) {
      this.#gatewayLooks = GATEWAY_LOOKS;
      this.#gateways = (await this.#options.keeper.status()).gateways;
    }
    this.#own = new Set(network.addresses.map(({ address }) => withoutZone(address)));
    this.#rights.clear();
    for (const [name, place] of this.#places) {
      if (this.#sections.some((section) => section.interface === name)) continue;
      await this.#stop(place);
      this.#tell(place, undefined);
      this.#places.delete(name);
    }
    const places = this.#sections.map((section) => this.#place(section));
    // All of them first: what is held from before belongs to clients of any of these.
    for (const place of places) this.#situate(place, network);
    if (this.#isReviewDue) this.#shared?.grants.review((client) => this.#mayNothing(client));
    this.#isReviewDue = false;
    // Nobody answers without the fence, neither at the start nor at the end.
    for (const place of places) if (place.obstacle !== undefined) await this.#stop(place);
    await this.#fence(places);
    for (const place of places) {
      if (this.#over.signal.aborted) return;
      await this.#attend(place);
    }
  }

  /** Around those that are tried in vain as well: they may begin at any time. */
  async #fence(places: readonly Place[]): Promise<void> {
    const fenced = places.flatMap(({ section, networks }): readonly FencedPlace[] => {
      if (networks.length === 0) return [];
      const { interface: name, protocols } = section;
      return [
        { interface: name, addresses: networks.map(({ address }) => address), ports: udpPortsOf(protocols) },
      ];
    });
    const text = JSON.stringify(fenced);
    if (text === this.#fenced && (fenced.length === 0 || this.#fenceLooks-- > 0)) return;
    this.#fenced = text;
    this.#fenceLooks = FENCE_LOOKS;
    await this.#options.fence(fenced);
  }

  #place(section: RespondSection): Place {
    const known = this.#places.get(section.interface);
    if (known !== undefined) return known;
    const place: Place = {
      section,
      rights: rightsFrom(section),
      networks: [],
      obstacle: undefined,
      responder: undefined,
      startedAs: undefined,
      retryAtMs: 0,
      failingSinceMs: undefined,
      told: undefined,
    };
    this.#places.set(section.interface, place);
    return place;
  }

  #situate(place: Place, network: NetworkState): void {
    const name = place.section.interface;
    const networks = network.addresses
      .filter((address) => address.interface === name)
      .map(({ address, prefixLength }) => ({ address, prefixLength }));
    place.obstacle = obstacleOf(name, networks, network, this.#gateways);
    place.networks = place.obstacle === undefined ? networks : [];
  }

  async #attend(place: Place): Promise<void> {
    const { section, networks, obstacle } = place;
    if (obstacle !== undefined) {
      this.#tell(place, obstacle);
      return;
    }
    const { protocols, igdVersion, name } = section;
    const wanted = JSON.stringify([networks, protocols, igdVersion, name]);
    if (place.responder !== undefined && place.startedAs === wanted) return;
    await this.#stop(place);
    const nowMs = this.#options.system.clock.steady();
    if (place.startedAs === wanted && nowMs < place.retryAtMs) return;
    place.startedAs = wanted;
    await this.#start(place, nowMs);
  }

  async #start(place: Place, nowMs: number): Promise<void> {
    const { section, networks } = place;
    const { system, hostName, identity, start } = this.#options;
    try {
      place.responder = await start({
        interface: section.interface,
        networks,
        protocols: section.protocols,
        igdVersion: section.igdVersion,
        friendlyName: section.name ?? `natward on ${hostName}`.slice(0, MAX_NAME_LENGTH),
        uuid: uuidOf(`${identity} ${section.interface}`),
        rightsOf: (client) => place.rights(client),
        isOwn: (address) => this.#isOwn(address),
        ...this.#sharedByAll(),
        clock: system.clock,
      });
      place.failingSinceMs = undefined;
      this.#tell(place, undefined);
    } catch (error) {
      if (!isNatwardError(error)) throw error;
      place.failingSinceMs ??= nowMs;
      const isSettling = isNotThereYet(error) && nowMs - place.failingSinceMs < SETTLING_MS;
      place.retryAtMs = isSettling ? nowMs : nowMs + RETRY_MS;
      if (!isSettling) this.#tell(place, error);
    }
  }

  async #stop(place: Place): Promise<void> {
    const { responder } = place;
    place.responder = undefined;
    await responder?.close();
  }

  /** Once for each reason. */
  #tell(place: Place, error: NatwardError | undefined): void {
    if (place.told === error?.message) return;
    place.told = error?.message;
    this.#options.keeper.warn(`respond ${place.section.interface}`, error);
  }

  #sharedByAll(): Shared {
    if (this.#shared !== undefined) return this.#shared;
    const { clock } = this.#options.system;
    const upstream = this.#options.upstream();
    const rightsOf: RightsOf = (client) => this.#rightsOf(client);
    const grants = new LeaseGrants(upstream, {
      clock,
      maxMappings: () => this.#maxMappings,
      rightsOf,
      isInside: (host) => this.#placeOf(host) !== undefined && !this.#isOwn(host),
    });
    // The grants count them, and know how many there may be.
    const pinholes = new LeasePinholes(upstream, {
      clock,
      maxPinholes: HIGHEST_MAX_MAPPINGS,
      rightsOf,
      quota: grants.quota,
    });
    this.#shared = { upstream, grants, pinholes };
    return this.#shared;
  }

  #rightsOf(client: IpAddress): ClientRights | undefined {
    if (this.#rights.has(client)) return this.#rights.get(client);
    const rights = this.#placeOf(client)?.rights(client);
    if (this.#rights.size >= MAX_KNOWN_RIGHTS) this.#rights.clear();
    this.#rights.set(client, rights);
    return rights;
  }

  /** What may be a client of an interface that is away just now is not judged. */
  #mayNothing(client: IpAddress): boolean {
    const place = this.#placeOf(client);
    if (place !== undefined) return place.rights(client) === undefined;
    return [...this.#places.values()].every(({ networks }) => networks.length > 0);
  }

  #placeOf(host: IpAddress): Place | undefined {
    for (const place of this.#places.values()) if (isIn(host, place.networks)) return place;
    return undefined;
  }

  #isOwn(address: IpAddress): boolean {
    return this.#own.has(withoutZone(address));
  }

  /** They no longer answer. What is held for their clients stays with the keeper. */
  async close(): Promise<void> {
    this.#over.abort();
    this.#wake.abort(OVER);
    await this.#running;
    await Promise.all([...this.#places.values()].map((place) => this.#stop(place)));
    await this.#fence([]);
    this.#shared?.grants.close();
    this.#shared?.pinholes.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function udpPortsOf(protocols: readonly MappingProtocol[]): readonly number[] {
  const isSpoken = (one: MappingProtocol): boolean => protocols.includes(one);
  return [
    ...(isSpoken('pcp') || isSpoken('natpmp') ? [GATEWAY_PORT] : []),
    ...(isSpoken('upnp') ? [SSDP_PORT] : []),
  ];
}

/** The code of the system is somewhere beneath. */
function isNotThereYet(error: unknown): boolean {
  for (let one = error; one instanceof Error; one = one.cause) {
    if ('code' in one && one.code === 'EADDRNOTAVAIL') return true;
  }
  return false;
}

/** Made of a hash, and marked as such (RFC 9562, section 5.8). */
function uuidOf(seed: string): string {
  const bytes = createHash('sha256').update(`natward responder ${seed}`).digest().subarray(0, 16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
