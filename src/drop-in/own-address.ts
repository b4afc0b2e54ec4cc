/** Which addresses are this host's. */

import { networkInterfaces } from 'node:os';
import { type IpAddress, parseAddress } from '../net/address.ts';

/** As they are now: they come and go. */
export function ownAddresses(): ReadonlySet<IpAddress> {
  const all = Object.values(networkInterfaces()).flatMap((addresses = []) => addresses);
  return new Set(all.flatMap(({ address }) => parseAddress(address) ?? []));
}

/** This host's IPv4 address on an interface; undefined where it has none. */
export function ownAddressOn(name: string): IpAddress | undefined {
  return networkInterfaces()[name]?.find(({ family }) => family === 'IPv4')?.address;
}
