/** Sends the answer to a datagram, after whatever a hostile network sends in its place. */

import type { Socket } from 'node:dgram';
import { family, type IpAddress } from '../net/address.ts';
import type { Endpoint } from '../net/endpoint.ts';
import { bindDatagram, closeDatagram, sendDatagram } from './datagram.ts';
import type { Layer } from './hooks.ts';
import type { Site } from './site.ts';

export async function sendAnswer(
  site: Site,
  socket: Socket,
  layer: Layer,
  request: Uint8Array,
  answer: Uint8Array,
  to: Endpoint,
): Promise<void> {
  for (const decoys of site.hooks.all('decoys')) {
    for (const { packet, from } of decoys(answer, request, layer)) {
      if (from === 'gateway') await sendDatagram(socket, packet, to);
      else await sendFrom(strangerOf(socket.address().address), packet, to);
    }
  }
  await sendDatagram(socket, answer, to);
}

/** Sends from a socket of its own: any port of `address`. */
export async function sendFrom(address: IpAddress, packet: Uint8Array, to: Endpoint): Promise<void> {
  const socket = await bindDatagram({ address, port: 0 });
  await sendDatagram(socket, packet, to);
  await closeDatagram(socket);
}

/** Another address of the loopback network, where the gateway is on it; else the same one on another port. */
function strangerOf(address: IpAddress): IpAddress {
  if (family(address) === 6 || !address.startsWith('127.')) return address;
  const octets = address.split('.').map(Number);
  return octets.map((octet, at) => (at === 3 ? octet ^ 0x80 || 1 : octet)).join('.');
}
