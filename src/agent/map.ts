/**
 * Maps what a person asked for: every port of every spec, several at a time where the gateway can take it,
 * TCP and UDP of one port together or not at all. What this host holds already is refreshed, not mapped again.
 */

import { isNatwardError, NatwardError } from '../errors.ts';
import type { IpAddress } from '../net/address.ts';
import { type PortRange, portCount } from '../net/port-range.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import { aborted } from '../system/clock.ts';
import { type Granted, type MapOptions, mapPort, type Nonces, type Port } from './port.ts';
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

export interface MapFailure {
  readonly spec: string;
  readonly error: NatwardError;
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
  const { race, gateway } = context.session;
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
        granted[at] = await mapPort(port, options, {
          race,
          localAddress: gateway.localAddress,
          nonces: context.nonces,
          own: held.get(port.internalPort) ?? [],
          signal: context.lateSignal,
        });
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
  const window = race.mappers.find((mapper) => mapper.protocol === via)?.window ?? 1;
  await Promise.all(
    Array.from({ length: Math.min(window, total - 1) }, () => work(Number.POSITIVE_INFINITY)),
  );
  // Each has holes where the other has not: flat() leaves them out.
  return { mappings: granted.flat(), failures: failed.flat() };
}

/** What is asked for twice in one command is one mapping. */
export function* eachPort(asks: readonly MapAsk[]): Generator<Port> {
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

/** What this host holds at this gateway, by internal port: whole port ranges are looked up. */
function indexHeld({ remembered, session }: MapContext): ReadonlyMap<number, readonly RememberedMapping[]> {
  const index = new Map<number, RememberedMapping[]>();
  for (const one of remembered) {
    if (one.gateway !== session.gateway.address) continue;
    index.set(one.internalPort, [...(index.get(one.internalPort) ?? []), one]);
  }
  return index;
}
