/**
 * The address fields of PCP: 16 bytes each, IPv4 as IPv4-mapped IPv6 (RFC 6887, section 5). A server reads and
 * writes several for each request, nearly all of them IPv4, which need no library.
 */

import { addressBytes16, addressFromBytes, type IpAddress } from '../net/address.ts';

export const PCP_ADDRESS_BYTES = 16;
const IPV4_AT = 12;
const DOT = 0x2e;
const DIGIT_ZERO = 0x30;

export function writePcpAddress(packet: Uint8Array, at: number, address: IpAddress): void {
  if (address.includes(':')) {
    packet.set(addressBytes16(address), at);
    return;
  }
  packet[at + 10] = 0xff;
  packet[at + 11] = 0xff;
  let octetAt = at + IPV4_AT;
  let octet = 0;
  for (let index = 0; index < address.length; index++) {
    const code = address.charCodeAt(index);
    if (code === DOT) {
      packet[octetAt++] = octet;
      octet = 0;
    } else {
      octet = octet * 10 + code - DIGIT_ZERO;
    }
  }
  packet[octetAt] = octet;
}

export function readPcpAddress(packet: Uint8Array, at: number): IpAddress {
  if (!isMapped(packet, at)) return addressFromBytes(packet.subarray(at, at + PCP_ADDRESS_BYTES));
  const first = at + IPV4_AT;
  return `${packet[first]}.${packet[first + 1]}.${packet[first + 2]}.${packet[first + 3]}`;
}

/** Section 5: all of the first 96 bits count. */
function isMapped(packet: Uint8Array, at: number): boolean {
  for (let index = at; index < at + 10; index++) if (packet[index] !== 0) return false;
  return packet[at + 10] === 0xff && packet[at + 11] === 0xff;
}
