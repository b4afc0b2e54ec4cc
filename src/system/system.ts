/** The machine, as one value that the caller hands in: the seam for every test. */

import type { IpAddress } from '../net/address.ts';
import { type Clock, systemClock } from './clock.ts';
import type { HttpClient } from './http.ts';
import { fillRandom } from './random.ts';
import { type NetworkState, readNetwork } from './routes.ts';
import { type OpenUdp, openUdp } from './udp.ts';

export interface System {
  readonly clock: Clock;
  readonly openUdp: OpenUdp;
  readonly http: HttpClient;
  /** Routes and addresses, now. */
  readonly network: () => Promise<NetworkState>;
  /** Fills the array with bytes that nobody can guess. */
  readonly fillRandom: (bytes: Uint8Array<ArrayBuffer>) => void;
  /** The addresses of a host name, IPv4 first. Rejects where there are none. */
  readonly resolve: (name: string) => Promise<readonly IpAddress[]>;
}

export const realSystem: System = {
  clock: systemClock,
  openUdp,
  // Where PCP or NAT-PMP answers, HTTP is never needed: it is not loaded at start.
  http: async (request) => (await import('./http.ts')).httpRequest(request),
  network: () => readNetwork(),
  fillRandom,
  async resolve(name) {
    const { lookup } = await import('node:dns/promises');
    const found = await lookup(name, { all: true, order: 'ipv4first' });
    return found.map(({ address }) => address);
  },
};
