/**
 * What real routers do otherwise than their standards say, one switch each. Nothing here is on by itself.
 * The routers are those on which port-mapping programs met it; how it is done is in the other files here.
 */

import type { IpAddress } from '../../net/address.ts';
import type { Misbehaviour } from './misbehaviour.ts';
import type { VpnHabits } from './vpn.ts';

/** How a header that should be `Name: value` and CRLF comes. */
export type SsdpHeaders = 'no-last-line' | 'mixed-case' | 'lf-only';
export type MalformedXml = 'unescaped' | 'unbound-prefix' | 'wrong-namespace';
export type HttpStyle =
  | 'http-1.0'
  | 'long-content-length'
  | 'short-content-length'
  | 'chunked'
  | 'no-content-type';

interface RouterQuirks {
  /** Any lease but 0 is refused with 725 OnlyPermanentLeasesSupported: MikroTik, Netgear. */
  readonly onlyPermanentLeases?: boolean;
  /** The same is meant by 402 InvalidArgs: ARRIS NVG578LX. */
  readonly onlyPermanentLeasesAs402?: boolean;
  /** The opposite: lease 0 is refused with 402, by gateways that grant leases only. */
  readonly permanentLeaseRefusedAs402?: boolean;
  /** A mapping with a lease is granted and gone at once: DD-WRT. */
  readonly leasesExpireInstantly?: boolean;
  /** No lease is longer than these seconds; UPnP has no place to say so, the other protocols do. */
  readonly leaseClampedTo?: number | undefined;
  /** A lease is taken and not kept: the mapping has no end (WANIPConnection:1 made leases optional). */
  readonly leaseIgnored?: boolean;
  /** Renewing succeeds and changes nothing: the mapping ends when it first would have. */
  readonly refreshDoesNotExtend?: boolean;
  /** A mapping that nobody used for these seconds is gone before its time. */
  readonly prunesIdleMappings?: number | undefined;
  /** 501 ActionFailed where 716 or 718 is meant. */
  readonly conflictAs501?: boolean;
  /** Each port is found taken, once, by the address that this host had before: its old lease was kept. */
  readonly conflictWithOwnStaleAddress?: IpAddress | undefined;
  /** 606 until the user permits the device to map: FRITZ!Box. */
  readonly forbiddenByUser?: boolean;
  /** 729 for these external ports, which the user forwards by hand. */
  readonly conflictWithManualRule?: readonly number[];
  /** Says yes and makes no mapping: routers whose table of 32 is full. */
  readonly saysYesMapsNothing?: boolean;
  /** `ssdp:all` finds the wireless setup device alone: Sagemcom. */
  readonly answersAllWithWfaDeviceOnly?: boolean;
  /** Unicast searches get no answer: Eero. */
  readonly answersMulticastOnly?: boolean;
  /** Search answers come from another UDP port than 1900: TP-Link ER605, BT HomeHub. */
  readonly repliesFromAnotherPort?: boolean;
  /** LOCATION is on this address, which two routers share (VRRP, CARP): pfSense and OPNsense pairs. */
  readonly floatingAddress?: IpAddress | undefined;
  /** A reboot moves the HTTP port: miniupnpd with http_port=0. */
  readonly controlPortMoves?: boolean;
  /** Types are `urn:dslforum-org:...`: Huawei. */
  readonly dslforumServiceTypes?: boolean;
  /** There are two WAN devices, and the first one is not connected: MikroTik. */
  readonly firstWanDeviceDisconnected?: boolean;
  /** Control URLs are absolute, on another port than the description: D-Link DIR-655. */
  readonly controlUrlOnAnotherPort?: boolean;
  /** A bare `<` or `&` in a text, a prefix that nobody declared, an answer in a wrong namespace. */
  readonly malformedXml?: MalformedXml | undefined;
  /** Search answers without the blank last line, with headers in odd case, with LF alone. */
  readonly ssdpHeaders?: SsdpHeaders | undefined;
  /** An action that the router does not know resets the connection. */
  readonly unknownActionResets?: boolean;
  /** Another external address than it has: 0.0.0.0, 127.x, or the bytes the wrong way round (ZTE). */
  readonly externalAddressReported?: string | undefined;
  /** GetStatusInfo says Disconnected, and mappings work. */
  readonly disconnectedYetWorking?: boolean;
  /** NAT-PMP answers carry ports of 8 bits. */
  readonly natpmpTruncatesPorts?: boolean;
  /** NAT-PMP answers 3 NETWORK_FAILURE, while PCP on the same port works. */
  readonly natpmpNetworkFailure?: boolean;
  /** The epoch runs on when the external address changes or the table is lost (against RFC 6886, section 3.6). */
  readonly epochNotReset?: boolean;
  /** AddPinhole is refused with 606 unless it comes from the InternalClient itself, trusted or not. */
  readonly pinholeOnlyFromClient?: boolean;
  /** Searches in both families within a second: neither family is answered for a while. FRITZ!Box. */
  readonly breaksOnBothFamilies?: boolean;
  /** White space before `<?xml`: DD-WRT. */
  readonly spaceBeforeXml?: boolean;
  /** Control URLs have a query, and do not work without it: DD-WRT. */
  readonly queryInControlUrl?: boolean;
  /** HTTP/1.0 answers, a Content-Length that is too long or too short, chunks, no Content-Type. */
  readonly http?: HttpStyle | undefined;
  /** 724 SamePortValuesRequired unless both ports are the same (WANIPConnection:1, table of errors). */
  readonly samePortsRequired?: boolean;
  /** NAT-PMP as VPN providers serve it: 60 s at most, a port that the gateway chooses. Proton VPN. */
  readonly vpnHabits?: VpnHabits | undefined;
}

/** Everything that can be switched: what routers get wrong, and what hostile or slow ones do. */
export interface Quirks extends RouterQuirks, Misbehaviour {}
