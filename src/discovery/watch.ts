/**
 * Hears what gateways announce without being asked: SSDP notifications on 239.255.255.250:1900 and [ff02::c]:1900 (a
 * device came, went, or started again: BOOTID.UPNP.ORG), and NAT-PMP and PCP announcements on 224.0.0.1:5350 and
 * [ff02::1]:5350 (a restart, or a new external address). What to do about them is for the lease keeper; every one may
 * be forged, so none is more than a reason to ask the gateway.
 */

import { type Family, type IpAddress, kindOf, withoutZone } from '../net/address.ts';
import type { Endpoint } from '../net/endpoint.ts';
import type { System } from '../system/system.ts';
import type { UdpSocket } from '../system/udp.ts';
import { ANNOUNCE_ADDRESS, ANNOUNCE_PORT, decodeNatpmpResponse, NATPMP_VERSION } from '../wire/natpmp.ts';
import { decodePcpResponse } from '../wire/pcp.ts';
import { decodeSsdp, SSDP_IPV4, SSDP_IPV6, SSDP_PORT } from '../wire/ssdp.ts';
import type { Gateway } from './gateway.ts';

export type Announcement = { readonly source: IpAddress } & (
  | {
      readonly kind: 'upnp-alive';
      readonly location: string;
      readonly usn: string;
      readonly bootId: number | undefined;
    }
  | { readonly kind: 'upnp-byebye'; readonly usn: string; readonly bootId: number | undefined }
  | { readonly kind: 'upnp-update'; readonly usn: string; readonly nextBootId: number | undefined }
  | { readonly kind: 'natpmp'; readonly epochSeconds: number; readonly externalAddress: IpAddress }
  | { readonly kind: 'pcp'; readonly epochSeconds: number }
);

/** What a multicast datagram announces; undefined where it is no announcement. Never throws. */
export function decodeAnnouncement(data: Uint8Array, source: IpAddress): Announcement | undefined {
  try {
    return data[0] !== undefined && data[0] < 0x20 ? decodeEpoch(data, source) : decodeNotify(data, source);
  } catch {
    return undefined; // MALFORMED: on a multicast group anything may arrive.
  }
}

function decodeEpoch(data: Uint8Array, source: IpAddress): Announcement | undefined {
  if (data[0] === NATPMP_VERSION) {
    const message = decodeNatpmpResponse(data);
    if (message.opcode !== 'address' || message.result !== 0) return undefined;
    const { epochSeconds, externalAddress } = message;
    return { kind: 'natpmp', source, epochSeconds, externalAddress };
  }
  const message = decodePcpResponse(data);
  return message.opcode === 'announce'
    ? { kind: 'pcp', source, epochSeconds: message.epochSeconds }
    : undefined;
}

function decodeNotify(data: Uint8Array, source: IpAddress): Announcement | undefined {
  const message = decodeSsdp(data);
  switch (message.kind) {
    case 'alive': {
      const { location, usn, bootId } = message;
      return { kind: 'upnp-alive', source, location, usn, bootId };
    }
    case 'update':
      return { kind: 'upnp-update', source, usn: message.usn, nextBootId: message.nextBootId };
    case 'byebye':
      return { kind: 'upnp-byebye', source, usn: message.usn, bootId: message.bootId };
    default:
      return undefined;
  }
}

/** Where gateways announce, by address family: RFC 6886, section 3.2.1; RFC 6887, section 14.1.1; UDA 2.0, annex A. */
const GROUPS: Readonly<Record<Family, { readonly ssdp: IpAddress; readonly epoch: IpAddress }>> = {
  4: { ssdp: SSDP_IPV4, epoch: ANNOUNCE_ADDRESS },
  6: { ssdp: SSDP_IPV6[0], epoch: 'ff02::1' },
};

/**
 * Reports whether it may come from this gateway. Over IPv6 it announces from an address of the link, whichever it is
 * known by. So does every other device there, and tells over UPnP what it is.
 */
export function mayBeOf({ address, family }: Gateway, heard: Announcement): boolean {
  const source = withoutZone(heard.source);
  if (source === withoutZone(address)) return true;
  if (family === 4 || kindOf(source) !== 'linklocal') return false;
  return !('usn' in heard) || heard.usn.includes(':InternetGatewayDevice:');
}

/**
 * Listens on the interface of one gateway until disposed of. PCP and NAT-PMP announcements count only
 * from the gateway itself (RFC 6886, section 3.2.1). Throws FAILED where a port cannot be shared.
 */
export async function watchAnnouncements(
  system: System,
  gateway: Gateway,
  onAnnouncement: (announcement: Announcement) => void,
): Promise<AsyncDisposable> {
  const { family, interface: name, localAddress } = gateway;
  const [zone, at] = family === 6 ? [`%${name}`, `::%${name}`] : ['', localAddress];
  const listen = (group: IpAddress, port: number): Promise<UdpSocket> =>
    system.openUdp({
      family,
      // Bound to the group: datagrams to other groups and to this host's own address stay away.
      localAddress: `${group}${zone}`,
      localPort: port,
      multicast: { interface: at, hops: 1, join: [group] },
      onDatagram: (data, source) => receive(data, source),
    });
  const receive = (data: Uint8Array, source: Endpoint) => {
    const announcement = decodeAnnouncement(data, source.address);
    if (announcement === undefined) return;
    if (mayBeOf(gateway, announcement) || announcement.kind.startsWith('upnp')) onAnnouncement(announcement);
  };
  const ssdp = await listen(GROUPS[family].ssdp, SSDP_PORT);
  try {
    const epoch = await listen(GROUPS[family].epoch, ANNOUNCE_PORT);
    return {
      async [Symbol.asyncDispose]() {
        await Promise.all([ssdp[Symbol.asyncDispose](), epoch[Symbol.asyncDispose]()]);
      },
    };
  } catch (error) {
    await ssdp[Symbol.asyncDispose]();
    throw error;
  }
}
