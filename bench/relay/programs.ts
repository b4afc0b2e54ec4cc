/** What a relay is to do, and how each of them is told: the vocabulary of the parts. */

import { basename } from 'node:path';
import type { LabProcess } from '../../test/lab/support/processes.ts';
import { type Network, ROUTER, SERVER } from './network.ts';

export type Protocol = 'tcp' | 'udp';

/** Ports of the router, one after the other, all to one port of the server. */
export interface Forward {
  readonly protocol: Protocol;
  readonly port: number;
  readonly ports: number;
  /** `range`: one rule for all of the ports. */
  readonly as: 'rules' | 'range';
  readonly serverPort: number;
}

export interface Started {
  /** Where a client finds the first of the ports. */
  readonly host: string;
  readonly port: number;
  /** Undefined where the kernel alone is at work. */
  readonly process: LabProcess | undefined;
  /** When it began to be told what to do (`performance.now()`). */
  readonly toldAtMs: number;
  /** Where being told is a step of its own: resolves when the program says that it has done so. */
  readonly told?: Promise<void>;
}

export interface Relay {
  readonly name: string;
  readonly protocols: readonly Protocol[];
  /** How it can be told many ports. */
  readonly many: readonly Forward['as'][];
  /** Made for throughput: measured in that alone. */
  readonly bulkOnly?: boolean;
  /** Shown with the figures. */
  readonly commandLine: string;
  /** Resolves when it has begun to be told. */
  start(network: Network, forward: Forward): Promise<Started>;
}

/** One port. */
export function single(protocol: Protocol, port: number, serverPort: number): Forward {
  return { protocol, port, ports: 1, as: 'rules', serverPort };
}

/** A line for every rule. */
export function lines({ port, ports, as }: Forward, line: (port: string) => string): string {
  if (as === 'range' && ports > 1) return line(`${port}-${port + ports - 1}`);
  return Array.from({ length: ports }, (_, at) => line(String(port + at))).join('\n');
}

/** The server's own address, through the router's kernel: what any relay costs is on top of this. */
export const ROUTED: Relay = {
  name: 'routed',
  protocols: ['tcp', 'udp'],
  many: [],
  commandLine: 'net.ipv4.ip_forward=1',
  start: async (_, { serverPort }) => {
    const toldAtMs = performance.now();
    return { host: SERVER, port: serverPort, process: undefined, toldAtMs };
  },
};

/** Any program `node FILE LISTEN_ADDR LISTEN_PORT TARGET_ADDR TARGET_PORT tcp|udp`. */
export function nodeScript(file: string): Relay {
  return {
    name: basename(file),
    protocols: ['tcp', 'udp'],
    many: [],
    commandLine: `node ${file} LISTEN_ADDR LISTEN_PORT TARGET_ADDR TARGET_PORT tcp|udp`,
    async start(network, { protocol, port, serverPort }) {
      const toldAtMs = performance.now();
      const args = [ROUTER, String(port), SERVER, String(serverPort), protocol];
      const started = network.start('router', [process.execPath, file, ...args]);
      return { host: ROUTER, port, process: started, toldAtMs };
    },
  };
}
