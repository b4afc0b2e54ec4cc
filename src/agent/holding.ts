/**
 * What is held, compared: with the gateway that is there, with what was held before, and with the leases that might
 * take it over. Pure.
 */

import { type Family, family, type IpAddress } from '../net/address.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import type { PreviousEndpoint } from './events.ts';
import type { Line } from './gateway-watch.ts';
import type { Holding, LeaseRecord } from './lease-record.ts';
import type { RememberedMapping } from './store.ts';

const PLACE = ['gateway', 'protocol', 'externalPort', 'internalClient', 'internalPort'] as const;

/** Reports whether it was granted by the gateway of this line: another router may have the same address. */
export function isOf({ mapping, interface: name, hardwareAddress }: Holding, line: Line): boolean {
  const known = line.hardwareAddress ?? hardwareAddress;
  return (
    mapping.gateway === line.gateway.address &&
    name === line.gateway.interface &&
    (hardwareAddress === null || hardwareAddress === known)
  );
}

export function isOver({ mapping: { expiresAtMs } }: Holding, nowMs: number): boolean {
  return expiresAtMs !== null && expiresAtMs < nowMs;
}

export function isSamePlace(a: Holding, b: Holding): boolean {
  return a.interface === b.interface && PLACE.every((field) => a.mapping[field] === b.mapping[field]);
}

/** What it was, where that was elsewhere for those who come from outside or for those who listen; otherwise undefined. */
export function movedFrom(
  { externalAddress, externalPort, internalClient }: RememberedMapping,
  mapping: RememberedMapping,
): PreviousEndpoint | undefined {
  const moved =
    externalAddress !== null &&
    mapping.externalAddress !== null &&
    externalAddress !== mapping.externalAddress;
  const isElsewhere =
    moved || externalPort !== mapping.externalPort || internalClient !== mapping.internalClient;
  return isElsewhere ? { externalAddress, externalPort, internalClient } : undefined;
}

/** By what a gateway knows a mapping: its external port, and but for UPnP its internal end. */
export function placesOf({
  gateway,
  protocol,
  externalPort,
  internalClient,
  internalPort,
  via,
}: RememberedMapping): readonly string[] {
  const outside = `${gateway} ${protocol} ${externalPort}`;
  return via === 'upnp' ? [outside] : [outside, `${gateway} ${protocol} ${internalClient} ${internalPort}`];
}

/** Which of these leases a gateway would take what is held for: the one it was granted to, or one with its inner end. */
export function claimants(leases: Iterable<LeaseRecord>): (holding: Holding) => LeaseRecord | undefined {
  const known = new Map<string, LeaseRecord>();
  const inside = (of: Family, protocol: TransportProtocol, host: IpAddress | undefined, port: number) =>
    `${of} ${protocol} ${host ?? ''} ${port}`;
  for (const lease of leases) {
    known.set(lease.key, lease);
    const { host, internalPort, protocols } = lease.port;
    for (const protocol of protocols) known.set(inside(lease.family, protocol, host, internalPort), lease);
  }
  return ({ leaseKey, mapping: { protocol, internalClient, internalPort } }) => {
    const of = family(internalClient);
    return (
      known.get(leaseKey) ??
      known.get(inside(of, protocol, internalClient, internalPort)) ??
      known.get(inside(of, protocol, undefined, internalPort))
    );
  };
}
