/** Every quirk by its name, with the hooks that make it; and the switch. */

import type { Hooks, HookSet } from '../hooks.ts';
import {
  controlUrlOnAnotherPort,
  dslforumServiceTypes,
  firstWanDeviceDisconnected,
  malformedXml,
  queryInControlUrl,
  spaceBeforeXml,
} from './description.ts';
import {
  delayMs,
  foreignLocation,
  hugeBody,
  loseAnswers,
  redirect,
  silent,
  silentOn,
  slowBody,
  xmlBomb,
} from './hostile.ts';
import type { Inside } from './inside.ts';
import { junkFirst } from './junk.ts';
import {
  leaseClampedTo,
  leaseIgnored,
  leasesExpireInstantly,
  onlyPermanentLeases,
  permanentLeaseRefusedAs402,
  prunesIdleMappings,
  refreshDoesNotExtend,
} from './leases.ts';
import type { Quirks } from './quirks.ts';
import { vpnHabits } from './vpn.ts';
import {
  conflictAs501,
  conflictWithManualRule,
  conflictWithOwnStaleAddress,
  forbiddenByUser,
  pinholeOnlyFromClient,
  samePortsRequired,
  saysYesMapsNothing,
} from './refusals.ts';
import {
  disconnectedYetWorking,
  externalAddressReported,
  httpStyle,
  natpmpNetworkFailure,
  natpmpTruncatesPorts,
  unknownActionResets,
} from './replies.ts';
import {
  answersAllWithWfaDeviceOnly,
  answersMulticastOnly,
  breaksOnBothFamilies,
  floatingAddress,
  repliesFromAnotherPort,
  ssdpHeaders,
} from './search.ts';

type Makers = {
  readonly [Name in keyof Quirks]-?: (value: NonNullable<Quirks[Name]>, inside: Inside) => Hooks;
};

const MAKERS: Makers = {
  onlyPermanentLeases: () => onlyPermanentLeases(725),
  onlyPermanentLeasesAs402: () => onlyPermanentLeases(402),
  permanentLeaseRefusedAs402,
  leasesExpireInstantly,
  leaseClampedTo,
  leaseIgnored,
  refreshDoesNotExtend: (_on, inside) => refreshDoesNotExtend(inside),
  prunesIdleMappings,
  conflictAs501,
  conflictWithOwnStaleAddress,
  forbiddenByUser,
  conflictWithManualRule,
  saysYesMapsNothing: (_on, inside) => saysYesMapsNothing(inside),
  answersAllWithWfaDeviceOnly,
  answersMulticastOnly,
  repliesFromAnotherPort,
  floatingAddress,
  controlPortMoves: () => ({ movesControlPort: true }),
  dslforumServiceTypes,
  firstWanDeviceDisconnected: (_on, inside) => firstWanDeviceDisconnected(inside),
  controlUrlOnAnotherPort: (_on, inside) => controlUrlOnAnotherPort(inside),
  malformedXml,
  ssdpHeaders,
  unknownActionResets,
  externalAddressReported,
  disconnectedYetWorking,
  natpmpTruncatesPorts,
  natpmpNetworkFailure: (_on, inside) => natpmpNetworkFailure(inside),
  epochNotReset: () => ({ keepsEpoch: true }),
  pinholeOnlyFromClient,
  breaksOnBothFamilies: (_on, inside) => breaksOnBothFamilies(inside),
  spaceBeforeXml,
  queryInControlUrl,
  http: httpStyle,
  samePortsRequired,
  vpnHabits,
  delayMs,
  silent,
  silentOn,
  loseAnswers,
  junkFirst,
  location: foreignLocation,
  redirect,
  hugeBody,
  slowBody: (_on, inside) => slowBody(inside),
  xmlBomb,
  separateTables: () => ({ separateTables: true }),
};

/** Switches the quirks that `change` names on or off; the others stay as they are. */
export function switchQuirks(hooks: HookSet, change: Partial<Quirks>, inside: Inside): void {
  for (const [name, value] of Object.entries(change)) {
    const make = makerOf(name);
    if (make !== undefined) hooks.set(name, value, () => make(value, inside));
  }
}

/** The type of MAKERS pairs each name with its value; a name that comes as text cannot be followed there. */
function makerOf(name: string): ((value: unknown, inside: Inside) => Hooks) | undefined {
  return Object.hasOwn(MAKERS, name) ? Reflect.get(MAKERS, name) : undefined;
}
