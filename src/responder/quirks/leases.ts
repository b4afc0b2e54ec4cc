/** Quirks of how long a mapping lives. */

import type { ActionCall } from '../actions/action.ts';
import { fault } from '../actions/action.ts';
import type { Hooks } from '../hooks.ts';
import type { Inside } from './inside.ts';

export function addsMapping(call: ActionCall): boolean {
  return call.action === 'AddPortMapping' || call.action === 'AddAnyPortMapping';
}

/** Grants permanent mappings alone, and says `errorCode` to any other wish. */
export function onlyPermanentLeases(errorCode: number): Hooks {
  return {
    action: async (call, next) =>
      addsMapping(call) && Number(call.values['NewLeaseDuration']) !== 0 ? fault(errorCode) : next(call),
    // WANIPConnection:2 makes a week of the 0; these routers are of the first version, or do not know.
    lifetime: (kept, request) => (request.via === 'upnp' ? undefined : kept),
  };
}

export function permanentLeaseRefusedAs402(): Hooks {
  return {
    action: async (call, next) =>
      addsMapping(call) && Number(call.values['NewLeaseDuration']) === 0 ? fault(402) : next(call),
  };
}

export function leasesExpireInstantly(): Hooks {
  return {
    deadline: (entry, deadlineMs) =>
      entry.via === 'upnp' && entry.expiresAtMs !== undefined ? 0 : deadlineMs,
  };
}

export function leaseClampedTo(seconds: number): Hooks {
  return { lifetime: (kept) => (kept === undefined ? undefined : Math.min(kept, seconds)) };
}

export function leaseIgnored(): Hooks {
  return { lifetime: (kept, request) => (request.via === 'upnp' ? undefined : kept) };
}

export function refreshDoesNotExtend({ site }: Inside): Hooks {
  return {
    async grant(request, next) {
      const before = site.grants.list(request.via);
      const outcome = await next(request);
      if (outcome.kind === 'refused') return outcome;
      const { protocol, externalPort } = outcome.entry;
      const old = before.find((was) => was.protocol === protocol && was.externalPort === externalPort);
      if (old === undefined) return outcome;
      const entry = { ...outcome.entry, expiresAtMs: old.expiresAtMs };
      site.grants.table(request.via).put(entry);
      return { ...outcome, entry };
    },
  };
}

export function prunesIdleMappings(seconds: number): Hooks {
  return {
    deadline: (_entry, deadlineMs, lastTrafficAtMs) => Math.min(deadlineMs, lastTrafficAtMs + seconds * 1000),
  };
}
