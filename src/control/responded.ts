/** The gateway for other programs, as this process has it: who it is, and whose leases its clients get. */

import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { Keeper } from '../agent/keeper.ts';
import { Responding } from '../agent/responding.ts';
import { LeaseUpstream } from '../agent/upstream.ts';
import type { System } from '../system/system.ts';
import type { ResponderFence } from './responder-fence.ts';

/** Answers nobody before it is configured. `over` fires when the agent ends; `directory` is where it remembers. */
export function prepareResponding(
  system: System,
  keeper: Keeper,
  directory: string,
  over: AbortSignal,
): Responding {
  let fence: Promise<ResponderFence> | undefined;
  return new Responding({
    system,
    keeper,
    // Most agents never answer anybody: what that takes is not loaded at start.
    start: async (options) => (await import('../responder/responder.ts')).startResponder(options),
    fence: async (places) => (await (fence ??= prepareFence(system, keeper))).raise(places),
    upstream: () => new LeaseUpstream(keeper, system.clock, over),
    hostName: hostname(),
    identity: [hostname(), machineId(), directory].join(' '),
  });
}

async function prepareFence(system: System, keeper: Keeper): Promise<ResponderFence> {
  const { ResponderFence, realFenceMachine } = await import('./responder-fence.ts');
  return new ResponderFence(realFenceMachine(system.runProgram), (error) =>
    keeper.warn('respond fence', error),
  );
}

/** machine-id(5): hosts of one name are told apart by it. Empty where there is none. */
function machineId(): string {
  try {
    return readFileSync('/etc/machine-id', 'utf8').trim();
  } catch {
    return '';
  }
}
