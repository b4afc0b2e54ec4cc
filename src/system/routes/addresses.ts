/** The addresses of this machine's interfaces, from what `os.networkInterfaces()` says: those that are up. */

import type { NetworkInterfaceInfo } from 'node:os';
import { type Family, family, type IpAddress, parseAddress, withoutZone } from '../../net/address.ts';
import { zoned } from './default.ts';

export interface InterfaceAddress {
  readonly interface: string;
  readonly address: IpAddress;
  readonly family: Family;
  readonly prefixLength: number;
  readonly internal: boolean;
}

export type Interfaces = Readonly<Partial<Record<string, readonly NetworkInterfaceInfo[]>>>;

/** Malformed entries, and those whose netmask has holes (Node gives no `cidr` then), are left out. */
export function interfaceAddresses(interfaces: Interfaces, platform: NodeJS.Platform): InterfaceAddress[] {
  const found: InterfaceAddress[] = [];
  for (const [label, infos = []] of Object.entries(interfaces)) {
    // Linux gives a second IPv4 address the label `eth0:1`; the routing table knows `eth0`, and no name has a colon.
    const name = platform === 'win32' ? label : label.replace(/:.*/, '');
    for (const info of infos) {
      const address = parseAddress(withoutZone(info.address));
      const prefixLength = /\/(\d{1,3})$/.exec(info.cidr ?? '')?.[1];
      if (address === undefined || prefixLength === undefined) continue;
      if (Number(prefixLength) > (family(address) === 4 ? 32 : 128)) continue;
      // Windows takes a zone only as a number.
      const zone = platform === 'win32' && info.family === 'IPv6' ? String(info.scopeid) : name;
      found.push({
        interface: name,
        address: zoned(address, zone),
        family: family(address),
        prefixLength: Number(prefixLength),
        internal: info.internal,
      });
    }
  }
  return found;
}
