/**
 * Holds every lease until told otherwise. Knows what is wanted (intent-book.ts) and what is held, for whom (leases.ts) and
 * for nobody (strays.ts), remembers both (ledger.ts), and answers whoever asks. The gateways are asked by sites (site.ts),
 * each lease when it is due (rounds.ts).
 */

import type { GatewayPorts } from '../discovery/gateway.ts';
import { NatwardError } from '../errors.ts';
import type { Family, IpAddress } from '../net/address.ts';
import { fired } from '../system/clock.ts';
import type { NetworkState } from '../system/routes.ts';
import type { System } from '../system/system.ts';
import type { Carrier } from './carrier.ts';
import { type AgentEvent, EventLog } from './events.ts';
import { CHECK_MS } from './gateway-watch.ts';
import type { Hook } from './hooks/hook.ts';
import { IntentBook } from './intent-book.ts';
import type {
  DropOptions,
  DropReport,
  DropSelector,
  KeeperStatus,
  KeepOptions,
  LeaseKeeping,
} from './keeping.ts';
import type { Intent, KeepRequest, LeaseStatus } from './lease.ts';
import { LeaseAnswers } from './lease-answers.ts';
import type { LeaseRecord } from './lease-record.ts';
import { Leases, statusesOf } from './leases.ts';
import type { Memory } from './ledger.ts';
import { Nonces } from './port.ts';
import { Rounds } from './rounds.ts';
import { Sites } from './sites.ts';
import type { Store } from './store.ts';
import { Strays } from './strays.ts';

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

export class Keeper implements LeaseKeeping, AsyncDisposable {
  readonly log: EventLog;
  readonly #memory: Memory;
  readonly #intents: IntentBook;
  readonly #sites: Sites;
  readonly #strays: Strays;
  readonly #rounds: Rounds;
  readonly #leases: Leases;
  readonly #answers: LeaseAnswers;
  /** What is remembered has found out whether it is wanted. */
  #hasBegun = false;
  readonly #warnings = new Map<string, NatwardError>();
  readonly #over = new AbortController();

  /** Takes up what the memory says. Throws what `memory.load` does. */
  constructor(system: System, { memory, store, ports, checkMs = CHECK_MS, carrier }: KeeperOptions) {
    this.#memory = memory;
    this.#answers = new LeaseAnswers(system.clock);
    this.log = new EventLog(() => system.clock.now());
    this.#sites = new Sites({
      system,
      store,
      ports,
      log: this.log,
      nonces: new Nonces(system),
      checkMs,
      carrier,
      opened: () => this.#rounds.lookSoon(),
      due: (lease, atMs) => this.#rounds.set(lease, atMs),
      granting: () => this.#rounds.lookAtClock(),
      changed: (when) => this.#changed(when),
      stray: (holdings) => this.#strays.giveBack(holdings),
      up: (site, line) => this.#strays.meet(site, line),
      warn: (error) => this.warn(error.message, error),
    });
    const { intents, holdings } = memory.load();
    this.#intents = new IntentBook(intents);
    this.#strays = new Strays(holdings, {
      clock: system.clock,
      sites: this.#sites,
      kept: () => this.#leases.all,
      forgotten: () => this.#save('soon'),
    });
    this.#rounds = new Rounds(system, {
      due: (lease) => this.#sites.of(lease).review(lease),
      network: (network) => this.#network(network),
      networkUnknown: (reason) => {
        if (!this.#warnings.has('network')) this.warn('network', reason);
      },
      setForward: () => {
        for (const { watch } of this.#sites.all) watch.restart();
      },
      setBack: (byMs) => {
        for (const lease of this.#leases.all) lease.shift(byMs);
      },
    });
    this.#leases = new Leases({ sites: this.#sites, strays: this.#strays, rounds: this.#rounds, carrier });
  }

  /**
   * Begins, the first time, with what is remembered and what the configuration wants kept; later the configuration
   * wants this of what it wanted before. Throws CONFLICT for what contradicts itself, and changes nothing.
   */
  configure(requests: readonly KeepRequest[]): void {
    this.#intents.configure(requests);
    this.#start();
  }

  /** Begins with what is remembered, where the configuration cannot be read: what it said last is kept. */
  resume(): void {
    this.#start();
  }

  #start(): void {
    const isFirst = !this.#hasBegun;
    this.#hasBegun = true;
    void this.#reconcile(this.#over.signal);
    if (isFirst) this.#leases.settle();
  }

  async keep(
    requests: readonly KeepRequest[],
    { owner, timeoutMs, signal }: KeepOptions,
  ): Promise<readonly LeaseStatus[]> {
    const intents = this.#intents.add(requests, owner);
    void this.#reconcile(this.#over.signal);
    const leases = intents.flatMap((intent) => this.#leases.of(intent));
    await this.#answers.wait(leases, timeoutMs, signal);
    return statusesOf(leases);
  }

  async drop(selectors: readonly DropSelector[], { signal }: DropOptions): Promise<DropReport> {
    const { ended, failures } = this.#intents.drop(selectors);
    const statuses = statusesOf(this.#leases.all.filter(({ intent }) => ended.has(intent.id)));
    const errors = await this.#reconcile(signal);
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
      gateways: this.#sites.all.flatMap(({ watch }) => watch.status ?? []),
      leases: statusesOf(this.#leases.all),
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
    this.#sites.attend(of, know);
  }

  /** Its loop has gone round not long ago: what hangs is not alive. */
  get isAlive(): boolean {
    return this.#rounds.isAlive;
  }

  intentOf(id: string): Intent | undefined {
    return this.#intents.get(id);
  }

  /** Of the intents that something is held for at this gateway. */
  hooksAt(gateway: IpAddress): readonly Hook[] {
    const intents = new Set<Intent>();
    for (const { intent, holdings } of this.#leases.all) {
      if (holdings.some(({ mapping }) => mapping.gateway === gateway)) intents.add(intent);
    }
    return [...intents].flatMap(({ hooks }) => hooks);
  }

  async wanted(): Promise<readonly Intent[]> {
    return this.intents;
  }

  get intents(): readonly Intent[] {
    return this.#intents.all;
  }

  /** Makes the leases true to the intents. Resolves when what has ended is given back, with what went wrong. */
  #reconcile(signal: AbortSignal): Promise<ReadonlyMap<string, NatwardError>> {
    const ended = this.#leases.reconcile(this.intents);
    this.#changed('soon');
    return this.#release(ended, signal);
  }

  /** What went wrong is told by the ids of the leases' statuses. */
  async #release(
    ended: readonly LeaseRecord[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, NatwardError>> {
    const errors = new Map<string, NatwardError>();
    await this.#strays.release(ended, signal, (lease, error) => {
      if (error !== undefined) for (const { id } of lease.statuses) errors.set(id, error);
      const reason = error?.message ?? null;
      for (const status of statusesOf([lease])) this.log.emit({ type: 'released', lease: status, reason });
    });
    return errors;
  }

  #changed(when: 'soon' | 'later'): void {
    this.#answers.changed();
    this.#save(when);
  }

  #save(when: 'soon' | 'later'): void {
    this.#memory.save(
      () => ({
        intents: this.intents,
        holdings: [...this.#leases.all.flatMap(({ holdings }) => holdings), ...this.#strays.all],
      }),
      when,
    );
  }

  #network(network: NetworkState): void {
    this.warn('network', undefined);
    if (this.#hasBegun) this.#strays.attend(network);
    for (const { watch } of this.#sites.all) watch.network(network);
  }

  /**
   * Ends. `release`: gives back all that is held, as far as gateways answer before `signal` fires, and resolves with
   * what went wrong; `keep`: leaves it to whoever runs next.
   */
  async close(mappings: 'release' | 'keep', signal: AbortSignal): Promise<readonly NatwardError[]> {
    let errors: readonly NatwardError[] = [];
    if (mappings === 'release' && !this.#over.signal.aborted) {
      const released = this.#release(this.#leases.reconcile([]), signal).then((found) => [...found.values()]);
      errors = (await Promise.race([released, fired(signal)])) ?? [lateError(this.#strays.all.length)];
    }
    this.#over.abort();
    await this.#rounds[Symbol.asyncDispose]();
    await Promise.race([this.#sites[Symbol.asyncDispose](), fired(signal)]);
    this.#save('soon');
    await this.#memory.flush();
    return errors;
  }

  /** Leaves what is held as it is. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close('keep', new AbortController().signal);
  }
}

function lateError(count: number): NatwardError {
  return new NatwardError(
    'TIMEOUT',
    `${count} mappings could not be released in time: they end by their lifetimes`,
  );
}

function errorOf({ code, message, advice }: NatwardError): NonNullable<LeaseStatus['error']> {
  return { code, message, advice: advice ?? null };
}
