/**
 * PCP requests (RFC 6887), answered: ANNOUNCE, MAP and PEER. Over IPv4 a mapping is an entry of the gateway's table
 * (pcp-map.ts, pcp-peer.ts), over IPv6 a pinhole (pcp-pinhole.ts).
 *
 * Where requests are carried on to an outer gateway this is the server half of a PCP proxy that is also a NAT
 * (RFC 7648). Of that it follows: the mapping, its nonce, its options and its epoch are the proxy's own, and nothing
 * of a packet is passed on as bytes (section 3); an opcode or a mandatory option that is not known is refused here,
 * an optional one is left out (3.4.2); ANNOUNCE is answered here (3.5); a mapping that the outer gateway has moved is
 * told to its client as an update, and the loss of all of them by an announcement with a new epoch (3.5). A THIRD_PARTY
 * is checked here and goes no further: outside, the proxy is the client. That requests do not come round (3.2) is the
 * guard's concern. Not followed: hairpin shortcuts (3.1), which are the rule engine's, and several servers at once (3.6).
 */

import { family, type IpAddress, withoutZone } from '../net/address.ts';
import {
  decodePcpRequest,
  encodePcpResponse,
  PCP_RESULT,
  type PcpMap,
  type PcpRequest,
  PcpRequestError,
} from '../wire/pcp.ts';
import { isFilterFor } from './pcp-filters.ts';
import { answerMap } from './pcp-map.ts';
import { isAnyAddress, type PcpAsker } from './pcp-mappings.ts';
import { answerPeer } from './pcp-peer.ts';
import { answerPinholeMap } from './pcp-pinhole.ts';
import { type PcpOutcome, type PcpRefused, refusalPacket, refusedWith } from './pcp-refusals.ts';
import { exchanged, type Site } from './site.ts';

/** Resolves with the answer; undefined where there is none to give. */
export function answerPcp(
  packet: Uint8Array,
  source: IpAddress,
  site: Site,
): Promise<Uint8Array | undefined> {
  let request: PcpRequest;
  try {
    request = decodePcpRequest(packet);
  } catch (error) {
    const result = error instanceof PcpRequestError ? error.result : PCP_RESULT.MALFORMED_REQUEST;
    return exchanged(site, 'pcp', 'pcp malformed', () =>
      Promise.resolve(refusalPacket(packet, refusedWith(result), site.identity.epochSeconds)),
    );
  }
  return exchanged(site, 'pcp', pcpKind(request), () => serve(request, packet, withoutZone(source), site));
}

function pcpKind(request: PcpRequest): string {
  if (request.opcode !== 'map') return `pcp ${request.opcode}`;
  return request.lifetimeSeconds === 0 ? 'pcp unmap' : 'pcp map';
}

async function serve(
  request: PcpRequest,
  packet: Uint8Array,
  source: IpAddress,
  site: Site,
): Promise<Uint8Array> {
  const { identity } = site;
  // Section 8.2: the addresses differ where a NAT stands between client and server.
  if (source !== request.clientAddress) {
    return refusalPacket(packet, refusedWith(PCP_RESULT.ADDRESS_MISMATCH), identity.epochSeconds);
  }
  if (request.opcode === 'announce') {
    const { epochSeconds } = identity;
    return encodePcpResponse({ opcode: 'announce', result: 0, lifetimeSeconds: 0, epochSeconds });
  }
  const outcome = await mapped(request, source, site);
  // Read after the wait: the table may have begun anew meanwhile.
  const { epochSeconds } = identity;
  if (outcome.kind === 'refused') return refusalPacket(packet, outcome, epochSeconds);
  const { lifetimeSeconds, externalPort, externalAddress } = outcome;
  const common = { result: PCP_RESULT.SUCCESS, lifetimeSeconds, epochSeconds };
  // Only options that were understood are in the request as it was read, and so in the answer (section 7.3).
  return encodePcpResponse(
    request.opcode === 'map'
      ? { ...common, opcode: 'map', map: { ...request.map, externalPort, externalAddress } }
      : { ...common, opcode: 'peer', peer: { ...request.peer, externalPort, externalAddress } },
  );
}

async function mapped(
  request: Exclude<PcpRequest, { readonly opcode: 'announce' }>,
  source: IpAddress,
  site: Site,
): Promise<PcpOutcome> {
  const map = request.opcode === 'map' ? request.map : request.peer;
  const { lifetimeSeconds } = request;
  const client = map.options.thirdParty ?? source;
  const refusal = refusedOptions(map, { source, client, lifetimeSeconds }, site);
  if (refusal !== undefined) return refusal;
  const asker = { source, client, lifetimeSeconds };
  if (request.opcode === 'peer') return answerPeer(request.peer, asker, site);
  return family(client) === 6 ? answerPinholeMap(map, asker, site) : answerMap(map, asker, site);
}

function refusedOptions(
  { options, externalPort }: PcpMap,
  { source, client, lifetimeSeconds }: PcpAsker,
  site: Site,
): PcpRefused | undefined {
  const { thirdParty, preferFailure, filters } = options;
  if (thirdParty !== undefined) {
    // Section 13.1: not for oneself, and not where nobody may.
    if (thirdParty === source) return refusedWith(PCP_RESULT.MALFORMED_REQUEST);
    if (!site.grants.mayActForOthers(source)) return refusedWith(PCP_RESULT.UNSUPP_OPTION);
    if (isAnyAddress(thirdParty)) return refusedWith(PCP_RESULT.MALFORMED_OPTION);
    if (!site.grants.mayActFor(source, thirdParty)) return refusedWith(PCP_RESULT.NOT_AUTHORIZED);
  }
  // Section 13.2: it is about a port, and there is none.
  if (preferFailure === true && externalPort === 0) return refusedWith(PCP_RESULT.MALFORMED_OPTION);
  if (filters === undefined) return undefined;
  // Section 13.3: what ends lets nobody in.
  const isSound = lifetimeSeconds > 0 && filters.every((filter) => isFilterFor(client, filter));
  return isSound ? undefined : refusedWith(PCP_RESULT.MALFORMED_OPTION);
}
