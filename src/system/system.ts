/** The machine, as one value that the caller hands in: the seam for every test. */

import type { IpAddress } from '../net/address.ts';
import { type Clock, systemClock } from './clock.ts';
import type { FollowProgram } from './follow-program.ts';
import type { HttpClient } from './http.ts';
import { readHardwareAddress } from './neighbours.ts';
import type { RunProgram } from './program.ts';
import { fillRandom } from './random.ts';
import { type NetworkState, readNetwork } from './routes.ts';
import { type OpenUdp, openUdp } from './udp.ts';
import type { WebClient } from './web.ts';

export interface System {
  readonly clock: Clock;
  readonly openUdp: OpenUdp;
  readonly http: HttpClient;
  /** For services that a person named; `http` is for routers. */
  readonly web: WebClient;
  readonly runProgram: RunProgram;
  readonly followProgram: FollowProgram;
  /** Routes and addresses, now. */
  readonly network: () => Promise<NetworkState>;
  /** How often the network may be looked at: a glance at a file, or a program to run. */
  readonly networkLookMs: number;
  /** Of a neighbour's network interface; undefined where the machine does not tell, or has not heard of it. */
  readonly hardwareAddress: (address: IpAddress, name: string) => string | undefined;
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
  web: async (request) => (await import('./web.ts')).webRequest(request),
  runProgram: async (request) => (await import('./program.ts')).runProgram(request),
  async *followProgram(request) {
    yield* (await import('./follow-program.ts')).followProgram(request);
  },
  network: () => readNetwork(),
  networkLookMs: process.platform === 'linux' ? 1000 : 15_000,
  hardwareAddress: readHardwareAddress,
  fillRandom,
  async resolve(name) {
    const { lookup } = await import('node:dns/promises');
    const found = await lookup(name, { all: true, order: 'ipv4first' });
    return found.map(({ address }) => address);
  },
};
