/** The campaigns by the names that `npm run fuzz -- --protocol` knows. */

import type { Campaign } from './campaign.ts';
import { gena } from './gena.ts';
import { NATPMP } from './natpmp.ts';
import { PCP } from './pcp.ts';
import { SOAP } from './soap.ts';
import { SSDP } from './ssdp.ts';

export const CAMPAIGNS: Readonly<Record<string, () => Campaign>> = {
  pcp: () => PCP,
  natpmp: () => NATPMP,
  ssdp: () => SSDP,
  soap: () => SOAP,
  gena,
};
