/** What the gateway's sides stand on, without a gateway around it: for what an embedded gateway never is. */

import { onTestFinished } from 'vitest';
import type { IpAddress } from '../../../src/net/address.ts';
import { Counters } from '../../../src/responder/counters.ts';
import { EventSource } from '../../../src/responder/events/source.ts';
import { Grants } from '../../../src/responder/grants.ts';
import { EVERYBODY, type Guard } from '../../../src/responder/guard.ts';
import { HookSet } from '../../../src/responder/hooks.ts';
import { HttpSide } from '../../../src/responder/http.ts';
import { Identity } from '../../../src/responder/identity.ts';
import { Pinholes } from '../../../src/responder/pinholes.ts';
import { resolveSettings } from '../../../src/responder/settings.ts';
import type { Site } from '../../../src/responder/site.ts';
import { type Clock, systemClock } from '../../../src/system/clock.ts';
import { INNER } from './client.ts';

export interface BareUpnp {
  readonly site: Site;
  readonly location: string;
}

/** Until the test ends. */
export function siteFor(
  clock: Clock,
  { guard = EVERYBODY, externalAddress }: { readonly guard?: Guard; readonly externalAddress?: IpAddress },
): Site {
  const settings = resolveSettings({ address: INNER, outerAddress: '127.0.0.2', carriesTraffic: false });
  const closing = new AbortController();
  const hooks = new HookSet();
  const events = new EventSource();
  const grants = new Grants(settings, clock, hooks, events);
  onTestFinished(async () => {
    closing.abort();
    await grants.close();
  });
  return {
    settings,
    clock,
    hooks,
    events,
    grants,
    guard,
    counters: new Counters(),
    identity: new Identity(clock, externalAddress),
    pinholes: new Pinholes(clock, settings.maxMappings),
    closing: closing.signal,
  };
}

/** Serves HTTP at the loopback address until the test ends. */
export async function upnpFor(guard: Guard, externalAddress: IpAddress | undefined): Promise<BareUpnp> {
  const site = siteFor(systemClock, externalAddress === undefined ? { guard } : { guard, externalAddress });
  const http = new HttpSide(site);
  onTestFinished(() => http.close());
  await http.open(0);
  return { site, location: http.location(INNER) };
}
