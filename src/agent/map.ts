/**
 * Maps what a person asked for: every port of every spec, several at a time where the gateway can take it,
 * TCP and UDP of one port together or not at all. What this host holds already is refreshed, not mapped again.
 */

import { isNatwardError, NatwardError } from '../errors.ts';
import type { IpAddress } from '../net/address.ts';
import type { RemotePeer } from '../net/endpoint.ts';
import { type PortRange, portCount } from '../net/port-range.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import type { HeldMapping, Mapping, MappingRequest } from '../mapping/mapping.ts';
import { aborted } from '../system/clock.ts';
import type { System } from '../system/system.ts';
import { PCP_NONCE_BYTES } from '../wire/pcp.ts';
import type { Session } from './session.ts';
import type { RememberedMapping } from './store.ts';

/** One spec, read and checked. */
export interface MapAsk {
  /** As the person wrote it. */
  readonly spec: string;
  readonly protocols: readonly TransportProtocol[];
  /** `any`: whatever the gateway gives. Otherwise as many ports as `internal`. */
  readonly external: PortRange | 'any';
  readonly internal: PortRange;
  /** Another host, or this one by a certain address; undefined: this host. */
  readonly host: IpAddress | undefined;
}

export interface MapOptions {
  readonly lifetimeSeconds: number;
  readonly choice: 'exact' | 'any';
  readonly description: string | undefined;
  /** Only traffic from there is let in, where the gateway can tell; left out: from anywhere. */
  readonly remotePeer?: RemotePeer | undefined;
}

export interface MapFailure {
  readonly spec: string;
  readonly error: NatwardError;
}

/** A mapping and the external port that was asked for; 0: any. */
export interface Granted extends Mapping {
  readonly requestedExternalPort: number;
}

export interface MapReport {
  readonly mappings: readonly Granted[];
  readonly failures: readonly MapFailure[];
}

export interface MapContext {
  readonly nonces: Nonces;
  readonly session: Session;
  readonly remembered: readonly RememberedMapping[];
  /** Nothing new is asked for. */
  readonly signal: AbortSignal;
  /** What was asked for is given up, too. */
  readonly lateSignal: AbortSignal;
  /** After each port: how many are done, of how many. */
  readonly onProgress: (done: number, total: number) => void;
}

/** One port of one spec, with its one or two protocols. */
interface Port {
  readonly protocols: readonly TransportProtocol[];
  readonly host: IpAddress | undefined;
  readonly spec: string;
  readonly internalPort: number;
  /** 0: any. */
  readonly externalPort: number;
}

const NONCES_A_DRAW = 64;

/** Errors after which asking for further ports is in vain. */
const HOPELESS = ['NO_GATEWAY', 'TIMEOUT', 'UNREACHABLE', 'ABORTED'] as const;

export async function mapAll(
  asks: readonly MapAsk[],
  options: MapOptions,
  context: MapContext,
): Promise<MapReport> {
  // By the place of their port among all that were asked for: answers come in any order.
  const granted: (readonly Granted[])[] = [];
  const failed: MapFailure[] = [];
  const held = indexHeld(context);
  const all = [...eachPort(asks)];
  const total = all.length;
  const ports = all.entries();
  let done = 0;
  let hopeless: NatwardError | undefined;

  const work = async (limit: number) => {
    for (let taken = 0; taken < limit; taken++) {
      const next = ports.next();
      if (next.done) return;
      const [at, port] = next.value;
      try {
        if (context.signal.aborted) hopeless ??= aborted(context.signal);
        if (hopeless !== undefined) throw hopeless;
        granted[at] = await mapPort(port, options, context, held);
      } catch (error) {
        if (!isNatwardError(error)) throw error;
        if (isNatwardError(error, ...HOPELESS)) hopeless = error;
        failed[at] = { spec: port.spec, error };
      }
      done++;
      context.onProgress(done, total);
    }
  };

  // The first port decides which protocol answers, and with it how many requests may be under way.
  await work(1);
  const via = granted[0]?.[0]?.via;
  const window = context.session.race.mappers.find((mapper) => mapper.protocol === via)?.window ?? 1;
  await Promise.all(
    Array.from({ length: Math.min(window, total - 1) }, () => work(Number.POSITIVE_INFINITY)),
  );
  // Each has holes where the other has not: flat() leaves them out.
  return { mappings: granted.flat(), failures: failed.flat() };
}

/** What is asked for twice in one command is one mapping. */
function* eachPort(asks: readonly MapAsk[]): Generator<Port> {
  const seen = new Set<string>();
  for (const ask of asks) {
    const single = portCount(ask.internal) === 1;
    for (let at = 0; at < portCount(ask.internal); at++) {
      const internalPort = ask.internal.first + at;
      const externalPort = ask.external === 'any' ? 0 : ask.external.first + at;
      const spec = single ? ask.spec : `${externalPort || '*'}:${internalPort}/${ask.protocols.join('+')}`;
      const protocols = ask.protocols.filter((protocol) => {
        const key = `${protocol} ${externalPort} ${ask.host} ${internalPort}`;
        return !seen.has(key) && seen.add(key);
      });
      if (protocols.length > 0) yield { protocols, host: ask.host, spec, internalPort, externalPort };
    }
  }
}

/** TCP and UDP of one port: both or none. */
async function mapPort(
  port: Port,
  options: MapOptions,
  context: MapContext,
  held: HeldIndex,
): Promise<readonly Granted[]> {
  const granted: { readonly mapping: Mapping; readonly isNew: boolean }[] = [];
  // Whoever writes * has no port in mind that could be missed.
  const choice = port.externalPort === 0 ? 'any' : options.choice;
  try {
    for (const protocol of port.protocols) {
      const internalClient = port.host ?? context.session.gateway.localAddress;
      const own = held.get(keyOf(protocol, port.internalPort)) ?? [];
      // What leads to another host is another mapping; what leads to this one by an old address is the same.
      const same = own.find(
        (one) =>
          one.requestedExternalPort === port.externalPort &&
          (port.host === undefined || one.internalClient === port.host),
      );
      // The second protocol takes the number that the first one got.
      const wanted = granted[0]?.mapping.externalPort ?? port.externalPort;
      const request: MappingRequest = {
        protocol,
        internalClient,
        internalPort: port.internalPort,
        suggestedExternalPort: choice === 'exact' ? wanted : (same?.externalPort ?? wanted),
        choice,
        lifetimeSeconds: options.lifetimeSeconds,
        description: options.description ?? `natward ${port.internalPort}/${protocol}`,
        remotePeer: options.remotePeer,
        nonce: nonceOf(own, context.nonces),
        held: same && toHeld(same),
      };
      const mapping = await context.session.race.map(request, context.lateSignal, same?.via);
      granted.push({
        mapping: withNote(mapping, port.externalPort || wanted),
        isNew: same === undefined,
      });
    }
    return granted.map(({ mapping }) => ({ ...mapping, requestedExternalPort: port.externalPort }));
  } catch (error) {
    await takeBack(
      granted.filter(({ isNew }) => isNew).map(({ mapping }) => mapping),
      context,
    );
    throw error;
  }
}

/** Says what a person may miss: another port than asked for. `wanted` 0: any would do. */
function withNote(mapping: Mapping, wanted: number): Mapping {
  if (wanted === 0 || mapping.externalPort === wanted) return mapping;
  const note = `external port ${wanted} was not to be had: the gateway gave ${mapping.externalPort}`;
  return { ...mapping, notes: [note, ...mapping.notes] };
}

/** The other protocol of the same port failed: nothing stays behind. What cannot be taken back ends by itself. */
async function takeBack(mappings: readonly Mapping[], context: MapContext): Promise<void> {
  for (const mapping of mappings) {
    const mapper = context.session.race.mappers.find(({ protocol }) => protocol === mapping.via);
    await mapper?.unmap(mapping).catch(() => undefined);
  }
}

type HeldIndex = ReadonlyMap<string, readonly RememberedMapping[]>;

/** What this host holds at this gateway, by protocol and internal port: whole port ranges are looked up. */
function indexHeld({ remembered, session }: MapContext): HeldIndex {
  const index = new Map<string, RememberedMapping[]>();
  for (const one of remembered) {
    if (one.gateway !== session.gateway.address) continue;
    const key = keyOf(one.protocol, one.internalPort);
    index.set(key, [...(index.get(key) ?? []), one]);
  }
  return index;
}

function keyOf(protocol: TransportProtocol, internalPort: number): string {
  return `${protocol} ${internalPort}`;
}

function toHeld({
  internalClient,
  externalPort,
  lifetimeSeconds,
  pinholeId,
}: RememberedMapping): HeldMapping {
  return { internalClient, externalPort, lifetimeSeconds, pinholeId: pinholeId ?? undefined };
}

/** PCP knows a mapping by its internal side and nonce: what is held for the port keeps its nonce. */
function nonceOf(own: readonly RememberedMapping[], nonces: Nonces): Uint8Array {
  const known = own.find((one) => one.nonce !== null)?.nonce;
  return known === undefined || known === null ? nonces.next() : Uint8Array.from(Buffer.from(known, 'hex'));
}

/** Fresh nonces, drawn many at a time and the first ones before they are wanted. */
export class Nonces {
  readonly #system: System;
  #bytes = new Uint8Array(0);

  constructor(system: System) {
    this.#system = system;
    this.#draw();
  }

  #draw(): void {
    this.#bytes = new Uint8Array(NONCES_A_DRAW * PCP_NONCE_BYTES);
    this.#system.fillRandom(this.#bytes);
  }

  next(): Uint8Array {
    if (this.#bytes.length === 0) this.#draw();
    const nonce = this.#bytes.subarray(0, PCP_NONCE_BYTES);
    this.#bytes = this.#bytes.subarray(PCP_NONCE_BYTES);
    return nonce;
  }
}
