/**
 * MAP over IPv4 (RFC 6887, section 11): an entry of the table. The nonce that a mapping was made with is asked for
 * ever after: whoever only guesses addresses and ports cannot renew or end it.
 */

import { PROTOCOL_NUMBER, type TransportProtocol } from '../net/protocol.ts';
import { PCP_RESULT, type PcpMap } from '../wire/pcp.ts';
import { peersAfter } from './pcp-filters.ts';
import {
  externalAddressOf,
  isAnyAddress,
  isForeign,
  ownExternalAddress,
  type PcpAsker,
  secondsLeft,
  transportOf,
} from './pcp-mappings.ts';
import { type PcpOutcome, refusedAs, refusedWith } from './pcp-refusals.ts';
import type { Site } from './site.ts';
import type { TableEntry } from './table.ts';

const TRANSPORTS: readonly TransportProtocol[] = ['tcp', 'udp'];

export async function answerMap(map: PcpMap, asker: PcpAsker, site: Site): Promise<PcpOutcome> {
  if (asker.lifetimeSeconds === 0) return unmap(map, asker, site);
  const protocol = transportOf(map.protocol);
  // Section 11.1: port 0 is all ports, which only a one-to-one NAT can grant.
  if (protocol === undefined || map.internalPort === 0) return refusedWith(PCP_RESULT.UNSUPP_PROTOCOL);
  const { source, client, lifetimeSeconds } = asker;
  const { options, internalPort, nonce } = map;
  const exact = options.preferFailure === true;
  // Section 13.2: PREFER_FAILURE holds for the suggested address as well.
  if (exact && !isAnyAddress(map.externalAddress) && map.externalAddress !== ownExternalAddress(site)) {
    return refusedWith(PCP_RESULT.CANNOT_PROVIDE_EXTERNAL);
  }
  const existing = site.grants.to('pcp', protocol, client, internalPort);
  // A MAP that says nothing of filters leaves them as they are; the peers of PEER are no filters.
  let remotePeers: TableEntry['remotePeers'] | undefined = existing?.isPeer ? [] : undefined;
  if (options.filters !== undefined) {
    remotePeers = peersAfter(existing?.isPeer ? [] : (existing?.remotePeers ?? []), options.filters);
    if (remotePeers.length > site.settings.maxFilters) {
      return refusedWith(PCP_RESULT.EXCESSIVE_REMOTE_PEERS);
    }
  }
  const outcome = await site.grants.grant({
    via: 'pcp',
    requester: source,
    protocol,
    internalClient: client,
    internalPort,
    suggestedExternalPort: map.externalPort,
    exact,
    lifetimeSeconds,
    description: options.description,
    enabled: true,
    remotePeers,
    nonce,
  });
  if (outcome.kind === 'refused') {
    if (outcome.refusal !== 'wrong-nonce') return refusedAs(outcome.refusal);
    // Section 11.3: the refusal holds for as long as the other's mapping does.
    const other = site.grants.to('pcp', protocol, client, internalPort);
    return refusedWith(PCP_RESULT.NOT_AUTHORIZED, other === undefined ? undefined : secondsLeft(other, site));
  }
  return {
    kind: 'granted',
    lifetimeSeconds: outcome.lifetimeSeconds ?? lifetimeSeconds,
    externalPort: outcome.entry.externalPort,
    externalAddress: externalAddressOf(outcome.entry, site),
  };
}

/** Section 15.1: ends one mapping, or with port 0 all that have the same nonce. One that is not there is ended. */
async function unmap(map: PcpMap, { client }: PcpAsker, site: Site): Promise<PcpOutcome> {
  const { protocol, nonce, externalPort, externalAddress } = map;
  // Section 11.1: of all protocols there is no one port.
  const internalPort = protocol === 0 ? 0 : map.internalPort;
  const protocols = TRANSPORTS.filter((one) => protocol === 0 || protocol === PROTOCOL_NUMBER[one]);
  let kept: TableEntry | undefined;
  await site.grants.remove('pcp', (table) => {
    const meant: readonly TableEntry[] =
      internalPort === 0
        ? table
            .list()
            .filter((entry) => entry.internalClient === client && protocols.includes(entry.protocol))
        : protocols.flatMap((one) => table.toInternal(one, client, internalPort));
    const own = meant.filter((entry) => !isForeign(entry, nonce));
    kept = internalPort !== 0 && own.length === 0 ? meant[0] : undefined;
    return own;
  });
  if (kept !== undefined) return refusedWith(PCP_RESULT.NOT_AUTHORIZED, secondsLeft(kept, site));
  return { kind: 'granted', lifetimeSeconds: 0, externalPort, externalAddress };
}
