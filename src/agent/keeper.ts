/**
 * Holds every lease until told otherwise. Knows what is wanted and what is held, has the difference worked out
 * (reconcile.ts), lets the sites carry it out (site.ts), and remembers both (ledger.ts). One agenda and one timer
 * serve all leases; the machine's network and its clock are looked at on the way.
 */

import { isNatwardError, NatwardError } from '../errors.ts';
import type { GatewayPorts } from '../discovery/gateway.ts';
import { type Family, family, type IpAddress, sameNetwork } from '../net/address.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import { fired, OVER } from '../system/clock.ts';
import type { NetworkState } from '../system/routes.ts';
import type { System } from '../system/system.ts';
import { Agenda } from './agenda.ts';
import type { Carrier } from './carrier.ts';
import { type AgentEvent, EventLog } from './events.ts';
import { CHECK_MS, type Line, type WatchChoice } from './gateway-watch.ts';
import type { Hook } from './hooks/hook.ts';
import { intentOf } from './intent.ts';
import { checkNoConflict, conflictOf, dropFailure, isMeant } from './intents.ts';
import type {
  DropFailure,
  DropOptions,
  DropReport,
  DropSelector,
  KeeperStatus,
  KeepOptions,
  LeaseKeeping,
} from './keeping.ts';
import { CONFIG_OWNER, type Intent, type KeepRequest, type LeaseStatus } from './lease.ts';
import { followsExternal, type Holding, LeaseRecord, type WantedLease } from './lease-record.ts';
import type { Memory } from './ledger.ts';
import { Nonces } from './port.ts';
import { leasesOf, reconcile } from './reconcile.ts';
import { isOf, SILENT, Site } from './site.ts';
import type { RememberedMapping, Store } from './store.ts';
import { releaseOwn } from './unmap.ts';

export interface KeeperOptions {
  readonly memory: Memory;
  /** Where gateways were found before. */
  readonly store: Store;
  /** Of the gateways; the standard ones where nothing is said. */
  readonly ports?: GatewayPorts | undefined;
  /** How often a gateway that announces nothing is asked whether all is as it was; 10,000 where nothing is said. */
  readonly checkMs?: number | undefined;
  /** Takes on to other hosts and ports what a gateway maps to this host alone; left out: nobody does. */
  readonly carrier?: Carrier | undefined;
}

/** A clock that goes on by this much while no timer does has slept, or was set. */
const CLOCK_JUMP_MS = 5000;
/** The network is looked at more often than that, on any platform. */
const LONGEST_ROUND_MS = 45_000;
/** Requests to give back, at once to one gateway. */
const RELEASE_WINDOW = 4;
/** Each try to give back what nobody answered for is as long after the last as all before together. */
const FIRST_RELEASE_RETRY_MS = 5000;
const LONGEST_RELEASE_RETRY_MS = 300_000;

export class Keeper implements LeaseKeeping, AsyncDisposable {
  readonly log: EventLog;
  readonly #system: System;
  readonly #memory: Memory;
  readonly #store: Store;
  readonly #ports: GatewayPorts | undefined;
  readonly #checkMs: number;
  readonly #carrier: Carrier | undefined;
  readonly #nonces: Nonces;
  readonly #intents = new Map<string, Intent>();
  readonly #leases = new Map<string, LeaseRecord>();
  readonly #siteOf = new Map<LeaseRecord, Site>();
  readonly #sites = new Map<string, Site>();
  /** Looked at without a lease, and who is told of their external addresses. */
  readonly #attended = new Map<Site, (address: IpAddress | undefined) => void>();
  readonly #agenda = new Agenda<LeaseRecord>();
  /** Held for nobody: given back where and when its gateway answers. */
  readonly #strays = new Set<Holding>();
  /** Strays that are being given back. */
  readonly #releasing = new Set<Holding>();
  /** Strays that their gateway will not take: it is not asked again and again, they end by their lifetimes. */
  readonly #refused = new WeakSet<Holding>();
  /** Whose gateway has not answered to that is tried again then, by the steady clock. */
  #releaseAtMs = 0;
  #releaseRetryMs = FIRST_RELEASE_RETRY_MS;
  /** What is remembered has found out whether it is wanted. */
  #hasBegun = false;
  readonly #warnings = new Map<string, NatwardError>();
  readonly #over = new AbortController();
  readonly #running: Promise<void>;
  #wake = new AbortController();
  /** While the loop sleeps. */
  #asleepUntilMs = Number.NEGATIVE_INFINITY;
  /** When the network is looked at next, by the steady clock. */
  #lookAtMs = 0;
  /** When the loop went round last, by the steady clock. */
  #roundMs: number;
  /** By so much was the host's clock ahead of its steady one. */
  #aheadMs: number;
  /** Those who wait for leases to be answered: called at each change. */
  readonly #watchers = new Set<() => void>();

  /** Takes up what the memory says. Throws what `memory.load` does. */
  constructor(system: System, { memory, store, ports, checkMs = CHECK_MS, carrier }: KeeperOptions) {
    this.#carrier = carrier;
    this.#system = system;
    this.#memory = memory;
    this.#store = store;
    this.#ports = ports;
    this.#checkMs = checkMs;
    this.#nonces = new Nonces(system);
    this.#roundMs = system.clock.steady();
    this.#aheadMs = system.clock.now() - this.#roundMs;
    this.log = new EventLog(() => system.clock.now());
    const { intents, holdings } = memory.load();
    for (const intent of intents) this.#intents.set(intent.id, intent);
    for (const holding of holdings) this.#strays.add(holding);
    this.#running = this.#run();
  }

  /**
   * Begins, the first time, with what is remembered and what the configuration wants kept; later the configuration
   * wants this of what it wanted before. Throws CONFLICT for what contradicts itself, and changes nothing.
   */
  configure(requests: readonly KeepRequest[]): void {
    const fresh = requests.map((request) => intentOf(request, CONFIG_OWNER));
    const others = [...this.#intents.values()].filter(({ owner }) => owner !== CONFIG_OWNER);
    checkNoConflict(fresh, []);
    for (const intent of this.#intents.values()) {
      if (intent.owner === CONFIG_OWNER) this.#intents.delete(intent.id);
    }
    for (const intent of fresh) {
      // Whoever asked for the same at a terminal before has it all the same.
      for (const other of others)
        if (conflictOf(intent, [other]) !== undefined) this.#intents.delete(other.id);
      this.#put(intent);
    }
    this.#start();
  }

  /** Begins with what is remembered, where the configuration cannot be read: what it said last is kept. */
  resume(): void {
    this.#start();
  }

  #start(): void {
    const isFirst = !this.#hasBegun;
    this.#hasBegun = true;
    void this.#reconcile()(this.#over.signal);
    if (!isFirst) return;
    const carried = [...this.#leases.values()].filter(({ carriedTo }) => carriedTo !== undefined);
    this.#carrier?.settle(carried.map(({ carryKey }) => carryKey));
  }

  async keep(
    requests: readonly KeepRequest[],
    { owner, timeoutMs, signal }: KeepOptions,
  ): Promise<readonly LeaseStatus[]> {
    const intents = requests.map((request) => intentOf(request, owner));
    const ids = new Set(intents.map(({ id }) => id));
    checkNoConflict(
      intents,
      [...this.#intents.values()].filter(({ id }) => !ids.has(id)),
    );
    for (const intent of intents) this.#put(intent);
    void this.#reconcile()(this.#over.signal);
    const leases = intents.flatMap((intent) =>
      [...leasesOf(intent)].flatMap(({ key }) => this.#leases.get(key) ?? []),
    );
    await this.#settled(leases, timeoutMs, signal);
    return leases.filter(isShown).flatMap((lease) => lease.statuses);
  }

  /** What has not changed stays the same object: reconciling sees it by that. */
  #put(intent: Intent): void {
    const known = this.#intents.get(intent.id);
    if (known === undefined || JSON.stringify(known) !== JSON.stringify(intent)) {
      this.#intents.set(intent.id, intent);
    }
  }

  async #settled(leases: readonly LeaseRecord[], timeoutMs: number, signal: AbortSignal): Promise<void> {
    const cut = new AbortController();
    const stop = () => cut.abort(OVER);
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    let settled = 0;
    const isOver = () => {
      while (leases[settled]?.isSettled || leases[settled]?.dropped) settled++;
      return settled >= leases.length;
    };
    const look = () => {
      if (isOver()) stop();
    };
    this.#watchers.add(look);
    look();
    await this.#system.clock.sleep(timeoutMs, cut.signal).catch(() => undefined);
    this.#watchers.delete(look);
    signal.removeEventListener('abort', stop);
  }

  async drop(selectors: readonly DropSelector[], { signal }: DropOptions): Promise<DropReport> {
    const failures: DropFailure[] = [];
    const ended = new Set<string>();
    for (const selector of selectors) {
      const found = [...this.#intents.values()].filter((intent) => isMeant(intent, selector));
      const own = found.filter(({ owner }) => owner !== CONFIG_OWNER);
      for (const { id } of own) ended.add(id);
      if (own.length === 0) failures.push(dropFailure(selector, found));
    }
    const leases = [...this.#leases.values()].filter(({ intent }) => ended.has(intent.id));
    for (const id of ended) this.#intents.delete(id);
    const statuses = leases.filter(isShown).flatMap((lease) => lease.statuses);
    const releasing = this.#reconcile();
    const errors = await releasing(signal);
    return {
      released: statuses.map((status) => {
        const error = errors.get(status.id);
        return error === undefined ? status : { ...status, error: errorOf(error) };
      }),
      failures,
    };
  }

  async status(): Promise<KeeperStatus> {
    const trouble = this.#memory.trouble;
    return {
      gateways: [...this.#sites.values()].flatMap(({ watch }) => watch.status ?? []),
      leases: [...this.#leases.values()].filter(isShown).flatMap((lease) => lease.statuses),
      warnings: [...this.#warnings.values(), ...(trouble === undefined ? [] : [trouble])].map(
        ({ message }) => message,
      ),
      lastEventId: this.log.lastId,
    };
  }

  events(signal: AbortSignal, since?: number): AsyncIterable<AgentEvent> {
    return this.log.follow(signal, since);
  }

  /** Tells what does not go well beside the leases: once as an event, and in the status until it is called without an error. */
  warn(key: string, error: NatwardError | undefined): void {
    if (error === undefined) {
      this.#warnings.delete(key);
      return;
    }
    this.#warnings.set(key, error);
    this.log.emit({ type: 'warning', message: error.message, advice: error.advice ?? null });
  }

  /**
   * Keeps an eye on the usual gateway also while there is no lease. `know` is called with its external address when it
   * is another; undefined: it cannot be asked just now.
   */
  attend(of: Family, know: (address: IpAddress | undefined) => void): void {
    this.#attended.set(this.#site(of, {}), know);
  }

  /** Its loop has gone round not long ago: what hangs is not alive. */
  get isAlive(): boolean {
    return this.#system.clock.steady() - this.#roundMs < LONGEST_ROUND_MS;
  }

  intentOf(id: string): Intent | undefined {
    return this.#intents.get(id);
  }

  /** Of the intents that something is held for at this gateway. */
  hooksAt(gateway: IpAddress): readonly Hook[] {
    const intents = new Set<Intent>();
    for (const { intent, holdings } of this.#leases.values()) {
      if (holdings.some(({ mapping }) => mapping.gateway === gateway)) intents.add(intent);
    }
    return [...intents].flatMap(({ hooks }) => hooks);
  }

  async wanted(): Promise<readonly Intent[]> {
    return this.intents;
  }

  get intents(): readonly Intent[] {
    return [...this.#intents.values()];
  }

  /** Makes the leases true to the intents. Returns how to wait for what is given back, with what went wrong. */
  #reconcile(): (signal: AbortSignal) => Promise<ReadonlyMap<string, NatwardError>> {
    const kept = new Map([...this.#leases].map(([key, { intent }]) => [key, intent] as const));
    const steps = reconcile(this.#intents.values(), { leases: kept, holdings: [...this.#strays] });
    const ended: LeaseRecord[] = [];
    const begun: LeaseRecord[] = [];
    for (const step of steps) {
      switch (step.kind) {
        case 'begin':
          for (const holding of step.holdings) this.#strays.delete(holding);
          begun.push(this.#begin(step.wanted, step.holdings));
          break;
        case 'change':
          this.#change(step.wanted);
          break;
        case 'end':
          ended.push(this.#end(step.key));
          break;
        case 'release':
          break; // It is a stray already: given back when its gateway answers, or now.
      }
    }
    // One that takes the place of another takes over what that one holds.
    const heir = claimants(begun);
    for (const lease of ended) {
      for (const holding of lease.holdings) {
        const taker = heir(holding);
        if (taker !== undefined) taker.holdings = [...taker.holdings, holding];
      }
      lease.holdings = lease.holdings.filter((holding) => heir(holding) === undefined);
    }
    for (const lease of begun) this.#siteFor(lease).add(lease);
    for (const { holdings } of ended) for (const holding of holdings) this.#strays.add(holding);
    this.#changed('soon');
    return (signal) => this.#releaseEnded(ended, signal);
  }

  #begin(wanted: WantedLease, holdings: readonly Holding[]): LeaseRecord {
    const lease = new LeaseRecord(wanted, holdings);
    this.#leases.set(wanted.key, lease);
    return lease;
  }

  #change({ key, intent, port }: WantedLease): void {
    const lease = this.#leases.get(key) as LeaseRecord;
    const before = lease.intent;
    lease.intent = intent;
    if (followsExternal(before) !== followsExternal(intent)) lease.port = port;
    else if (isAskedAlike(before, intent)) return;
    lease.line = undefined;
    lease.retryAtMs = 0;
    this.#siteOf.get(lease)?.review(lease);
  }

  #end(key: string): LeaseRecord {
    const lease = this.#leases.get(key) as LeaseRecord;
    this.#leases.delete(key);
    this.#agenda.delete(lease);
    lease.dropped = true;
    this.#carrier?.release(lease.carryKey); // It may be about to be carried.
    this.#siteOf.get(lease)?.remove(lease);
    return lease;
  }

  async #releaseEnded(
    ended: readonly LeaseRecord[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, NatwardError>> {
    const errors = new Map<string, NatwardError>();
    const bySite = new Map<Site, LeaseRecord[]>();
    for (const lease of ended) {
      const site = this.#siteOf.get(lease) as Site;
      this.#siteOf.delete(lease);
      bySite.set(site, [...(bySite.get(site) ?? []), lease]);
    }
    const release = async (site: Site, lease: LeaseRecord) => {
      await site.idle(lease);
      for (const holding of lease.holdings) this.#strays.add(holding); // It may have been granted just now.
      const error = await this.#release(site, lease.holdings, signal);
      for (const status of lease.statuses) {
        if (error !== undefined) errors.set(status.id, error);
        if (!isShown(lease)) continue;
        this.log.emit({ type: 'released', lease: status, reason: error?.message ?? null });
      }
    };
    await Promise.all(
      [...bySite].map(async ([site, leases]) => {
        const next = leases.values();
        const worker = async () => {
          for (const lease of next) await release(site, lease);
        };
        // RFC 6886, section 3.1: one request after the other.
        const isNatpmp = leases.some((lease) =>
          lease.holdings.some(({ mapping }) => mapping.via === 'natpmp'),
        );
        const window = isNatpmp ? 1 : RELEASE_WINDOW;
        await Promise.all(Array.from({ length: Math.min(window, leases.length) }, worker));
        await this.#closeIdle(site);
      }),
    );
    return errors;
  }

  /** Gives back what is held for nobody. Undefined where all of it is gone; what is not stays a stray. */
  async #release(
    site: Site,
    holdings: readonly Holding[],
    signal: AbortSignal,
  ): Promise<NatwardError | undefined> {
    const { line } = site.watch;
    let error: NatwardError | undefined;
    for (const holding of holdings) {
      if (!this.#strays.has(holding) || this.#releasing.has(holding)) continue; // Given back meanwhile.
      if (line === undefined || !isOf(holding, line)) {
        error ??= goneError(holding);
        continue;
      }
      this.#releasing.add(holding);
      try {
        await releaseOwn([holding.mapping], { session: line.session, signal });
        this.#forget(holding);
        this.#releaseRetryMs = FIRST_RELEASE_RETRY_MS;
      } catch (cause) {
        if (!(cause instanceof NatwardError)) throw cause;
        if (isNatwardError(cause, ...SILENT)) this.#releaseLater();
        else this.#refused.add(holding);
        // The conversation has ended meanwhile, and not because somebody wanted that.
        const hasGone = isNatwardError(cause, 'ABORTED') && !signal.aborted;
        error ??= hasGone ? goneError(holding) : cause;
      } finally {
        this.#releasing.delete(holding);
      }
    }
    return error;
  }

  /** The first of those that were not answered for puts all off. */
  #releaseLater(): void {
    const nowMs = this.#system.clock.steady();
    if (nowMs < this.#releaseAtMs) return;
    this.#releaseAtMs = nowMs + this.#releaseRetryMs;
    this.#releaseRetryMs = Math.min(2 * this.#releaseRetryMs, LONGEST_RELEASE_RETRY_MS);
  }

  #forget(holding: Holding): void {
    this.#strays.delete(holding);
    this.#save('soon');
  }

  async #closeIdle(site: Site): Promise<void> {
    if (
      site.leases.size > 0 ||
      this.#attended.has(site) ||
      this.#waiting().some((stray) => site.reaches(stray))
    )
      return;
    for (const [key, one] of this.#sites) if (one === site) this.#sites.delete(key);
    await site[Symbol.asyncDispose]();
  }

  #siteFor(lease: LeaseRecord): Site {
    const site = this.#site(lease.family, lease.intent);
    this.#siteOf.set(lease, site);
    return site;
  }

  #site(of: Family, { via, gateway, interface: name }: Pick<Intent, 'via' | 'gateway' | 'interface'>): Site {
    const choice: WatchChoice = {
      family: of,
      via,
      ...(gateway !== undefined && { gateway }),
      ...(name !== undefined && { interface: name }),
      ...(this.#ports !== undefined && { ports: this.#ports }),
    };
    const key = JSON.stringify([of, via, gateway, name]);
    let site = this.#sites.get(key);
    if (site === undefined) {
      site = new Site(
        {
          system: this.#system,
          store: this.#store,
          log: this.log,
          nonces: this.#nonces,
          checkMs: this.#checkMs,
          carrier: this.#carrier,
          due: (due, atMs) => this.#due(due, atMs),
          granting: () => this.#lookAtClock(),
          changed: (_lease, when) => this.#changed(when),
          stray: (holdings) => this.#stray(holdings),
          up: (up, line) => this.#meet(up, line),
          doubt: (one) => {
            for (const other of this.#sites.values()) if (other !== one) other.watch.wake();
          },
          addressKnown: (one, address) => this.#attended.get(one)?.(address),
          warn: (error) => this.warn(error.message, error),
        },
        choice,
      );
      this.#sites.set(key, site);
      this.#lookAtMs = 0; // It waits to hear what the network is.
      this.#wake.abort(OVER);
    }
    return site;
  }

  #changed(when: 'soon' | 'later'): void {
    for (const look of this.#watchers) look();
    this.#save(when);
  }

  #save(when: 'soon' | 'later'): void {
    this.#memory.save(
      () => ({
        intents: [...this.#intents.values()],
        holdings: [...[...this.#leases.values()].flatMap(({ holdings }) => holdings), ...this.#strays],
      }),
      when,
    );
  }

  #stray(holdings: readonly Holding[]): void {
    for (const holding of holdings) this.#strays.add(holding);
    for (const site of this.#sites.values()) {
      if (site.watch.line !== undefined) void this.#giveBack(site, site.watch.line);
    }
  }

  /**
   * What is held at this gateway and wanted is asked for again, with its nonce and its port: to give it back as well
   * would end what is granted just now.
   */
  #meet(site: Site, line: Line): void {
    const nowMs = this.#system.clock.now();
    const claimant = claimants(site.leases);
    for (const stray of this.#strays) {
      const lease = isOf(stray, line) && !isOver(stray, nowMs) ? claimant(stray) : undefined;
      if (lease === undefined) continue;
      this.#strays.delete(stray);
      this.#refused.delete(stray);
      lease.holdings = [...lease.holdings, stray];
    }
    void this.#giveBack(site, line);
  }

  /** What is held at this gateway for nobody; what a lease has taken the place of is no longer there. */
  async #giveBack(site: Site, line: Line): Promise<void> {
    const mine = this.#waiting().filter((holding) => isOf(holding, line));
    if (mine.length === 0) return;
    const taken = new Set<string>();
    for (const { holdings } of this.#leases.values()) {
      for (const { mapping } of holdings) for (const place of placesOf(mapping)) taken.add(place);
    }
    for (const stray of mine) {
      if (placesOf(stray.mapping).some((place) => taken.has(place))) this.#forget(stray);
      else await this.#release(site, [stray], line.signal);
    }
  }

  #waiting(): readonly Holding[] {
    return [...this.#strays].filter((stray) => !this.#refused.has(stray));
  }

  /**
   * Where something is held for nobody there is a site that waits for its gateway: also for the one that this host has
   * turned away from, as long as it is next to it.
   */
  #attendStrays({ addresses }: NetworkState): void {
    if (!this.#hasBegun) return;
    const nowMs = this.#system.clock.now();
    for (const stray of this.#strays) if (isOver(stray, nowMs)) this.#forget(stray);
    const isTime = this.#system.clock.steady() >= this.#releaseAtMs;
    for (const site of this.#sites.values()) {
      void this.#closeIdle(site);
      // What it did not answer for, it may by now.
      if (site.watch.line !== undefined && this.#releasing.size === 0 && isTime) {
        void this.#giveBack(site, site.watch.line);
      }
    }
    // The first answer tells which gateway it is.
    if ([...this.#sites.values()].some((site) => site.isUndecided)) return;
    for (const stray of this.#waiting()) {
      const { mapping, interface: name } = stray;
      const isNear = addresses.some(
        ({ interface: own, address, prefixLength }) =>
          own === name && sameNetwork(address, mapping.gateway, prefixLength),
      );
      if (!isNear || [...this.#sites.values()].some((site) => site.reaches(stray))) continue;
      this.#site(family(mapping.gateway), { via: mapping.via, gateway: mapping.gateway, interface: name });
    }
  }

  async #run(): Promise<void> {
    const { clock } = this.#system;
    while (!this.#over.signal.aborted) {
      this.#lookAtClock();
      this.#roundMs = clock.steady();
      // Not for every lease that is due: looking may be a program that runs.
      if (this.#roundMs >= this.#lookAtMs) {
        this.#lookAtMs = this.#roundMs + this.#system.networkLookMs;
        await this.#lookAtNetwork();
      }
      for (const lease of this.#agenda.takeDue(clock.now())) this.#siteOf.get(lease)?.review(lease);
      const untilNextMs = (this.#agenda.nextMs ?? Number.POSITIVE_INFINITY) - clock.now();
      await this.#sleep(Math.max(0, Math.min(untilNextMs, this.#lookAtMs - clock.steady())));
    }
  }

  /** Also before each grant: what is granted by a clock that was set must not be moved with what was granted before. */
  #lookAtClock(): void {
    const { clock } = this.#system;
    const aheadMs = clock.now() - clock.steady();
    const driftMs = aheadMs - this.#aheadMs;
    this.#aheadMs = aheadMs;
    if (driftMs > CLOCK_JUMP_MS) for (const { watch } of this.#sites.values()) watch.restart();
    if (driftMs < -CLOCK_JUMP_MS) this.#setBack(driftMs);
  }

  async #sleep(delayMs: number): Promise<void> {
    const { clock } = this.#system;
    this.#asleepUntilMs = clock.now() + delayMs;
    await clock.sleep(delayMs, this.#wake.signal).catch(() => undefined);
    this.#asleepUntilMs = Number.NEGATIVE_INFINITY;
    this.#wake = new AbortController();
  }

  #due(lease: LeaseRecord, atMs: number): void {
    this.#agenda.set(lease, atMs);
    if (atMs < this.#asleepUntilMs) this.#wake.abort(OVER);
  }

  /** The host's clock was set back: leases end when they would have ended. */
  #setBack(byMs: number): void {
    this.#agenda.shift(byMs);
    for (const lease of this.#leases.values()) lease.shift(byMs);
  }

  async #lookAtNetwork(): Promise<void> {
    try {
      const network = await this.#system.network();
      this.warn('network', undefined);
      this.#attendStrays(network);
      for (const { watch } of this.#sites.values()) watch.network(network);
    } catch (error) {
      if (!(error instanceof NatwardError)) throw error;
      if (!this.#warnings.has('network')) this.warn('network', error);
    }
  }

  /**
   * Ends. `release`: gives back all that is held, as far as gateways answer before `signal` fires, and resolves with
   * what went wrong; `keep`: leaves it to whoever runs next.
   */
  async close(mappings: 'release' | 'keep', signal: AbortSignal): Promise<readonly NatwardError[]> {
    let errors: readonly NatwardError[] = [];
    if (mappings === 'release' && !this.#over.signal.aborted) {
      const leases = [...this.#leases.keys()].map((key) => this.#end(key));
      for (const { holdings } of leases) for (const holding of holdings) this.#strays.add(holding);
      const released = this.#releaseEnded(leases, signal).then((found) => [...found.values()]);
      errors = (await Promise.race([released, fired(signal)])) ?? [lateError(this.#strays.size)];
    }
    this.#over.abort();
    this.#wake.abort(OVER);
    await this.#running;
    await Promise.race([
      Promise.all([...this.#sites.values()].map((site) => site[Symbol.asyncDispose]())),
      fired(signal),
    ]);
    this.#save('soon');
    await this.#memory.flush();
    return errors;
  }

  /** Leaves what is held as it is. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close('keep', new AbortController().signal);
  }
}

/** What nobody asked for by name is shown where it is to be had. */
function isShown(lease: LeaseRecord): boolean {
  return !lease.isOptional || lease.state === 'held' || lease.state === 'lost';
}

/** Reports whether the gateway is asked for the same. */
function isAskedAlike(one: Intent, other: Intent): boolean {
  return (
    one.lifetimeSeconds === other.lifetimeSeconds &&
    one.description === other.description &&
    one.choice === other.choice &&
    JSON.stringify(one.remotePeer) === JSON.stringify(other.remotePeer)
  );
}

function goneError({ mapping }: Holding): NatwardError {
  return new NatwardError(
    'UNREACHABLE',
    `${mapping.gateway} cannot be asked just now: the mapping ends by its lifetime`,
  );
}

function lateError(count: number): NatwardError {
  return new NatwardError(
    'TIMEOUT',
    `${count} mappings could not be released in time: they end by their lifetimes`,
  );
}

function isOver({ mapping: { expiresAtMs } }: Holding, nowMs: number): boolean {
  return expiresAtMs !== null && expiresAtMs < nowMs;
}

/** Which of these leases a gateway would take what is held for: the one it was granted to, or one with its inner end. */
function claimants(leases: Iterable<LeaseRecord>): (holding: Holding) => LeaseRecord | undefined {
  const known = new Map<string, LeaseRecord>();
  const inside = (of: Family, protocol: TransportProtocol, host: IpAddress | undefined, port: number) =>
    `${of} ${protocol} ${host ?? ''} ${port}`;
  for (const lease of leases) {
    known.set(lease.key, lease);
    const { host, internalPort, protocols } = lease.port;
    for (const protocol of protocols) known.set(inside(lease.family, protocol, host, internalPort), lease);
  }
  return ({ leaseKey, mapping: { protocol, internalClient, internalPort } }) => {
    const of = family(internalClient);
    return (
      known.get(leaseKey) ??
      known.get(inside(of, protocol, internalClient, internalPort)) ??
      known.get(inside(of, protocol, undefined, internalPort))
    );
  };
}

/** By what a gateway knows a mapping: its external port, and but for UPnP its internal end. */
function placesOf({
  gateway,
  protocol,
  externalPort,
  internalClient,
  internalPort,
  via,
}: RememberedMapping): string[] {
  const outside = `${gateway} ${protocol} ${externalPort}`;
  return via === 'upnp' ? [outside] : [outside, `${gateway} ${protocol} ${internalClient} ${internalPort}`];
}

function errorOf({ code, message, advice }: NatwardError): NonNullable<LeaseStatus['error']> {
  return { code, message, advice: advice ?? null };
}
