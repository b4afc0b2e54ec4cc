/**
 * PCP requests (RFC 6887), answered: ANNOUNCE and MAP. Over IPv4 a MAP is an entry of the gateway's table,
 * over IPv6 a pinhole (pcp-pinhole.ts). The nonce that a mapping was made with is asked for ever after:
 * whoever only guesses addresses and ports cannot renew or end it (section 11.2).
 */

import { family, type IpAddress, parseAddress, withoutZone } from '../net/address.ts';
import { PROTOCOL_NUMBER, type TransportProtocol } from '../net/protocol.ts';
import {
  decodePcpRequest,
  encodePcpResponse,
  PCP_MAX_BYTES,
  PCP_RESULT,
  type PcpFilter,
  type PcpMap,
  type PcpRequest,
  PcpRequestError,
} from '../wire/pcp.ts';
import type { Refusal } from './grant.ts';
import { answerPinholeMap } from './pcp-pinhole.ts';
import { exchanged, reportedAddress, type Site } from './site.ts';
import type { RemotePeer } from '../net/endpoint.ts';
import { sameNonce, type TableEntry } from './table.ts';

export type MapRequest = Extract<PcpRequest, { readonly opcode: 'map' }>;

/** What a MAP request comes to. `map` goes back with the answer. */
export interface MapAnswer {
  readonly result: number;
  readonly lifetimeSeconds: number;
  readonly map: PcpMap;
}

const RESULT: Readonly<Record<Refusal, number>> = {
  'not-authorized': PCP_RESULT.NOT_AUTHORIZED,
  'wrong-nonce': PCP_RESULT.NOT_AUTHORIZED,
  'denied-port': PCP_RESULT.NOT_AUTHORIZED,
  taken: PCP_RESULT.CANNOT_PROVIDE_EXTERNAL,
  'manual-rule': PCP_RESULT.CANNOT_PROVIDE_EXTERNAL,
  'table-full': PCP_RESULT.NO_RESOURCES,
  'no-free-port': PCP_RESULT.NO_RESOURCES,
  'network-down': PCP_RESULT.NETWORK_FAILURE,
};

/** How long a refusal holds (section 7.4): those that time may heal are short. */
const SHORT_ERROR_SECONDS = 30;
const LONG_ERROR_SECONDS = 1800;
const SHORT_ERRORS: ReadonlySet<number> = new Set([
  PCP_RESULT.NETWORK_FAILURE,
  PCP_RESULT.NO_RESOURCES,
  PCP_RESULT.USER_EX_QUOTA,
  PCP_RESULT.CANNOT_PROVIDE_EXTERNAL,
]);
const MAX_FILTERS = 8;
const TRANSPORTS: readonly TransportProtocol[] = ['tcp', 'udp'];

/** Resolves with the answer; undefined where there is none to give. */
export async function answerPcp(
  packet: Uint8Array,
  source: IpAddress,
  site: Site,
): Promise<Uint8Array | undefined> {
  let request: PcpRequest;
  try {
    request = decodePcpRequest(packet);
  } catch (error) {
    const result = error instanceof PcpRequestError ? error.result : PCP_RESULT.MALFORMED_REQUEST;
    return exchanged(site, 'pcp', 'pcp malformed', () => Promise.resolve(refusal(packet, result, site)));
  }
  return exchanged(site, 'pcp', pcpKind(request), async () => {
    // Section 8.2: the addresses differ where a NAT stands between client and server.
    if (withoutZone(source) !== request.clientAddress) {
      return refusal(packet, PCP_RESULT.ADDRESS_MISMATCH, site);
    }
    const { epochSeconds } = site.identity;
    if (request.opcode === 'announce') {
      return encodePcpResponse({ opcode: 'announce', result: 0, lifetimeSeconds: 0, epochSeconds });
    }
    const answer = await answerMap(request, withoutZone(source), site);
    if (answer.result !== PCP_RESULT.SUCCESS) return refusal(packet, answer.result, site);
    return encodePcpResponse({ opcode: 'map', epochSeconds: site.identity.epochSeconds, ...answer });
  });
}

function pcpKind(request: PcpRequest): string {
  if (request.opcode === 'announce') return 'pcp announce';
  return request.lifetimeSeconds === 0 ? 'pcp unmap' : 'pcp map';
}

/** An answer that gives the request back with a result in its header (section 7.2). */
function refusal(packet: Uint8Array, result: number, site: Site): Uint8Array {
  const header = encodePcpResponse({
    opcode: 'unknown',
    requestOpcode: (packet[1] ?? 0) & 0x7f,
    result,
    lifetimeSeconds: SHORT_ERRORS.has(result) ? SHORT_ERROR_SECONDS : LONG_ERROR_SECONDS,
    epochSeconds: site.identity.epochSeconds,
  });
  // What follows the header of another version is not known to be what it is in ours (section 9).
  if (result === PCP_RESULT.UNSUPP_VERSION) return header;
  const bytes = Math.min(Math.ceil(packet.length / 4) * 4, PCP_MAX_BYTES);
  const answer = new Uint8Array(Math.max(bytes, header.length));
  answer.set(packet.subarray(0, answer.length));
  answer.set(header);
  return answer;
}

function answerMap(request: MapRequest, source: IpAddress, site: Site): Promise<MapAnswer> {
  const { map } = request;
  const refused = (result: number) => Promise.resolve({ result, lifetimeSeconds: 0, map });
  const { thirdParty, filters = [] } = map.options;
  if (thirdParty !== undefined) {
    // Section 13.1: not for oneself, and not where nobody may.
    if (thirdParty === source) return refused(PCP_RESULT.MALFORMED_REQUEST);
    const { secureMode, trustedClients } = site.settings;
    if (secureMode && trustedClients.length === 0) return refused(PCP_RESULT.UNSUPP_OPTION);
    if (!site.grants.mayActFor(source, thirdParty)) return refused(PCP_RESULT.NOT_AUTHORIZED);
  }
  if (filters.length > MAX_FILTERS) return refused(PCP_RESULT.EXCESSIVE_REMOTE_PEERS);
  if (filters.some((filter) => !isFilter(filter))) return refused(PCP_RESULT.MALFORMED_OPTION);
  const client = thirdParty ?? source;
  const pinhole = family(client) === 6;
  if (request.lifetimeSeconds === 0) {
    return pinhole ? Promise.resolve(answerPinholeMap(request, client, site)) : unmap(map, client, site);
  }
  const protocol = transport(map.protocol);
  // Section 11.1: port 0 is all ports, which only a one-to-one NAT can grant.
  if (protocol === undefined || map.internalPort === 0) return refused(PCP_RESULT.UNSUPP_PROTOCOL);
  if (pinhole) return Promise.resolve(answerPinholeMap(request, client, site));
  return grant(request, source, client, protocol, site);
}

async function grant(
  request: MapRequest,
  source: IpAddress,
  client: IpAddress,
  protocol: TransportProtocol,
  site: Site,
): Promise<MapAnswer> {
  const { map } = request;
  const externalAddress = parseAddress(reportedAddress(site)) ?? site.identity.externalAddress;
  const exact = map.options.preferFailure === true;
  const anyAddress = map.externalAddress === '::' || map.externalAddress === '0.0.0.0';
  // Section 13.2: PREFER_FAILURE holds for the suggested address as well.
  if (exact && !anyAddress && map.externalAddress !== externalAddress) {
    return { result: PCP_RESULT.CANNOT_PROVIDE_EXTERNAL, lifetimeSeconds: 0, map };
  }
  const outcome = await site.grants.grant({
    via: 'pcp',
    requester: source,
    protocol,
    internalClient: client,
    internalPort: map.internalPort,
    suggestedExternalPort: map.externalPort,
    exact,
    lifetimeSeconds: request.lifetimeSeconds,
    description: map.options.description,
    enabled: true,
    remotePeers: remotePeers(map.options.filters ?? []),
    nonce: map.nonce,
  });
  if (outcome.kind === 'refused') return { result: RESULT[outcome.refusal], lifetimeSeconds: 0, map };
  return {
    result: PCP_RESULT.SUCCESS,
    lifetimeSeconds: outcome.lifetimeSeconds ?? request.lifetimeSeconds,
    map: { ...map, externalPort: outcome.entry.externalPort, externalAddress },
  };
}

/** Section 15.1: ends one mapping, or with port 0 all that have the same nonce. One that is not there is ended. */
async function unmap(map: PcpMap, client: IpAddress, site: Site): Promise<MapAnswer> {
  const { internalPort, nonce } = map;
  const protocols = TRANSPORTS.filter((one) => [0, PROTOCOL_NUMBER[one]].includes(map.protocol));
  let kept = false;
  await site.grants.remove('pcp', (table) => {
    const meant: readonly TableEntry[] =
      internalPort === 0
        ? table
            .list()
            .filter((entry) => entry.internalClient === client && protocols.includes(entry.protocol))
        : protocols.flatMap((protocol) => table.toInternal(protocol, client, internalPort));
    const own = meant.filter((entry) => entry.nonce === undefined || sameNonce(entry.nonce, nonce));
    kept = internalPort !== 0 && own.length === 0 && meant.length > 0;
    return own;
  });
  return { result: kept ? PCP_RESULT.NOT_AUTHORIZED : PCP_RESULT.SUCCESS, lifetimeSeconds: 0, map };
}

function transport(protocol: number): TransportProtocol | undefined {
  if (protocol === PROTOCOL_NUMBER.tcp) return 'tcp';
  return protocol === PROTOCOL_NUMBER.udp ? 'udp' : undefined;
}

/** Prefixes count in 128 bits, those of IPv4 from 96 (section 13.3); 0 stands for no filter at all. */
function isFilter(filter: PcpFilter): boolean {
  const least = family(filter.remoteAddress) === 6 ? 0 : 96;
  return filter.prefixLength === 0 || (filter.prefixLength >= least && filter.prefixLength <= 128);
}

/** undefined where the request says nothing of filters: those that were there stay. */
function remotePeers(filters: readonly PcpFilter[]): readonly RemotePeer[] | undefined {
  if (filters.length === 0) return undefined;
  // Section 13.3: a prefix of 0 takes back the filters before it.
  const last = filters.findLastIndex((filter) => filter.prefixLength === 0);
  return filters.slice(last + 1).map(({ remoteAddress, prefixLength, remotePort }) => ({
    address: remoteAddress,
    prefixLength: family(remoteAddress) === 6 ? prefixLength : prefixLength - 96,
    port: remotePort,
  }));
}
