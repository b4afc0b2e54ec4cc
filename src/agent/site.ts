/**
 * The leases of one gateway: asks for them, as many at a time as its protocol takes, and says what came of it.
 * When each is due is the keeper's agenda; whether the gateway is there is the watch's.
 */

import { isNatwardError, NatwardError } from '../errors.ts';
import type { PortMapper } from '../mapping/mapping.ts';
import { momentOf, renewalWindow } from '../mapping/schedule.ts';
import type { IpAddress } from '../net/address.ts';
import { formatEndpoint } from '../net/endpoint.ts';
import { randomOf } from '../system/random.ts';
import type { System } from '../system/system.ts';
import type { Carrier } from './carrier.ts';
import type { EventLog, PreviousEndpoint } from './events.ts';
import { GatewayWatch, type Line, type WatchChoice, type WatchListener } from './gateway-watch.ts';
import { followsExternal, type Holding, type LeaseRecord } from './lease-record.ts';
import { type Granted, mapPort, type Nonces, type Port } from './port.ts';
import { nextStep } from './reconcile.ts';
import { type Store, toRemembered } from './store.ts';
import { releaseOwn } from './unmap.ts';

/** What a site needs of its keeper. */
export interface SiteContext {
  readonly system: System;
  readonly store: Store;
  readonly log: EventLog;
  readonly nonces: Nonces;
  readonly checkMs: number;
  /** Something is granted just now, by this host's clock as it is. */
  granting(): void;
  /** Looks at the lease again then. */
  due(lease: LeaseRecord, atMs: number): void;
  /** A lease's state has changed; with `later` only its times have. */
  changed(lease: LeaseRecord, when: 'soon' | 'later'): void;
  /** What is held, and no longer for its lease. */
  stray(holdings: readonly Holding[]): void;
  /** A gateway answers, and nothing is asked yet: what is held there can be claimed, or given back. */
  up(site: Site, line: Line): void;
  /** Takes on what arrives here to where leases want it; left out: nobody does. */
  readonly carrier?: Carrier | undefined;
  /** The gateway may have started again: where it is known by another address or protocol it is asked as well. */
  doubt(site: Site): void;
  /** Its gateway's external address; undefined where it cannot be asked just now. */
  addressKnown(site: Site, address: IpAddress | undefined): void;
  warn(error: NatwardError): void;
}

/** Leases that are looked at in each check, where looking is cheap. */
const LOOKS_A_CHECK = 4;
/** The minute for which VPN gateways grant is half over before its end is. */
const SOON_RENEWED_MS = 60_000;
/** After a refusal: the person may be changing the gateway's settings. */
const REFUSED_RETRY_MS = 30_000;
const LONGEST_REFUSED_RETRY_MS = 900_000;
const SILENT_RETRY_MS = 1000;
const LONGEST_SILENT_RETRY_MS = 60_000;
/** Nobody answers: the line is looked at, and the lease asked for again when there is one. */
export const SILENT = ['TIMEOUT', 'UNREACHABLE', 'NO_GATEWAY', 'ABORTED'] as const;

/** SamePortValuesRequired (WANIPConnection:1, section 2.4.16). */
const SAME_PORTS_ONLY = 'UPnP 724';

type Why = 'new' | 'again' | 'renewal';

export class Site implements AsyncDisposable, WatchListener {
  readonly watch: GatewayWatch;
  /** In the order in which they were last looked at. */
  leases: Set<LeaseRecord> = new Set();
  readonly #context: SiteContext;
  readonly #queue = new Set<LeaseRecord>();
  readonly #asking = new Map<LeaseRecord, { readonly cut: AbortController; readonly done: Promise<void> }>();
  /** As many requests as the gateway is given at once; one until it is known which protocol grants. */
  #window = 1;
  /** Whether UPnP shows what other protocols were granted. `unseen`: not the one that was looked at first. */
  #tables: 'unknown' | 'unseen' | 'one' | 'separate' = 'unknown';
  #isDown = false;

  constructor(context: SiteContext, choice: WatchChoice) {
    this.#context = context;
    this.watch = new GatewayWatch(context.system, context.store, choice, this, context.checkMs);
  }

  /** Nobody has answered yet, and nobody has failed to. */
  get isUndecided(): boolean {
    return this.watch.status === undefined && !this.#isDown;
  }

  /** Reports whether what is held would be given back here, when the gateway answers. */
  reaches({ mapping, interface: name }: Holding): boolean {
    const { status, choice } = this.watch;
    const { address = choice.gateway, interface: own = choice.interface } = status ?? {};
    return address === mapping.gateway && own === name;
  }

  add(lease: LeaseRecord): void {
    this.leases.add(lease);
    if (this.#isDown) this.#noGateway(lease);
    this.review(lease);
  }

  /** Nobody wants the lease any more. What is being asked for it is answered first: see `idle`. */
  remove(lease: LeaseRecord): void {
    this.leases.delete(lease);
    this.#queue.delete(lease);
  }

  /** Resolves when nothing is being asked for the lease. */
  async idle(lease: LeaseRecord): Promise<void> {
    await this.#asking.get(lease)?.done;
  }

  /** Does what the lease needs now. */
  review(lease: LeaseRecord): void {
    if (lease.dropped || this.#asking.has(lease)) return;
    const nowMs = this.#context.system.clock.now();
    this.#expire(lease, nowMs);
    const step = nextStep(lease, this.watch.line, nowMs);
    if (step.kind === 'ask') {
      this.#queue.add(lease);
      this.#pump();
    } else if (step.untilMs !== Number.POSITIVE_INFINITY) {
      this.#context.due(lease, step.untilMs);
    }
  }

  #pump(): void {
    const { line } = this.watch;
    if (line === undefined) return;
    for (const lease of this.#queue) {
      if (this.#asking.size >= this.#window) return;
      this.#queue.delete(lease);
      const step = nextStep(lease, line, this.#context.system.clock.now());
      if (step.kind === 'ask' && !lease.dropped) this.#ask(lease, line, step.why);
      else this.review(lease); // The clock was set back meanwhile: its time comes later.
    }
  }

  #ask(lease: LeaseRecord, line: Line, why: Why): void {
    const cut = new AbortController();
    const done = this.#answered(lease, line, why, cut);
    this.#asking.set(lease, { cut, done });
  }

  async #answered(lease: LeaseRecord, line: Line, why: Why, cut: AbortController): Promise<void> {
    // Its own signal for each request: what hangs on a line's for a day would only grow.
    const stop = () => cut.abort();
    line.signal.addEventListener('abort', stop, { once: true });
    try {
      const granted = await this.#map(lease, line, why, cut.signal);
      this.#context.granting();
      this.#granted(lease, line, granted, why);
    } catch (error) {
      if (!isNatwardError(error)) throw error;
      this.#failed(lease, line, error, why);
    } finally {
      line.signal.removeEventListener('abort', stop);
      this.#asking.delete(lease);
      this.review(lease);
      this.#pump();
    }
  }

  async #map(lease: LeaseRecord, line: Line, why: Why, signal: AbortSignal): Promise<readonly Granted[]> {
    const { intent } = lease;
    const ask = (port: Port, own: readonly Holding[]) =>
      mapPort(
        port,
        { ...intent, description: intent.description },
        {
          race: line.session.race,
          localAddress: line.gateway.localAddress,
          nonces: this.#context.nonces,
          own: own.map(({ mapping }) => mapping),
          signal,
          // What follows the external port may as well begin where it is.
          ...(followsExternal(intent) ? { bestExternalPort: port.internalPort } : {}),
          ...(why === 'renewal' ? { pace: 'background' as const } : {}),
        },
      );
    const own = lease.holdings.filter((holding) => isOf(holding, line));
    if (lease.carriedTo !== undefined) {
      await this.#carry(lease, line);
      await this.#releaseMoved(lease, own, line, signal);
    }
    let granted: readonly Granted[];
    try {
      granted =
        intent.carry === 'always' && lease.carriedTo === undefined
          ? await this.#mapCarried(lease, line, () => ask(lease.port, own))
          : await ask(lease.port, own);
    } catch (error) {
      if (!this.#canCarry(lease, error)) throw error;
      granted = await this.#mapCarried(lease, line, () => ask(lease.port, own));
    }
    if (!followsExternal(intent) || lease.family === 6) return granted;
    const other = granted.find((one) => (one.arrivesOnPort ?? one.internalPort) !== one.externalPort);
    if (other === undefined) return granted;
    // The client will listen on the external port's number: the mapping is made anew, to there.
    for (const mapping of granted) await mapperOf(line, mapping).unmap(mapping, signal);
    lease.port = { ...lease.port, internalPort: other.externalPort, externalPort: other.externalPort };
    return ask(lease.port, []);
  }

  /** It is carried from another port than before: what leads there would keep its external port to itself. */
  async #releaseMoved(
    { port }: LeaseRecord,
    own: readonly Holding[],
    { session }: Line,
    signal: AbortSignal,
  ): Promise<void> {
    const moved = own.filter(({ mapping }) => mapping.internalPort !== port.internalPort);
    try {
      await releaseOwn(
        moved.map(({ mapping }) => mapping),
        { session, signal },
      );
    } catch (error) {
      // What it will not give back, it will not give again: another external port it may.
      if (!isNatwardError(error) || isNatwardError(error, ...SILENT)) throw error;
    }
  }

  /** The gateway will not map to there, and may map to here. */
  #canCarry({ port, carriedTo, dropped, intent }: LeaseRecord, error: unknown): boolean {
    if (this.#context.carrier === undefined || carriedTo !== undefined || dropped) return false;
    if (intent.carry !== undefined) return false;
    if (!isNatwardError(error) || SILENT.some((code) => code === error.code)) return false;
    return port.host !== undefined || (error.protocolCode === SAME_PORTS_ONLY && port.externalPort !== 0);
  }

  async #mapCarried(
    lease: LeaseRecord,
    line: Line,
    ask: () => Promise<readonly Granted[]>,
  ): Promise<readonly Granted[]> {
    const { port } = lease;
    await this.#carry(lease, line);
    try {
      return await ask();
    } catch (error) {
      // Not to here either: next time it is asked for as it was wanted.
      if (!lease.dropped) this.#context.carrier?.release(lease.carryKey);
      lease.carriedTo = undefined;
      lease.port = port;
      throw error;
    }
  }

  async #carry(lease: LeaseRecord, { gateway }: Line): Promise<void> {
    const { port, intent, carryTarget: target } = lease;
    // What maps only to the same number is asked for just that.
    const isFixed = intent.host === undefined;
    try {
      const internalPort = await this.#context.carrier?.carry(lease.carryKey, {
        protocols: port.protocols,
        // A client behind this host has no say in which of this host's ports it is.
        port: isFixed ? port.externalPort : intent.carry === 'always' ? undefined : port.internalPort,
        isFixed,
        target,
        description: intent.spec,
      });
      if (internalPort !== undefined) lease.carry(internalPort);
    } catch (cause) {
      if (!isNatwardError(cause)) throw cause;
      const { code, message, advice } = cause;
      const only = isFixed ? `the same port of this host, ${port.externalPort}` : 'this host';
      throw new NatwardError(
        code,
        `${gateway.address} maps only to ${only}, and nothing carries it on to ${formatEndpoint(target)}: ${message}`,
        advice === undefined ? { cause } : { advice, cause },
      );
    }
  }

  #granted(lease: LeaseRecord, line: Line, granted: readonly Granted[], why: Why): void {
    const { system, log } = this.#context;
    const nowMs = system.clock.now();
    const before = lease.holdings;
    const wasHeld = lease.state === 'held';
    lease.holdings = granted.map((mapping) => ({
      leaseKey: lease.key,
      interface: line.gateway.interface,
      hardwareAddress: line.hardwareAddress ?? null,
      mapping: { ...toRemembered(mapping), requestedExternalPort: lease.port.externalPort },
    }));
    if (lease.dropped) return; // It is given back: see `idle`.
    lease.notes = [...new Set(granted.flatMap(({ notes }) => notes))];
    Object.assign(lease, { state: 'held', line, error: undefined, attempt: 0, failures: 0, retryAtMs: 0 });
    const lifetimes = granted.map(({ lifetimeSeconds }) => lifetimeSeconds || Number.POSITIVE_INFINITY);
    const shortest = Math.min(...lifetimes);
    const window = renewalWindow(0, nowMs, shortest === Number.POSITIVE_INFINITY ? 0 : shortest);
    lease.renewAtMs = window === undefined ? nowMs : momentOf(window, randomOf(system));
    const via = granted[0]?.via;
    this.#window = line.session.race.mappers.find(({ protocol }) => protocol === via)?.window ?? 1;
    for (const { externalAddress } of granted) {
      const known = before.some(({ mapping }) => mapping.externalAddress === externalAddress);
      if (externalAddress !== undefined && lease.family === 4 && !known) this.watch.tell(externalAddress);
    }

    const gone = before.filter((old) => !lease.holdings.some((one) => isSamePlace(one, old)));
    if (gone.length > 0) this.#context.stray(gone);
    let changed = gone.length > 0 || before.length === 0;
    for (const { mapping } of lease.holdings) {
      const status = lease.statusOf(mapping.protocol);
      const old = before.find((one) => one.mapping.protocol === mapping.protocol)?.mapping;
      const previous = old && previousOf(old);
      if (previous !== undefined && isElsewhere(previous, mapping)) {
        log.emit({ type: 'changed', lease: status, previous });
        changed = true;
      } else if (!wasHeld) log.emit({ type: 'granted', lease: status });
      else if (why === 'renewal') log.emit({ type: 'renewed', lease: status });
    }
    this.#context.changed(lease, changed || !wasHeld ? 'soon' : 'later');
  }

  #failed(lease: LeaseRecord, line: Line, error: NatwardError, why: Why): void {
    if (lease.dropped || line.signal.aborted) return; // The next line asks again.
    const { system, log } = this.#context;
    const nowMs = system.clock.now();
    const isNews = lease.error?.message !== error.message;
    const { code, message: reason } = error;
    const isSilent = isNatwardError(error, ...SILENT);
    // What it will not grant again is not there, and what its table does not show is not either.
    if (!isSilent && (why !== 'renewal' || code === 'NOT_MAPPED')) this.#lose(lease, reason);
    lease.error = error;
    lease.failures++;
    const window = lease.state === 'held' && lease.line === line ? this.#nextWindow(lease, nowMs) : undefined;
    if (window !== undefined) {
      lease.renewAtMs = momentOf(window, randomOf(system));
    } else {
      const [firstMs, longestMs] = isSilent
        ? [SILENT_RETRY_MS, LONGEST_SILENT_RETRY_MS]
        : [REFUSED_RETRY_MS, LONGEST_REFUSED_RETRY_MS];
      lease.retryAtMs = nowMs + Math.min(firstMs * 2 ** Math.min(lease.failures - 1, 16), longestMs);
      if (lease.state === 'held') lease.line = undefined;
    }
    if (lease.state !== 'held' && !isSilent) lease.state = 'refused';
    if (!isSilent && isNews && !lease.isOptional) {
      for (const status of lease.statuses) log.emit({ type: 'refused', lease: status });
    }
    this.#context.changed(lease, 'later');
    if (isSilent) this.#doubt(lease);
  }

  /**
   * Nobody has answered. A new conversation helps where the gateway is elsewhere now, and not where it never answers
   * for this one port: all leases are asked for again in each, so that they become ever rarer.
   */
  #doubt({ failures }: LeaseRecord): void {
    const isPowerOfTwo = (failures & (failures - 1)) === 0;
    if (isPowerOfTwo) this.watch.restart();
    else this.watch.wake();
  }

  /** The next window that is not over yet. */
  #nextWindow(lease: LeaseRecord, nowMs: number): { fromMs: number; untilMs: number } | undefined {
    const ends = lease.expiresAtMs;
    const lifetimes = lease.holdings.flatMap(({ mapping }) => mapping.lifetimeSeconds || []);
    const lifetimeSeconds = ends === undefined ? 0 : Math.min(...lifetimes);
    const grantedAtMs = ends === undefined ? nowMs : ends - lifetimeSeconds * 1000;
    for (;;) {
      const window = renewalWindow(++lease.attempt, grantedAtMs, lifetimeSeconds);
      if (window === undefined || window.untilMs > nowMs) return window;
    }
  }

  #expire(lease: LeaseRecord, nowMs: number): void {
    if (lease.state !== 'held' || nowMs < (lease.expiresAtMs ?? Number.POSITIVE_INFINITY)) return;
    this.#lose(lease, 'its lifetime has ended and the gateway has not renewed it');
    // Of what was granted for a moment the next try may be due later than its end.
    lease.retryAtMs = lease.renewAtMs;
  }

  #lose(lease: LeaseRecord, reason: string): void {
    if (lease.state !== 'held') return;
    Object.assign(lease, { state: 'lost', line: undefined, failures: 0, retryAtMs: 0 });
    for (const status of lease.statuses) this.#context.log.emit({ type: 'lost', lease: status, reason });
    this.#context.changed(lease, 'later');
  }

  #noGateway(lease: LeaseRecord): void {
    if (lease.state === 'asking' || lease.state === 'refused') lease.state = 'no-gateway';
    this.#context.changed(lease, 'later');
  }

  up(line: Line): void {
    const { log } = this.#context;
    this.#isDown = false;
    this.#tables = 'unknown';
    this.#window = 1;
    const { status } = this.watch;
    if (status !== undefined) log.emit({ type: 'gateway-up', gateway: status });
    this.#context.addressKnown(this, status?.externalAddress ?? undefined);
    this.#context.up(this, line);
    this.#context.doubt(this);
    for (const lease of this.leases) {
      lease.retryAtMs = 0;
      // What it refused before may have been the trouble of a gateway that was just starting.
      if (lease.state === 'refused') lease.failures = 0;
      if (lease.state === 'no-gateway') lease.state = 'asking';
      this.review(lease);
    }
  }

  down(reason: NatwardError): void {
    const { status } = this.watch;
    if (!this.#isDown && status !== undefined) {
      this.#context.log.emit({ type: 'gateway-down', gateway: status, reason: reason.message });
    }
    this.#isDown = true;
    this.#context.addressKnown(this, undefined);
    for (const lease of this.leases) {
      if (lease.state !== 'held') lease.error = reason;
      this.#noGateway(lease);
      this.review(lease); // It may end while nobody answers.
    }
  }

  tableLost(reason: string): void {
    this.#context.doubt(this);
    for (const lease of this.leases) {
      this.#lose(lease, reason);
      lease.retryAtMs = 0; // What it refused before it may grant now.
      this.review(lease);
    }
  }

  addressChanged(previous: IpAddress): void {
    const { status } = this.watch;
    if (status === undefined) return;
    this.#context.log.emit({ type: 'address-changed', gateway: status, previous });
  }

  addressKnown(address: IpAddress): void {
    this.#context.addressKnown(this, address);
  }

  warn(error: NatwardError): void {
    this.#context.warn(error);
  }

  /** Some of the leases, the ones that were not looked at for longest. */
  async look(line: Line): Promise<void> {
    for (const lease of this.#oldest((one) => one.state === 'held' && one.line === line)) {
      this.leases.delete(lease);
      this.leases.add(lease);
      const there = await this.#look(lease, line);
      if (lease.state !== 'held' || lease.line !== line) continue; // Something has happened to it meanwhile.
      if (there === 'gone') {
        this.#lose(lease, 'the gateway no longer has it');
        this.#reviewAll();
        return;
      }
      if (there === 'unknown') {
        // Nobody can look: to ask for it again is to look, and one at a time is enough. What is renewed soon is not asked for.
        const leftMs = (lease.expiresAtMs ?? Number.POSITIVE_INFINITY) - this.#context.system.clock.now();
        if (leftMs <= SOON_RENEWED_MS) continue;
        lease.line = undefined;
        this.review(lease);
        return;
      }
    }
  }

  /** Where one is gone others may be: each is asked for again, which changes nothing where it is there. */
  #reviewAll(): void {
    for (const lease of this.leases) {
      if (lease.state === 'held') lease.line = undefined;
      this.review(lease);
    }
  }

  #oldest(wanted: (lease: LeaseRecord) => boolean): LeaseRecord[] {
    const found: LeaseRecord[] = [];
    for (const lease of this.leases) {
      if (!wanted(lease)) continue;
      found.push(lease);
      if (found.length === LOOKS_A_CHECK) break;
    }
    return found;
  }

  async #look(lease: LeaseRecord, line: Line): Promise<'there' | 'gone' | 'unknown'> {
    try {
      if (line.gateway.family === 6) return await this.#isOpen(lease, line);
      return await this.#isThere(lease, line);
    } catch (error) {
      if (!isNatwardError(error) || isNatwardError(error, ...SILENT)) throw error;
      return 'unknown'; // It answers, and cannot tell.
    }
  }

  /** What UPnP has opened has a number. No table shows the others; the epoch tells when they are lost. */
  async #isOpen(lease: LeaseRecord, line: Line): Promise<'there' | 'gone'> {
    const upnp = line.session.race.mappers.find((mapper) => mapper.holds !== undefined);
    for (const { mapping } of lease.holdings) {
      const pinholeId = mapping.pinholeId ?? undefined;
      if (upnp?.holds === undefined || pinholeId === undefined) continue;
      if (!(await upnp.holds({ ...mapping, nonce: undefined, pinholeId }, line.signal))) return 'gone';
    }
    return 'there';
  }

  /**
   * What UPnP shows. A mapping of another protocol that it does not show may be gone, or in another table: it is
   * asked for again, and what is seen then tells which.
   */
  async #isThere(lease: LeaseRecord, line: Line): Promise<'there' | 'gone' | 'unknown'> {
    const upnp = line.session.race.mappers.find((mapper) => mapper.holds !== undefined);
    if (upnp?.holds === undefined) return 'unknown';
    for (const { mapping } of lease.holdings) {
      if (mapping.via !== 'upnp' && this.#tables === 'separate') return 'unknown';
      const there = await upnp.holds({ ...mapping, nonce: undefined, pinholeId: undefined }, line.signal);
      if (mapping.via === 'upnp') {
        if (!there) return 'gone';
      } else if (there) {
        const wasUnseen = this.#tables === 'unseen';
        this.#tables = 'one';
        if (wasUnseen) this.#reviewAll(); // It was gone, and so may others be.
      } else if (this.#tables === 'one') {
        return 'gone';
      } else {
        this.#tables = this.#tables === 'unseen' ? 'separate' : 'unseen';
        // The same one is looked at next.
        this.leases.delete(lease);
        this.leases = new Set([lease, ...this.leases]);
        return 'unknown';
      }
    }
    return 'there';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const asking = [...this.#asking.values()];
    for (const { cut } of asking) cut.abort();
    await this.watch[Symbol.asyncDispose]();
    await Promise.all(asking.map(({ done }) => done));
  }
}

/** Reports whether it was granted by the gateway of this line: another router may have the same address. */
export function isOf({ mapping, interface: name, hardwareAddress }: Holding, line: Line): boolean {
  const known = line.hardwareAddress ?? hardwareAddress;
  return (
    mapping.gateway === line.gateway.address &&
    name === line.gateway.interface &&
    (hardwareAddress === null || hardwareAddress === known)
  );
}

function isSamePlace(a: Holding, b: Holding): boolean {
  return (
    a.interface === b.interface &&
    a.mapping.gateway === b.mapping.gateway &&
    a.mapping.protocol === b.mapping.protocol &&
    a.mapping.externalPort === b.mapping.externalPort &&
    a.mapping.internalClient === b.mapping.internalClient &&
    a.mapping.internalPort === b.mapping.internalPort
  );
}

function previousOf({ externalAddress, externalPort, internalClient }: Holding['mapping']): PreviousEndpoint {
  return { externalAddress, externalPort, internalClient };
}

function isElsewhere(previous: PreviousEndpoint, mapping: Holding['mapping']): boolean {
  const moved =
    previous.externalAddress !== null &&
    mapping.externalAddress !== null &&
    previous.externalAddress !== mapping.externalAddress;
  return (
    moved ||
    previous.externalPort !== mapping.externalPort ||
    previous.internalClient !== mapping.internalClient
  );
}

function mapperOf(line: Line, { via }: Granted): PortMapper {
  return line.session.race.mappers.find(({ protocol }) => protocol === via) as PortMapper;
}
