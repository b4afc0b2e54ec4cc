/**
 * PCP's FILTERs (RFC 6887, section 13.3) as the remote peers of a mapping. Each request adds to those that are there;
 * one with a prefix of 0 takes all of them back.
 */

import { family, type IpAddress } from '../net/address.ts';
import type { RemotePeer } from '../net/endpoint.ts';
import type { PcpFilter } from '../wire/pcp.ts';

/** Prefixes count in 128 bits, those of IPv4 from 96. */
const IPV4_PREFIX = 96;
const MAX_PREFIX = 128;

/** Reports whether a filter can be one of this client's mapping: of its own family, with a prefix that is one. */
export function isFilterFor(client: IpAddress, { prefixLength, remoteAddress }: PcpFilter): boolean {
  if (prefixLength === 0) return true;
  const least = family(client) === 6 ? 0 : IPV4_PREFIX;
  return family(remoteAddress) === family(client) && prefixLength >= least && prefixLength <= MAX_PREFIX;
}

/** Whom a mapping is for after the filters of a request; none: for everybody. */
export function peersAfter(
  existing: readonly RemotePeer[],
  filters: readonly PcpFilter[],
): readonly RemotePeer[] {
  let peers = [...existing];
  for (const filter of filters) {
    const peer = peerOf(filter);
    if (filter.prefixLength === 0) peers = [];
    else if (!peers.some((known) => samePeer(known, peer))) peers.push(peer);
  }
  return peers;
}

export function samePeer(one: RemotePeer, other: RemotePeer): boolean {
  return one.address === other.address && one.port === other.port && one.prefixLength === other.prefixLength;
}

function peerOf({ remoteAddress, remotePort, prefixLength }: PcpFilter): RemotePeer {
  return {
    address: remoteAddress,
    prefixLength: family(remoteAddress) === 6 ? prefixLength : prefixLength - IPV4_PREFIX,
    port: remotePort,
  };
}
