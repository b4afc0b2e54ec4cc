/**
 * One port that is kept for an app: how it stands, and what happens to it. Whoever keeps it (a keeper of this process, or
 * the agent that runs on this host) tells; see lease-book.ts.
 */

import { EventEmitter } from 'node:events';
import type { AgentEvent, PreviousEndpoint } from '../agent/events.ts';
import type { KeepRequest, LeaseState as KeptState, LeaseStatus } from '../agent/lease.ts';
import { NatwardError } from '../errors.ts';
import type { IpAddress } from '../net/address.ts';
import type { MappingProtocol } from '../net/protocol.ts';
import { type PortProtocol, protocolOf } from './port-request.ts';
import { tell } from './tell.ts';
import { adviceInLibraryWords } from './words.ts';

/** As a keeper has it; and `released`: nobody keeps it any more. */
export type LeaseState = KeptState | 'released';

/** What each listener is told. The status is of one protocol and family; see `Lease.mappings`. */
export interface LeaseEvents {
  /** The gateway has granted it: for the first time, or again after it was lost. */
  granted: [status: LeaseStatus];
  /** As it was, for longer. */
  renewed: [status: LeaseStatus];
  /** Held, and not as before: another external port or address, or another address of this host. */
  changed: [status: LeaseStatus, previous: PreviousEndpoint];
  /** The gateway no longer has it. It is being asked for again. */
  lost: [status: LeaseStatus, reason: string];
  /** The gateway says no: `status.error` says why. It is asked again from time to time. */
  refused: [status: LeaseStatus];
  /** It is kept no longer, and was given back; `reason` where that could not be done: it ends by its lifetime. */
  released: [status: LeaseStatus, reason: string | undefined];
}

/**
 * A port that is kept open until it is released: renewed, and asked for again wherever the gateway loses it. What it says is
 * as of now. Nothing need be listened to.
 */
export interface Lease extends AsyncDisposable {
  /** 8 hex digits; the same for the same request under the same name. */
  readonly id: string;
  readonly state: LeaseState;
  readonly protocol: PortProtocol;
  /** Where traffic arrives. VPN gateways may deliver to another port than was asked for. */
  readonly internalPort: number;
  /** Of the IPv4 mapping, or of the IPv6 pinhole where `family` is 6. Undefined while it is not held, as the rest. */
  readonly externalPort: number | undefined;
  /** Undefined also where the gateway does not tell. */
  readonly externalAddress: IpAddress | undefined;
  readonly via: MappingProtocol | undefined;
  readonly gateway: IpAddress | undefined;
  /** It is renewed long before. Undefined also where it has no end. */
  readonly expiresAt: Date | undefined;
  /** Why it is not held. */
  readonly error: NatwardError | undefined;
  /** Each protocol and family. */
  readonly mappings: readonly LeaseStatus[];
  on<Name extends keyof LeaseEvents>(event: Name, listener: (...told: LeaseEvents[Name]) => void): this;
  once<Name extends keyof LeaseEvents>(event: Name, listener: (...told: LeaseEvents[Name]) => void): this;
  off<Name extends keyof LeaseEvents>(event: Name, listener: (...told: LeaseEvents[Name]) => void): this;
  /** Gives it back, and keeps it no longer. Once is enough; disposing does the same. */
  release(): Promise<void>;
}

type LeaseEvent = Extract<AgentEvent, { lease: LeaseStatus }>;

export class PortLease extends EventEmitter<LeaseEvents> implements Lease {
  readonly id: string;
  readonly protocol: PortProtocol;
  readonly #request: KeepRequest;
  readonly #release: (lease: PortLease) => Promise<void>;
  readonly #statuses = new Map<string, LeaseStatus>();
  /** What came before the first status, and may be in it already. */
  #early: LeaseEvent[] | undefined = [];
  #isReleased = false;
  #releasing: Promise<void> | undefined;

  constructor(id: string, request: KeepRequest, release: (lease: PortLease) => Promise<void>) {
    super();
    this.id = id;
    this.protocol = protocolOf(request);
    this.#request = request;
    this.#release = release;
  }

  get state(): LeaseState {
    if (this.#isReleased) return 'released';
    const states = this.#asked.map(({ state }) => state);
    return states.find((state) => state !== 'held') ?? states[0] ?? 'asking';
  }

  get internalPort(): number {
    const [first] = this.#asked;
    return first?.target?.port ?? first?.internalPort ?? this.#request.internal.first;
  }

  get externalPort(): number | undefined {
    return this.#asked[0]?.externalPort ?? undefined;
  }

  get externalAddress(): IpAddress | undefined {
    return this.#asked[0]?.externalAddress ?? undefined;
  }

  get via(): MappingProtocol | undefined {
    return this.#asked[0]?.via ?? undefined;
  }

  get gateway(): IpAddress | undefined {
    return this.#asked[0]?.gateway ?? undefined;
  }

  get expiresAt(): Date | undefined {
    const ends = this.#asked.flatMap(({ expiresAt }) => expiresAt ?? []).sort();
    return ends[0] === undefined ? undefined : new Date(ends[0]);
  }

  get error(): NatwardError | undefined {
    const error = this.#asked.find(({ error: one }) => one !== null)?.error;
    if (error === undefined || error === null) return undefined;
    const { code, message, advice } = error;
    return new NatwardError(code, message, advice === null ? {} : { advice: adviceInLibraryWords(advice) });
  }

  get mappings(): readonly LeaseStatus[] {
    return [...this.#statuses.values()];
  }

  get #asked(): readonly LeaseStatus[] {
    return mainOf(this.mappings);
  }

  /** How it stands after the event with that number. */
  begin(statuses: readonly LeaseStatus[], lastEventId: number): void {
    this.#have(statuses);
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const event of early) if (event.id > lastEventId) this.take(event);
  }

  #have(statuses: readonly LeaseStatus[]): void {
    this.#statuses.clear();
    for (const status of statuses) this.#statuses.set(status.id, status);
  }

  take(event: LeaseEvent): void {
    if (this.#early !== undefined) {
      this.#early.push(event);
      return;
    }
    const { lease: status } = event;
    if (event.type === 'released') {
      this.#statuses.delete(status.id);
      this.#isReleased = this.#statuses.size === 0;
    } else this.#statuses.set(status.id, status);
    switch (event.type) {
      case 'changed':
        this.#tell('changed', status, event.previous);
        break;
      case 'lost':
        this.#tell('lost', status, event.reason);
        break;
      case 'released':
        this.#tell('released', status, event.reason ?? undefined);
        break;
      default:
        this.#tell(event.type, status);
    }
  }

  /** How it stands after a while in which nothing was heard of it: what is new is told. */
  resume(statuses: readonly LeaseStatus[]): void {
    const before = new Map(this.#statuses);
    this.#have(statuses);
    for (const status of statuses) {
      const was = before.get(status.id);
      if (status.state === 'held' && was?.state !== 'held') this.#tell('granted', status);
      else if (was?.state === 'held' && status.state !== 'held') {
        this.#tell('lost', status, status.error?.message ?? 'it was lost while nobody listened');
      } else if (was !== undefined && status.state === 'held' && isElsewhere(was, status)) {
        const { externalAddress, externalPort, internalClient } = was;
        this.#tell('changed', status, {
          externalAddress,
          externalPort: externalPort as number,
          internalClient: internalClient as IpAddress,
        });
      }
    }
  }

  /** Nobody keeps it any more. */
  end(statuses: readonly LeaseStatus[], reasonOf: (status: LeaseStatus) => string | undefined): void {
    this.#isReleased = true;
    this.#statuses.clear();
    for (const status of statuses) this.#tell('released', status, reasonOf(status));
  }

  #tell<Name extends keyof LeaseEvents>(event: Name, ...told: LeaseEvents[Name]): void {
    tell(this, event, ...told);
  }

  async release(): Promise<void> {
    if (this.#isReleased) return;
    this.#releasing ??= this.#release(this);
    try {
      await this.#releasing;
    } finally {
      this.#releasing = undefined; // Where it failed it may be tried again.
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }
}

/**
 * Those that speak for the lease: the IPv4 mapping. The IPv6 pinhole that is opened beside it, and that nobody has asked for
 * by name, does where this host has no way to an IPv4 gateway.
 */
export function mainOf(statuses: readonly LeaseStatus[]): readonly LeaseStatus[] {
  const ipv4 = statuses.filter(({ family }) => family === 4);
  const ipv6 = statuses.filter(({ family }) => family === 6);
  if (ipv6.length === 0 || ipv4.some(({ state }) => state !== 'no-gateway')) return ipv4;
  return ipv6;
}

function isElsewhere(a: LeaseStatus, b: LeaseStatus): boolean {
  return (
    a.externalPort !== b.externalPort ||
    a.externalAddress !== b.externalAddress ||
    a.internalClient !== b.internalClient
  );
}
