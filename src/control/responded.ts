/** The gateway for other programs, as this process has it: who it is, and whose leases its clients get. */

import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { Keeper } from '../agent/keeper.ts';
import { Responding } from '../agent/responding.ts';
import { LeaseUpstream } from '../agent/upstream.ts';
import type { System } from '../system/system.ts';

/** Answers nobody before it is configured. `over` fires when the agent ends; `directory` is where it remembers. */
export function prepareResponding(
  system: System,
  keeper: Keeper,
  directory: string,
  over: AbortSignal,
): Responding {
  return new Responding({
    system,
    keeper,
    // Most agents never answer anybody: what that takes is not loaded at start.
    start: async (options) => (await import('../responder/responder.ts')).startResponder(options),
    upstream: () => new LeaseUpstream(keeper, system.clock, over),
    hostName: hostname(),
    identity: [hostname(), machineId(), directory].join(' '),
  });
}

/** machine-id(5): hosts of one name are told apart by it. Empty where there is none. */
function machineId(): string {
  try {
    return readFileSync('/etc/machine-id', 'utf8').trim();
  } catch {
    return '';
  }
}
