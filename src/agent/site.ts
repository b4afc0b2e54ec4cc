/**
 * The leases of one gateway: asks for them, as many at a time as its protocol takes, and says what came of it.
 * When each is due is the keeper's agenda; whether the gateway is there is the watch's.
 */

import { isNatwardError, type NatwardError } from '../errors.ts';
import type { IpAddress } from '../net/address.ts';
import type { System } from '../system/system.ts';
import type { Carrier } from './carrier.ts';
import type { EventLog } from './events.ts';
import { GatewayWatch, type Line, type WatchChoice, type WatchListener } from './gateway-watch.ts';
import { isSamePlace, movedFrom } from './holding.ts';
import type { Holding, LeaseRecord } from './lease-record.ts';
import { mapperOf, requestLease } from './lease-request.ts';
import { firstRenewalMs, putOff } from './lease-times.ts';
import type { Granted, Nonces } from './port.ts';
import { nextStep } from './reconcile.ts';
import { isSilence } from './silence.ts';
import { type Store, toRemembered } from './store.ts';
import { TableLook } from './table-look.ts';

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
  changed(when: 'soon' | 'later'): void;
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
  #table = new TableLook();
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
      const context = { ...this.#context, line, isRenewal: why === 'renewal', signal: cut.signal };
      const granted = await requestLease(lease, context);
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

  #granted(lease: LeaseRecord, line: Line, granted: readonly Granted[], why: Why): void {
    const { system, log } = this.#context;
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
    lease.renewAtMs = firstRenewalMs(granted, system);
    this.#window = mapperOf(line, granted[0])?.window ?? 1;
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
      const previous = old && movedFrom(old, mapping);
      if (previous !== undefined) {
        log.emit({ type: 'changed', lease: status, previous });
        changed = true;
      } else if (!wasHeld) log.emit({ type: 'granted', lease: status });
      else if (why === 'renewal') log.emit({ type: 'renewed', lease: status });
    }
    this.#context.changed(changed || !wasHeld ? 'soon' : 'later');
  }

  #failed(lease: LeaseRecord, line: Line, error: NatwardError, why: Why): void {
    if (lease.dropped || line.signal.aborted) return; // The next line asks again.
    const { system, log } = this.#context;
    const isNews = lease.error?.message !== error.message;
    const { code, message: reason } = error;
    const isSilent = isSilence(error);
    // What it will not grant again is not there, and what its table does not show is not either.
    if (!isSilent && (why !== 'renewal' || code === 'NOT_MAPPED')) this.#lose(lease, reason);
    lease.error = error;
    putOff(lease, line, isSilent, system);
    if (lease.state !== 'held' && !isSilent) lease.state = 'refused';
    if (!isSilent && isNews && !lease.isOptional) {
      for (const status of lease.statuses) log.emit({ type: 'refused', lease: status });
    }
    this.#context.changed('later');
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
    this.#context.changed('later');
  }

  #noGateway(lease: LeaseRecord): void {
    if (lease.state === 'asking' || lease.state === 'refused') lease.state = 'no-gateway';
    this.#context.changed('later');
  }

  up(line: Line): void {
    const { log } = this.#context;
    this.#isDown = false;
    this.#table = new TableLook();
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
      if (lease.dropped) continue; // While another one was looked at.
      this.leases.delete(lease);
      this.leases.add(lease);
      const found = await this.#table.find(lease.holdings, line);
      if (found === 'seen-again') this.#reviewAll();
      if (lease.dropped) continue;
      if (found === 'unseen') this.leases = new Set([lease, ...this.leases]); // The same one is looked at next.
      if (lease.state !== 'held' || lease.line !== line) continue; // Something has happened to it meanwhile.
      if (found === 'gone') {
        this.#lose(lease, 'the gateway no longer has it');
        this.#reviewAll();
        return;
      }
      if (found === 'unknown' || found === 'unseen') {
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

  async [Symbol.asyncDispose](): Promise<void> {
    const asking = [...this.#asking.values()];
    for (const { cut } of asking) cut.abort();
    await this.watch[Symbol.asyncDispose]();
    await Promise.all(asking.map(({ done }) => done));
  }
}
