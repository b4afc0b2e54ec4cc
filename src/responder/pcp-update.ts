/**
 * A mapping update (RFC 6887, section 14.2): a MAP answer that nobody asked for, to the client's announcement port,
 * when the gateway has moved its mapping, or has it no more. It carries the mapping's nonce, by which the client knows it for true.
 */

import type { Endpoint } from '../net/endpoint.ts';
import { PROTOCOL_NUMBER } from '../net/protocol.ts';
import { ANNOUNCE_PORT } from '../wire/natpmp.ts';
import { encodePcpResponse, PCP_RESULT } from '../wire/pcp.ts';
import { DEFAULT_MAX_LIFETIME_SECONDS, externalAddressOf, secondsLeft } from './pcp-mappings.ts';
import type { Site } from './site.ts';
import type { TableEntry } from './table.ts';

export interface MappingUpdate {
  readonly packet: Uint8Array;
  readonly to: Endpoint;
}

/** undefined where the client knows nothing of PCP: then there is no nonce. */
export function mappingUpdate(
  entry: TableEntry,
  fate: 'moved' | 'gone',
  site: Site,
): MappingUpdate | undefined {
  const { nonce, internalClient, internalPort, externalPort } = entry;
  if (nonce === undefined) return undefined;
  const { maxLifetimeSeconds = DEFAULT_MAX_LIFETIME_SECONDS } = site.settings;
  const packet = encodePcpResponse({
    opcode: 'map',
    result: PCP_RESULT.SUCCESS,
    lifetimeSeconds: fate === 'gone' ? 0 : (secondsLeft(entry, site) ?? maxLifetimeSeconds),
    epochSeconds: site.identity.epochSeconds,
    map: {
      nonce,
      protocol: PROTOCOL_NUMBER[entry.protocol],
      internalPort,
      externalPort,
      externalAddress: externalAddressOf(entry, site),
      options: {},
    },
  });
  return { packet, to: { address: internalClient, port: ANNOUNCE_PORT } };
}
