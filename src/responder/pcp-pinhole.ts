/**
 * PCP's MAP and PEER over IPv6: they open the firewall for the client's own address and port, so the external end is
 * the internal one (RFC 6887, section 11.1), and there is no other port that could be given instead. A pinhole has
 * one remote host or is for all, so a mapping for several peers is several pinholes of one port.
 */

import { ANY_IPV6, type IpAddress } from '../net/address.ts';
import type { RemotePeer } from '../net/endpoint.ts';
import { PCP_RESULT, type PcpMap, type PcpPeer } from '../wire/pcp.ts';
import { peersAfter } from './pcp-filters.ts';
import { heldLifetime, isForeign, type PcpAsker, secondsLeft, transportOf } from './pcp-mappings.ts';
import { type PcpOutcome, type PcpRefused, refusedAs, refusedWith } from './pcp-refusals.ts';
import type { Pinhole } from './pinholes.ts';
import type { Site } from './site.ts';

const IPV6_BITS = 128;

export async function answerPinholeMap(map: PcpMap, asker: PcpAsker, site: Site): Promise<PcpOutcome> {
  const { client, lifetimeSeconds } = asker;
  const closed = closedFirewall(site);
  if (closed !== undefined) return closed;
  if (lifetimeSeconds === 0) return closePinholes(map, client, site);
  if (transportOf(map.protocol) === undefined || map.internalPort === 0) {
    return refusedWith(PCP_RESULT.UNSUPP_PROTOCOL);
  }
  if (map.options.preferFailure === true && !isOwnEnd(map, client)) {
    return refusedWith(PCP_RESULT.CANNOT_PROVIDE_EXTERNAL);
  }
  const there = pinholesOf(map, client, site);
  const foreign = there.find((pinhole) => isForeign(pinhole, map.nonce));
  if (foreign !== undefined) return refusedWith(PCP_RESULT.NOT_AUTHORIZED, secondsLeft(foreign, site));
  const own = there.filter(({ nonce }) => nonce !== undefined);
  const wanted = peersAfter(own.flatMap(peerOf), map.options.filters ?? []);
  // A network is more peers than a pinhole can tell apart.
  if (wanted.length > site.settings.maxFilters || wanted.some((peer) => peer.prefixLength < IPV6_BITS)) {
    return refusedWith(PCP_RESULT.EXCESSIVE_REMOTE_PEERS);
  }
  const outcome = await open(map, wanted.length === 0 ? [undefined] : wanted, asker, site);
  if (outcome.kind === 'refused') return outcome;
  const isWanted = (pinhole: Pinhole) =>
    wanted.length === 0 ? pinhole.remoteHost === undefined : wanted.some((peer) => isFor(pinhole, peer));
  for (const pinhole of own) if (!isWanted(pinhole)) await site.pinholes.delete(pinhole);
  return outcome;
}

/** `peer` is one that could be. */
export async function answerPinholePeer(peer: PcpPeer, asker: PcpAsker, site: Site): Promise<PcpOutcome> {
  const { client, lifetimeSeconds } = asker;
  const closed = closedFirewall(site);
  if (closed !== undefined) return closed;
  const remote: RemotePeer = {
    address: peer.remoteAddress,
    prefixLength: IPV6_BITS,
    port: peer.remotePort,
  };
  const there = pinholesOf(peer, client, site);
  const foreign = there.find((pinhole) => isForeign(pinhole, peer.nonce));
  if (foreign !== undefined) return refusedWith(PCP_RESULT.NOT_AUTHORIZED, secondsLeft(foreign, site));
  const named = there.find((pinhole) => isFor(pinhole, remote));
  const wide = there.find(({ remoteHost, remotePort }) => {
    return (remoteHost ?? remote.address) === remote.address && [0, remote.port].includes(remotePort);
  });
  const known = named ?? wide;
  const left = known === undefined ? undefined : secondsLeft(known, site);
  if (left !== undefined && (named === undefined || lifetimeSeconds === 0))
    return granted(peer, client, left);
  if (lifetimeSeconds === 0) {
    return { kind: 'granted', lifetimeSeconds: 0, externalPort: 0, externalAddress: ANY_IPV6 };
  }
  if (named === undefined && !isOwnEnd(peer, client)) return refusedWith(PCP_RESULT.CANNOT_PROVIDE_EXTERNAL);
  if (named === undefined && there.length >= site.settings.maxFilters) {
    return refusedWith(PCP_RESULT.EXCESSIVE_REMOTE_PEERS);
  }
  const seconds = Math.max(lifetimeSeconds, left ?? 0);
  return open(peer, [remote], { ...asker, lifetimeSeconds: seconds }, site);
}

/** All of them, or none that was not there before. */
async function open(
  map: PcpMap,
  peers: readonly (RemotePeer | undefined)[],
  { client, lifetimeSeconds }: PcpAsker,
  site: Site,
): Promise<PcpOutcome> {
  const seconds = heldLifetime(lifetimeSeconds, site);
  const made: Pinhole[] = [];
  for (const peer of peers) {
    const spot = {
      protocol: map.protocol,
      internalClient: client,
      internalPort: map.internalPort,
      remoteHost: peer?.address,
      remotePort: peer?.port ?? 0,
    };
    const before = site.pinholes.at(spot);
    const outcome = await site.pinholes.put({
      ...spot,
      expiresAtMs: site.clock.now() + seconds * 1000,
      description: map.options.description ?? before?.description ?? '',
      via: 'pcp',
      nonce: map.nonce,
    });
    if (outcome.kind === 'refused') {
      for (const pinhole of made) await site.pinholes.delete(pinhole);
      return refusedAs(outcome.refusal);
    }
    if (before === undefined) made.push(outcome.pinhole);
  }
  return granted(map, client, seconds);
}

/** Section 15.1: ends those of one port, or with port 0 all that have the same nonce. */
async function closePinholes(map: PcpMap, client: IpAddress, site: Site): Promise<PcpOutcome> {
  const isAll = map.protocol === 0 || map.internalPort === 0;
  const near = isAll ? site.pinholes.list() : site.pinholes.to(client, map.internalPort);
  const meant = near.filter(
    ({ internalClient, protocol }) =>
      internalClient === client && (map.protocol === 0 || protocol === map.protocol),
  );
  const own = meant.filter((pinhole) => !isForeign(pinhole, map.nonce));
  const kept = meant.find((pinhole) => isForeign(pinhole, map.nonce));
  if (!isAll && kept !== undefined) return refusedWith(PCP_RESULT.NOT_AUTHORIZED, secondsLeft(kept, site));
  for (const pinhole of own) await site.pinholes.delete(pinhole);
  return granted(map, client, 0);
}

function closedFirewall({ settings }: Site): PcpRefused | undefined {
  const isOpen = settings.firewallEnabled && settings.inboundPinholeAllowed;
  return isOpen ? undefined : refusedWith(PCP_RESULT.NOT_AUTHORIZED);
}

function pinholesOf({ protocol, internalPort }: PcpMap, client: IpAddress, site: Site): readonly Pinhole[] {
  return site.pinholes.to(client, internalPort).filter((pinhole) => pinhole.protocol === protocol);
}

function granted({ internalPort }: PcpMap, client: IpAddress, lifetimeSeconds: number): PcpOutcome {
  return { kind: 'granted', lifetimeSeconds, externalPort: internalPort, externalAddress: client };
}

/** Reports whether the suggested end, as far as one is, is the client's own. */
function isOwnEnd({ externalPort, externalAddress, internalPort }: PcpMap, client: IpAddress): boolean {
  const isPort = externalPort === 0 || externalPort === internalPort;
  return isPort && (externalAddress === ANY_IPV6 || externalAddress === client);
}

function isFor({ remoteHost, remotePort }: Pinhole, { address, port }: RemotePeer): boolean {
  return remoteHost === address && remotePort === port;
}

function peerOf({ remoteHost, remotePort }: Pinhole): RemotePeer[] {
  return remoteHost === undefined ? [] : [{ address: remoteHost, prefixLength: IPV6_BITS, port: remotePort }];
}
