/**
 * The library's agent: maps ports, keeps them, finds gateways, carries rules, in the app's own process or by the natward
 * agent that runs on this host (connect.ts). Nothing runs before it is asked for something.
 */

import { EventEmitter } from 'node:events';
import { OWN_OWNERS, USER_OWNER } from '../agent/lease.ts';
import type { MapFailure } from '../agent/map.ts';
import type { Granted } from '../agent/port.ts';
import type { GatewayReport, OwnMapping } from '../agent/survey.ts';
import type { GatewayPorts } from '../discovery/gateway.ts';
import { NatwardError } from '../errors.ts';
import type { EngineChoice } from '../forwarder/engine-choice.ts';
import { type IpAddress, parseAddress } from '../net/address.ts';
import type { MappingProtocol } from '../net/protocol.ts';
import { aborted, type Clock, OVER } from '../system/clock.ts';
import { quietSystem, Vigil } from '../system/quiet.ts';
import { realSystem, type System } from '../system/system.ts';
import { GatewaySearch } from './gateway-search.ts';
import type { Holder } from './holder.ts';
import { LeaseBook } from './lease-book.ts';
import { OwnHolder } from './own-holder.ts';
import type { Lease } from './port-lease.ts';
import { type PortMapping, portMappingOf } from './port-mapping.ts';
import {
  type AskChoice,
  askOf,
  type KeepPortRequest,
  keepRequestOf,
  mapOptionsOf,
  type PortEnd,
  type PortRequest,
} from './port-request.ts';
import { Rules, type Stoppable } from './rules.ts';
import { tell } from './tell.ts';
import { inLibraryWords } from './words.ts';

export type { Lease, LeaseEvents } from './port-lease.ts';
export type { PortMapping } from './port-mapping.ts';
export type { KeepPortRequest, PortEnd, PortRequest } from './port-request.ts';

export interface AgentOptions {
  /** Where it remembers what it holds, for the next start; one agent's alone. Default: nothing is written to disk. */
  readonly directory?: string | undefined;
  /**
   * Under this name leases are kept by the agent of this host (`connect`), and described to gateways. 1 to 64 characters;
   * each app should have its own. Default: `natward library`.
   */
  readonly name?: string | undefined;
  /** Ask this one alone. Default: the default route's. */
  readonly gateway?: IpAddress | undefined;
  /** Ask on this network interface alone. */
  readonly interface?: string | undefined;
  /** Speak this protocol alone. Default: whichever answers first, and the others where it refuses. */
  readonly via?: MappingProtocol | undefined;
  /** What nobody has answered for this long fails. Default: 10,000. */
  readonly timeoutMs?: number | undefined;
  /** Ends it, as disposing of it does. */
  readonly signal?: AbortSignal | undefined;
  /** What carries rules out. Default: `relay`, which needs no privileges and touches nothing of the system. */
  readonly engine?: EngineChoice | undefined;
  /** Ports of the gateway where they are not the standard ones: in tests. */
  readonly ports?: GatewayPorts | undefined;
  /** The machine; a test may hand in its own. */
  readonly system?: System | undefined;
}

export interface UnmapOptions extends Stoppable {
  /** `force` deletes also what this agent did not make, where the gateway lets it. Default: `refuse`. */
  readonly others?: 'refuse' | 'force' | undefined;
}

export interface AgentEvents {
  /** Something beside the answers did not go well: a full sentence, and what can be done. */
  warning: [error: NatwardError];
}

const DEFAULT_NAME = 'natward library';
const DEFAULT_TIMEOUT_MS = 10_000;
const MAX_NAME_LENGTH = 64;
/** By which natward itself is known. */
const TAKEN_NAMES: ReadonlySet<string> = new Set([USER_OWNER, ...OWN_OWNERS]);

/**
 * One app's agent. It keeps no process alive that waits for nothing, has no state beyond itself, and writes nothing to disk
 * without `directory`. Two in one process do not see each other.
 */
export class Agent extends EventEmitter<AgentEvents> implements AsyncDisposable {
  /** Where what arrives on this host goes on to. */
  readonly rules: Rules;
  readonly #choice: AskChoice;
  readonly #name: string | undefined;
  readonly #timeoutMs: number;
  readonly #clock: Clock;
  readonly #holder: Holder;
  readonly #book: LeaseBook;
  readonly #vigil = new Vigil();
  readonly #over = new AbortController();
  readonly #unhook: () => void;
  #ending: Promise<void> | undefined;

  /** `holder` is who keeps leases and carries rules: this process, where it is left out. Throws USAGE. */
  constructor(options: AgentOptions = {}, holder?: (own: Holder) => Holder) {
    super();
    const { directory, name, ports, timeoutMs = DEFAULT_TIMEOUT_MS, signal, engine = 'relay' } = options;
    const system = quietSystem(options.system ?? realSystem);
    this.#choice = choiceOf(options);
    this.#name = checkName(name);
    this.#timeoutMs = checkTimeout(timeoutMs);
    this.#clock = system.clock;
    const warn = (error: NatwardError) => this.#warn(error);
    const own = new OwnHolder({ system, directory, ports, engine, warn });
    this.#holder = holder?.(own) ?? own;
    const during = <T>(work: Promise<T>) => this.#during(work);
    this.#book = new LeaseBook({
      keeping: () => this.#holder.leases(),
      owner: this.#name ?? DEFAULT_NAME,
      clock: system.clock,
      timeoutMs,
      warn,
      during,
    });
    this.rules = new Rules(async () => {
      this.#checkOpen();
      return await this.#holder.rules();
    }, during);
    const end = () => void this[Symbol.asyncDispose]();
    this.#unhook = () => signal?.removeEventListener('abort', end);
    if (signal?.aborted) end();
    signal?.addEventListener('abort', end, { once: true });
  }

  /** Those that are kept, until they are released. */
  get leases(): readonly Lease[] {
    return this.#book.leases;
  }

  /**
   * Keeps a port open until the lease is released or the agent is disposed of. Resolves when it is granted; rejects where it
   * is not, and nothing is kept: see `retry`. Throws what the gateway says (NOT_AUTHORIZED, CONFLICT, ...), NO_GATEWAY,
   * NO_ROUTE, TIMEOUT, USAGE or ABORTED; CONFLICT also for what this agent keeps already.
   */
  keep(request: KeepPortRequest): Promise<Lease> {
    return this.#ask(request.signal, async (signal) => {
      const asked = keepRequestOf(request, this.#name, this.#choice);
      const lease = await this.#book.keep(asked, { retry: request.retry === true, signal });
      // The process may end now, or be killed: the next one is to know what this one holds.
      await this.#holder.saved();
      return lease;
    });
  }

  /**
   * Maps a port once: nothing renews it. What this agent holds already for the same port is refreshed. Throws as `keep`
   * does.
   */
  map(request: PortRequest): Promise<PortMapping> {
    return this.#ask(request.signal, async (signal) => {
      const ask = askOf(request);
      const options = mapOptionsOf(request, this.#name);
      const oneShot = await this.#holder.oneShot();
      const asking = { ...options, ...this.#asking(signal) };
      const { mappings, failures } = await oneShot.map([ask], asking);
      if (!isGranted(mappings)) throw failureOf(failures);
      if (!signal.aborted) return portMappingOf(mappings);
      // Nobody waits for it any more: what came late is given back.
      const stop = { ...this.#asking(this.#over.signal), others: 'refuse' } as const;
      await oneShot.unmap([ask], stop);
      throw aborted(signal);
    });
  }

  /** Takes a mapping back. Throws NOT_FOUND, NOT_OWN for somebody else's or for what is kept, or what the gateway says. */
  unmap(
    mapping: PortMapping | PortEnd,
    { signal: stop, others = 'refuse' }: UnmapOptions = {},
  ): Promise<void> {
    return this.#ask(stop, async (signal) => {
      const end = endOf(mapping);
      const ask = askOf(end);
      this.#refuseKept(end);
      const oneShot = await this.#holder.oneShot();
      const { failures } = await oneShot.unmap([ask], { ...this.#asking(signal), others });
      if (failures.length > 0) throw failureOf(failures);
    });
  }

  /** A keeper would make it again. */
  #refuseKept({ internalPort, protocol = 'tcp', host }: PortEnd): void {
    const lease = this.leases.find(({ mappings }) =>
      mappings.some(
        (one) =>
          protocol.includes(one.protocol) &&
          one.internalPort === internalPort &&
          (host === undefined || host === one.internalClient),
      ),
    );
    if (lease === undefined) return;
    throw new NatwardError('NOT_OWN', `${protocol} ${internalPort} is kept by this agent`, {
      advice: 'Release its lease.',
    });
  }

  /**
   * The gateway's table, this host's own rows marked, and the pinholes that this agent has opened; where the gateway has no
   * list, what this agent holds.
   */
  mappings({ signal: stop }: Stoppable = {}): Promise<readonly OwnMapping[]> {
    return this.#ask(stop, async (signal) => {
      const oneShot = await this.#holder.oneShot();
      const rows = await oneShot.list(this.#asking(signal));
      const status = await (await this.#book.keeping)?.status();
      const kept = new Set((status?.leases ?? []).map((one) => placeOf(one)));
      return rows.map((row) => (kept.has(placeOf(row)) ? { ...row, own: true } : row));
    });
  }

  /**
   * The gateways of this host, each as soon as it is known. Ends with the last one; throws NO_ROUTE, NO_GATEWAY where there
   * is none, or ABORTED. Whoever leaves the loop ends the search.
   */
  gateways({ signal }: Stoppable = {}): AsyncIterableIterator<GatewayReport, undefined> {
    const look = async (tell: (report: GatewayReport) => void, stop: AbortSignal) => {
      await this.#ask(stop, async (either) => {
        const oneShot = await this.#holder.oneShot();
        const heard = { onOffer: () => undefined, onGateway: tell };
        await oneShot.gateways({ ...this.#asking(either), ...heard });
        if (either.aborted) throw aborted(either);
      });
    };
    return new GatewaySearch(look, (work) => this.#during(work), signal);
  }

  /** The address of the first gateway that answers, as the internet sees it; undefined where the gateway does not know. */
  externalAddress({ signal: stop }: Stoppable = {}): Promise<IpAddress | undefined> {
    return this.#ask(stop, async (signal) => {
      const oneShot = await this.#holder.oneShot();
      return await oneShot.externalAddress(this.#asking(signal));
    });
  }

  #asking(signal: AbortSignal): AskChoice & {
    readonly timeoutMs: number;
    readonly signal: AbortSignal;
    readonly onWarning: (warning: NatwardError) => void;
  } {
    const onWarning = (warning: NatwardError) => this.#warn(warning);
    return { ...this.#choice, timeoutMs: this.#timeoutMs, signal, onWarning };
  }

  /** Does `work` until the caller's signal or the agent's end. */
  async #ask<T>(stop: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    this.#checkOpen();
    if (stop?.aborted) throw aborted(stop);
    // Not AbortSignal.any(): what hangs on a signal of a long life would stay there.
    const cut = new AbortController();
    const ends = [stop, this.#over.signal].filter((signal) => signal !== undefined);
    const cutBy = ends.map((signal) => {
      const cutIt = () => cut.abort(signal.reason);
      signal.addEventListener('abort', cutIt, { once: true });
      return () => signal.removeEventListener('abort', cutIt);
    });
    try {
      return await this.#during(work(cut.signal));
    } catch (error) {
      throw cut.signal.aborted ? aborted(cut.signal) : error;
    } finally {
      for (const unhook of cutBy) unhook();
    }
  }

  async #during<T>(work: Promise<T>): Promise<T> {
    try {
      return await this.#vigil.during(work);
    } catch (error) {
      throw inLibraryWords(error);
    }
  }

  #checkOpen(): void {
    if (this.#ending === undefined) return;
    throw new NatwardError('ABORTED', 'the agent has been disposed of', { advice: 'Make another one.' });
  }

  #warn(error: NatwardError): void {
    tell(this, 'warning', inLibraryWords(error));
  }

  /** Gives all back, as far as gateways answer in time, and ends. What cannot be given back ends by its lifetime. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#ending ??= this.#during(this.#end());
    return this.#ending;
  }

  async #end(): Promise<void> {
    this.#unhook();
    this.#over.abort(new NatwardError('ABORTED', 'the agent has been disposed of'));
    const limit = new AbortController();
    const done = new AbortController();
    this.#clock.sleep(this.#timeoutMs, done.signal).then(
      () => limit.abort(),
      () => undefined,
    );
    try {
      await this.#book.releaseAll();
    } catch (error) {
      // The agent of this host is gone: what it kept it will find again.
      if (!(error instanceof NatwardError)) throw error;
      this.#warn(error);
    } finally {
      await this.#holder.close(limit.signal);
      await this.#book.end();
      done.abort(OVER);
    }
  }
}

function choiceOf({ gateway, interface: networkInterface, via, ports }: AgentOptions): AskChoice {
  const address = gateway === undefined ? undefined : parseAddress(gateway);
  if (gateway !== undefined && address === undefined) throw usage(`gateway "${gateway}" is no IP address`);
  return {
    ...(address !== undefined && { gateway: address }),
    ...(networkInterface !== undefined && { interface: networkInterface }),
    ...(via !== undefined && { via }),
    ...(ports !== undefined && { ports }),
  };
}

function checkName(name: string | undefined): string | undefined {
  if (name === undefined) return undefined;
  if (name === '' || name.length > MAX_NAME_LENGTH) {
    throw usage(`the name of an agent has 1 to ${MAX_NAME_LENGTH} characters`);
  }
  if (TAKEN_NAMES.has(name)) throw usage(`"${name}" is a name that natward itself has`);
  return name;
}

function checkTimeout(timeoutMs: number): number {
  if (timeoutMs > 0 && timeoutMs <= 600_000) return timeoutMs;
  throw usage(`timeoutMs ${timeoutMs} is not more than 0 and at most 600000`);
}

function usage(message: string): NatwardError {
  return new NatwardError('USAGE', message);
}

/** By the end that the gateway was told: traffic may arrive elsewhere. Where no external port is named, whichever it has. */
function endOf(mapping: PortMapping | PortEnd): PortEnd {
  if (!('mappings' in mapping)) return { ...mapping, externalPort: mapping.externalPort ?? 0 };
  const [{ internalPort, internalClient } = mapping] = mapping.mappings;
  const { protocol, externalPort } = mapping;
  return { protocol, internalPort, externalPort, host: internalClient };
}

function isGranted(mappings: readonly Granted[]): mappings is readonly [Granted, ...Granted[]] {
  return mappings.length > 0;
}

function failureOf([first]: readonly MapFailure[]): NatwardError {
  return first?.error ?? new NatwardError('FAILED', 'the gateway granted nothing, and did not say why');
}

function placeOf(one: {
  readonly protocol: string;
  readonly externalPort: number | null;
  readonly internalClient: IpAddress | null;
}): string {
  return `${one.protocol} ${one.externalPort} ${one.internalClient}`;
}
