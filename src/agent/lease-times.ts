/**
 * When a lease is asked for next: in the windows of its lifetime while it is held, and ever more rarely while nobody
 * grants it.
 */

import { momentOf, type RenewalWindow, renewalWindow } from '../mapping/schedule.ts';
import { randomOf } from '../system/random.ts';
import type { System } from '../system/system.ts';
import type { Line } from './gateway-watch.ts';
import type { LeaseRecord } from './lease-record.ts';
import type { Granted } from './port.ts';

/** After a refusal: the person may be changing the gateway's settings. */
const REFUSED_RETRY_MS = 30_000;
const LONGEST_REFUSED_RETRY_MS = 900_000;
const SILENT_RETRY_MS = 1000;
const LONGEST_SILENT_RETRY_MS = 60_000;

/** When what is granted now is renewed first. */
export function firstRenewalMs(granted: readonly Granted[], system: System): number {
  const nowMs = system.clock.now();
  const lifetimes = granted.map(({ lifetimeSeconds }) => lifetimeSeconds || Number.POSITIVE_INFINITY);
  const shortest = Math.min(...lifetimes);
  const window = renewalWindow(0, nowMs, shortest === Number.POSITIVE_INFINITY ? 0 : shortest);
  return window === undefined ? nowMs : momentOf(window, randomOf(system));
}

/** A request has failed on `line`: puts the next one off. */
export function putOff(lease: LeaseRecord, line: Line, isSilent: boolean, system: System): void {
  const nowMs = system.clock.now();
  lease.failures++;
  const window = lease.state === 'held' && lease.line === line ? nextWindow(lease, nowMs) : undefined;
  if (window !== undefined) {
    lease.renewAtMs = momentOf(window, randomOf(system));
    return;
  }
  const [firstMs, longestMs] = isSilent
    ? [SILENT_RETRY_MS, LONGEST_SILENT_RETRY_MS]
    : [REFUSED_RETRY_MS, LONGEST_REFUSED_RETRY_MS];
  lease.retryAtMs = nowMs + Math.min(firstMs * 2 ** Math.min(lease.failures - 1, 16), longestMs);
  if (lease.state === 'held') lease.line = undefined;
}

/** The next window that is not over yet. */
function nextWindow(lease: LeaseRecord, nowMs: number): RenewalWindow | undefined {
  const ends = lease.expiresAtMs;
  const lifetimes = lease.holdings.flatMap(({ mapping }) => mapping.lifetimeSeconds || []);
  const lifetimeSeconds = ends === undefined ? 0 : Math.min(...lifetimes);
  const grantedAtMs = ends === undefined ? nowMs : ends - lifetimeSeconds * 1000;
  for (;;) {
    const window = renewalWindow(++lease.attempt, grantedAtMs, lifetimeSeconds);
    if (window === undefined || window.untilMs > nowMs) return window;
  }
}
