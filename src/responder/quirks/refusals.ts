/** Quirks of what is refused, how that is said, and what is granted in words alone. */

import { parseAddress, type IpAddress } from '../../net/address.ts';
import { type ActionCall, fault } from '../actions/action.ts';
import type { GrantRequest } from '../grant.ts';
import type { Hooks } from '../hooks.ts';
import type { TableEntry } from '../table.ts';
import type { Inside } from './inside.ts';
import { addsMapping } from './leases.ts';

export function conflictAs501(): Hooks {
  return {
    async action(call, next) {
      const reply = await next(call);
      return reply.kind === 'fault' && [716, 718].includes(reply.errorCode) ? fault(501) : reply;
    },
  };
}

/**
 * The lease of the address before is still there when the same host asks again. It is planted when a port is
 * first asked for, and can be deleted like the host's own, which it is.
 */
export function conflictWithOwnStaleAddress(staleAddress: IpAddress, { site }: Inside): Hooks {
  const planted = new Set<string>();
  return {
    async action(call, next) {
      const key = `${call.values['NewProtocol']} ${call.values['NewExternalPort']}`;
      if (call.action === 'DeletePortMapping' && planted.has(key)) {
        return next({ ...call, requester: staleAddress });
      }
      if (addsMapping(call) && !planted.has(key)) {
        planted.add(key);
        const stale = staleEntry(call, staleAddress);
        const there = site.grants.get('upnp', stale.protocol, stale.externalPort);
        if (there === undefined) await site.grants.plant('upnp', stale);
      }
      return next(call);
    },
  };
}

function staleEntry({ values }: ActionCall, internalClient: IpAddress): TableEntry {
  return {
    protocol: values['NewProtocol'] === 'UDP' ? 'udp' : 'tcp',
    externalPort: Number(values['NewExternalPort']),
    internalClient,
    internalPort: Number(values['NewInternalPort']),
    expiresAtMs: undefined,
    description: values['NewPortMappingDescription'] ?? '',
    enabled: true,
    via: 'upnp',
    nonce: undefined,
    remotePeers: [],
  };
}

export function forbiddenByUser(): Hooks {
  return {
    grant: async () => ({ kind: 'refused', refusal: 'not-authorized' }),
    action: async (call, next) => (call.action === 'AddPinhole' ? fault(606) : next(call)),
  };
}

export function conflictWithManualRule(externalPorts: readonly number[]): Hooks {
  return {
    reserved: (_protocol, externalPort) => (externalPorts.includes(externalPort) ? 'manual-rule' : undefined),
  };
}

export function saysYesMapsNothing({ site }: Inside): Hooks {
  return {
    grant: async (request) => ({
      kind: 'granted',
      entry: imagined(request, site.clock.now()),
      lifetimeSeconds: request.lifetimeSeconds,
    }),
  };
}

function imagined(request: GrantRequest, nowMs: number): TableEntry {
  const { protocol, suggestedExternalPort, internalClient, internalPort, lifetimeSeconds } = request;
  return {
    protocol,
    externalPort: suggestedExternalPort || internalPort,
    internalClient,
    internalPort,
    expiresAtMs: lifetimeSeconds === undefined ? undefined : nowMs + lifetimeSeconds * 1000,
    description: request.description ?? '',
    enabled: request.enabled,
    via: request.via,
    nonce: request.nonce,
    remotePeers: request.remotePeers ?? [],
  };
}

export function pinholeOnlyFromClient(): Hooks {
  return {
    action: async (call, next) =>
      call.action === 'AddPinhole' && parseAddress(call.values['InternalClient'] ?? '') !== call.requester
        ? fault(606)
        : next(call),
  };
}

export function samePortsRequired(): Hooks {
  return {
    action: async (call, next) =>
      addsMapping(call) && Number(call.values['NewExternalPort']) !== Number(call.values['NewInternalPort'])
        ? fault(724)
        : next(call),
  };
}
