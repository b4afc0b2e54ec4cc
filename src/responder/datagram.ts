/** UDP sockets of the gateway: opened and closed as promises; a send that fails is a lost packet. */

import { createSocket, type Socket } from 'node:dgram';
import { networkInterfaces } from 'node:os';
import { family, type IpAddress, withoutZone } from '../net/address.ts';
import type { Endpoint } from '../net/endpoint.ts';

/** Rejects where the port cannot be had. Port 0 is any. `shared` lets others bind the same port. */
export function bindDatagram(at: Endpoint, options: { readonly shared?: boolean } = {}): Promise<Socket> {
  const ipv6 = family(at.address) === 6;
  const socket = createSocket({
    type: ipv6 ? 'udp6' : 'udp4',
    ipv6Only: ipv6,
    reuseAddr: options.shared === true,
  });
  return new Promise((resolve, reject) => {
    const failed = (error: Error) => {
      socket.close();
      reject(error);
    };
    socket.once('error', failed);
    socket.bind({ address: at.address, port: at.port, exclusive: true }, () => {
      socket.off('error', failed);
      // ICMP errors of earlier packets come up here; they say nothing about the next one.
      socket.on('error', () => undefined);
      resolve(socket);
    });
  });
}

export function closeDatagram(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    try {
      socket.close(() => resolve());
    } catch {
      resolve(); // closed already
    }
  });
}

/** Resolves when the packet is handed over, or lost. */
export function sendDatagram(socket: Socket, packet: Uint8Array, to: Endpoint): Promise<void> {
  return new Promise((resolve) => {
    try {
      socket.send(packet, to.port, to.address, () => resolve());
    } catch {
      resolve(); // closed already
    }
  });
}

/** UDA 2.0, section 1.2.2. */
const MULTICAST_TTL = 2;

/**
 * Has what a socket sends to groups leave by the interface that has `address`, whatever the routes say; where that
 * cannot be, the routes decide.
 */
export function aimMulticast(socket: Socket, address: IpAddress): void {
  try {
    socket.setMulticastTTL(MULTICAST_TTL);
    if (family(address) === 4) socket.setMulticastInterface(address);
    else socket.setMulticastInterface(`::%${interfaceOf(address) ?? ''}`);
  } catch {
    // No such interface any more.
  }
}

/** The name of the interface that has an address; undefined where none has it. */
export function interfaceOf(address: IpAddress): string | undefined {
  const zone = address.slice(withoutZone(address).length + 1);
  if (zone !== '') return zone;
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    if (addresses?.some((own) => own.address === address)) return name;
  }
  return undefined;
}
