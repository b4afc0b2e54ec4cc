/** What a gateway has granted once, as an app sees it. */

import type { Granted } from '../agent/port.ts';
import type { IpAddress } from '../net/address.ts';
import type { MappingProtocol } from '../net/protocol.ts';
import type { PortProtocol } from './port-request.ts';

export interface PortMapping {
  readonly protocol: PortProtocol;
  /** Where traffic arrives on `internalClient`: VPN gateways deliver to the external port's number. */
  readonly internalPort: number;
  readonly internalClient: IpAddress;
  readonly externalPort: number;
  /** Undefined where the gateway does not tell. */
  readonly externalAddress: IpAddress | undefined;
  /** As granted; 0: no end. */
  readonly lifetimeSeconds: number;
  /** Undefined: no end. */
  readonly expiresAt: Date | undefined;
  readonly via: MappingProtocol;
  readonly gateway: IpAddress;
  readonly description: string;
  /** What one may miss: another port than asked for, a lifetime that the gateway ignores. */
  readonly notes: readonly string[];
  /** One of each protocol. */
  readonly mappings: readonly Granted[];
}

/** `granted` is one port, with its one or two protocols. */
export function portMappingOf(granted: readonly [Granted, ...Granted[]]): PortMapping {
  const [first] = granted;
  const ends = granted.flatMap(({ expiresAtMs }) => expiresAtMs ?? []);
  const lifetimes = granted.flatMap(({ lifetimeSeconds }) => lifetimeSeconds || []);
  return {
    protocol: granted.length > 1 ? 'tcp+udp' : first.protocol,
    internalPort: first.arrivesOnPort ?? first.internalPort,
    internalClient: first.internalClient,
    externalPort: first.externalPort,
    externalAddress: first.externalAddress,
    lifetimeSeconds: lifetimes.length === 0 ? 0 : Math.min(...lifetimes),
    expiresAt: ends.length === 0 ? undefined : new Date(Math.min(...ends)),
    via: first.via,
    gateway: first.gateway,
    description: first.description,
    notes: [...new Set(granted.flatMap(({ notes }) => notes))],
    mappings: granted,
  };
}
