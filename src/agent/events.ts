/** What happens to leases and gateways, in the order in which it happens. */

import { NatwardError } from '../errors.ts';
import type { IpAddress } from '../net/address.ts';
import type { GatewayStatus, LeaseStatus } from './lease.ts';

/** What a lease had before it changed. */
export interface PreviousEndpoint {
  readonly externalAddress: IpAddress | null;
  readonly externalPort: number;
  readonly internalClient: IpAddress;
}

export type AgentHappening =
  /** The gateway granted it: for the first time, or again after it was lost. */
  | { readonly type: 'granted'; readonly lease: LeaseStatus }
  /** As it was, for longer. */
  | { readonly type: 'renewed'; readonly lease: LeaseStatus }
  /** Held, and not as before: another external port or address, or another address of this host. */
  | { readonly type: 'changed'; readonly lease: LeaseStatus; readonly previous: PreviousEndpoint }
  /** The gateway no longer has it. It is being asked for again. */
  | { readonly type: 'lost'; readonly lease: LeaseStatus; readonly reason: string }
  /** The gateway said no: `lease.error` says why. Told once for each reason. */
  | { readonly type: 'refused'; readonly lease: LeaseStatus }
  /** Nobody wants it any more, and it was taken back; `reason` where that could not be done. */
  | { readonly type: 'released'; readonly lease: LeaseStatus; readonly reason: string | null }
  | { readonly type: 'gateway-up'; readonly gateway: GatewayStatus }
  | { readonly type: 'gateway-down'; readonly gateway: GatewayStatus; readonly reason: string }
  | {
      readonly type: 'address-changed';
      readonly gateway: GatewayStatus;
      readonly previous: IpAddress | null;
    }
  /** Something beside the leases did not go well: a hook, a file. */
  | { readonly type: 'warning'; readonly message: string; readonly advice: string | null };

/** `id` counts from 1 in each agent's life; `at` is ISO 8601. */
export type AgentEvent = AgentHappening & { readonly id: number; readonly at: string };

type Listener = (event: AgentEvent) => void;

/** Enough for whoever comes back after a short break; the state itself is in the status. */
const REMEMBERED_EVENTS = 512;
/** Every lease of a large agent may change at once; whoever has not read that by the next time reads no more. */
const LONGEST_QUEUE = 50_000;

/** Numbers what happens, tells it to whoever listens, and remembers the last of it. */
export class EventLog {
  readonly #now: () => number;
  readonly #listeners = new Set<Listener>();
  #recent: AgentEvent[] = [];
  #count = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Of the last event; 0: none yet. */
  get lastId(): number {
    return this.#count;
  }

  emit(happening: AgentHappening): void {
    const event = { ...happening, id: ++this.#count, at: new Date(this.#now()).toISOString() };
    this.#recent.push(event);
    if (this.#recent.length > 2 * REMEMBERED_EVENTS) this.#recent = this.#recent.slice(-REMEMBERED_EVENTS);
    for (const listener of this.#listeners) listener(event);
  }

  /** Calls `listener`, which must not throw, with each event to come. Returns how to end it. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The remembered events after the one with this id. */
  since(id: number): readonly AgentEvent[] {
    return this.#recent.slice(-REMEMBERED_EVENTS).filter((event) => event.id > id);
  }

  /**
   * What happens from this call on, until `signal` fires; with `since`, first what is still remembered after it. Throws
   * FAILED where the reader stays too far behind.
   */
  follow(signal: AbortSignal, since?: number): AsyncIterable<AgentEvent> {
    const queue = since === undefined ? [] : [...this.since(since <= this.#count ? since : 0)];
    let isOver = false;
    let wake: () => void = () => undefined;
    const end = signal.aborted
      ? () => undefined
      : this.listen((event) => {
          queue.push(event);
          if (queue.length > LONGEST_QUEUE) end(); // It may never be read: it does not grow for that.
          wake();
        });
    const stop = () => {
      isOver = true;
      end();
      wake();
    };
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
    const next = async (): Promise<IteratorResult<AgentEvent>> => {
      for (;;) {
        if (queue.length > LONGEST_QUEUE) {
          stop();
          throw new NatwardError('FAILED', `more than ${LONGEST_QUEUE} events wait to be read`);
        }
        const event = queue.shift();
        if (event !== undefined) return { done: false, value: event };
        if (isOver) return { done: true, value: undefined };
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    };
    const finish = async (): Promise<IteratorResult<AgentEvent>> => {
      stop();
      signal.removeEventListener('abort', stop);
      return { done: true, value: undefined };
    };
    return { [Symbol.asyncIterator]: () => ({ next, return: finish }) };
  }
}
