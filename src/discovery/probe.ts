/**
 * Asks a gateway whether it speaks PCP and NAT-PMP, both at once. PCP is probed with ANNOUNCE (RFC 6887,
 * section 14.1), which changes nothing; NAT-PMP with the request for the external address (RFC 6886,
 * section 3.2). Each gateway answers for the other protocol too: a NAT-PMP one refuses version 2, a PCP one
 * refuses version 0, and so nobody waits for what will not come (RFC 6887, section 9 and appendix A).
 */

import { NatwardError } from '../errors.ts';
import { kindOf } from '../net/address.ts';
import { encodeNatpmpRequest, NATPMP_RESULT } from '../wire/natpmp.ts';
import { encodePcpRequest, PCP_RESULT } from '../wire/pcp.ts';
import type { Gateway, NatpmpOffer, PcpOffer } from './gateway.ts';
import { type GatewayLink, type LinkMessage, PROBE_SCHEDULE, type Schedule } from './link.ts';

/** Rejects with UNSUPPORTED, TIMEOUT, UNREACHABLE or ABORTED. */
export function probePcp(
  gateway: Gateway,
  link: GatewayLink,
  signal: AbortSignal,
  schedule: Schedule = PROBE_SCHEDULE,
): Promise<PcpOffer> {
  const packet = encodePcpRequest({
    opcode: 'announce',
    lifetimeSeconds: 0,
    clientAddress: link.localAddress,
  });
  const accept = (message: LinkMessage): PcpOffer | undefined => {
    if (message.version === 0) {
      if (message.result === NATPMP_RESULT.UNSUPPORTED_VERSION) throw unsupported(gateway, 'PCP');
      return undefined;
    }
    if (message.opcode !== 'announce' || message.result === PCP_RESULT.UNSUPP_VERSION) return undefined;
    // Any other result comes from a server that understood: it may refuse ANNOUNCE and grant MAP.
    return { protocol: 'pcp', gateway, link, epochSeconds: message.epochSeconds };
  };
  return link.request(packet, accept, schedule, { signal });
}

/** Rejects with UNSUPPORTED, TIMEOUT, UNREACHABLE or ABORTED. NAT-PMP is IPv4 only. */
export function probeNatpmp(
  gateway: Gateway,
  link: GatewayLink,
  signal: AbortSignal,
  schedule: Schedule = PROBE_SCHEDULE,
): Promise<NatpmpOffer> {
  const accept = (message: LinkMessage): NatpmpOffer | undefined => {
    if (message.version === 2) {
      if (message.result === PCP_RESULT.UNSUPP_VERSION) throw unsupported(gateway, 'NAT-PMP');
      return undefined;
    }
    if (message.opcode !== 'address' || message.result === NATPMP_RESULT.UNSUPPORTED_VERSION)
      return undefined;
    // Huawei gateways answer "network failure" here and map all the same: an answer is an answer.
    const known = message.result === 0 && kindOf(message.externalAddress) !== 'unspecified';
    return {
      protocol: 'natpmp',
      gateway,
      link,
      epochSeconds: message.epochSeconds,
      externalAddress: known ? message.externalAddress : undefined,
    };
  };
  return link.request(encodeNatpmpRequest({ opcode: 'address' }), accept, schedule, { signal });
}

function unsupported(gateway: Gateway, protocol: string): NatwardError {
  return new NatwardError('UNSUPPORTED', `${gateway.address} does not speak ${protocol}`);
}
