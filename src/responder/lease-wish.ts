/** What a client's request is to the outer gateway, and what the client is told of what comes of it. Pure. */

import type { GrantRequest } from './grant.ts';
import type { TableEntry } from './table.ts';
import type { UpstreamWish } from './upstream.ts';

/** RFC 6887, section 15. */
const MIN_LIFETIME_SECONDS = 120;
const MAX_LIFETIME_SECONDS = 86_400;
/** The outer gateway is asked for this where a client wants no end (RFC 6886, section 3.3). */
const USUAL_LIFETIME_SECONDS = 7200;

/** By what the outer gateway knows a mapping. */
export function outerKey({ protocol, externalPort }: Pick<TableEntry, 'protocol' | 'externalPort'>): string {
  return `${protocol} ${externalPort}`;
}

/** What must not be worked on twice at a time: the inner end, and the outer one that is asked for. */
export function keysOf(one: GrantRequest | TableEntry): readonly string[] {
  const { protocol, internalClient, internalPort } = one;
  const externalPort = 'externalPort' in one ? one.externalPort : one.suggestedExternalPort;
  const inner = `${protocol} ${internalClient} ${internalPort}`;
  return externalPort === 0 ? [inner] : [inner, outerKey({ protocol, externalPort })];
}

/** Reports whether the request leaves the entry leading where it does. */
export function isSame(entry: TableEntry, request: GrantRequest): boolean {
  return (
    entry.internalPort === request.internalPort &&
    entry.enabled === request.enabled &&
    (request.remotePeers === undefined ||
      JSON.stringify(entry.remotePeers) === JSON.stringify(request.remotePeers))
  );
}

export function wishOf(request: GrantRequest, suggestedExternalPort: number): UpstreamWish {
  const { protocol, internalClient, internalPort, exact, description = '' } = request;
  const { lifetimeSeconds = USUAL_LIFETIME_SECONDS } = request;
  return {
    protocol,
    internalClient,
    internalPort,
    suggestedExternalPort,
    exact: exact && suggestedExternalPort !== 0,
    lifetimeSeconds: Math.min(Math.max(lifetimeSeconds, MIN_LIFETIME_SECONDS), MAX_LIFETIME_SECONDS),
    description,
    remotePeer: request.remotePeers?.[0],
    via: request.via,
    nonce: request.nonce,
    isEndless: request.lifetimeSeconds === undefined,
  };
}

/** As the client asked who has that wish held from before this program started; enabled, or nothing would be held. */
export function requestOf({ nonce, remotePeer, isEndless, ...asked }: UpstreamWish): GrantRequest {
  return {
    ...asked,
    requester: asked.internalClient,
    lifetimeSeconds: isEndless ? undefined : asked.lifetimeSeconds,
    enabled: true,
    remotePeers: remotePeer === undefined ? [] : [remotePeer],
    ...(nonce === undefined ? {} : { nonce }),
  };
}

/** As it is in the table; when it ends is another question. */
export function entryOf(
  request: GrantRequest,
  { externalPort, externalAddress }: Pick<TableEntry, 'externalPort' | 'externalAddress'>,
): TableEntry {
  const { protocol, internalClient, internalPort, enabled, via, nonce, isPeer } = request;
  return {
    protocol,
    externalPort,
    externalAddress,
    internalClient,
    internalPort,
    enabled,
    via,
    nonce,
    description: request.description ?? '',
    remotePeers: request.remotePeers ?? [],
    expiresAtMs: undefined,
    isPeer,
  };
}

/**
 * What the client is told, in protocols that tell it: no more than the outer gateway has promised, so that the client
 * asks again in time to hear of what has changed. UPnP has the client's own wish.
 */
export function lifetimeOf(
  { via, lifetimeSeconds }: GrantRequest,
  upstream: number | undefined,
): number | undefined {
  if (via === 'upnp' || lifetimeSeconds === undefined) return lifetimeSeconds;
  const asked = via === 'pcp' ? Math.max(lifetimeSeconds, MIN_LIFETIME_SECONDS) : lifetimeSeconds;
  return Math.min(asked, upstream ?? MAX_LIFETIME_SECONDS, MAX_LIFETIME_SECONDS);
}
