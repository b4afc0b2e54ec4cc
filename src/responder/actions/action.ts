/** A SOAP action: what one is called with, what it answers, and UPnP's own words for what went wrong. */

import type { IpAddress } from '../../net/address.ts';
import type { SoapReply, SoapValues } from '../../wire/soap.ts';
import type { Site } from '../site.ts';

export interface ActionCall {
  /** `WANIPConnection`. */
  readonly service: string;
  readonly version: number;
  readonly action: string;
  readonly values: SoapValues;
  readonly requester: IpAddress;
  /** The control URL's path as it was called. */
  readonly path: string;
}

export type ActionReply = SoapReply | { readonly kind: 'reset' };

export type Action = (call: ActionCall, site: Site) => Promise<SoapReply> | SoapReply;

/** UDA 2.0, table 3-3; WANIPConnection:2, table 2-19 and the actions' own; WANIPv6FirewallControl:1, table 2-9. */
const FAULTS: Readonly<Record<number, string>> = {
  401: 'Invalid Action',
  402: 'Invalid Args',
  501: 'Action Failed',
  600: 'Argument Value Invalid',
  601: 'Argument Value Out of Range',
  602: 'Optional Action Not Implemented',
  606: 'Action not authorized',
  701: 'PinholeSpaceExhausted',
  702: 'FirewallDisabled',
  703: 'InboundPinholeNotAllowed',
  704: 'NoSuchEntry',
  705: 'ProtocolNotSupported',
  706: 'InternalPortWildcardingNotAllowed',
  707: 'ProtocolWildcardingNotAllowed',
  708: 'WildCardNotPermittedInSrcIP',
  709: 'NoPacketSent',
  713: 'SpecifiedArrayIndexInvalid',
  714: 'NoSuchEntryInArray',
  716: 'WildCardNotPermittedInExtPort',
  718: 'ConflictInMappingEntry',
  724: 'SamePortValuesRequired',
  725: 'OnlyPermanentLeasesSupported',
  726: 'RemoteHostOnlySupportsWildcard',
  728: 'NoPortMapsAvailable',
  729: 'ConflictWithOtherMechanisms',
  730: 'PortMappingNotFound',
  732: 'WildCardNotPermittedInIntPort',
  733: 'InconsistentParameters',
};

export function fault(errorCode: number): SoapReply {
  return { kind: 'fault', errorCode, errorDescription: FAULTS[errorCode] ?? 'Action Failed' };
}

export function response(values: SoapValues = {}): SoapReply {
  return { kind: 'response', values };
}

/** Thrown by the readers below, and answered. */
export class Fault extends Error {
  readonly errorCode: number;
  constructor(errorCode: number) {
    super(`UPnP ${errorCode}`);
    this.errorCode = errorCode;
  }
}

/** The argument's text. Throws Fault 402 where there is none. */
export function text(values: SoapValues, name: string): string {
  const value = Object.hasOwn(values, name) ? values[name] : undefined;
  if (value === undefined) throw new Fault(402);
  return value;
}

/** An unsigned number up to `most`. Throws Fault 402. */
export function number(values: SoapValues, name: string, most: number): number {
  const value = text(values, name);
  if (!/^\d{1,10}$/.test(value) || Number(value) > most) throw new Fault(402);
  return Number(value);
}

/** UDA 2.0, section 2.5: 0, 1, true, false, yes, no. Throws Fault 402. */
export function truth(values: SoapValues, name: string): boolean {
  const value = text(values, name).toLowerCase();
  if (['1', 'true', 'yes'].includes(value)) return true;
  if (['0', 'false', 'no'].includes(value)) return false;
  throw new Fault(402);
}
