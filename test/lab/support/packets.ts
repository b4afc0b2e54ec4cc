/** Faults that hit a mapping request or its answer and leave the probes alone, and counting of packets. */

import type { MappingProtocol } from '../../../src/net/protocol.ts';
import type { Lab } from './lab.ts';

/**
 * MAP of PCP has opcode 1, and 129 in the answer; NAT-PMP maps with 1 (UDP) and 2 (TCP). UPnP calls begin
 * with POST, at the end of a TCP header with timestamps; the description's answer is told from theirs by the
 * fourth digit of its Content-Length, which stands where theirs ends.
 */
const GRANTS: Readonly<Record<'requests' | 'replies', Readonly<Record<MappingProtocol, string>>>> = {
  requests: {
    pcp: 'udp dport 5351 @th,64,16 0x0201',
    natpmp: 'udp dport 5351 @th,64,16 { 0x0001, 0x0002 }',
    upnp: 'meta l4proto tcp @th,256,32 0x504f5354',
  },
  replies: {
    pcp: 'udp sport 5351 @th,64,16 0x0281',
    natpmp: 'udp sport 5351 @th,64,16 { 0x0081, 0x0082 }',
    upnp: 'meta l4proto tcp @th,1024,8 0x0d',
  },
};

/** Loses mapping requests on their way to the gateway, or its answers on their way back. Until `unblock`. */
export async function loseGrants(
  lab: Lab,
  protocol: MappingProtocol,
  lose: 'requests' | 'replies',
  options: { readonly firstPackets?: number } = {},
): Promise<void> {
  const where = lose === 'requests' ? 'requests iifname int0' : 'replies oifname int0';
  const { firstPackets } = options;
  const some = firstPackets === undefined ? '' : `numgen inc mod 2147483647 < ${firstPackets}`;
  await nft(lab, `add rule inet natward_lab ${where} ${GRANTS[lose][protocol]} ${some} drop`);
}

let counters = 0;

/**
 * Counts the packets that come from the lan from now on, lost ones as well; answers how many there were.
 * Ends with `unblock`.
 */
export async function countPackets(lab: Lab, match: string = ''): Promise<() => Promise<number>> {
  const comment = `count-${counters++}`;
  await nft(lab, `insert rule inet natward_lab requests iifname int0 ${match} counter comment "${comment}"`);
  return async () => {
    const listing = await lab.must('gw', ['nft', 'list', 'chain', 'inet', 'natward_lab', 'requests']);
    const line = listing.split('\n').find((text) => text.includes(`"${comment}"`)) ?? '';
    return Number(/counter packets (\d+)/.exec(line)?.[1] ?? Number.NaN);
  };
}

/** As `countPackets`, of one protocol's mapping requests. */
export function countGrants(lab: Lab, protocol: MappingProtocol): Promise<() => Promise<number>> {
  return countPackets(lab, GRANTS.requests[protocol]);
}

async function nft(lab: Lab, command: string): Promise<void> {
  await lab.must('gw', ['nft', '-f', '-'], { input: `${command}\n` });
}
