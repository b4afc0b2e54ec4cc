/** The adapters of this machine, for the faces: no agent is asked, since one command does it all. */

import { Adapters } from '../agent/adapters.ts';
import type { NatwardError } from '../errors.ts';
import { realSystem, type System } from '../system/system.ts';
import { stateDirectory } from './place.ts';

export type { AdapterReport, AddressChange, KnownAddress } from '../agent/adapters.ts';

/** Remembers under NATWARD_HOME or the platform's own place. `warn` hears of a broken file there. */
export async function localAdapters(
  warn: (error: NatwardError) => void,
  system: System = realSystem,
): Promise<Adapters> {
  return new Adapters(system, await stateDirectory(), warn);
}
