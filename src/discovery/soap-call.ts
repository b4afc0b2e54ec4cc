/** Calls one UPnP action on a gateway and hands back its values, or its refusal as the caller's error. */

import { NatwardError } from '../errors.ts';
import type { IpAddress } from '../net/address.ts';
import type { System } from '../system/system.ts';
import { decodeSoapReply, encodeSoapCall, type SoapValues, soapAction } from '../wire/soap.ts';
import type { UpnpService } from './gateway.ts';

/** A refusal in UPnP's own numbers (UDA 2.0, table 3-3, and each service's table). */
export class UpnpFault extends NatwardError {
  readonly errorCode: number;
  readonly errorDescription: string;

  constructor(action: string, errorCode: number, errorDescription: string) {
    super('REFUSED', `${action}: UPnP error ${errorCode} ${errorDescription.slice(0, 120)}`.trimEnd(), {
      protocolCode: `UPnP ${errorCode}`,
    });
    this.errorCode = errorCode;
    this.errorDescription = errorDescription;
  }
}

export interface SoapTarget {
  readonly service: UpnpService;
  /** Where to call from: some gateways map only to the address that asks. Undefined: the kernel chooses. */
  readonly localAddress: IpAddress | undefined;
}

/** Throws UpnpFault, MALFORMED, HOSTILE, TIMEOUT, UNREACHABLE or ABORTED. */
export async function callAction(
  system: System,
  target: SoapTarget,
  action: string,
  values: SoapValues,
  signal?: AbortSignal,
): Promise<SoapValues> {
  const { serviceType, controlUrl } = target.service;
  const response = await system.http({
    method: 'POST',
    url: controlUrl,
    headers: {
      'Content-Type': 'text/xml; charset="utf-8"',
      SOAPAction: soapAction(serviceType, action),
    },
    body: encodeSoapCall({ serviceType, action, values }),
    ...(target.localAddress === undefined ? {} : { localAddress: target.localAddress }),
    ...(signal === undefined ? {} : { signal }),
  });
  if (response.status === 401) throw new UpnpFault(action, 606, 'HTTP 401 Unauthorized');
  if (response.status >= 400 && response.body.trim() === '') {
    throw new UpnpFault(action, 501, `HTTP ${response.status} without a body`);
  }
  const reply = decodeSoapReply(response.body);
  if (reply.kind === 'fault') throw new UpnpFault(action, reply.errorCode, reply.errorDescription);
  return reply.values;
}

/** A value by its name, in any letter case; `''` where the router left it out. */
export function soapValue(values: SoapValues, name: string): string {
  if (values[name] !== undefined) return values[name];
  const wanted = name.toLowerCase();
  return Object.entries(values).find(([candidate]) => candidate.toLowerCase() === wanted)?.[1] ?? '';
}
