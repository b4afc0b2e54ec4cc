/**
 * SSDP messages (UPnP Device Architecture 2.0, section 1), both directions: the search that goes to
 * 239.255.255.250:1900, its answers, and the alive, update and byebye notifications that devices multicast.
 * They are HTTP heads in a datagram. Routers send them with headers in any case, with LF alone, without the
 * last blank line; all of that is read. Which devices matter, and whom to believe, is for discovery.
 */

import { NatwardError } from '../errors.ts';

export const SSDP_PORT = 1900;
export const SSDP_IPV4 = '239.255.255.250';
/** Link-local and site-local scope (UDA 2.0, annex A). */
export const SSDP_IPV6 = ['ff02::c', 'ff05::c'] as const;

/** CONFIGID.UPNP.ORG, which descriptions carry too: what is described never changes. */
export const CONFIG_ID = 1;

export interface SsdpSearch {
  readonly kind: 'search';
  /** ST: what is looked for, a URN or `upnp:rootdevice` or `ssdp:all`. */
  readonly searchTarget: string;
  /** MX, 1..5; 0 in a unicast search, which has none. */
  readonly maxWaitSeconds: number;
  /** HOST: where it is sent. */
  readonly host: string;
}

interface SsdpIdentity {
  /** USN: `uuid:...::urn:...`. */
  readonly usn: string;
  /** BOOTID.UPNP.ORG: rises with each restart; undefined in UDA 1.0. */
  readonly bootId: number | undefined;
}

interface SsdpPresence extends SsdpIdentity {
  /** LOCATION: where the description is. Not yet checked. */
  readonly location: string;
  readonly server: string;
  /** CACHE-CONTROL: max-age. */
  readonly maxAgeSeconds: number;
}

export interface SsdpResponse extends SsdpPresence {
  readonly kind: 'response';
  readonly searchTarget: string;
}

export interface SsdpAlive extends SsdpPresence {
  readonly kind: 'alive';
  /** NT. */
  readonly notificationType: string;
}

export interface SsdpUpdate extends SsdpIdentity {
  readonly kind: 'update';
  readonly notificationType: string;
  readonly location: string;
  readonly nextBootId: number | undefined;
}

export interface SsdpByebye extends SsdpIdentity {
  readonly kind: 'byebye';
  readonly notificationType: string;
}

export type SsdpMessage = SsdpSearch | SsdpResponse | SsdpAlive | SsdpUpdate | SsdpByebye;

const MAX_BYTES = 8192;
const MAX_HEADERS = 64;
const DEFAULT_MAX_AGE_SECONDS = 1800;

const utf8 = new TextEncoder();
const text = new TextDecoder();

/**
 * Encodes a message as a datagram. Values that would end their line are cut there. `group` is where a notification
 * goes, in brackets where it is IPv6.
 */
export function encodeSsdp(message: SsdpMessage, group: string = SSDP_IPV4): Uint8Array {
  switch (message.kind) {
    case 'search':
      return head('M-SEARCH * HTTP/1.1', {
        HOST: message.host,
        MAN: '"ssdp:discover"',
        ...(message.maxWaitSeconds > 0 ? { MX: String(message.maxWaitSeconds) } : {}),
        ST: message.searchTarget,
      });
    case 'response':
      return head('HTTP/1.1 200 OK', {
        'CACHE-CONTROL': `max-age=${message.maxAgeSeconds}`,
        EXT: '',
        LOCATION: message.location,
        SERVER: message.server,
        ST: message.searchTarget,
        ...identity(message),
      });
    case 'alive':
      return notify('ssdp:alive', message, group, {
        'CACHE-CONTROL': `max-age=${message.maxAgeSeconds}`,
        LOCATION: message.location,
        SERVER: message.server,
      });
    case 'update':
      return notify('ssdp:update', message, group, {
        LOCATION: message.location,
        ...(message.nextBootId === undefined ? {} : { 'NEXTBOOTID.UPNP.ORG': String(message.nextBootId) }),
      });
    case 'byebye':
      return notify('ssdp:byebye', message, group, {});
  }
}

function notify(
  subtype: string,
  message: SsdpAlive | SsdpUpdate | SsdpByebye,
  group: string,
  headers: Record<string, string>,
): Uint8Array {
  return head('NOTIFY * HTTP/1.1', {
    HOST: `${group}:${SSDP_PORT}`,
    NT: message.notificationType,
    NTS: subtype,
    ...headers,
    ...identity(message),
  });
}

function identity(message: SsdpIdentity): Record<string, string> {
  return {
    USN: message.usn,
    ...(message.bootId === undefined
      ? {}
      : { 'BOOTID.UPNP.ORG': String(message.bootId), 'CONFIGID.UPNP.ORG': String(CONFIG_ID) }),
  };
}

function head(start: string, headers: Readonly<Record<string, string>>): Uint8Array {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value.split(/[\r\n]/, 1)[0]}\r\n`);
  return utf8.encode(`${start}\r\n${lines.join('')}\r\n`);
}

/** Decodes a datagram from port 1900. Throws MALFORMED for anything that is no SSDP message. */
export function decodeSsdp(packet: Uint8Array): SsdpMessage {
  if (packet.length > MAX_BYTES) throw malformed(`${packet.length} bytes`);
  const lines = text.decode(packet).split(/\r?\n/, MAX_HEADERS + 2);
  const start = (lines[0] ?? '').trim();
  const headers = new Map<string, string>();
  for (const line of lines.slice(1)) {
    if (line === '') break;
    const colon = line.indexOf(':');
    if (colon > 0) headers.set(line.slice(0, colon).trim().toUpperCase(), line.slice(colon + 1).trim());
  }
  if (/^M-SEARCH\s/i.test(start)) return decodeSearch(headers);
  if (/^HTTP\/1\.[01] 200\b/i.test(start)) {
    return { kind: 'response', searchTarget: required(headers, 'ST'), ...presence(headers) };
  }
  if (/^NOTIFY\s/i.test(start)) return decodeNotify(headers);
  throw malformed(`it begins with "${start.slice(0, 40)}"`);
}

function decodeSearch(headers: ReadonlyMap<string, string>): SsdpSearch {
  if (!/^"?ssdp:discover"?$/i.test(required(headers, 'MAN'))) throw malformed('MAN is not ssdp:discover');
  return {
    kind: 'search',
    searchTarget: required(headers, 'ST'),
    // UDA 2.0, section 1.3.3: a device treats MX beyond 5 as 5.
    maxWaitSeconds: Math.min(integer(headers.get('MX')) ?? 0, 5),
    host: headers.get('HOST') ?? '',
  };
}

function decodeNotify(headers: ReadonlyMap<string, string>): SsdpMessage {
  const notificationType = required(headers, 'NT');
  const subtype = required(headers, 'NTS').toLowerCase();
  switch (subtype) {
    case 'ssdp:alive':
      return { kind: 'alive', notificationType, ...presence(headers) };
    case 'ssdp:update':
      return {
        kind: 'update',
        notificationType,
        ...identityOf(headers),
        location: headers.get('LOCATION') ?? '',
        nextBootId: integer(headers.get('NEXTBOOTID.UPNP.ORG')),
      };
    case 'ssdp:byebye':
      return { kind: 'byebye', notificationType, ...identityOf(headers) };
    default:
      throw malformed(`NTS is "${subtype.slice(0, 40)}"`);
  }
}

function presence(headers: ReadonlyMap<string, string>): SsdpPresence {
  const maxAge = /max-age\s*=\s*(\d+)/i.exec(headers.get('CACHE-CONTROL') ?? '')?.[1];
  return {
    ...identityOf(headers),
    location: required(headers, 'LOCATION'),
    server: headers.get('SERVER') ?? '',
    maxAgeSeconds: integer(maxAge) ?? DEFAULT_MAX_AGE_SECONDS,
  };
}

function identityOf(headers: ReadonlyMap<string, string>): SsdpIdentity {
  return { usn: headers.get('USN') ?? '', bootId: integer(headers.get('BOOTID.UPNP.ORG')) };
}

function required(headers: ReadonlyMap<string, string>, name: string): string {
  const value = headers.get(name);
  if (value === undefined || value === '') throw malformed(`no ${name}`);
  return value;
}

function integer(value: string | undefined): number | undefined {
  return value !== undefined && /^\d{1,10}$/.test(value) ? Number(value) : undefined;
}

function malformed(what: string): NatwardError {
  return new NatwardError('MALFORMED', `not an SSDP message: ${what}`);
}
