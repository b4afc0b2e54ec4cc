/**
 * What a gateway is asked for one lease: what is wanted, of its own or by a rule of this host (carried-lease.ts); for
 * a client that listens on the external port's number, the same once more to there.
 */

import type { PortMapper } from '../mapping/mapping.ts';
import { askOrCarry } from './carried-lease.ts';
import type { Carrier } from './carrier.ts';
import type { Line } from './gateway-watch.ts';
import { isOf } from './holding.ts';
import { followsExternal, type Holding, type LeaseRecord } from './lease-record.ts';
import { type Granted, mapPort, type Nonces } from './port.ts';

export interface RequestContext {
  readonly line: Line;
  readonly nonces: Nonces;
  /** Takes on what arrives here to where leases want it; left out: nobody does. */
  readonly carrier?: Carrier | undefined;
  /** There is time: the lease is held. */
  readonly isRenewal: boolean;
  readonly signal: AbortSignal;
}

/** Resolves with what was granted for each protocol. Where the lease's port had to become another one, it is that in `lease`. */
export async function requestLease(lease: LeaseRecord, context: RequestContext): Promise<readonly Granted[]> {
  const { intent } = lease;
  const { line, nonces, isRenewal, signal } = context;
  const ask = (held: readonly Holding[]) =>
    mapPort(
      lease.port,
      { ...intent, description: intent.description },
      {
        race: line.session.race,
        localAddress: line.gateway.localAddress,
        nonces,
        own: held.map(({ mapping }) => mapping),
        signal,
        // What follows the external port may as well begin where it is.
        ...(followsExternal(intent) ? { bestExternalPort: lease.port.internalPort } : {}),
        ...(isRenewal ? { pace: 'background' as const } : {}),
      },
    );
  const own = lease.holdings.filter((holding) => isOf(holding, line));
  const granted = await askOrCarry(lease, () => ask(own), { ...context, own });
  if (!followsExternal(intent) || lease.family === 6) return granted;
  const other = granted.find((one) => (one.arrivesOnPort ?? one.internalPort) !== one.externalPort);
  if (other === undefined) return granted;
  // The client will listen on the external port's number: the mapping is made anew, to there.
  for (const mapping of granted) await mapperOf(line, mapping)?.unmap(mapping, signal);
  lease.port = { ...lease.port, internalPort: other.externalPort, externalPort: other.externalPort };
  return ask([]);
}

/** Who has granted it. */
export function mapperOf({ session }: Line, granted: Granted | undefined): PortMapper | undefined {
  return session.race.mappers.find(({ protocol }) => protocol === granted?.via);
}
