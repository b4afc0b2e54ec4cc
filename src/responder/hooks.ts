/**
 * Where a quirk may take hold. The gateway does what the standards say and passes through these points; a
 * quirk (quirks/) is a few small functions at some of them, so that the gateway's own code names none.
 */

import type { IpAddress } from '../net/address.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import type { Device } from '../wire/description.ts';
import type { NatpmpRequest, NatpmpResponse } from '../wire/natpmp.ts';
import type { SsdpResponse, SsdpSearch } from '../wire/ssdp.ts';
import type { ActionCall, ActionReply } from './actions/action.ts';
import type { GrantOutcome, GrantRequest, Refusal } from './grant.ts';
import type { HttpReply, HttpRequest } from './http-reply.ts';
import type { TableEntry } from './table.ts';

export type Layer = 'pcp' | 'natpmp' | 'ssdp' | 'http';

/** One request and its answer. `kind` is the word that the counters use: `pcp map`, `soap AddPortMapping`. */
interface Exchange {
  readonly layer: Layer;
  readonly kind: string;
}

/** A search, and how it came. */
interface HeardSearch {
  readonly search: SsdpSearch;
  readonly way: 'unicast' | 'multicast';
  /** Of the gateway, not of the asker. */
  readonly address: IpAddress;
}

/** A NAT-PMP request, and who asks. */
interface HeardNatpmp {
  readonly request: NatpmpRequest;
  readonly source: IpAddress;
}

/** A packet that goes out before the right answer. */
export interface Decoy {
  readonly packet: Uint8Array;
  readonly from: 'gateway' | 'stranger';
}

/** Does its part before and after the next one, or instead of it. */
export type Around<In, Out> = (input: In, next: (input: In) => Promise<Out>) => Promise<Out>;

export interface Hooks {
  /** When the quirk is switched on, and off: it may need a port of its own. No request is served meanwhile. */
  readonly start?: () => Promise<void>;
  readonly stop?: () => Promise<void>;

  /** Around each request; undefined leaves it without an answer. */
  readonly exchange?: <T>(exchange: Exchange, next: () => Promise<T | undefined>) => Promise<T | undefined>;
  readonly decoys?: (answer: Uint8Array, request: Uint8Array, layer: Layer) => readonly Decoy[];

  /** Around each grant, whichever protocol asks. */
  readonly grant?: Around<GrantRequest, GrantOutcome>;
  /** The lifetime that is kept in the table; the answer tells it only where the protocol has a place for it. */
  readonly lifetime?: (lifetimeSeconds: number | undefined, request: GrantRequest) => number | undefined;
  /** When an entry ends: `deadlineMs` by its lifetime, Infinity for never. */
  readonly deadline?: (entry: TableEntry, deadlineMs: number, lastTrafficAtMs: number) => number;
  /** An external port that is not to be had. */
  readonly reserved?: (protocol: TransportProtocol, externalPort: number) => Refusal | undefined;
  readonly separateTables?: true;
  readonly keepsEpoch?: true;
  readonly movesControlPort?: true;

  /** The external address as it is reported. */
  readonly externalAddress?: (address: string) => string;
  readonly natpmp?: Around<HeardNatpmp, NatpmpResponse>;
  readonly action?: Around<ActionCall, ActionReply>;

  /** The answers to a search, before they are encoded. */
  readonly searchAnswers?: (answers: readonly SsdpResponse[], heard: HeardSearch) => readonly SsdpResponse[];
  /** LOCATION, in answers and in announcements. */
  readonly location?: (url: string) => string;
  readonly searchPacket?: (packet: Uint8Array) => Uint8Array;
  readonly answersFromAnotherPort?: true;

  /** A device or service type as it is published and understood. */
  readonly urn?: (urn: string) => string;
  readonly device?: (root: Device, address: IpAddress) => Device;
  /** A request's path and query, as they came; what comes out is looked up. */
  readonly route?: (path: string) => string;
  readonly document?: (xml: string, kind: 'description' | 'scpd' | 'soap') => string;
  readonly http?: (reply: HttpReply, request: HttpRequest) => HttpReply;
}

/** Runs `core` inside all layers, the first one outermost. */
export function around<In, Out>(
  layers: readonly Around<In, Out>[],
  input: In,
  core: (input: In) => Promise<Out>,
): Promise<Out> {
  const [first, ...rest] = layers;
  return first === undefined ? core(input) : first(input, (changed) => around(rest, changed, core));
}

/** The hooks that are switched on now, by the name of their quirk. */
export class HookSet {
  readonly #active = new Map<string, { readonly value: unknown; readonly hooks: Hooks }>();
  #byPoint: Partial<Record<keyof Hooks, readonly unknown[]>> = {};
  #ready: Promise<unknown> = Promise.resolve();

  /** Resolves when whatever a quirk had to open or close is done. */
  get ready(): Promise<unknown> {
    return this.#ready;
  }

  /** The same list until something is switched: each request asks at a dozen points. */
  all<Point extends keyof Hooks>(point: Point): readonly NonNullable<Hooks[Point]>[] {
    const known = this.#byPoint[point] as readonly NonNullable<Hooks[Point]>[] | undefined;
    if (known !== undefined) return known;
    const found: NonNullable<Hooks[Point]>[] = [];
    for (const { hooks } of this.#active.values()) {
      const hook = hooks[point];
      if (hook !== undefined) found.push(hook);
    }
    this.#byPoint[point] = found;
    return found;
  }

  has(point: keyof Hooks): boolean {
    return this.all(point).length > 0;
  }

  /** Switches one quirk. A value that it has already leaves it alone, with what it remembers. */
  set(name: string, value: unknown, make: () => Hooks): void {
    const before = this.#active.get(name);
    if (before !== undefined && before.value === value) return;
    this.#active.delete(name);
    this.#byPoint = {};
    const off = value === undefined || value === false;
    const hooks = off ? undefined : make();
    if (hooks !== undefined) this.#active.set(name, { value, hooks });
    if (before?.hooks.stop === undefined && hooks?.start === undefined) return;
    this.#ready = this.#restart(this.#ready, before?.hooks, hooks);
    // Whoever waits for it hears of a failure; there may be nobody yet.
    this.#ready.catch(() => undefined);
  }

  async #restart(
    earlier: Promise<unknown>,
    before: Hooks | undefined,
    after: Hooks | undefined,
  ): Promise<void> {
    await earlier;
    await before?.stop?.();
    await after?.start?.();
  }
}
