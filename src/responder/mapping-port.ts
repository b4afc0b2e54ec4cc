/**
 * The UDP port that PCP and NAT-PMP share (RFC 6887, appendix A): the first byte of a packet is its version,
 * and says whose it is. Where only one of the two is spoken here, it refuses the other's version.
 */

import type { Socket } from 'node:dgram';
import { family } from '../net/address.ts';
import type { Endpoint } from '../net/endpoint.ts';
import { NATPMP_VERSION } from '../wire/natpmp.ts';
import { aimMulticast, closeDatagram, sendDatagram } from './datagram.ts';
import { sendAnswer } from './decoys.ts';
import { answerNatpmp, refusedVersion } from './natpmp.ts';
import { answerPcp } from './pcp.ts';
import { exchanged, type Site } from './site.ts';

/** Requests that may wait at once; a flood beyond is dropped, as any gateway does. */
const MAX_WAITING = 1024;
const RESPONSE = 0x80;
/** Announcements are for the link alone. */
const MULTICAST_TTL = 1;

export class MappingPort {
  readonly #site: Site;
  readonly #sockets: readonly Socket[];
  #waiting = 0;

  /** `sockets` are bound to the site's inner addresses, in their order. */
  constructor(site: Site, sockets: readonly Socket[]) {
    this.#site = site;
    this.#sockets = sockets;
    for (const [index, socket] of sockets.entries()) {
      aimMulticast(socket, site.settings.addresses[index] ?? '');
      socket.setMulticastTTL(MULTICAST_TTL);
      socket.on('message', (packet, from) => void this.#receive(socket, packet, from));
    }
  }

  get port(): number {
    return this.#sockets[0]?.address().port ?? 0;
  }

  async send(packet: Uint8Array, to: Endpoint): Promise<void> {
    const ipv6 = family(to.address) === 6;
    const socket = this.#sockets.find((candidate) => (candidate.address().family === 'IPv6') === ipv6);
    if (socket !== undefined) await sendDatagram(socket, packet, to);
  }

  async close(): Promise<void> {
    await Promise.all(this.#sockets.map((socket) => closeDatagram(socket)));
  }

  async #receive(socket: Socket, packet: Uint8Array, from: Endpoint): Promise<void> {
    if (from.port === 0 || !this.#site.guard.admits(from.address)) return;
    // RFC 6887, section 8.2: too short, or an answer: dropped without a word.
    if (packet.length < 2 || ((packet[1] ?? 0) & RESPONSE) !== 0 || this.#waiting >= MAX_WAITING) return;
    this.#waiting++;
    try {
      const { settings, hooks } = this.#site;
      // NAT-PMP is of IPv4 alone (RFC 6886, section 1).
      const natpmp = packet[0] === NATPMP_VERSION && family(from.address) === 4;
      const layer = natpmp && settings.protocols.includes('natpmp') ? 'natpmp' : 'pcp';
      const answer = await this.#answer(layer, packet, from);
      if (answer === undefined) return;
      if (hooks.has('decoys')) await sendAnswer(this.#site, socket, layer, packet, answer, from);
      else sendNow(socket, answer, from);
    } catch {
      this.#site.counters.count('internal error');
    } finally {
      this.#waiting--;
    }
  }

  #answer(layer: 'pcp' | 'natpmp', packet: Uint8Array, from: Endpoint): Promise<Uint8Array | undefined> {
    if (layer === 'natpmp') return answerNatpmp(packet, from.address, this.#site);
    if (this.#site.settings.protocols.includes('pcp')) return answerPcp(packet, from.address, this.#site);
    return exchanged(this.#site, 'natpmp', 'natpmp malformed', () =>
      Promise.resolve(refusedVersion(packet, this.#site)),
    );
  }
}

/** An answer that is lost is asked for again: nobody waits to hear of it. */
function sendNow(socket: Socket, answer: Uint8Array, to: Endpoint): void {
  try {
    socket.send(answer, to.port, to.address);
  } catch {
    // Closed already.
  }
}
