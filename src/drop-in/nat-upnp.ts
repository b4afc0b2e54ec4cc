/**
 * The public API of the package nat-upnp 1.1 on natward's agent: `import natUpnp from 'natward/nat-upnp'`. It knows
 * that package's words (public, private, ttl) and manners (callbacks, or none at all); what differs on purpose stands in
 * docs/drop-in.md.
 */

import { NatwardError } from '../errors.ts';
import type { AgentOptions } from '../library/agent.ts';
import {
  type Mapping,
  type MappingFilter,
  type MappingRequest,
  type PortMappingOptions,
  type PortUnmappingOptions,
  passes,
  placeOf,
  requestOf,
  toMapping,
} from './nat-upnp-mapping.ts';
import { type Ssdp, ssdp } from './nat-upnp-ssdp.ts';
import { ownAddresses } from './own-address.ts';
import { Ways } from './ways.ts';

export type Callback<Result> = (error: Error | null, result?: Result) => void;

/** A renewal that failed is tried again after this. */
const RETRY_MS = 60_000;

export class Client {
  readonly #ways: Ways;
  /** What is under way, the last call for each external port: what is asked of one port is done in order. */
  readonly #turns = new Map<string, Promise<unknown>>();
  readonly #underWay = new Set<Promise<unknown>>();
  /** Of mappings without an end: newer protocols have none. */
  readonly #renewals = new Map<string, NodeJS.Timeout>();
  #closed: Promise<void> | undefined;

  /** UPnP comes first: there alone a mapping's description can be read by other programs. */
  constructor(options: AgentOptions = {}) {
    this.#ways = new Ways(options.via === undefined ? ['upnp', undefined] : [options.via], options);
  }

  portMapping(options: PortMappingOptions): Promise<Mapping>;
  portMapping(options: PortMappingOptions, callback: Callback<Mapping>): void;
  portMapping(options: PortMappingOptions, callback?: Callback<Mapping>): Promise<Mapping> | undefined {
    const map = async () => {
      const { request, forEver } = requestOf(options);
      const key = keyOf(request);
      return this.#inTurn(key, () => this.#map(key, request, forEver));
    };
    return answer(this.#call(map), callback);
  }

  portUnmapping(options: PortUnmappingOptions): Promise<void>;
  portUnmapping(options: PortUnmappingOptions, callback: Callback<void>): void;
  portUnmapping(options: PortUnmappingOptions, callback?: Callback<void>): Promise<void> | undefined {
    const unmap = async () => {
      const place = placeOf(options);
      const key = keyOf(place);
      return this.#inTurn(key, async () => {
        this.#stopRenewing(key);
        await this.#ways.first((agent) => agent.unmap(place, { others: 'force' }));
      });
    };
    return answer(this.#call(unmap), callback);
  }

  getMappings(filter?: MappingFilter | null): Promise<Mapping[]>;
  getMappings(callback: Callback<Mapping[]>): void;
  getMappings(filter: MappingFilter | null | undefined, callback: Callback<Mapping[]>): void;
  getMappings(
    filterOrCallback?: MappingFilter | null | Callback<Mapping[]>,
    maybeCallback?: Callback<Mapping[]>,
  ): Promise<Mapping[]> | undefined {
    const withoutFilter = typeof filterOrCallback === 'function';
    const filter = withoutFilter ? undefined : filterOrCallback;
    const list = async () => {
      const rows = await this.#ways.first((agent) => agent.mappings());
      const own = ownAddresses();
      return rows.map((row) => toMapping(row, own)).filter((mapping) => passes(mapping, filter));
    };
    return answer(this.#call(list), withoutFilter ? filterOrCallback : maybeCallback);
  }

  externalIp(): Promise<string>;
  externalIp(callback: Callback<string>): void;
  externalIp(callback?: Callback<string>): Promise<string> | undefined {
    const ask = async () => {
      const address = await this.#ways.first((agent) => agent.externalAddress());
      if (address !== undefined) return address;
      throw new NatwardError('NETWORK_DOWN', 'the gateway does not tell an external address', {
        advice: 'It may be offline: look at its own status page.',
      });
    };
    return answer(this.#call(ask), callback);
  }

  /** Ends when what was asked for is done. What was mapped stays, for as long as it was granted. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#underWay);
    for (const key of this.#renewals.keys()) this.#stopRenewing(key);
    await this.#ways[Symbol.asyncDispose]().catch(() => undefined);
  }

  async #call<Result>(work: () => Promise<Result>): Promise<Result> {
    if (this.#closed !== undefined) {
      throw new NatwardError('USAGE', 'this client is closed', { advice: 'Create another: createClient().' });
    }
    const done = work();
    this.#underWay.add(done);
    try {
      return await done;
    } finally {
      this.#underWay.delete(done);
    }
  }

  async #inTurn<Result>(key: string, work: () => Promise<Result>): Promise<Result> {
    const before = this.#turns.get(key);
    const done = (before ?? Promise.resolve()).catch(() => undefined).then(work);
    this.#turns.set(key, done);
    try {
      return await done;
    } finally {
      if (this.#turns.get(key) === done) this.#turns.delete(key);
    }
  }

  async #map(key: string, request: MappingRequest, forEver: boolean): Promise<Mapping> {
    this.#stopRenewing(key);
    const granted = await this.#ways.first((agent) => agent.map(request));
    if (forEver) this.#renewLater(key, request, granted.expiresAt);
    return toMapping(
      {
        protocol: request.protocol,
        externalPort: granted.externalPort,
        internalClient: granted.internalClient,
        internalPort: granted.internalPort,
        description: granted.description,
        remainingSeconds: granted.lifetimeSeconds,
        enabled: true,
      },
      ownAddresses(),
    );
  }

  /** At half of what was granted; a gateway that has granted it without an end needs none. */
  #renewLater(key: string, request: MappingRequest, expiresAt: Date | undefined): void {
    if (expiresAt !== undefined) this.#renewAfter(key, request, (expiresAt.getTime() - Date.now()) / 2);
  }

  #renewAfter(key: string, request: MappingRequest, delayMs: number): void {
    const renew = async () => {
      try {
        const { expiresAt } = await this.#ways.first((agent) => agent.map(request));
        if (this.#renewals.get(key) === timer) this.#renewLater(key, request, expiresAt);
      } catch {
        if (this.#renewals.get(key) === timer) this.#renewAfter(key, request, RETRY_MS);
      }
    };
    const timer = setTimeout(() => void this.#inTurn(key, renew), delayMs).unref();
    this.#renewals.set(key, timer);
  }

  #stopRenewing(key: string): void {
    clearTimeout(this.#renewals.get(key));
    this.#renewals.delete(key);
  }
}

/** `options` are the agent's, and natward's own addition. */
export function createClient(options?: AgentOptions): Client {
  return new Client(options);
}

function keyOf({ protocol, externalPort }: Pick<MappingRequest, 'protocol' | 'externalPort'>): string {
  return `${protocol} ${externalPort}`;
}

/** To the callback, outside of any promise, so that what it throws is not lost; without one, as a promise. */
function answer<Result>(
  result: Promise<Result>,
  callback: Callback<Result> | undefined,
): Promise<Result> | undefined {
  if (callback === undefined) {
    result.catch(() => undefined); // Nobody has to look at it.
    return result;
  }
  result.then(
    (value) => process.nextTick(callback, null, value),
    (error: unknown) => process.nextTick(callback, error),
  );
  return undefined;
}

interface NatUpnp {
  readonly createClient: typeof createClient;
  readonly ssdp: typeof ssdp;
}

const natUpnp: NatUpnp = { createClient, ssdp };

export type { Mapping, MappingFilter, PortMappingOptions, PortUnmappingOptions, Ssdp };
export { ssdp };
export default natUpnp;
// What `require` answers.
export { natUpnp as 'module.exports' };
