/**
 * The public API of the package @silentbot1/nat-api 0.4 on natward's agent: `import NatAPI from 'natward/nat-api'`. It
 * knows that package's words (publicPort, privatePort, ttl) and answers (true, false, ''); what differs on purpose
 * stands in docs/drop-in.md.
 */

import { debuglog } from 'node:util';
import { isNatwardError, NatwardError } from '../errors.ts';
import type { Agent, AgentOptions, PortRequest } from '../library/agent.ts';
import { MAX_LIFETIME_SECONDS } from '../mapping/mapping.ts';
import { PERMANENT_NOTE } from '../mapping/quirks.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import { ownAddresses } from './own-address.ts';
import { type NatAPIMapOptions, type Wanted, wantedOf } from './nat-api-wanted.ts';
import { type Way, Ways } from './ways.ts';

export interface NatAPIOptions {
  /** Seconds; 1200 at the least. Default: 7200. */
  readonly ttl?: number | null | undefined;
  readonly description?: string | null | undefined;
  /** Its address. Default: the default route's. */
  readonly gateway?: string | null | undefined;
  /** Renews what is mapped until it is unmapped. Default: true. */
  readonly autoUpdate?: boolean | undefined;
  /** NAT-PMP, and PCP, which took its place. Default: true. */
  readonly enablePMP?: boolean | undefined;
  /** Default: true. */
  readonly enableUPNP?: boolean | undefined;
  /** Takes a mapping without an end where the router grants no other. Default: false. */
  readonly upnpPermanentFallback?: boolean | undefined;
}

/** One port and protocol that is mapped, or is about to be. */
interface Open {
  readonly protocol: TransportProtocol;
  readonly publicPort: number;
  readonly privatePort: number;
  /** Undefined where it was not granted. */
  readonly grant: Promise<Grant | undefined>;
}

interface Grant {
  readonly notes: readonly string[];
  /** Reports whether it still stands, when the same is asked for once more. */
  readonly stands: () => Promise<boolean>;
  readonly giveBack: () => Promise<void>;
}

const LEAST_TTL_SECONDS = 1200;
const DEFAULT_TTL_SECONDS = 7200;
/** The agent takes no longer one. */
const MAX_DESCRIPTION_LENGTH = 250;
/** Read with NODE_DEBUG=nat-api. */
const debug = debuglog('nat-api');

export default class NatAPI {
  readonly ttl: number;
  readonly description: string;
  readonly gateway: string | null;
  readonly autoUpdate: boolean;
  readonly enablePMP: boolean;
  readonly enableUPNP: boolean;
  readonly upnpPermanentFallback: boolean;
  readonly #ways: Ways;
  readonly #open = new Set<Open>();
  readonly #underWay = new Set<Promise<unknown>>();
  #destroyed = false;

  /** `agent` is natward's own addition. */
  constructor(options: NatAPIOptions = {}, agent: AgentOptions = {}) {
    this.ttl = options.ttl ? Math.max(options.ttl, LEAST_TTL_SECONDS) : DEFAULT_TTL_SECONDS;
    this.description = options.description || 'NatAPI';
    this.gateway = options.gateway || null;
    this.autoUpdate = options.autoUpdate !== false;
    this.enablePMP = options.enablePMP !== false;
    this.enableUPNP = options.enableUPNP !== false;
    this.upnpPermanentFallback = options.upnpPermanentFallback || false;
    this.#ways = new Ways(waysOf(this), {
      ...agent,
      ...(this.gateway !== null && { gateway: this.gateway }),
    });
  }

  /** Resolves with true where every protocol of it was granted at exactly that public port; else nothing stays mapped. */
  map(port: number): Promise<boolean>;
  map(publicPort: number, privatePort: number): Promise<boolean>;
  map(options: NatAPIMapOptions): Promise<boolean>;
  map(portOrOptions: number | NatAPIMapOptions, privatePort?: number): Promise<boolean> {
    return this.#call(async () => {
      const wanted = wantedOf(portOrOptions, privatePort);
      const opened = wanted.protocols.map((protocol) => this.#begin(protocol, wanted));
      const granted = (await Promise.all(opened.map(({ grant }) => grant))).every(Boolean);
      if (!granted) await Promise.all(opened.map((one) => this.#end(one)));
      return granted;
    });
  }

  /** Resolves with false where nothing of the kind was mapped, or the gateway would not take it back. */
  unmap(port: number): Promise<boolean>;
  unmap(publicPort: number, privatePort: number): Promise<boolean>;
  unmap(options: NatAPIMapOptions): Promise<boolean>;
  unmap(portOrOptions: number | NatAPIMapOptions, privatePort?: number): Promise<boolean> {
    return this.#call(async () => {
      const wanted = wantedOf(portOrOptions, privatePort);
      const meant = [...this.#open].filter((one) => matches(one, wanted));
      const ended = await Promise.all(meant.map((one) => this.#end(one)));
      return ended.some((one) => one !== 'not mapped')
        ? !ended.includes('failed')
        : await this.#unmapUnknown(wanted);
    });
  }

  /** Resolves with '' where no gateway tells it. */
  externalIp(): Promise<string> {
    return this.#call(async () => {
      const told = await this.#attempt('the external address', () =>
        this.#ways.first((agent) => agent.externalAddress()),
      );
      return told ?? '';
    });
  }

  /** Waits for what was asked for, and unmaps all that this client has mapped. */
  async destroy(): Promise<boolean> {
    this.#refuseDestroyed();
    this.#destroyed = true;
    await Promise.allSettled(this.#underWay);
    await Promise.all([...this.#open].map((one) => this.#end(one)));
    await this.#attempt('closing', () => this.#ways[Symbol.asyncDispose]());
    return true;
  }

  async #call<Result>(work: () => Promise<Result>): Promise<Result> {
    this.#refuseDestroyed();
    const done = work();
    this.#underWay.add(done);
    try {
      return await done;
    } finally {
      this.#underWay.delete(done);
    }
  }

  #refuseDestroyed(): void {
    if (!this.#destroyed) return;
    throw new NatwardError('USAGE', 'this NatAPI is destroyed', { advice: 'Create another: new NatAPI().' });
  }

  /** Asks for one port. Whoever calls again for the same public port, or unmaps it, waits for this. */
  #begin(protocol: TransportProtocol, wanted: Wanted): Open {
    const { publicPort = 0, privatePort = 0, ttl = this.ttl, description = this.description } = wanted;
    const before = [...this.#open].filter(
      (one) => publicPort !== 0 && one.protocol === protocol && one.publicPort === publicPort,
    );
    const request: PortRequest = {
      protocol,
      internalPort: privatePort,
      externalPort: publicPort,
      choice: 'exact',
      lifetimeSeconds: Math.min(Math.ceil(ttl), MAX_LIFETIME_SECONDS),
      description: description.slice(0, MAX_DESCRIPTION_LENGTH),
    };
    const grant = this.#attempt(`${protocol} ${publicPort}:${privatePort}`, async () => {
      for (const old of before) {
        const held = await this.#takeOver(old, privatePort);
        if (held !== undefined) return held;
      }
      return this.#ways.first((agent) => this.#ask(agent, request));
    });
    const one: Open = { protocol, publicPort, privatePort, grant };
    this.#open.add(one);
    return one;
  }

  /** The last call for a public port counts: what leads where it should is used, and anything else ends. */
  async #takeOver(old: Open, privatePort: number): Promise<Grant | undefined> {
    const grant = await old.grant;
    if (
      old.privatePort === privatePort &&
      this.#open.has(old) &&
      (await grant?.stands().catch(() => false))
    ) {
      this.#open.delete(old);
      return grant;
    }
    await this.#end(old);
    return undefined;
  }

  async #ask(agent: Agent, request: PortRequest): Promise<Grant> {
    const grant = this.autoUpdate ? await keep(agent, request) : await mapOnce(agent, request);
    if (this.upnpPermanentFallback || !grant.notes.includes(PERMANENT_NOTE)) return grant;
    await grant.giveBack();
    throw new NatwardError('ONLY_PERMANENT', 'the gateway grants only mappings without an end', {
      advice: 'Take them: upnpPermanentFallback: true.',
    });
  }

  async #end(one: Open): Promise<'unmapped' | 'failed' | 'not mapped'> {
    const grant = await one.grant;
    // Whoever comes first takes it back.
    if (!this.#open.delete(one) || grant === undefined) return 'not mapped';
    const done = await this.#attempt(`taking back ${one.protocol} ${one.publicPort}`, async () => {
      await grant.giveBack();
      return true;
    });
    return done ? 'unmapped' : 'failed';
  }

  /** Of an earlier run, perhaps: what leads to this host, and to the port that is named, is taken back. */
  async #unmapUnknown({ publicPort, privatePort, protocols }: Wanted): Promise<boolean> {
    const externalPort = publicPort ?? privatePort;
    if (externalPort === undefined) return false;
    const internalPort = privatePort ?? externalPort;
    const unmap = async (agent: Agent, protocol: TransportProtocol): Promise<boolean> => {
      const rows = await agent.mappings();
      const row = rows.find((one) => one.protocol === protocol && one.externalPort === externalPort);
      if (row !== undefined) {
        const { internalClient } = row;
        if (!ownAddresses().has(internalClient) || ![undefined, row.internalPort].includes(privatePort))
          return false;
      }
      await agent.unmap({ protocol, externalPort, internalPort }, { others: 'force' });
      return true;
    };
    const unmapped = await Promise.all(
      protocols.map((protocol) =>
        this.#attempt(`unmapping ${protocol} ${externalPort}`, () =>
          this.#ways.first((agent) => unmap(agent, protocol)),
        ),
      ),
    );
    return unmapped.includes(true);
  }

  /** Undefined where it failed, which only a log tells. */
  async #attempt<Result>(what: string, work: () => Promise<Result>): Promise<Result | undefined> {
    try {
      return await work();
    } catch (error) {
      if (!isNatwardError(error)) throw error;
      debug('%s: %s', what, error.message);
      return undefined;
    }
  }
}

/** Renewed until it is given back. */
async function keep(agent: Agent, request: PortRequest): Promise<Grant> {
  const lease = await agent.keep({ ...request, family: 4 });
  return {
    notes: lease.mappings.flatMap(({ notes }) => notes),
    stands: async () => lease.state === 'held',
    giveBack: () => lease.release(),
  };
}

async function mapOnce(agent: Agent, request: PortRequest): Promise<Grant> {
  let mapping = await agent.map(request);
  return {
    notes: mapping.notes,
    stands: async () => {
      mapping = await agent.map(request);
      return true;
    },
    giveBack: () => agent.unmap(mapping),
  };
}

function waysOf({ enablePMP, enableUPNP }: NatAPI): readonly Way[] {
  if (enablePMP && enableUPNP) return [undefined];
  if (enablePMP) return ['natpmp', 'pcp'];
  return enableUPNP ? ['upnp'] : [];
}

function matches(one: Open, { publicPort, privatePort, protocols, either }: Wanted): boolean {
  if (!protocols.includes(one.protocol)) return false;
  const outside = publicPort === undefined || one.publicPort === publicPort;
  const inside = privatePort === undefined || one.privatePort === privatePort;
  return either ? outside || inside : outside && inside;
}

export type { NatAPIMapOptions };
// What `require` answers.
export { NatAPI as 'module.exports' };
