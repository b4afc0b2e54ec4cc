/** The programs that are measured, and how each is told to map one TCP port. */

import { fileURLToPath } from 'node:url';

/** What a gateway of the lab speaks. */
export type Dialect = 'pcp' | 'upnp';

export interface Client {
  readonly name: string;
  /** It is run where the gateway speaks one of them. PCP stands for NAT-PMP, too: miniupnpd has both or none. */
  readonly speaks: readonly Dialect[];
  /** An npm package that finds its gateway by itself. */
  readonly isNpmPeer?: true;
  /** Which NATWARD_HOME: a new one each time, or always the same. */
  readonly home?: 'cold' | 'warm';
  command(port: number): readonly string[];
}

const path = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** The built program and library. */
export const NATWARD: string = path('../dist/bin/natward.cjs');
export const NATWARD_LIBRARY: string = path('../dist/index.js');

export function driver(name: string, ...args: readonly string[]): string[] {
  return [process.execPath, path(`peers/${name}.mjs`), ...args];
}

function npmPeer(name: string, script: string, speaks: readonly Dialect[], ...args: string[]): Client {
  return { name, speaks, isNpmPeer: true, command: (port) => driver(script, String(port), ...args) };
}

function natward(home: 'cold' | 'warm'): Client {
  return {
    name: `natward (${home})`,
    speaks: ['pcp', 'upnp'],
    home,
    command: (port) => [process.execPath, NATWARD, 'map', String(port)],
  };
}

/** Everyone who maps a port, by turns. The bare scripts are what is possible at all; they have no fallback. */
export function clients(ownAddress: string, gateway: string): readonly Client[] {
  return [
    {
      name: 'bare script, PCP',
      speaks: ['pcp'],
      command: (port) => driver('one-by-one', 'pcp', gateway, String(port), '1'),
    },
    {
      name: 'bare script, UPnP',
      speaks: ['upnp'],
      command: (port) => driver('bare-upnp', gateway, ownAddress, String(port)),
    },
    natward('cold'),
    natward('warm'),
    {
      name: 'upnpc',
      speaks: ['upnp'],
      command: (port) => ['upnpc', '-a', ownAddress, String(port), String(port), 'TCP', '7200'],
    },
    {
      name: 'natpmpc',
      speaks: ['pcp'],
      command: (port) => ['natpmpc', '-a', String(port), String(port), 'tcp', '7200'],
    },
    npmPeer('nat-upnp', 'nat-upnp', ['upnp']),
    npmPeer('@silentbot1/nat-api', 'nat-api', ['pcp', 'upnp']),
    npmPeer('@achingbrain/nat-port-mapper UPnP', 'nat-port-mapper-upnp', ['upnp']),
    npmPeer('@achingbrain/nat-port-mapper NAT-PMP', 'nat-port-mapper-natpmp', ['pcp']),
    npmPeer('port-mapper', 'port-mapper', ['pcp', 'upnp']),
    npmPeer('port-mapper, PCP alone', 'port-mapper', ['pcp'], 'pcp'),
    npmPeer('port-mapper, NAT-PMP alone', 'port-mapper', ['pcp'], 'natpmp'),
  ];
}
