/** What happens to leases, as the hooks are told of it; and a runner with what it warned of. */

import { onTestFinished } from 'vitest';
import type { AgentEvent, AgentHappening, PreviousEndpoint } from '../../../src/agent/events.ts';
import type { Hook, HookedEvent } from '../../../src/agent/hooks/hook.ts';
import { HookRunner } from '../../../src/agent/hooks/runner.ts';
import type { GatewayStatus, LeaseStatus } from '../../../src/agent/lease.ts';
import { NatwardError } from '../../../src/errors.ts';
import type { System } from '../../../src/system/system.ts';
import type { WebClient } from '../../../src/system/web.ts';
import { sampleLease } from '../../support/sample-lease.ts';
import { systemWith } from '../../support/services.ts';
import { TestClock } from '../../support/test-clock.ts';

function lease(change: Partial<LeaseStatus> = {}): LeaseStatus {
  return sampleLease({
    id: '3fa94c01/tcp/8080',
    spec: '8080/tcp',
    requestedExternalPort: null,
    externalAddress: '11.22.33.44',
    externalPort: 40_000,
    internalPort: 8080,
    expiresAt: '2026-01-01T02:00:00.000Z',
    renewsAt: '2026-01-01T01:00:00.000Z',
    description: 'natward 8080/tcp',
    ...change,
  });
}

function gateway(change: Partial<GatewayStatus> = {}): GatewayStatus {
  return {
    address: '192.168.1.1',
    family: 4,
    interface: 'eth0',
    localAddress: '192.168.1.10',
    state: 'up',
    protocols: ['pcp'],
    externalAddress: '11.22.33.44',
    ...change,
  };
}

let count = 0;

function event<T extends AgentHappening>(happening: T): T & { readonly id: number; readonly at: string } {
  return { ...happening, id: ++count, at: '2026-01-01T00:00:00.000Z' };
}

export function granted(change: Partial<LeaseStatus> = {}): HookedEvent {
  return event({ type: 'granted', lease: lease(change) });
}

export function changed(
  change: Partial<LeaseStatus> = {},
  previous: Partial<PreviousEndpoint> = {},
): HookedEvent {
  const before = { externalAddress: '11.22.33.44', externalPort: 40_000, internalClient: '192.168.1.10' };
  return event({ type: 'changed', lease: lease(change), previous: { ...before, ...previous } });
}

export function lost(change: Partial<LeaseStatus> = {}, reason = 'the gateway was restarted'): HookedEvent {
  return event({ type: 'lost', lease: lease({ state: 'lost', ...change }), reason });
}

export function released(change: Partial<LeaseStatus> = {}): AgentEvent {
  return event({ type: 'released', lease: lease(change), reason: null });
}

export function addressChanged(
  externalAddress: string | null,
  change: Partial<GatewayStatus> = {},
): HookedEvent {
  return event({
    type: 'address-changed',
    gateway: gateway({ externalAddress, ...change }),
    previous: '11.22.33.44',
  });
}

export interface Warning {
  readonly message: string;
  readonly advice: string | null;
}

export interface RunnerScene {
  readonly clock: TestClock;
  readonly runner: HookRunner;
  readonly warnings: readonly Warning[];
}

/** A runner whose hooks are all set on every event. It closes with the test. */
export function runnerOf(
  hooks: readonly Hook[],
  change: (system: System) => System = (one) => one,
): RunnerScene {
  const clock = new TestClock();
  const warnings: Warning[] = [];
  const runner = new HookRunner(change(systemWith(clock)), {
    version: '1.2.3',
    hooksOf: () => hooks,
    warn: (message, advice) => warnings.push({ message, advice }),
  });
  onTestFinished(() => clock.settle(runner.close()));
  return { clock, runner, warnings };
}

export function aborting(message: string): AbortSignal {
  return AbortSignal.abort(new NatwardError('ABORTED', message));
}

/** What a hook is given to reach its service with. */
export function reachWith(web: WebClient): {
  readonly web: WebClient;
  readonly userAgent: string;
  readonly signal: AbortSignal;
} {
  return { web, userAgent: 'natward/1.2.3', signal: new AbortController().signal };
}
