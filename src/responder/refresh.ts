/** Which mapping a request is about that is there already, and whether it may change it. Pure. */

import type { GrantRequest, Refusal } from './grant.ts';
import { sameNonce, type Table, type TableEntry } from './table.ts';

/**
 * The mapping that a request refreshes. PCP and NAT-PMP name a mapping by its inner end (RFC 6887,
 * section 11.3; RFC 6886, section 3.3), UPnP by its outer one, which its own client may point elsewhere
 * (WANIPConnection:1, section 2.4.16).
 */
export function refreshedBy(request: GrantRequest, table: Table): TableEntry | undefined {
  const { protocol, internalClient, internalPort, suggestedExternalPort } = request;
  if (request.via !== 'upnp') return table.toInternal(protocol, internalClient, internalPort)[0];
  const entry = table.get(protocol, suggestedExternalPort);
  if (entry?.internalClient !== internalClient) return undefined;
  return request.exact || entry.internalPort === internalPort ? entry : undefined;
}

export function refusesRefresh(request: GrantRequest, existing: TableEntry): Refusal | undefined {
  const { nonce = existing.nonce, suggestedExternalPort } = request;
  if (existing.nonce !== undefined && nonce !== undefined && !sameNonce(existing.nonce, nonce)) {
    return 'wrong-nonce';
  }
  const asksElsewhere = request.exact && ![0, existing.externalPort].includes(suggestedExternalPort);
  return asksElsewhere ? 'taken' : undefined;
}
