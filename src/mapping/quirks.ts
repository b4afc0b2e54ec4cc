/**
 * What UPnP gateways do instead of what their standard says, and what then still maps a port. Each one names
 * where it was seen.
 */

import { UpnpFault } from '../discovery/soap-call.ts';
import { MAX_LIFETIME_SECONDS } from './mapping.ts';
import { UPNP_ERROR } from './upnp-errors.ts';

export const PERMANENT_NOTE =
  'this gateway grants only mappings without an end: it stays until it is taken back (natward unmap)';
export const IGNORED_LIFETIME_NOTE =
  'this gateway ignores lifetimes: it stays until it is taken back (natward unmap)';

/**
 * Runs `add` with the lifetime wanted and, where the gateway refuses it, with the one it can do: no end at
 * all (725 from MikroTik and Netgear; 402 from ARRIS NVG578LX for the same), or, asked for no end, the longest
 * (402 from gateways that take no 0). Returns the lifetime granted; 0: no end.
 */
export async function withAcceptedLifetime(
  lifetimeSeconds: number,
  add: (lifetimeSeconds: number) => Promise<unknown>,
): Promise<number> {
  try {
    await add(lifetimeSeconds);
    return lifetimeSeconds;
  } catch (error) {
    const refused = error instanceof UpnpFault ? error.errorCode : 0;
    if (refused !== UPNP_ERROR.onlyPermanentLeases && refused !== UPNP_ERROR.invalidArgs) throw error;
    const other = lifetimeSeconds === 0 ? MAX_LIFETIME_SECONDS : 0;
    await add(other);
    return other;
  }
}

/** 718, and what routers say instead: 501 (seen for 718), 729 (a rule made by hand, WANIPConnection:2). */
export function isTaken(fault: UpnpFault): boolean {
  const { conflictInMapping, actionFailed, conflictWithOther } = UPNP_ERROR;
  return [conflictInMapping, actionFailed, conflictWithOther].some((code) => code === fault.errorCode);
}
