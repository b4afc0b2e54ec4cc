/**
 * Reads a UPnP gateway's table: whole with GetListOfPortMappings where version 2 has it and the table is
 * small, else row by row with GetGenericPortMappingEntry until the index runs out.
 */

import { soapValue, UpnpFault } from '../discovery/soap-call.ts';
import { isNatwardError } from '../errors.ts';
import { parseAddress } from '../net/address.ts';
import { decodePortListing, type SoapValues } from '../wire/soap.ts';
import type { ListedMapping } from './mapping.ts';
import { UPNP_ERROR } from './upnp-errors.ts';

type Call = (action: string, values: SoapValues) => Promise<SoapValues>;

/** No home router has more; a hostile one never says "no more". */
const MAX_ROWS = 4096;
/** A list reply is one body of at most 512 KiB, some 1,000 rows: asked for in slices. */
const ROWS_A_REQUEST = 1000;

/**
 * miniupnpd 2.3.1 on nftables (Debian 12) writes past its memory and ends where more than 128 mappings lie in
 * the range that GetListOfPortMappings asks for, however few it asks for: a longer table is read row by row.
 */
const MAX_ROWS_WHOLE = 128;
/** As many as an UpnpMapper has requests under way. */
const ROWS_AT_ONCE = 4;

export async function listMappings(call: Call, version: number): Promise<readonly ListedMapping[]> {
  if (version >= 2 && (await rowAt(call, MAX_ROWS_WHOLE - 1)) === 'none') {
    const whole = await listWhole(call).catch((error: unknown) => {
      if (isNatwardError(error, 'ABORTED', 'TIMEOUT')) throw error;
      return undefined; // Not every version 2 has it: row by row then.
    });
    if (whole !== undefined) return whole;
  }
  return listRows(call);
}

async function listWhole(call: Call): Promise<readonly ListedMapping[] | undefined> {
  const rows: ListedMapping[] = [];
  for (const protocol of ['TCP', 'UDP']) {
    for (let from = 1; from <= 65_535; ) {
      const answer = await listSlice(call, protocol, from);
      rows.push(...answer.flatMap((entry) => toListed(entry) ?? []));
      const last = rows.at(-1);
      if (answer.length < ROWS_A_REQUEST || last === undefined || rows.length >= MAX_ROWS * 16) break;
      from = Math.max(from, last.externalPort) + 1;
    }
  }
  return rows;
}

async function listSlice(call: Call, protocol: string, from: number): Promise<readonly SoapValues[]> {
  try {
    const answer = await call('GetListOfPortMappings', {
      NewStartPort: String(from),
      NewEndPort: '65535',
      NewProtocol: protocol,
      // With 0 a gateway tells of this host's own mappings alone (WANIPConnection:2, section 2.5.22).
      NewManage: '1',
      NewNumberOfPorts: String(ROWS_A_REQUEST),
    });
    return decodePortListing(soapValue(answer, 'NewPortListing'));
  } catch (error) {
    if (error instanceof UpnpFault && error.errorCode === UPNP_ERROR.portMappingNotFound) return [];
    throw error;
  }
}

async function listRows(call: Call): Promise<readonly ListedMapping[]> {
  const rows: ListedMapping[] = [];
  let next = 0;
  while (next < MAX_ROWS) {
    // The first one alone: most tables are short, and past their end some routers reset the connection.
    const indices = next === 0 ? [0] : Array.from({ length: ROWS_AT_ONCE }, (_, at) => next + at);
    next += indices.length;
    for (const row of await Promise.all(indices.map((index) => rowAt(call, index)))) {
      if (row === 'none') return rows;
      if (row !== undefined) rows.push(row);
    }
  }
  return rows;
}

/** Undefined where the row is unreadable. */
async function rowAt(call: Call, index: number): Promise<ListedMapping | undefined | 'none'> {
  try {
    return toListed(await call('GetGenericPortMappingEntry', { NewPortMappingIndex: String(index) }));
  } catch (error) {
    // Past the last row routers answer 713, 714, 402 or 501, or reset the connection.
    if (index === 0 && !(error instanceof UpnpFault)) throw error;
    if (isNatwardError(error, 'ABORTED')) throw error;
    return 'none';
  }
}

/** A port 1..65535; 0 for anything else. */
export function portOf(text: string): number {
  return /^\d{1,5}$/.test(text) && Number(text) <= 65_535 ? Number(text) : 0;
}

/** A row as the standard writes it; undefined where it is none. */
export function toListed(values: SoapValues): ListedMapping | undefined {
  const protocol = soapValue(values, 'NewProtocol').toLowerCase();
  const internalClient = parseAddress(soapValue(values, 'NewInternalClient'));
  const externalPort = portOf(soapValue(values, 'NewExternalPort'));
  const internalPort = portOf(soapValue(values, 'NewInternalPort'));
  if ((protocol !== 'tcp' && protocol !== 'udp') || internalClient === undefined || internalPort === 0)
    return undefined;
  // The rows of GetListOfPortMappings have names of their own (WANIPConnection:2, section 2.3.31).
  const remaining = soapValue(values, 'NewLeaseDuration') || soapValue(values, 'NewLeaseTime');
  return {
    protocol,
    externalPort,
    internalClient,
    internalPort,
    description: soapValue(values, 'NewPortMappingDescription') || soapValue(values, 'NewDescription'),
    remainingSeconds: /^\d{1,10}$/.test(remaining) ? Number(remaining) : undefined,
    enabled: soapValue(values, 'NewEnabled') !== '0',
  };
}
