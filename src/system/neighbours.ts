/** The hardware addresses of the hosts next to this one, as far as the machine has heard of them. */

import { readFileSync } from 'node:fs';
import type { IpAddress } from '../net/address.ts';

/** Linux's, for IPv4 alone; other systems have no file, and starting a program is too much for a hint. */
const IPV4_TABLE = '/proc/net/arp';

/** `02:42:ac:11:00:02`; undefined where the machine does not tell. Never throws. */
export function readHardwareAddress(address: IpAddress, name: string): string | undefined {
  try {
    return parseNeighbours(readFileSync(IPV4_TABLE, 'utf8'), address, name);
  } catch {
    return undefined;
  }
}

/** `IP address, HW type, Flags, HW address, Mask, Device`, one line a neighbour, the first line a head. */
export function parseNeighbours(text: string, address: IpAddress, name: string): string | undefined {
  for (const line of text.split('\n')) {
    const [neighbour, , flags, hardware, , device] = line.trim().split(/\s+/);
    // Flags 0: it was asked for and has not answered.
    if (neighbour !== address || device !== name || flags === '0x0') continue;
    return /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(hardware ?? '') ? hardware?.toLowerCase() : undefined;
  }
  return undefined;
}
