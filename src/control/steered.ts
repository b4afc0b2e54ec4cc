/** The rule engine of this process, as it was chosen, with the table that it carries out. */

import { networkInterfaces } from 'node:os';
import { isOfClient } from '../agent/lease-rules.ts';
import { watchObstacles } from '../agent/obstacle-watch.ts';
import type { RuleMemory } from '../agent/rule-memory.ts';
import { Steering } from '../agent/steering.ts';
import { NatwardError } from '../errors.ts';
import type { ForwardEngine } from '../forwarder/engine.ts';
import { type EngineChoice, parseEngineChoice } from '../forwarder/engine-choice.ts';
import { nodeDatagramHandles } from '../forwarder/relay/datagram-handles.ts';
import { nodeDatagramSockets } from '../forwarder/relay/datagram-sockets.ts';
import { Relay } from '../forwarder/relay/engine.ts';
import { KernelEngine } from '../forwarder/nftables/engine.ts';
import { type Feature, missingFeatures } from '../forwarder/nftables/features.ts';
import { lackOfTools, NEEDS_PRIVILEGES, Nft, PRIVILEGES_ADVICE } from '../forwarder/nftables/tools.ts';
import { SharedEngine } from '../forwarder/shared-engine.ts';
import { interfaceNames } from '../system/interface-names.ts';
import { mayAdministerNetwork } from '../system/privileges.ts';
import { claim } from '../system/sole-owner.ts';
import { systemSysctls } from '../system/sysctl.ts';
import { nodeHandles } from '../forwarder/relay/handles.ts';
import { nodeSockets } from '../forwarder/relay/sockets.ts';
import { readHostsFiles } from '../system/hosts-files.ts';
import { fileLimit } from '../system/limits.ts';
import { isListenedAt } from '../system/listeners.ts';
import { collectGarbage } from '../system/memory.ts';
import { systemNames } from '../system/names.ts';
import { type InterfaceAddress, interfaceAddresses } from '../system/routes/addresses.ts';
import type { System } from '../system/system.ts';

/** RFC 6887, section 14.1.3, and RFC 6886, section 3.2.1: where gateways say that they have started again. */
const OWN_PORTS = [
  { protocol: 'udp', port: 5350, what: 'it hears the gateway’s announcements there' },
] as const;

/** Who has the kernel's tables of a network namespace. */
const KERNEL_OWNER = 'natward-kernel';

/** Throws UNSUPPORTED, CONFLICT or NOT_AUTHORIZED where the engine that is chosen cannot be had here. */
export async function startSteering(
  system: System,
  memory: RuleMemory,
  warn: (key: string, error: NatwardError | undefined) => void,
  choice: EngineChoice,
): Promise<Steering> {
  const ownAddresses = () => interfaceAddresses(networkInterfaces(), process.platform);
  const engine = await engineFor(choice === 'auto' ? usualChoice() : choice, system, ownAddresses);
  return new Steering({
    // The relay knows of none.
    engine: engine.name === 'relay' ? engine : watchObstacles(engine, { clock: system.clock, warn }),
    memory,
    clock: system.clock,
    fillRandom: system.fillRandom,
    ownAddresses: () => ownAddresses().map(({ address }) => address),
    addressesOf: async (name) => (await systemNames.addressesOf(name)).addresses,
    ownPorts: OWN_PORTS,
    isTaken: (protocol, port) => isListenedAt(protocol, port),
    tidy: collectGarbage,
    warn,
  });
}

/** What `auto` means here: NATWARD_ENGINE may say it. */
function usualChoice(): EngineChoice {
  return parseEngineChoice(process.env['NATWARD_ENGINE'] ?? 'auto');
}

async function engineFor(
  choice: EngineChoice,
  system: System,
  ownAddresses: () => readonly InterfaceAddress[],
): Promise<ForwardEngine> {
  const kernel = choice === 'relay' ? undefined : await kernelFor(system, ownAddresses);
  if (choice === 'nftables' && kernel instanceof NatwardError) throw kernel;
  if (choice === 'nftables' && kernel instanceof KernelEngine) return kernel;
  const relay = new Relay({
    clock: system.clock,
    names: systemNames,
    streams: nodeHandles() ?? nodeSockets,
    datagrams: nodeDatagramHandles() ?? nodeDatagramSockets,
    ownAddresses,
    readHosts: () => readHostsFiles(),
    fileLimit: fileLimit(),
    kernelCan: kernelCan(kernel),
  });
  // Docker's and libvirt's firewalls drop what is forwarded to their guests unasked; what the relay sends is this host's own.
  return kernel instanceof KernelEngine ? new SharedEngine(kernel, relay, isOfClient) : relay;
}

/** For the words of the relay's refusals. */
function kernelCan(kernel: KernelEngine | NatwardError | undefined): string {
  if (kernel instanceof NatwardError) return `the kernel’s engine could, but ${kernel.message}`;
  return 'the kernel’s engine can (Linux, with CAP_NET_ADMIN)';
}

/** Or why it cannot be had. */
async function kernelFor(
  system: System,
  ownAddresses: () => readonly InterfaceAddress[],
): Promise<KernelEngine | NatwardError> {
  const missing = await kernelLacks(system);
  if (missing instanceof NatwardError) return missing;
  const owned = await claim(KERNEL_OWNER);
  if (owned === undefined) {
    return new NatwardError(
      'CONFLICT',
      'another natward of this machine carries rules in the kernel already',
      {
        advice: 'Give the rules to that one: natward rule add. Or choose --engine relay.',
      },
    );
  }
  return new KernelEngine({
    clock: system.clock,
    names: systemNames,
    runProgram: system.runProgram,
    followProgram: system.followProgram,
    sysctls: systemSysctls,
    ownAddresses: () => ownAddresses().map(({ address }) => address),
    adapters: () => interfaceNames(),
    missing,
    owned,
  });
}

/** The parts of nftables that this kernel does not have; or why it cannot steer at all. */
async function kernelLacks(system: System): Promise<ReadonlySet<Feature> | NatwardError> {
  if (process.platform !== 'linux') {
    return new NatwardError('UNSUPPORTED', 'the kernel’s engine is nftables, which is Linux alone', {
      advice: 'Choose auto or relay.',
    });
  }
  if (!mayAdministerNetwork()) {
    return new NatwardError('NOT_AUTHORIZED', NEEDS_PRIVILEGES, { advice: PRIVILEGES_ADVICE });
  }
  const lack = await lackOfTools(system.runProgram);
  if (lack !== undefined) return lack;
  try {
    return await missingFeatures(new Nft(system.runProgram));
  } catch (error) {
    if (error instanceof NatwardError) return error;
    throw error;
  }
}
