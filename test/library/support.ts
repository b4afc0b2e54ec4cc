/** An app's agent before an embedded gateway on a loopback address of its own, in the test's time. */

import { onTestFinished } from 'vitest';
// Loaded when they are wanted; here already, so that no virtual time passes meanwhile.
import '../../src/agent/foreground-memory.ts';
import '../../src/agent/keeper.ts';
import '../../src/agent/one-shot.ts';
import type { GatewayPorts } from '../../src/discovery/gateway.ts';
import { Agent, type AgentOptions, type Lease, type LeaseEvents } from '../../src/library/agent.ts';
import { type EmbeddedGateway, startGateway } from '../../src/responder/gateway.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import { systemClock } from '../../src/system/clock.ts';
import { realSystem, type System } from '../../src/system/system.ts';
import { freshInnerAddress } from '../agent/keeping.ts';
import { freshOuterAddress, gatewayAt, gatewayFor, systemFor, type TestGateway } from '../support/gateway.ts';
import { TestClock } from '../support/test-clock.ts';

export interface AppScene extends TestGateway {
  readonly agent: Agent;
  /** Another agent before the same gateway. */
  another(options?: AgentOptions): Agent;
  /** Lets `ms` pass, with all that happens on the network meanwhile. */
  pass(ms: number): Promise<void>;
  /** The external ports of the gateway's table: `tcp 6881`. */
  table(): string[];
}

export async function appFor(
  settings: Partial<GatewaySettings> = {},
  options: AgentOptions = {},
): Promise<AppScene> {
  const scene = await gatewayFor({ address: freshInnerAddress(), carriesTraffic: false, ...settings });
  const { clock, system, gateway, embedded } = scene;
  const another = (more: AgentOptions = {}) => {
    const agent = new Agent({ system, ports: gateway.ports, ...options, ...more });
    onTestFinished(() => clock.settle(agent[Symbol.asyncDispose]()));
    return agent;
  };
  return {
    ...scene,
    agent: another(),
    another,
    pass: (ms) => clock.settle(clock.sleep(ms)),
    table: () => embedded.table.map(({ protocol, externalPort }) => `${protocol} ${externalPort}`),
  };
}

const EVENTS = ['granted', 'renewed', 'changed', 'lost', 'refused', 'released'] as const;

/** What a lease tells from now on: `granted udp 6881`. */
export function toldBy(lease: Lease): string[] {
  const told: string[] = [];
  for (const event of EVENTS) {
    lease.on(event, (...[status]: LeaseEvents[typeof event]) => {
      told.push(`${event} ${status.protocol} ${status.externalPort ?? '-'}`);
    });
  }
  return told;
}

export interface RealScene {
  readonly embedded: EmbeddedGateway;
  /** The real machine on a network where that gateway is the default route's. */
  readonly system: System;
  readonly ports: GatewayPorts;
}

/** The same in real time, where sockets are part of it that no test clock knows of. */
export async function realSceneFor(settings: Partial<GatewaySettings> = {}): Promise<RealScene> {
  const { address = freshInnerAddress() } = settings;
  const outerAddress = freshOuterAddress();
  const embedded = await startGateway(
    { carriesTraffic: false, ...settings, address, outerAddress },
    systemClock,
  );
  onTestFinished(() => embedded.close());
  const { pcp, ssdp } = embedded.ports;
  const gateway = gatewayAt(address, { pcp, ssdp });
  const { network } = systemFor(gateway, new TestClock());
  return { embedded, system: { ...realSystem, network }, ports: gateway.ports };
}
