/** The rule engine of this process: the relay on this machine, with the table that it carries out. */

import { networkInterfaces } from 'node:os';
import type { RuleMemory } from '../agent/rule-memory.ts';
import { Steering } from '../agent/steering.ts';
import type { NatwardError } from '../errors.ts';
import { nodeDatagramHandles } from '../forwarder/relay/datagram-handles.ts';
import { nodeDatagramSockets } from '../forwarder/relay/datagram-sockets.ts';
import { Relay } from '../forwarder/relay/engine.ts';
import { nodeHandles } from '../forwarder/relay/handles.ts';
import { nodeSockets } from '../forwarder/relay/sockets.ts';
import { readHostsFiles } from '../system/hosts-files.ts';
import { fileLimit } from '../system/limits.ts';
import { systemNames } from '../system/names.ts';
import { interfaceAddresses } from '../system/routes/addresses.ts';
import type { System } from '../system/system.ts';

/** RFC 6887, section 14.1.3, and RFC 6886, section 3.2.1: where gateways say that they have started again. */
const OWN_PORTS = [
  { protocol: 'udp', port: 5350, what: 'it hears the gateway’s announcements there' },
] as const;

export function startSteering(
  system: System,
  memory: RuleMemory,
  warn: (key: string, error: NatwardError | undefined) => void,
): Steering {
  const ownAddresses = () => interfaceAddresses(networkInterfaces(), process.platform);
  const engine = new Relay({
    clock: system.clock,
    names: systemNames,
    streams: nodeHandles() ?? nodeSockets,
    datagrams: nodeDatagramHandles() ?? nodeDatagramSockets,
    ownAddresses,
    readHosts: () => readHostsFiles(),
    fileLimit: fileLimit(),
  });
  return new Steering({
    engine,
    memory,
    clock: system.clock,
    fillRandom: system.fillRandom,
    ownAddresses: () => ownAddresses().map(({ address }) => address),
    addressesOf: async (name) => (await systemNames.addressesOf(name)).addresses,
    ownPorts: OWN_PORTS,
    warn,
  });
}
