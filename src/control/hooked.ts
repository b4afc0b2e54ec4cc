/** A keeper with the hooks of its intents and of the configuration. */

import type { AgentEvent } from '../agent/events.ts';
import type { Hook } from '../agent/hooks/hook.ts';
import { HookRunner } from '../agent/hooks/runner.ts';
import type { Keeper } from '../agent/keeper.ts';
import type { System } from '../system/system.ts';

/** Runs hooks from now on; `configured` are those of all leases, as they are at that moment. */
export function runHooks(
  system: System,
  keeper: Keeper,
  version: string,
  configured: () => readonly Hook[],
): HookRunner {
  const runner = new HookRunner(system, {
    version,
    hooksOf: (event) => [...configured(), ...hooksOf(event, keeper)],
    warn: (message, advice) => keeper.log.emit({ type: 'warning', message, advice }),
  });
  keeper.log.listen((event) => runner.handle(event));
  return runner;
}

/** A new external address is news for the leases of its gateway. */
function hooksOf(event: AgentEvent, keeper: Keeper): readonly Hook[] {
  if ('lease' in event) return keeper.intentOf(event.lease.intentId)?.hooks ?? [];
  return event.type === 'address-changed' ? keeper.hooksAt(event.gateway.address) : [];
}
