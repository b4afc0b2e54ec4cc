/**
 * Who gets which external port, and for how long: the one place that changes the table, behind all three
 * protocols. Changes happen one after the other, since each opens or closes a listener of the relay before
 * the table says so. What a refusal is called on the wire is for the protocol that asked.
 */

import type { IpAddress } from '../net/address.ts';
import type { Endpoint } from '../net/endpoint.ts';
import type { MappingProtocol, TransportProtocol } from '../net/protocol.ts';
import type { Clock } from '../system/clock.ts';
import type { EventSource } from './events/source.ts';
import { candidatePorts, type GrantOutcome, type GrantRequest, type Refusal, refused } from './grant.ts';
import type { Granting } from './granting.ts';
import { around, type HookSet } from './hooks.ts';
import { refreshedBy, refusesRefresh } from './refresh.ts';
import { Relay } from './relay.ts';
import type { ResolvedSettings } from './settings.ts';
import { Sweeper } from './sweeper.ts';
import { admits, Table, type TableEntry } from './table.ts';

/** RFC 6887, section 15. */
const DEFAULT_MAX_LIFETIME_SECONDS = 86_400;

export class Grants implements Granting {
  readonly #settings: ResolvedSettings;
  readonly #clock: Clock;
  readonly #hooks: HookSet;
  readonly #events: EventSource;
  readonly #relay: Relay;
  readonly #sweeper: Sweeper;
  readonly #shared = new Table();
  readonly #own: Readonly<Record<MappingProtocol, Table>> = {
    pcp: new Table(),
    natpmp: new Table(),
    upnp: new Table(),
  };
  readonly #lastTrafficMs = new Map<string, number>();
  #changes: Promise<unknown> = Promise.resolve();

  constructor(settings: ResolvedSettings, clock: Clock, hooks: HookSet, events: EventSource) {
    this.#settings = settings;
    this.#clock = clock;
    this.#hooks = hooks;
    this.#events = events;
    this.#relay = new Relay(settings, clock, (protocol, port, peer) => this.#target(protocol, port, peer));
    this.#sweeper = new Sweeper(clock, () => this.#alone(() => Promise.resolve()));
  }

  /** The table that `via` sees: the one table, where the gateway is a sound one. */
  table(via: MappingProtocol): Table {
    return this.#hooks.has('separateTables') ? this.#own[via] : this.#shared;
  }

  list(via?: MappingProtocol): readonly TableEntry[] {
    const nowMs = this.#clock.now();
    const tables = via === undefined ? this.#tables() : [this.table(via)];
    const live = tables.map((table) =>
      // A control point may walk the table entry by entry: each step is one list.
      !this.#hooks.has('deadline') && table.firstEndMs() > nowMs
        ? table.list()
        : table.list().filter((entry) => this.#deadline(entry) > nowMs),
    );
    return live.length === 1 ? (live[0] ?? []) : live.flat();
  }

  get(via: MappingProtocol, protocol: TransportProtocol, externalPort: number): TableEntry | undefined {
    const entry = this.table(via).get(protocol, externalPort);
    return entry !== undefined && this.#deadline(entry) > this.#clock.now() ? entry : undefined;
  }

  to(
    via: MappingProtocol,
    protocol: TransportProtocol,
    internalClient: IpAddress,
    internalPort: number,
  ): TableEntry | undefined {
    return this.table(via)
      .toInternal(protocol, internalClient, internalPort)
      .find((entry) => this.#deadline(entry) > this.#clock.now());
  }

  mayActFor(requester: IpAddress, client: IpAddress): boolean {
    const { secureMode, trustedClients } = this.#settings;
    return !secureMode || requester === client || trustedClients.includes(requester);
  }

  mayActForOthers(): boolean {
    const { secureMode, trustedClients } = this.#settings;
    return !secureMode || trustedClients.length > 0;
  }

  grant(request: GrantRequest): Promise<GrantOutcome> {
    return this.#alone(() => around(this.#hooks.all('grant'), request, (changed) => this.#grantNow(changed)));
  }

  remove(
    via: MappingProtocol,
    pick: (table: Table) => readonly TableEntry[],
  ): Promise<readonly TableEntry[]> {
    return this.#alone(async () => {
      const gone = pick(this.table(via));
      for (const entry of gone) await this.#drop(entry);
      return gone;
    });
  }

  /** Ends what is mapped at a port, whoever sees it. Reports whether there was anything. */
  removeAt(protocol: TransportProtocol, externalPort: number): Promise<boolean> {
    return this.#alone(async () => {
      const gone = this.#tables().flatMap((table) => table.get(protocol, externalPort) ?? []);
      for (const entry of gone) await this.#drop(entry);
      return gone.length > 0;
    });
  }

  /** Puts an entry as it is, unasked: what a quirk says was there all along. */
  plant(via: MappingProtocol, entry: TableEntry): Promise<void> {
    return this.#alone(async () => {
      this.table(via).put(entry);
      await this.#settle(entry.protocol, entry.externalPort);
      this.#events.tableChanged();
    });
  }

  clear(): Promise<void> {
    return this.#alone(async () => {
      for (const entry of this.#entries()) await this.#drop(entry);
    });
  }

  async close(): Promise<void> {
    await this.clear();
    this.#sweeper.stop();
    await this.#relay.close();
  }

  #tables(): Table[] {
    return [this.#shared, ...Object.values(this.#own)];
  }

  /** One change at a time, ended mappings first. */
  #alone<T>(change: () => Promise<T>): Promise<T> {
    const result = this.#changes.then(async () => {
      for (const entry of this.#ended()) await this.#drop(entry);
      return change();
    });
    this.#changes = result.then(
      () => this.#schedule(),
      () => this.#schedule(),
    );
    return result;
  }

  #ended(): readonly TableEntry[] {
    const nowMs = this.#clock.now();
    if (!this.#hooks.has('deadline')) return this.#tables().flatMap((table) => table.ending(nowMs));
    // A quirk may end any mapping at any time.
    return this.#entries().filter((entry) => this.#deadline(entry) <= nowMs);
  }

  #schedule(): void {
    const deadlines = this.#hooks.has('deadline')
      ? this.#entries().map((entry) => this.#deadline(entry))
      : this.#tables().map((table) => table.firstEndMs());
    this.#sweeper.wakeAt(deadlines.reduce((first, next) => Math.min(first, next), Number.POSITIVE_INFINITY));
  }

  #entries(): readonly TableEntry[] {
    return this.#tables().flatMap((table) => table.list());
  }

  #deadline(entry: TableEntry): number {
    const lastTrafficMs = this.#lastTrafficMs.get(`${entry.protocol} ${entry.externalPort}`) ?? 0;
    return this.#hooks
      .all('deadline')
      .reduce(
        (deadlineMs, change) => change(entry, deadlineMs, lastTrafficMs),
        entry.expiresAtMs ?? Number.POSITIVE_INFINITY,
      );
  }

  async #grantNow(request: GrantRequest): Promise<GrantOutcome> {
    if (!this.mayActFor(request.requester, request.internalClient)) return refused('not-authorized');
    const existing = refreshedBy(request, this.table(request.via));
    if (existing === undefined) return this.#make(request);
    const refusal = refusesRefresh(request, existing);
    if (refusal !== undefined) return refused(refusal);
    const { nonce = existing.nonce } = request;
    return this.#store({ ...existing, ...this.#fields(request, existing), nonce }, request);
  }

  async #make(request: GrantRequest): Promise<GrantOutcome> {
    const count = this.#tables().reduce((sum, table) => sum + table.size, 0);
    if (count >= this.#settings.maxMappings) return refused('table-full');
    const { protocol, via, nonce } = request;
    const refusals = new Set<Refusal>();
    for (const externalPort of candidatePorts(request)) {
      const refusal = this.#unavailable(request, externalPort);
      const fields = this.#fields(request, undefined);
      const outcome =
        refusal === undefined
          ? await this.#store({ protocol, externalPort, via, nonce, ...fields }, request)
          : refused(refusal);
      if (outcome.kind === 'granted' || request.exact) return outcome;
      refusals.add(outcome.refusal);
    }
    // Where all ports are denied, it is the settings that refuse, and not the want of ports.
    return refused(refusals.size === 1 && refusals.has('denied-port') ? 'denied-port' : 'no-free-port');
  }

  #unavailable(request: GrantRequest, externalPort: number): Refusal | undefined {
    const { protocol, via, internalClient } = request;
    if (this.#settings.deniedExternalPorts.some((r) => externalPort >= r.first && externalPort <= r.last)) {
      return 'denied-port';
    }
    for (const reserved of this.#hooks.all('reserved')) {
      const refusal = reserved(protocol, externalPort);
      if (refusal !== undefined) return refusal;
    }
    if (this.table(via).get(protocol, externalPort) !== undefined) return 'taken';
    if (via !== 'natpmp') return undefined;
    // RFC 6886, section 3.3: the same port of the other protocol is kept for the client that has this one.
    const companion = this.table(via).get(protocol === 'tcp' ? 'udp' : 'tcp', externalPort);
    return companion !== undefined && companion.internalClient !== internalClient ? 'taken' : undefined;
  }

  /** What a request says of a mapping; what it does not say stays as it is in `existing`. */
  #fields(
    request: GrantRequest,
    existing: TableEntry | undefined,
  ): Omit<TableEntry, 'protocol' | 'externalPort' | 'via' | 'nonce'> {
    const { internalClient, internalPort, enabled } = request;
    const seconds = this.#lifetime(request);
    return {
      internalClient,
      internalPort,
      enabled,
      description: request.description ?? existing?.description ?? '',
      remotePeers: request.remotePeers ?? existing?.remotePeers ?? [],
      isPeer: request.isPeer,
      expiresAtMs: seconds === undefined ? undefined : this.#clock.now() + seconds * 1000,
    };
  }

  #lifetime(request: GrantRequest): number | undefined {
    return this.#hooks
      .all('lifetime')
      .reduce<number | undefined>((kept, change) => change(kept, request), this.#limited(request));
  }

  #limited(request: GrantRequest): number | undefined {
    const { minLifetimeSeconds, maxLifetimeSeconds } = this.#settings;
    const { via, lifetimeSeconds } = request;
    const most = maxLifetimeSeconds ?? (via === 'upnp' ? undefined : DEFAULT_MAX_LIFETIME_SECONDS);
    const least = via === 'pcp' ? minLifetimeSeconds : 0;
    // UPnP's lease 0 is a wish for no end, and a gateway that has a longest lease grants that one.
    if (lifetimeSeconds === undefined) return maxLifetimeSeconds;
    return Math.min(Math.max(lifetimeSeconds, least), most ?? Number.POSITIVE_INFINITY);
  }

  async #store(entry: TableEntry, request: GrantRequest): Promise<GrantOutcome> {
    const { protocol, externalPort } = entry;
    const table = this.table(request.via);
    const before = table.get(protocol, externalPort);
    table.put(entry);
    if (!(await this.#settle(protocol, externalPort))) {
      table.delete(entry);
      if (before !== undefined) table.put(before);
      return refused('taken');
    }
    this.#lastTrafficMs.set(`${protocol} ${externalPort}`, this.#clock.now());
    if (before === undefined || !isTheSame(before, entry)) this.#events.tableChanged();
    return { kind: 'granted', entry, lifetimeSeconds: this.#lifetime(request) };
  }

  async #drop(entry: TableEntry): Promise<void> {
    for (const table of this.#tables()) table.delete(entry);
    this.#lastTrafficMs.delete(`${entry.protocol} ${entry.externalPort}`);
    await this.#settle(entry.protocol, entry.externalPort);
    this.#events.tableChanged();
  }

  /** Opens or closes the listener of a port as the tables say. Resolves with false where it cannot be opened. */
  async #settle(protocol: TransportProtocol, externalPort: number): Promise<boolean> {
    const wanted = this.#tables().some((table) => table.get(protocol, externalPort)?.enabled === true);
    if (wanted) return this.#relay.open(protocol, externalPort);
    await this.#relay.shut(protocol, externalPort);
    return true;
  }

  /** Where traffic from `peer` to a mapped port goes; undefined: nowhere. */
  #target(protocol: TransportProtocol, externalPort: number, peer: Endpoint): Endpoint | undefined {
    for (const table of this.#tables()) {
      const entry = table.get(protocol, externalPort);
      if (
        entry?.enabled === true &&
        admits(entry.remotePeers, peer) &&
        this.#deadline(entry) > this.#clock.now()
      ) {
        this.#lastTrafficMs.set(`${protocol} ${externalPort}`, this.#clock.now());
        return { address: entry.internalClient, port: entry.internalPort };
      }
    }
    return undefined;
  }
}

/** But for how long it lives. */
function isTheSame(one: TableEntry, other: TableEntry): boolean {
  return (
    one.internalClient === other.internalClient &&
    one.internalPort === other.internalPort &&
    one.enabled === other.enabled &&
    one.description === other.description &&
    one.remotePeers.length === other.remotePeers.length &&
    one.remotePeers.every(({ address }, at) => address === other.remotePeers[at]?.address)
  );
}
