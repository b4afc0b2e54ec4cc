/** What the parts of one gateway share. */

import type { Clock } from '../system/clock.ts';
import type { Counters } from './counters.ts';
import type { EventSource } from './events/source.ts';
import type { Granting, PinholeKeeping } from './granting.ts';
import type { HookSet } from './hooks.ts';
import type { Identity } from './identity.ts';
import type { FaceSettings } from './settings.ts';
import type { Guard } from './guard.ts';

export interface Site {
  readonly settings: FaceSettings;
  readonly clock: Clock;
  readonly hooks: HookSet;
  readonly counters: Counters;
  readonly identity: Identity;
  readonly grants: Granting;
  readonly pinholes: PinholeKeeping;
  /** Fires when the gateway closes. */
  readonly closing: AbortSignal;
  /** Who is answered. */
  readonly guard: Guard;
  /** Told of what UPnP's subscribers are to know. */
  readonly events: EventSource;
}

/** Counts a request, serves it, and resolves with what is to be answered; undefined is silence. */
export async function exchanged<T>(
  site: Site,
  layer: 'pcp' | 'natpmp' | 'ssdp' | 'http',
  kind: string,
  serve: () => Promise<T | undefined>,
): Promise<T | undefined> {
  site.counters.count(kind);
  await site.hooks.ready;
  if (!site.hooks.has('exchange')) return serve();
  let run = serve;
  for (const hook of site.hooks.all('exchange').toReversed()) {
    const inner = run;
    run = () => hook({ layer, kind }, inner);
  }
  return run();
}

/** The external address as the gateway reports it: not always an address, see quirk 24; empty where it is not known. */
export function reportedAddress(site: Site): string {
  const report = site.hooks.all('externalAddress');
  return report.reduce<string>((address, change) => change(address), site.identity.externalAddress ?? '');
}
