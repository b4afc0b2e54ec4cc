/**
 * A gateway as discovery hands it on: who it is and how it is reached, and what it offers. An `Offer` is one
 * protocol that answered its probe; a gateway may make up to three.
 */

import type { Family, IpAddress } from '../net/address.ts';
import type { MappingProtocol } from '../net/protocol.ts';
import type { GatewayLink } from './link.ts';

/** Where to ask, before anything has answered. */
export interface Gateway {
  readonly address: IpAddress;
  readonly family: Family;
  readonly interface: string;
  /** This host's own address towards it. */
  readonly localAddress: IpAddress;
  /** Of the network that the two share. */
  readonly prefixLength: number;
  readonly ports: GatewayPorts;
  /** `named` by the person: then no other device of the network may answer in its place. */
  readonly chosenBy: 'route' | 'named';
}

/** 5351 and 1900 on every gateway of the world; another where the embedded one runs. */
export interface GatewayPorts {
  readonly pcp: number;
  readonly ssdp: number;
}

interface OfferOf<Protocol extends MappingProtocol> {
  readonly protocol: Protocol;
  readonly gateway: Gateway;
}

export interface PcpOffer extends OfferOf<'pcp'> {
  readonly link: GatewayLink;
  readonly epochSeconds: number;
}

export interface NatpmpOffer extends OfferOf<'natpmp'> {
  readonly link: GatewayLink;
  readonly epochSeconds: number;
  /** Undefined where the gateway would not tell. */
  readonly externalAddress: IpAddress | undefined;
}

export interface UpnpOffer extends OfferOf<'upnp'> {
  readonly device: UpnpDevice;
}

export type Offer = PcpOffer | NatpmpOffer | UpnpOffer;

export interface UpnpService {
  readonly serviceType: string;
  readonly controlUrl: string;
}

export interface UpnpDevice {
  readonly location: string;
  /** The address in `location`: the gateway's own, unless another router answered. */
  readonly host: IpAddress;
  /** Manufacturer and model, as the device calls itself. */
  readonly model: string;
  /** WANIPConnection or WANPPPConnection. */
  readonly connection: UpnpService;
  /** 2 where the connection service has AddAnyPortMapping. */
  readonly connectionVersion: number;
  /** WANIPv6FirewallControl, where there is one. */
  readonly firewall: UpnpService | undefined;
}
