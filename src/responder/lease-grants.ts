/**
 * Grants by having the outer gateway hold what is asked for: RFC 7648's proxy for PCP and NAT-PMP, RFC 6970's
 * interworking function for UPnP. The table is what clients are told: external ports are the outer gateway's, and an
 * entry without a holding there is only one that its client has switched off. What a client asks for again is
 * answered from the table, since the agent renews by itself; only what is new goes out.
 */

import type { IpAddress } from '../net/address.ts';
import type { PortRange } from '../net/port-range.ts';
import type { MappingProtocol, TransportProtocol } from '../net/protocol.ts';
import type { Clock } from '../system/clock.ts';
import { candidatePorts, type GrantOutcome, type GrantRequest, type Refusal, refused } from './grant.ts';
import type { Granting } from './granting.ts';
import { entryOf, isSame, keysOf, lifetimeOf, outerKey, requestOf, wishOf } from './lease-wish.ts';
import { Quota } from './quota.ts';
import { refreshedBy, refusesRefresh } from './refresh.ts';
import type { ClientRights } from './rights.ts';
import { Sweeper } from './sweeper.ts';
import { Table, type TableEntry } from './table.ts';
import { Turns } from './turns.ts';
import type { Restored, Upstream, UpstreamGrant, UpstreamHolding, UpstreamNews } from './upstream.ts';

export interface LeaseGrantsOptions {
  readonly clock: Clock;
  /** Of all clients together, pinholes too; as it is just then. */
  readonly maxMappings: () => number;
  /** Of a client, and whether it may act for another one; undefined: it may nothing. */
  readonly rightsOf: (client: IpAddress) => ClientRights | undefined;
  /** Reports whether a host is behind this gateway. */
  readonly isInside: (host: IpAddress) => boolean;
}

/** What becomes of entries by themselves, and that something has changed at all. */
export interface GrantsListener {
  /** The outer gateway has moved it: its clients do not know yet. */
  moved(entry: TableEntry): void;
  /** The outer gateway will not have it any more. */
  gone(entry: TableEntry): void;
  /** The table is another one. */
  changed(): void;
}

/** One entry's other half: how it stands with the outer gateway. */
interface Held {
  readonly holding: UpstreamHolding;
  readonly lifetimeSeconds: number | undefined;
  /** The outer gateway has it, as far as anybody knows. */
  readonly isThere: boolean;
}

export class LeaseGrants implements Granting {
  /** Pinholes count for the same. */
  readonly quota: Quota;
  readonly #upstream: Upstream;
  readonly #options: LeaseGrantsOptions;
  readonly #table = new Table();
  readonly #held = new Map<string, Held>();
  /** What is being given back, by the same key. */
  readonly #releasing = new Set<string>();
  readonly #turns = new Turns();
  readonly #sweeper: Sweeper;
  readonly #listeners = new Set<GrantsListener>();

  constructor(upstream: Upstream, options: LeaseGrantsOptions) {
    this.#upstream = upstream;
    this.#options = options;
    this.quota = new Quota(options.maxMappings);
    this.#sweeper = new Sweeper(options.clock, async () => this.#sweep());
    upstream.restore((restored) => this.#restore(restored));
  }

  /**
   * As its client asked for it before this program started again; nobody knows when that was: its time begins anew.
   * Reports whether the client is known.
   */
  #restore({ wish, grant, holding, listen }: Restored): boolean {
    const { internalClient, protocol } = wish;
    const rights = this.#options.rightsOf(internalClient);
    if (rights === undefined) return false;
    const isFree = this.#table.get(protocol, grant.externalPort) === undefined;
    const isAllowed = isFree && isIn(rights.externalPorts, grant.externalPort);
    if (!isAllowed || this.quota.take(internalClient, rights) !== undefined) {
      void holding.release();
      return true;
    }
    const { entry } = this.#enter(requestOf(wish), grant, { ...grant, holding, isThere: true });
    listen(this.#follower(entry, holding));
    return true;
  }

  /** Follows an entry where the outer gateway moves it. */
  #follower(entry: TableEntry, holding: UpstreamHolding): (news: UpstreamNews) => void {
    let key = outerKey(entry);
    return (news) => {
      const held = this.#held.get(key);
      const known = this.#entryAt(key);
      // What is given back already is no news.
      if (known === undefined || held?.holding !== holding) return;
      key = outerKey(this.#happened(known, held, news));
    };
  }

  /** Returns how to end it. */
  listen(listener: GrantsListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  list(): readonly TableEntry[] {
    this.#sweep();
    return this.#table.list();
  }

  get(_via: MappingProtocol, protocol: TransportProtocol, externalPort: number): TableEntry | undefined {
    const entry = this.#table.get(protocol, externalPort);
    return entry === undefined || this.#isOver(entry) ? undefined : entry;
  }

  to(
    _via: MappingProtocol,
    protocol: TransportProtocol,
    internalClient: IpAddress,
    internalPort: number,
  ): TableEntry | undefined {
    return this.#table
      .toInternal(protocol, internalClient, internalPort)
      .find((entry) => !this.#isOver(entry));
  }

  mayActFor(requester: IpAddress, client: IpAddress): boolean {
    if (requester === client) return true;
    const { isInside, rightsOf } = this.#options;
    return this.mayActForOthers(requester) && isInside(client) && rightsOf(client) !== undefined;
  }

  mayActForOthers(requester: IpAddress): boolean {
    return this.#options.rightsOf(requester)?.mayMapForOthers === true;
  }

  async grant(request: GrantRequest): Promise<GrantOutcome> {
    const rights = this.#options.rightsOf(request.requester);
    if (rights === undefined || !this.mayActFor(request.requester, request.internalClient)) {
      return refused('not-authorized');
    }
    const keys = keysOf(request);
    // Most requests are renewals: they wait for nobody.
    if (this.#turns.isFree(keys)) {
      const known = this.#renewed(request);
      if (known !== undefined) return known;
    }
    return this.#turns.run(keys, () => this.#grantNow(request, rights));
  }

  /** The answer to a request for what is there already, just so; undefined where there is more to do. */
  #renewed(request: GrantRequest): GrantOutcome | undefined {
    const existing = this.#existing(request);
    if (existing === undefined) return undefined;
    const refusal = refusesRefresh(request, existing);
    if (refusal !== undefined) return refused(refusal);
    if (!isSame(existing, request)) return undefined;
    const held = this.#held.get(outerKey(existing));
    if (existing.enabled && held?.isThere !== true) return refused('network-down');
    return this.#keep(existing, request, held?.lifetimeSeconds);
  }

  #existing(request: GrantRequest): TableEntry | undefined {
    const entry = refreshedBy(request, this.#table);
    return entry === undefined || this.#isOver(entry) ? undefined : entry;
  }

  #keep(
    existing: TableEntry,
    request: GrantRequest,
    upstreamSeconds: number | undefined,
  ): Extract<GrantOutcome, { kind: 'granted' }> {
    const lifetimeSeconds = lifetimeOf(request, upstreamSeconds);
    const entry: TableEntry = {
      ...existing,
      nonce: request.nonce ?? existing.nonce,
      description: request.description ?? existing.description,
      expiresAtMs:
        lifetimeSeconds === undefined ? undefined : this.#options.clock.now() + lifetimeSeconds * 1000,
    };
    this.#table.put(entry);
    this.#schedule();
    return { kind: 'granted', entry, lifetimeSeconds };
  }

  async #grantNow(request: GrantRequest, rights: ClientRights): Promise<GrantOutcome> {
    this.#sweep();
    const known = this.#renewed(request);
    if (known !== undefined) return known;
    const { remotePeers = [] } = request;
    // The outer gateway's UPnP has room for one, and so have its leases.
    if (remotePeers.length > 1) return refused('too-many-peers');
    const existing = this.#existing(request);
    if (existing !== undefined) return this.#change(existing, request, rights);
    const refusal = this.quota.take(request.internalClient, rights);
    if (refusal !== undefined) return refused(refusal);
    const outcome = await this.#make(request, rights);
    if (outcome.kind === 'refused') this.quota.give(request.internalClient);
    return outcome;
  }

  /** Its client points it elsewhere, limits it to another peer, or switches it on or off: the same port, held anew. */
  async #change(existing: TableEntry, request: GrantRequest, rights: ClientRights): Promise<GrantOutcome> {
    const { externalPort, description, nonce, remotePeers } = existing;
    // Its place is kept for what comes instead. Nobody else ends it meanwhile: it is not to be found.
    this.#table.delete(existing);
    await this.#release(existing);
    const outcome = await this.#make(
      {
        ...request,
        suggestedExternalPort: externalPort,
        description: request.description ?? description,
        remotePeers: request.remotePeers ?? remotePeers,
        ...(request.nonce === undefined && nonce !== undefined ? { nonce } : {}),
      },
      rights,
    );
    if (outcome.kind === 'refused') {
      this.quota.give(existing.internalClient);
      this.#changed();
    }
    return outcome;
  }

  async #make(request: GrantRequest, rights: ClientRights): Promise<GrantOutcome> {
    const wanted = this.#suggestion(request, rights);
    if (typeof wanted !== 'number') return refused(wanted);
    if (!request.enabled) {
      if (wanted === 0) return refused('no-free-port');
      return this.#enter(request, { externalPort: wanted }, undefined);
    }
    // The table's key is not known before the gateway has answered.
    let told: (news: UpstreamNews) => void = () => undefined;
    const outcome = await this.#upstream.hold(wishOf(request, wanted), (news) => told(news));
    if (outcome.kind === 'refused') return outcome;
    const { grant, holding } = outcome;
    const there = this.#table.get(request.protocol, grant.externalPort);
    const isFree = there === undefined;
    if (!isFree || !isIn(rights.externalPorts, grant.externalPort)) {
      await holding.release();
      return refused(isFree ? 'denied-port' : 'taken');
    }
    const granted = this.#enter(request, grant, { ...grant, holding, isThere: true });
    told = this.#follower(granted.entry, holding);
    return granted;
  }

  #enter(
    request: GrantRequest,
    grant: Pick<UpstreamGrant, 'externalPort'> & Partial<UpstreamGrant>,
    held: Held | undefined,
  ): Extract<GrantOutcome, { kind: 'granted' }> {
    const entry = entryOf(request, grant);
    if (held !== undefined) this.#held.set(outerKey(entry), held);
    const granted = this.#keep(entry, request, held?.lifetimeSeconds);
    this.#changed();
    return granted;
  }

  /** The external port to ask for; 0: any. Or why there is none. */
  #suggestion(request: GrantRequest, { externalPorts }: ClientRights): number | Refusal {
    const refusals = new Set<Refusal>();
    for (const port of candidatePorts(request)) {
      const refusal = isIn(externalPorts, port) ? this.#unavailable(request, port) : 'denied-port';
      if (refusal === undefined) return port;
      if (request.exact) return refusal;
      refusals.add(refusal);
    }
    return refusals.has('taken') ? 'no-free-port' : 'denied-port';
  }

  #unavailable({ protocol, internalClient }: GrantRequest, port: number): Refusal | undefined {
    // To the outer gateway all clients are this one host: it would point a port of one to another.
    const key = outerKey({ protocol, externalPort: port });
    if (this.#table.get(protocol, port) !== undefined || this.#releasing.has(key)) return 'taken';
    // RFC 6886, section 3.3: the same port of the other protocol is kept for the client that has this one.
    const companion = this.#table.get(protocol === 'tcp' ? 'udp' : 'tcp', port);
    return companion !== undefined && companion.internalClient !== internalClient ? 'taken' : undefined;
  }

  /** Returns the entry as it is now. */
  #happened(entry: TableEntry, held: Held, news: UpstreamNews): TableEntry {
    switch (news.kind) {
      case 'lost':
        this.#held.set(outerKey(entry), { ...held, isThere: false });
        return entry;
      case 'refused':
        this.#lose(entry);
        return entry;
      default:
        return this.#movedTo(entry, held, news.grant);
    }
  }

  /** The outer gateway will not have it any more. */
  #lose(entry: TableEntry): void {
    this.#end(entry);
    for (const listener of this.#listeners) listener.gone(entry);
  }

  #movedTo(entry: TableEntry, held: Held, grant: UpstreamGrant): TableEntry {
    const { externalPort, externalAddress, lifetimeSeconds } = grant;
    const { protocol } = entry;
    const there = this.#table.get(protocol, externalPort);
    if (there !== undefined && there !== entry) {
      this.#lose(entry);
      return entry;
    }
    const moved: TableEntry = { ...entry, externalPort, externalAddress };
    const isElsewhere = externalPort !== entry.externalPort || externalAddress !== entry.externalAddress;
    this.#held.delete(outerKey(entry));
    this.#held.set(outerKey(moved), { ...held, lifetimeSeconds, isThere: true });
    if (!isElsewhere) return entry;
    this.#table.delete(entry);
    this.#table.put(moved);
    for (const listener of this.#listeners) listener.moved(moved);
    this.#changed();
    return moved;
  }

  #entryAt(key: string): TableEntry | undefined {
    const [protocol, port] = key.split(' ');
    return this.#table.get(protocol as TransportProtocol, Number(port));
  }

  async remove(
    _via: MappingProtocol,
    pick: (table: Table) => readonly TableEntry[],
  ): Promise<readonly TableEntry[]> {
    this.#sweep();
    const gone = pick(this.#table);
    for (const entry of gone) this.#end(entry);
    return gone;
  }

  /** Ends what is mapped for clients that may nothing any more. */
  review(mayNothing: (client: IpAddress) => boolean): void {
    for (const entry of this.#table.list()) if (mayNothing(entry.internalClient)) this.#end(entry);
  }

  /** It leads nowhere from now on. The outer gateway is told, and whoever asks for the same waits for that. */
  #end(entry: TableEntry): void {
    this.#forget(entry);
    const release = this.#release(entry);
    void this.#turns.run(keysOf(entry), () => release);
  }

  #forget(entry: TableEntry): void {
    if (!this.#table.has(entry)) return;
    this.#table.delete(entry);
    this.quota.give(entry.internalClient);
    this.#schedule();
    this.#changed();
  }

  /** The outer gateway knows it by its port: nobody else gets that before it is given back. */
  async #release(entry: TableEntry): Promise<void> {
    const key = outerKey(entry);
    const held = this.#held.get(key);
    if (held === undefined) return;
    this.#held.delete(key);
    this.#releasing.add(key);
    try {
      await held.holding.release();
    } finally {
      this.#releasing.delete(key);
    }
  }

  #isOver({ expiresAtMs }: TableEntry): boolean {
    return expiresAtMs !== undefined && expiresAtMs <= this.#options.clock.now();
  }

  #sweep(): void {
    for (const entry of this.#table.ending(this.#options.clock.now())) this.#end(entry);
    this.#schedule();
  }

  #schedule(): void {
    this.#sweeper.wakeAt(this.#table.firstEndMs());
  }

  #changed(): void {
    for (const listener of this.#listeners) listener.changed();
  }

  /** Nothing is asked for or ended any more; what is held stays with whoever holds it. */
  close(): void {
    this.#sweeper.stop();
    this.#listeners.clear();
  }
}

function isIn(ranges: readonly PortRange[], port: number): boolean {
  return ranges.some(({ first, last }) => port >= first && port <= last);
}
