/** What is told of the responders that run: whose leases are whose is seen by where they lead. */

import type { IpAddress } from '../net/address.ts';
import type { MappingProtocol } from '../net/protocol.ts';
import type { InnerNetwork, Responder } from '../responder/responder.ts';
import { type LeaseStatus, RESPONDER_OWNER } from './lease.ts';
import { isIn } from './respond-obstacle.ts';

/** A responder that runs. */
export interface ResponderStatus {
  readonly interface: string;
  readonly addresses: readonly IpAddress[];
  readonly protocols: readonly MappingProtocol[];
  /** That have mappings. */
  readonly clients: number;
  readonly mappings: number;
}

export interface RespondingStatus {
  /** Those that run now; whose leases are whose is told by `leases`. */
  statuses(leases: readonly LeaseStatus[]): readonly ResponderStatus[];
}

export interface RunningResponder {
  readonly responder: Pick<Responder, 'interface' | 'addresses'>;
  readonly protocols: readonly MappingProtocol[];
  readonly networks: readonly InnerNetwork[];
}

export function statusesOf(
  running: readonly RunningResponder[],
  leases: readonly LeaseStatus[],
): readonly ResponderStatus[] {
  const mapped = leases.filter(({ owner }) => owner === RESPONDER_OWNER).map(clientOf);
  return running.map(({ responder, protocols, networks }) => {
    const clients = mapped.filter((client) => client !== undefined && isIn(client, networks));
    return {
      interface: responder.interface,
      addresses: responder.addresses,
      protocols,
      clients: new Set(clients).size,
      mappings: clients.length,
    };
  });
}

function clientOf({ target, internalClient }: LeaseStatus): IpAddress | undefined {
  return target?.address ?? internalClient ?? undefined;
}
