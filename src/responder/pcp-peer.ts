/**
 * PEER (RFC 6887, section 12): a mapping for what one remote peer sends, or word of the mapping that is there. A
 * mapping that lets the peer in already, for it lets in everybody, is told as it is, and only its own MAP renews it;
 * one that is for chosen peers is renewed, or has this one added. PEER shortens and ends nothing: section 15 leaves
 * the end of such a mapping to its idle time, and a MAP with lifetime 0 ends it here.
 */

import { ANY_IPV4, family, type IpAddress, isLoopback } from '../net/address.ts';
import type { RemotePeer } from '../net/endpoint.ts';
import { PCP_RESULT, type PcpPeer } from '../wire/pcp.ts';
import { samePeer } from './pcp-filters.ts';
import {
  externalAddressOf,
  heldLifetime,
  isAnyAddress,
  isForeign,
  ownExternalAddress,
  type PcpAsker,
  secondsLeft,
  transportOf,
} from './pcp-mappings.ts';
import { answerPinholePeer } from './pcp-pinhole.ts';
import { type PcpOutcome, refusedAs, refusedWith } from './pcp-refusals.ts';
import type { Site } from './site.ts';
import { admits, type TableEntry } from './table.ts';

const IPV4_BITS = 32;
/** 224.0.0.0/4 and all above: groups, reserved addresses, broadcast. */
const FIRST_IPV4_GROUP = 224;

export async function answerPeer(peer: PcpPeer, asker: PcpAsker, site: Site): Promise<PcpOutcome> {
  const protocol = transportOf(peer.protocol);
  if (protocol === undefined) return refusedWith(PCP_RESULT.UNSUPP_PROTOCOL);
  const { source, client, lifetimeSeconds } = asker;
  const { internalPort, externalPort, externalAddress, remoteAddress, remotePort, nonce, options } = peer;
  if (internalPort === 0 || remotePort === 0 || !canBePeer(remoteAddress, client)) {
    return refusedWith(PCP_RESULT.MALFORMED_REQUEST);
  }
  if (family(client) === 6) return answerPinholePeer(peer, asker, site);
  const remote: RemotePeer = { address: remoteAddress, prefixLength: IPV4_BITS, port: remotePort };
  const existing = site.grants.to('pcp', protocol, client, internalPort);
  const left = existing === undefined ? 0 : secondsLeft(existing, site);
  if (existing !== undefined && isForeign(existing, nonce)) {
    return refusedWith(PCP_RESULT.NOT_AUTHORIZED, left);
  }
  const isNamed = existing?.remotePeers.some((known) => samePeer(known, remote)) === true;
  const isIn =
    existing !== undefined && admits(existing.remotePeers, { address: remoteAddress, port: remotePort });
  if (isIn && (!isNamed || lifetimeSeconds === 0)) {
    return told(existing, left ?? heldLifetime(lifetimeSeconds, site), site);
  }
  if (lifetimeSeconds === 0) {
    return { kind: 'granted', lifetimeSeconds: 0, externalPort: 0, externalAddress: ANY_IPV4 };
  }
  // Section 12.3: what is suggested counts for a new mapping, and binds.
  const isOffered = isAnyAddress(externalAddress) || externalAddress === ownExternalAddress(site);
  if (existing === undefined && !isOffered) return refusedWith(PCP_RESULT.CANNOT_PROVIDE_EXTERNAL);
  const known = existing?.remotePeers ?? [];
  const remotePeers = isNamed ? known : [...known, remote];
  if (remotePeers.length > site.settings.maxFilters) return refusedWith(PCP_RESULT.EXCESSIVE_REMOTE_PEERS);
  const outcome = await site.grants.grant({
    via: 'pcp',
    requester: source,
    protocol,
    internalClient: client,
    internalPort,
    suggestedExternalPort: existing === undefined ? externalPort : 0,
    exact: existing === undefined && externalPort !== 0,
    lifetimeSeconds: left === undefined ? undefined : Math.max(lifetimeSeconds, left),
    description: options.description,
    enabled: existing?.enabled ?? true,
    remotePeers,
    nonce,
    isPeer: existing === undefined || existing.isPeer ? true : undefined,
  });
  if (outcome.kind === 'refused') return refusedAs(outcome.refusal);
  return told(outcome.entry, outcome.lifetimeSeconds ?? heldLifetime(lifetimeSeconds, site), site);
}

function told(entry: TableEntry, lifetimeSeconds: number, site: Site): PcpOutcome {
  const { externalPort } = entry;
  return { kind: 'granted', lifetimeSeconds, externalPort, externalAddress: externalAddressOf(entry, site) };
}

/** Section 12.3: what no packet of this client could go to is no peer. Nothing here translates between families. */
function canBePeer(address: IpAddress, client: IpAddress): boolean {
  if (family(address) !== family(client) || isAnyAddress(address)) return false;
  if (isLoopback(address) && !isLoopback(client)) return false;
  return family(address) === 6 ? !address.startsWith('ff') : Number.parseInt(address, 10) < FIRST_IPV4_GROUP;
}
