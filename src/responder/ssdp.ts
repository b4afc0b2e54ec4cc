/**
 * The SSDP side of the gateway (UDA 2.0, section 1): answers searches, those to its own address and those to
 * the group, and announces itself when told to. Both kinds are answered from its own address, and at once;
 * settings.ts says why.
 */

import { randomInt } from 'node:crypto';
import type { Socket } from 'node:dgram';
import { bracketed, family, type IpAddress, kindOf, sameNetwork } from '../net/address.ts';
import type { Endpoint } from '../net/endpoint.ts';
import {
  decodeSsdp,
  encodeSsdp,
  SSDP_IPV4,
  SSDP_IPV6,
  type SsdpMessage,
  type SsdpResponse,
  type SsdpSearch,
} from '../wire/ssdp.ts';
import { aimMulticast, bindDatagram, closeDatagram, interfaceOf, sendDatagram } from './datagram.ts';
import { sendAnswer, sendFrom } from './decoys.ts';
import { deviceTree, everFoundTargets, foundTargets, searchTargets } from './device-tree.ts';
import { type HttpSide, SERVER_NAME } from './http.ts';
import { SearchLoad } from './search-load.ts';
import { exchanged, type Site } from './site.ts';

const MAX_AGE_SECONDS = 1800;

export class SsdpSide {
  readonly #site: Site;
  readonly #http: HttpSide;
  readonly #own: readonly Socket[];
  readonly #groups: Socket[] = [];
  readonly #load = new SearchLoad();

  /** `own` are bound to the inner addresses, in their order. */
  constructor(site: Site, http: HttpSide, own: readonly Socket[]) {
    this.#site = site;
    this.#http = http;
    this.#own = own;
    own.forEach((socket, index) => {
      aimMulticast(socket, site.settings.addresses[index] ?? '');
      this.#hear(socket, index, 'unicast');
    });
  }

  get port(): number {
    return this.#own[0]?.address().port ?? 0;
  }

  /** Joins the search groups on the interfaces of the inner addresses; where that cannot be, unicast is left. */
  async join(): Promise<void> {
    for (const [index, address] of this.#site.settings.addresses.entries()) {
      try {
        const socket = await joinGroup(address, this.port);
        this.#groups.push(socket);
        this.#hear(socket, index, 'multicast');
      } catch {
        // No multicast on that interface, or the port belongs to another UPnP stack that does not share it.
      }
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#own, ...this.#groups].map((socket) => closeDatagram(socket)));
  }

  /** Sends one notification for each thing that there is to find (UDA 2.0, section 1.2). */
  async announce(kind: 'alive' | 'update' | 'byebye', to: Endpoint): Promise<void> {
    const index = this.#site.settings.addresses.findIndex((own) => family(own) === family(to.address));
    const address = this.#site.settings.addresses[index];
    const socket = this.#own[index];
    if (address === undefined || socket === undefined) return;
    const group = family(address) === 6 ? bracketed(SSDP_IPV6[0]) : SSDP_IPV4;
    const tree = deviceTree(this.#site, address);
    for (const { target, usn } of kind === 'byebye' ? everFoundTargets(tree) : searchTargets(tree)) {
      const message = this.#notification(kind, { notificationType: target, usn }, address);
      await sendDatagram(socket, encodeSsdp(message, group), to);
    }
  }

  #notification(
    kind: 'alive' | 'update' | 'byebye',
    about: { readonly notificationType: string; readonly usn: string },
    address: IpAddress,
  ): SsdpMessage {
    const identity = { ...about, bootId: this.#bootId() };
    const location = this.#http.location(address);
    switch (kind) {
      case 'alive':
        return { kind, ...identity, location, server: SERVER_NAME, maxAgeSeconds: MAX_AGE_SECONDS };
      case 'update':
        return { kind, ...identity, location, nextBootId: this.#site.identity.bootId + 1 };
      default:
        return { kind, ...identity };
    }
  }

  /** UDA 1.0, which IGD:1 stands on, has no BOOTID. */
  #bootId(): number | undefined {
    return this.#site.settings.igdVersion === 1 ? undefined : this.#site.identity.bootId;
  }

  #hear(socket: Socket, index: number, way: 'unicast' | 'multicast'): void {
    socket.on('message', (packet, from) => {
      const to: Endpoint = { address: from.address, port: from.port };
      void this.#receive(packet, to, index, way).catch(() => this.#site.counters.count('internal error'));
    });
  }

  async #receive(
    packet: Uint8Array,
    from: Endpoint,
    index: number,
    way: 'unicast' | 'multicast',
  ): Promise<void> {
    const address = this.#site.settings.addresses[index];
    const socket = this.#own[index];
    if (address === undefined || socket === undefined) return;
    const search = searchIn(packet);
    // UDA 2.0, section 1.3.3: a multicast search without MX is no search.
    if (search === undefined || (way === 'multicast' && search.maxWaitSeconds === 0)) return;
    if (!isNear(from.address, address) || !this.#site.guard.admits(from.address)) return;
    if (!this.#load.enter(from.address)) return;
    try {
      const answers = await exchanged(this.#site, 'ssdp', 'ssdp search', async () => {
        const found = this.#answers(search, address);
        const heard = { search, way, address };
        return this.#site.hooks.all('searchAnswers').reduce((list, change) => change(list, heard), found);
      });
      if (answers === undefined || answers.length === 0) return;
      if (way === 'multicast' && this.#site.settings.spreadSearchAnswers) {
        await this.#site.clock.sleep(randomInt(search.maxWaitSeconds * 1000), this.#site.closing);
      }
      for (const answer of answers) {
        if (!this.#load.takeAnswer(from.address, this.#site.clock.steady())) return;
        await this.#send(answer, packet, socket, from);
      }
    } finally {
      this.#load.leave(from.address);
    }
  }

  #answers(search: SsdpSearch, address: IpAddress): readonly SsdpResponse[] {
    return foundTargets(deviceTree(this.#site, address), search.searchTarget).map(({ target, usn }) => ({
      kind: 'response',
      searchTarget: target,
      usn,
      bootId: this.#bootId(),
      location: this.#http.location(address),
      server: SERVER_NAME,
      maxAgeSeconds: MAX_AGE_SECONDS,
    }));
  }

  async #send(answer: SsdpResponse, request: Uint8Array, socket: Socket, to: Endpoint): Promise<void> {
    const { hooks } = this.#site;
    const packet = hooks.all('searchPacket').reduce((bytes, change) => change(bytes), encodeSsdp(answer));
    if (hooks.has('answersFromAnotherPort')) await sendFrom(socket.address().address, packet, to);
    else await sendAnswer(this.#site, socket, 'ssdp', request, packet, to);
  }
}

function searchIn(packet: Uint8Array): SsdpSearch | undefined {
  try {
    const message = decodeSsdp(packet);
    return message.kind === 'search' ? message : undefined;
  } catch {
    return undefined;
  }
}

/**
 * A search comes from the link. One from the internet has a forged source, which a dozen answers would be
 * aimed at (SSDP reflection).
 */
function isNear(source: IpAddress, own: IpAddress): boolean {
  return kindOf(source) !== 'public' || sameNetwork(source, own, family(own) === 6 ? 64 : 16);
}

async function joinGroup(address: IpAddress, port: number): Promise<Socket> {
  const ipv6 = family(address) === 6;
  const name = interfaceOf(address);
  if (ipv6 && name === undefined) throw new Error(`no interface has ${address}`);
  const group = ipv6 ? `${SSDP_IPV6[0]}%${name}` : SSDP_IPV4;
  // Bound to the group the socket hears nothing else; Windows binds to own addresses alone.
  const bound = process.platform === 'win32' ? (ipv6 ? '::' : '0.0.0.0') : group;
  const socket = await bindDatagram({ address: bound, port }, { shared: true });
  try {
    socket.addMembership(ipv6 ? SSDP_IPV6[0] : group, ipv6 ? `::%${name}` : address);
  } catch (error) {
    await closeDatagram(socket);
    throw error;
  }
  return socket;
}
