/** What a client of the responder may do: said by the user, for all clients of an interface or for single ones. */

import type { IpAddress } from '../net/address.ts';
import type { PortRange } from '../net/port-range.ts';

export interface ClientRights {
  /** The external ports that it may have. */
  readonly externalPorts: readonly PortRange[];
  /** Mappings and pinholes at once. */
  readonly maxMappings: number;
  /** Requests a second over all protocols, averaged over a few seconds; what is beyond gets no answer. */
  readonly requestsPerSecond: number;
  /** It may map for other hosts of its own network as well: it is held to its own address otherwise. */
  readonly mayMapForOthers: boolean;
}

/** Of a client; undefined: it is not answered. */
export type RightsOf = (client: IpAddress) => ClientRights | undefined;
