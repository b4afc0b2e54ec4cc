/**
 * The leases of one agent of the library: hands requests to whoever keeps them, and tells each lease what happens to it.
 */

import type { AgentEvent } from '../agent/events.ts';
import { intentOf } from '../agent/intent.ts';
import type { LeaseKeeping } from '../agent/keeping.ts';
import type { KeepRequest, LeaseStatus } from '../agent/lease.ts';
import { isNatwardError, NatwardError } from '../errors.ts';
import { aborted, type Clock, OVER } from '../system/clock.ts';
import { mainOf, PortLease } from './port-lease.ts';

export interface LeaseBookOptions {
  /** Begins, when it is first called. */
  readonly keeping: () => Promise<LeaseKeeping>;
  readonly owner: string;
  readonly clock: Clock;
  /** How long a gateway has for an answer. */
  readonly timeoutMs: number;
  /** What does not go well beside single leases. */
  readonly warn: (error: NatwardError) => void;
  /** Keeps the process alive meanwhile. */
  readonly during: <T>(work: Promise<T>) => Promise<T>;
}

export interface Waiting {
  /** It is kept however it stands. */
  readonly retry: boolean;
  readonly signal: AbortSignal;
}

/** Where whoever keeps them is gone, he is looked for again. */
const AGAIN_MS = 2000;

export class LeaseBook {
  readonly #options: LeaseBookOptions;
  readonly #over = new AbortController();
  /** By intent, those that are being asked for as well. */
  readonly #leases = new Map<string, PortLease>();
  readonly #asking = new Set<PortLease>();
  /** Called with each event: see `#answered`. */
  readonly #watchers = new Set<(event: AgentEvent) => void>();
  /** By intent, what nobody waits for and is being given back. */
  readonly #dropping = new Map<string, Promise<unknown>>();
  #begun: Promise<LeaseKeeping> | undefined;
  #following: Promise<void> = Promise.resolve();

  constructor(options: LeaseBookOptions) {
    this.#options = options;
  }

  get leases(): readonly PortLease[] {
    return [...this.#leases.values()].filter((lease) => !this.#asking.has(lease));
  }

  /** Whoever keeps them; undefined where nothing has been kept. */
  get keeping(): Promise<LeaseKeeping> | undefined {
    return this.#begun;
  }

  /** Throws CONFLICT for what is kept already, ABORTED, TIMEOUT, or why it is not granted; then nothing is kept. */
  async keep(request: KeepRequest, { retry, signal }: Waiting): Promise<PortLease> {
    const { owner, timeoutMs } = this.#options;
    const { id } = intentOf(request, owner);
    if (this.#leases.has(id)) throw keptAlready(request);
    const lease = new PortLease(id, request, (one) => this.#options.during(this.#release([one])));
    this.#leases.set(id, lease);
    this.#asking.add(lease);
    let keeping: LeaseKeeping | undefined;
    try {
      await this.#dropping.get(id); // Or what ends the one before would end this one.
      keeping = await this.#begin();
      if (signal.aborted) throw aborted(signal);
      await this.#answered(keeping, request, id, signal, timeoutMs);
      const { leases, lastEventId } = await keeping.status();
      if (signal.aborted) throw aborted(signal);
      const own = leases.filter(({ intentId }) => intentId === id);
      const error = retry ? undefined : whyNotHeld(own, request, timeoutMs);
      if (error !== undefined) throw error;
      lease.begin(own, lastEventId);
      return lease;
    } catch (error) {
      this.#leases.delete(id);
      if (keeping !== undefined) this.#giveUp(keeping, id);
      throw error;
    } finally {
      this.#asking.delete(lease);
    }
  }

  /** Resolves when all that was asked for by name has an answer: the pinhole beside it may come later. */
  async #answered(
    keeping: LeaseKeeping,
    request: KeepRequest,
    id: string,
    signal: AbortSignal,
    timeoutMs: number,
  ): Promise<void> {
    const open = new Set<string>(request.protocols);
    const enough = new AbortController();
    const look = (event: AgentEvent) => {
      if (event.type !== 'granted' && event.type !== 'refused') return;
      const { intentId, protocol, family } = event.lease;
      const isAsked = family === 4 || request.family === 6 || request.host !== undefined;
      if (intentId === id && isAsked) open.delete(protocol);
      if (open.size === 0) enough.abort(OVER);
    };
    this.#watchers.add(look);
    const stop = () => enough.abort(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    try {
      await keeping.keep([request], { owner: this.#options.owner, timeoutMs, signal: enough.signal });
    } catch (error) {
      // To hang up on the agent of this host is to stop waiting, and no more.
      if (!enough.signal.aborted || !isNatwardError(error, 'ABORTED')) throw error;
    } finally {
      this.#watchers.delete(look);
      signal.removeEventListener('abort', stop);
    }
  }

  /** Nobody waits for it: what was granted meanwhile is given back. */
  #giveUp(keeping: LeaseKeeping, id: string): void {
    const dropping = this.#options
      .during(this.#drop(keeping, [id]))
      .catch(() => undefined)
      .finally(() => this.#dropping.delete(id));
    this.#dropping.set(id, dropping);
  }

  async #drop(keeping: LeaseKeeping, ids: readonly string[]): Promise<readonly LeaseStatus[]> {
    const limit = new AbortController();
    const done = new AbortController();
    const { clock, timeoutMs } = this.#options;
    clock.sleep(timeoutMs, done.signal).then(
      () => limit.abort(new NatwardError('TIMEOUT', `it was not given back within ${timeoutMs / 1000} s`)),
      () => undefined,
    );
    try {
      const selectors = ids.map((id) => ({ kind: 'id', text: id, id }) as const);
      return (await keeping.drop(selectors, { signal: limit.signal })).released;
    } finally {
      done.abort(OVER);
    }
  }

  async #release(leases: readonly PortLease[]): Promise<void> {
    const keeping = await this.#begin();
    for (const { id } of leases) this.#leases.delete(id);
    let released: readonly LeaseStatus[];
    try {
      released = await this.#drop(
        keeping,
        leases.map(({ id }) => id),
      );
    } catch (error) {
      for (const lease of leases) this.#leases.set(lease.id, lease);
      throw error;
    }
    for (const lease of leases) {
      const own = released.filter(({ intentId }) => intentId === lease.id);
      lease.end(own, ({ error }) => error?.message);
    }
  }

  /** All at once. */
  async releaseAll(): Promise<void> {
    const leases = this.leases;
    if (leases.length > 0) await this.#release(leases);
    await Promise.all(this.#dropping.values());
  }

  #begin(): Promise<LeaseKeeping> {
    this.#begun ??= this.#start();
    return this.#begun;
  }

  async #start(): Promise<LeaseKeeping> {
    try {
      const keeping = await this.#options.keeping();
      const { lastEventId } = await keeping.status();
      const events = keeping.events(this.#over.signal, lastEventId);
      this.#following = this.#follow(keeping, events);
      return keeping;
    } catch (error) {
      this.#begun = undefined; // The next one may have more luck.
      throw error;
    }
  }

  async #follow(keeping: LeaseKeeping, first: AsyncIterable<AgentEvent>): Promise<void> {
    const { signal } = this.#over;
    let events: AsyncIterable<AgentEvent> | undefined = first;
    while (!signal.aborted) {
      try {
        events ??= await this.#resume(keeping);
        for await (const event of events) this.#take(event);
      } catch (error) {
        if (events !== undefined) this.#options.warn(asNatwardError(error));
        events = undefined;
        await this.#options.clock.sleep(AGAIN_MS, signal).catch(() => undefined);
      }
    }
  }

  /** Whoever kept them was gone, and is back. */
  async #resume(keeping: LeaseKeeping): Promise<AsyncIterable<AgentEvent>> {
    const { leases, lastEventId } = await keeping.status();
    for (const lease of this.leases) {
      const own = leases.filter(({ intentId }) => intentId === lease.id);
      if (own.length > 0) lease.resume(own);
      else {
        this.#leases.delete(lease.id);
        lease.end(lease.mappings, () => 'the agent of this host no longer keeps it');
      }
    }
    return keeping.events(this.#over.signal, lastEventId);
  }

  #take(event: AgentEvent): void {
    for (const look of this.#watchers) look(event);
    if (event.type === 'warning') {
      const { message, advice } = event;
      this.#options.warn(new NatwardError('FAILED', message, advice === null ? {} : { advice }));
      return;
    }
    if (!('lease' in event)) return;
    const lease = this.#leases.get(event.lease.intentId);
    lease?.take(event);
    if (lease?.state === 'released') this.#leases.delete(lease.id);
  }

  /** Hears nothing any more. */
  async end(): Promise<void> {
    this.#over.abort(OVER);
    await this.#following;
  }
}

/** Undefined where all that was asked for by name is held. */
function whyNotHeld(
  statuses: readonly LeaseStatus[],
  request: KeepRequest,
  timeoutMs: number,
): NatwardError | undefined {
  const asked = mainOf(statuses);
  const missing = asked.find(({ state }) => state !== 'held');
  if (asked.length > 0 && missing === undefined) return undefined;
  const error = asked.find((status) => status.error !== null)?.error;
  if (error !== undefined && error !== null) {
    const { code, message, advice } = error;
    return new NatwardError(code, message, advice === null ? {} : { advice });
  }
  if (missing?.state === 'no-gateway') {
    return new NatwardError('NO_GATEWAY', `${request.spec}: no gateway answers`, {
      advice: 'Ask again when there is one, or have it kept until then (retry: true).',
    });
  }
  return new NatwardError(
    'TIMEOUT',
    `${request.spec}: no gateway has answered within ${timeoutMs / 1000} s`,
    {
      advice: 'Give it longer (timeoutMs), or have it kept until it is granted (retry: true).',
    },
  );
}

function asNatwardError(error: unknown): NatwardError {
  if (isNatwardError(error)) return error;
  const what = error instanceof Error ? error.message : String(error);
  return new NatwardError('FAILED', `an error that natward did not expect: ${what}`, { cause: error });
}

function keptAlready({ spec }: KeepRequest): NatwardError {
  return new NatwardError('CONFLICT', `${spec} is kept by this agent already`, {
    advice: 'Use the lease that there is, or release it first.',
  });
}
