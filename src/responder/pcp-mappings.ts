/** What PCP's requests and announcements need to know of the mappings that are there. */

import { ANY_IPV4, ANY_IPV6, type IpAddress, parseAddress } from '../net/address.ts';
import { PROTOCOL_NUMBER, type TransportProtocol } from '../net/protocol.ts';
import { reportedAddress, type Site } from './site.ts';
import { sameNonce, type TableEntry } from './table.ts';

/** RFC 6887, section 15. */
export const DEFAULT_MAX_LIFETIME_SECONDS = 86_400;

/** A request for a mapping: who asks, for whom, and for how long. */
export interface PcpAsker {
  readonly source: IpAddress;
  readonly client: IpAddress;
  readonly lifetimeSeconds: number;
}

/** undefined for a protocol that has no ports here. */
export function transportOf(protocol: number): TransportProtocol | undefined {
  if (protocol === PROTOCOL_NUMBER.tcp) return 'tcp';
  return protocol === PROTOCOL_NUMBER.udp ? 'udp' : undefined;
}

/** Reports whether a mapping is another PCP client's. */
export function isForeign({ nonce }: { readonly nonce: Uint8Array | undefined }, own: Uint8Array): boolean {
  return nonce !== undefined && !sameNonce(nonce, own);
}

/** undefined: until deleted. Never 0, which would say that it is gone. */
export function secondsLeft(
  { expiresAtMs }: { readonly expiresAtMs: number | undefined },
  site: Site,
): number | undefined {
  if (expiresAtMs === undefined) return undefined;
  return Math.max(1, Math.ceil((expiresAtMs - site.clock.now()) / 1000));
}

/** Held between the shortest and the longest (section 15). */
export function heldLifetime(lifetimeSeconds: number, site: Site): number {
  const { minLifetimeSeconds, maxLifetimeSeconds = DEFAULT_MAX_LIFETIME_SECONDS } = site.settings;
  return Math.min(Math.max(lifetimeSeconds, minLifetimeSeconds), maxLifetimeSeconds);
}

/** The gateway's own external address; undefined where nobody knows it now. */
export function ownExternalAddress(site: Site): IpAddress | undefined {
  const { externalAddress } = site.identity;
  const reported = reportedAddress(site);
  return reported === externalAddress ? externalAddress : (parseAddress(reported) ?? externalAddress);
}

export function externalAddressOf(entry: TableEntry, site: Site): IpAddress {
  return entry.externalAddress ?? ownExternalAddress(site) ?? ANY_IPV4;
}

/** Reports whether a suggested external address leaves the choice to the server (section 11.1). */
export function isAnyAddress(address: IpAddress): boolean {
  return address === ANY_IPV6 || address === ANY_IPV4;
}
