/**
 * NAT-PMP requests (RFC 6886, section 3), answered. A mapping is named by its inner end; whoever asks for it
 * again gets the same one, and an other external port only where the wanted one is not free.
 */

import { ANY_IPV4, family, type IpAddress, parseAddress } from '../net/address.ts';
import {
  decodeNatpmpRequest,
  encodeNatpmpResponse,
  NATPMP_RESULT,
  type NatpmpRequest,
  type NatpmpResponse,
} from '../wire/natpmp.ts';
import type { Refusal } from './grant.ts';
import { around } from './hooks.ts';
import { exchanged, reportedAddress, type Site } from './site.ts';

/** What a refusal is called here. */
export const NATPMP_REFUSAL: Readonly<Record<Refusal, number>> = {
  'not-authorized': NATPMP_RESULT.NOT_AUTHORIZED,
  'wrong-nonce': NATPMP_RESULT.NOT_AUTHORIZED,
  'denied-port': NATPMP_RESULT.NOT_AUTHORIZED,
  taken: NATPMP_RESULT.OUT_OF_RESOURCES,
  'manual-rule': NATPMP_RESULT.OUT_OF_RESOURCES,
  'over-quota': NATPMP_RESULT.OUT_OF_RESOURCES,
  'too-many-peers': NATPMP_RESULT.OUT_OF_RESOURCES,
  'table-full': NATPMP_RESULT.OUT_OF_RESOURCES,
  'no-free-port': NATPMP_RESULT.OUT_OF_RESOURCES,
  'network-down': NATPMP_RESULT.NETWORK_FAILURE,
};

/** Resolves with the answer; undefined where there is none to give. */
export function answerNatpmp(
  packet: Uint8Array,
  source: IpAddress,
  site: Site,
): Promise<Uint8Array | undefined> {
  const request = decoded(packet);
  if (request === undefined) {
    return exchanged(site, 'natpmp', 'natpmp malformed', () => Promise.resolve(refusedOpcode(packet, site)));
  }
  return exchanged(site, 'natpmp', natpmpKind(request), async () =>
    encodeNatpmpResponse(
      site.hooks.has('natpmp')
        ? await around(site.hooks.all('natpmp'), { request, source }, (asked) =>
            serve(asked.request, asked.source, site),
          )
        : await serve(request, source, site),
    ),
  );
}

/** RFC 6886, section 3.5, result 1: the answer of a gateway that knows version 0 alone. */
export function refusedVersion(packet: Uint8Array, site: Site): Uint8Array {
  return bare(packet, NATPMP_RESULT.UNSUPPORTED_VERSION, site);
}

function refusedOpcode(packet: Uint8Array, site: Site): Uint8Array | undefined {
  // A known opcode with too few bytes is noise; an unknown one is told so (section 3.5).
  return (packet[1] ?? 0) > 2 ? bare(packet, NATPMP_RESULT.UNSUPPORTED_OPCODE, site) : undefined;
}

function bare(packet: Uint8Array, result: number, site: Site): Uint8Array {
  const { epochSeconds } = site.identity;
  const requestOpcode = packet[1] ?? 0;
  return encodeNatpmpResponse({ opcode: 'unknown', requestOpcode, result, epochSeconds });
}

function decoded(packet: Uint8Array): NatpmpRequest | undefined {
  try {
    return decodeNatpmpRequest(packet);
  } catch {
    return undefined;
  }
}

function natpmpKind(request: NatpmpRequest): string {
  if (request.opcode === 'address') return 'natpmp address';
  return request.lifetimeSeconds === 0 ? 'natpmp unmap' : 'natpmp map';
}

async function serve(request: NatpmpRequest, source: IpAddress, site: Site): Promise<NatpmpResponse> {
  const { epochSeconds } = site.identity;
  if (request.opcode === 'address') {
    const address = parseAddress(reportedAddress(site));
    const known = address !== undefined && family(address) === 4;
    return {
      opcode: 'address',
      result: known ? NATPMP_RESULT.SUCCESS : NATPMP_RESULT.NETWORK_FAILURE,
      epochSeconds,
      externalAddress: known ? address : ANY_IPV4,
    };
  }
  const { protocol, internalPort, suggestedExternalPort, lifetimeSeconds } = request;
  const answer = { opcode: 'map', protocol, internalPort, epochSeconds } as const;
  if (lifetimeSeconds === 0) {
    // Section 3.4: internal port 0 ends all mappings of this host and protocol; one that is not there is ended.
    await site.grants.remove('natpmp', (table) =>
      internalPort === 0
        ? table.list().filter((entry) => entry.internalClient === source && entry.protocol === protocol)
        : table.toInternal(protocol, source, internalPort),
    );
    return { ...answer, result: NATPMP_RESULT.SUCCESS, externalPort: 0, lifetimeSeconds: 0 };
  }
  if (internalPort === 0) {
    return { ...answer, result: NATPMP_RESULT.NOT_AUTHORIZED, externalPort: 0, lifetimeSeconds: 0 };
  }
  const outcome = await site.grants.grant({
    via: 'natpmp',
    requester: source,
    protocol,
    internalClient: source,
    internalPort,
    suggestedExternalPort,
    exact: false,
    lifetimeSeconds,
    description: undefined,
    enabled: true,
    remotePeers: undefined,
  });
  if (outcome.kind === 'refused') {
    // The port and the lifetime of a refusal mean nothing; they go back as they came.
    return {
      ...answer,
      result: NATPMP_REFUSAL[outcome.refusal],
      externalPort: suggestedExternalPort,
      lifetimeSeconds,
    };
  }
  return {
    ...answer,
    result: NATPMP_RESULT.SUCCESS,
    externalPort: outcome.entry.externalPort,
    lifetimeSeconds: outcome.lifetimeSeconds ?? lifetimeSeconds,
  };
}
