/** What UPnP's error numbers mean, and what to tell people about them. */

import type { UpnpFault } from '../discovery/soap-call.ts';
import { type ErrorCode, NatwardError } from '../errors.ts';
import type { IpAddress } from '../net/address.ts';
import { LOWER_PORTS_ADVICE, OTHER_PORT_ADVICE } from './advice.ts';

/** UDA 2.0, table 3-3; WANIPConnection:2, section 2.5. */
export const UPNP_ERROR = {
  invalidAction: 401,
  invalidArgs: 402,
  actionFailed: 501,
  notAuthorized: 606,
  arrayIndexInvalid: 713,
  noSuchEntry: 714,
  conflictInMapping: 718,
  onlyPermanentLeases: 725,
  noPortMapsAvailable: 728,
  conflictWithOther: 729,
  portMappingNotFound: 730,
} as const;

const TAKEN = 'that external port is taken by another host or by a rule of the gateway’s own';

const REFUSALS: Readonly<Record<number, readonly [ErrorCode, string]>> = {
  401: ['UNSUPPORTED', 'it does not know the action'],
  402: ['REFUSED', 'it does not like an argument'],
  501: ['REFUSED', 'the action failed'],
  602: ['UNSUPPORTED', 'it does not have the action'],
  605: ['REFUSED', 'a text was too long for it'],
  606: ['NOT_AUTHORIZED', 'its settings do not allow this host to map that port'],
  715: ['UNSUPPORTED', 'it maps only for a named remote host'],
  716: ['UNSUPPORTED', 'it does not choose external ports'],
  718: ['CONFLICT', TAKEN],
  724: ['UNSUPPORTED', 'it maps only to the same internal port number'],
  725: ['ONLY_PERMANENT', 'it grants only mappings without an end'],
  726: ['UNSUPPORTED', 'it maps only for any remote host'],
  727: ['UNSUPPORTED', 'it maps only any external port'],
  728: ['NO_RESOURCES', 'its table is full'],
  729: ['CONFLICT', TAKEN],
  732: ['UNSUPPORTED', 'it takes no wildcard there'],
};

const ADVICE: Partial<Record<ErrorCode, string>> = {
  NOT_AUTHORIZED:
    'Allow this device to open ports in the gateway’s settings (FRITZ!Box: “Permit independent port sharing for this device”).',
  CONFLICT: OTHER_PORT_ADVICE,
  NO_RESOURCES: 'Remove mappings that nobody needs: natward list, natward unmap.',
};

const THIRD_PARTY_ADVICE =
  'Many gateways map only to the host that asks: run natward on that host, or switch secure mode off in the gateway.';

/** The person's error for a fault. `port` is the external port that was asked for, `target` the host it was for. */
export function refusal(
  gateway: IpAddress,
  fault: UpnpFault,
  what: string,
  { port, target }: { readonly port: number; readonly target: 'this-host' | 'another-host' },
): NatwardError {
  const [code, reason] = REFUSALS[fault.errorCode] ?? [
    'REFUSED',
    fault.errorDescription || 'it gave no reason',
  ];
  const lower = code === 'NOT_AUTHORIZED' && port > 0 && port < 1024;
  const other = target === 'another-host' && ['NOT_AUTHORIZED', 'CONFLICT'].includes(code);
  const advice = other ? THIRD_PARTY_ADVICE : lower ? LOWER_PORTS_ADVICE : ADVICE[code];
  const { protocolCode } = fault;
  return new NatwardError(code, `${gateway} refused ${what}: ${reason} (UPnP ${fault.errorCode})`, {
    ...(protocolCode === undefined ? {} : { protocolCode }),
    ...(advice === undefined ? {} : { advice }),
    cause: fault,
  });
}
