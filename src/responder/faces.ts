/**
 * Everything by which a gateway is asked, opened and closed together: the port of PCP and NAT-PMP, and UPnP's HTTP and
 * SSDP. Says also what a gateway says by itself.
 */

import type { Socket } from 'node:dgram';
import { ANY_IPV4, family, type IpAddress } from '../net/address.ts';
import type { Endpoint } from '../net/endpoint.ts';
import { ANNOUNCE_ADDRESS, ANNOUNCE_PORT, encodeNatpmpResponse } from '../wire/natpmp.ts';
import { encodePcpResponse } from '../wire/pcp.ts';
import { SSDP_IPV4, SSDP_IPV6, SSDP_PORT } from '../wire/ssdp.ts';
import { bindDatagram, closeDatagram } from './datagram.ts';
import { HttpSide } from './http.ts';
import { MappingPort } from './mapping-port.ts';
import { openOnOnePort } from './one-port.ts';
import type { GatewayPorts } from './settings.ts';
import type { Site } from './site.ts';
import { SsdpSide } from './ssdp.ts';

/** `natpmp` and `pcp` go to 224.0.0.1:5350 (pcp to ff02::1 as well), the others to the SSDP group. */
export type Announcement = 'ssdp alive' | 'ssdp update' | 'ssdp byebye' | 'natpmp' | 'pcp';

/** Where announcements go instead of their groups. */
export interface AnnouncementPlaces {
  readonly ssdp?: Endpoint;
  readonly natpmp?: Endpoint;
  readonly pcp?: Endpoint;
}

/** RFC 6886, section 3.2.1; RFC 6887, section 14.1.1. */
const ANNOUNCEMENTS = 10;
const FIRST_PAUSE_MS = 250;

export class Faces {
  readonly http: HttpSide;
  readonly #site: Site;
  readonly #opened: { close(): Promise<void> }[];
  #mappingPort: MappingPort | undefined;
  #ssdp: SsdpSide | undefined;

  constructor(site: Site) {
    this.#site = site;
    this.http = new HttpSide(site);
    this.#opened = [this.http];
  }

  /** Rejects where a port cannot be had; `close` then closes what was opened. */
  async open(ports: GatewayPorts): Promise<void> {
    const { protocols, addresses } = this.#site.settings;
    if (protocols.includes('pcp') || protocols.includes('natpmp')) {
      this.#mappingPort = new MappingPort(this.#site, await bindEach(addresses, ports.pcp));
      this.#opened.push(this.#mappingPort);
    }
    if (protocols.includes('upnp')) {
      await this.http.open(ports.http);
      this.#ssdp = new SsdpSide(this.#site, this.http, await bindEach(addresses, ports.ssdp));
      this.#opened.push(this.#ssdp);
      await this.#ssdp.join();
    }
  }

  /** 0 where the protocol is not spoken. */
  get ports(): GatewayPorts {
    return { pcp: this.#mappingPort?.port ?? 0, ssdp: this.#ssdp?.port ?? 0, http: this.http.port };
  }

  /** Where the description is, as searches are told at this address; empty without UPnP. */
  location(address: IpAddress): string {
    return this.#ssdp === undefined ? '' : this.http.location(address);
  }

  /** Sends a packet from the port of PCP and NAT-PMP. */
  async send(packet: Uint8Array, to: Endpoint): Promise<void> {
    await this.#mappingPort?.send(packet, to);
  }

  /** Sends the announcement once: to `destination`, or to its group. */
  async announce(announcement: Announcement, destination?: Endpoint): Promise<void> {
    for (const to of destination === undefined ? this.#groupsOf(announcement) : [destination]) {
      switch (announcement) {
        case 'natpmp':
        case 'pcp':
          await this.#mappingPort?.send(this.#announcementPacket(announcement), to);
          break;
        case 'ssdp alive':
          await this.#ssdp?.announce('alive', to);
          break;
        case 'ssdp update':
          await this.#ssdp?.announce('update', to);
          break;
        case 'ssdp byebye':
          await this.#ssdp?.announce('byebye', to);
      }
    }
  }

  /** As EmbeddedGateway has it. */
  async announceRestart(places: AnnouncementPlaces = {}): Promise<void> {
    await this.announce('ssdp byebye', places.ssdp);
    await this.announce('ssdp alive', places.ssdp);
    await this.announceMappingPort(['natpmp', 'pcp'], places);
  }

  /** Ten times, after 250 ms and doubling; resolves after the last one, two minutes later, or when the gateway closes. */
  async announceMappingPort(
    which: readonly ('natpmp' | 'pcp')[],
    places: AnnouncementPlaces = {},
  ): Promise<void> {
    const { settings, clock, closing } = this.#site;
    const spoken = which.filter((one) => settings.protocols.includes(one));
    try {
      for (let count = 1, pauseMs = FIRST_PAUSE_MS; count <= ANNOUNCEMENTS; count++, pauseMs *= 2) {
        for (const one of spoken) await this.announce(one, places[one]);
        if (count < ANNOUNCEMENTS) await clock.sleep(pauseMs, closing);
      }
    } catch {
      // It closes.
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#opened.map((part) => part.close()));
  }

  #announcementPacket(protocol: 'natpmp' | 'pcp'): Uint8Array {
    const { epochSeconds, externalAddress = ANY_IPV4 } = this.#site.identity;
    return protocol === 'natpmp'
      ? encodeNatpmpResponse({ opcode: 'address', result: 0, epochSeconds, externalAddress })
      : encodePcpResponse({ opcode: 'announce', result: 0, lifetimeSeconds: 0, epochSeconds });
  }

  #groupsOf(announcement: Announcement): Endpoint[] {
    const families = new Set(this.#site.settings.addresses.map((address) => family(address)));
    const ssdp = announcement.startsWith('ssdp');
    const groups: Endpoint[] = [];
    if (families.has(4)) {
      groups.push(
        ssdp ? { address: SSDP_IPV4, port: SSDP_PORT } : { address: ANNOUNCE_ADDRESS, port: ANNOUNCE_PORT },
      );
    }
    // NAT-PMP knows no IPv6.
    if (families.has(6) && announcement !== 'natpmp') {
      groups.push(
        ssdp ? { address: SSDP_IPV6[0], port: SSDP_PORT } : { address: 'ff02::1', port: ANNOUNCE_PORT },
      );
    }
    return groups;
  }
}

function bindEach(addresses: readonly IpAddress[], port: number): Promise<Socket[]> {
  return openOnOnePort(addresses, port, async (at) => {
    const socket = await bindDatagram(at);
    return { port: socket.address().port, value: socket, close: () => closeDatagram(socket) };
  });
}
