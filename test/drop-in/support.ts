/**
 * The embedded gateway on loopback with real time, and what a drop-in is given so that it asks there: a machine whose
 * only network is loopback. It closes with the test.
 */

import { randomInt } from 'node:crypto';
import { onTestFinished } from 'vitest';
import type { AgentOptions } from '../../src/library/agent.ts';
import { type EmbeddedGateway, startGateway } from '../../src/responder/gateway.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import { systemClock } from '../../src/system/clock.ts';
import { realSystem, type System } from '../../src/system/system.ts';
import { SSDP_PORT } from '../../src/wire/ssdp.ts';
import { freshOuterAddress } from '../support/gateway.ts';

const INNER = '127.0.0.1';

export interface TestRouter {
  readonly embedded: EmbeddedGateway;
  readonly options: AgentOptions;
}

export async function routerFor(settings: Partial<GatewaySettings> = {}): Promise<TestRouter> {
  const outerAddress = freshOuterAddress();
  const embedded = await startGateway({ address: INNER, outerAddress, ...settings }, systemClock);
  onTestFinished(() => embedded.close());
  const { pcp, ssdp } = embedded.ports;
  const ports = { pcp: pcp || (await closedPort()), ssdp: ssdp || (await closedPort()) };
  return { embedded, options: { ports, system: loopback(ports.ssdp), timeoutMs: 5_000 } };
}

/** A multicast search goes to the gateway's own SSDP port: no other test hears it. */
function loopback(ssdpPort: number): System {
  return {
    ...realSystem,
    async openUdp(options) {
      const socket = await realSystem.openUdp(options);
      return {
        local: socket.local,
        send: (data, to) => socket.send(data, to?.port === SSDP_PORT ? { ...to, port: ssdpPort } : to),
        [Symbol.asyncDispose]: () => socket[Symbol.asyncDispose](),
      };
    },
    network: async () => ({
      defaultRoutes: [{ family: 4, interface: 'lo', gateway: INNER, metric: 0 }],
      addresses: [{ interface: 'lo', address: INNER, family: 4, prefixLength: 8, internal: true }],
    }),
  };
}

/** A UDP port that was free a moment ago, below those that the kernel hands out: asking there is refused at once. */
async function closedPort(): Promise<number> {
  for (;;) {
    const localPort = randomInt(10_000, 30_000);
    const wish = { family: 4, localAddress: INNER, localPort, onDatagram: () => undefined } as const;
    const socket = await realSystem.openUdp(wish).catch(() => undefined);
    await socket?.[Symbol.asyncDispose]();
    if (socket !== undefined) return localPort;
  }
}

/** The gateway's table, as `tcp 8080 -> 80`. */
export function tableOf({ embedded }: TestRouter): string[] {
  return embedded.table
    .map(({ protocol, externalPort, internalPort }) => `${protocol} ${externalPort} -> ${internalPort}`)
    .sort();
}
