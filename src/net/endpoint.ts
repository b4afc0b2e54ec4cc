/** An address and a port. */

import { bracketed, type IpAddress } from './address.ts';

export interface Endpoint {
  readonly address: IpAddress;
  /** 1..65535. */
  readonly port: number;
}

/** `192.0.2.1:80`, `[2001:db8::1]:80`. */
export function formatEndpoint(endpoint: Endpoint): string {
  return `${bracketed(endpoint.address)}:${endpoint.port}`;
}

/** Who may send to a mapping: a host or a network, and there one port or any. */
export interface RemotePeer {
  readonly address: IpAddress;
  /** Of the address's own family: 0..32 or 0..128. */
  readonly prefixLength: number;
  /** 0 is any. */
  readonly port: number;
}
