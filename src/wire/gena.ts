/**
 * GENA as UPnP uses it (UDA 2.0, section 4): how a control point asks to be told of changes, by headers alone, and
 * the NOTIFY that tells it. Where a callback leads is checked here as far as its text goes; whether it may be called
 * is for the publisher.
 */

import { bracketed, type IpAddress, parseAddress, withoutZone } from '../net/address.ts';
import { elements } from './xml.ts';

/** The path of a CALLBACK, at a literal address. */
export interface Callback {
  readonly address: IpAddress;
  readonly port: number;
  readonly path: string;
}

/** `timeoutSeconds` is undefined where none is wished, or no end. */
export type GenaRequest =
  | {
      readonly kind: 'subscribe';
      readonly callbacks: readonly Callback[];
      readonly timeoutSeconds: number | undefined;
    }
  | { readonly kind: 'renew'; readonly sid: string; readonly timeoutSeconds: number | undefined }
  | { readonly kind: 'unsubscribe'; readonly sid: string }
  /** 400: headers that do not go together; 412: one that is missing or cannot be (UDA 2.0, tables 4-4, 4-6, 4-8). */
  | { readonly kind: 'refused'; readonly status: 400 | 412 };

const MAX_CALLBACKS = 3;
const MAX_CALLBACK_CHARS = 512;
const CALLBACK =
  /^http:\/\/(?:\[([0-9a-f:.]+)(?:%[\w.@-]+)?\]|([0-9.]+))(?::(\d{1,5}))?((?:\/[^\s<>#"\\^`{|}]*)?)$/i;

/** Reads SUBSCRIBE or UNSUBSCRIBE. Header names are in lower case. */
export function decodeGena(
  method: 'SUBSCRIBE' | 'UNSUBSCRIBE',
  header: (name: string) => string | undefined,
): GenaRequest {
  const [sid, type, callback] = [header('sid'), header('nt'), header('callback')];
  if (sid !== undefined) {
    if (type !== undefined || callback !== undefined) return { kind: 'refused', status: 400 };
    if (method === 'UNSUBSCRIBE') return { kind: 'unsubscribe', sid };
    return { kind: 'renew', sid, timeoutSeconds: secondsOf(header('timeout')) };
  }
  if (method === 'UNSUBSCRIBE' || type?.toLowerCase() !== 'upnp:event')
    return { kind: 'refused', status: 412 };
  const callbacks = callbacksOf(callback ?? '');
  if (callbacks.length === 0) return { kind: 'refused', status: 412 };
  return { kind: 'subscribe', callbacks, timeoutSeconds: secondsOf(header('timeout')) };
}

/** Those of the URLs in `<...><...>` that are HTTP at a literal address. */
function callbacksOf(header: string): Callback[] {
  const callbacks: Callback[] = [];
  for (const [, url = ''] of header.matchAll(/<([^<>]*)>/g)) {
    const callback = url.length > MAX_CALLBACK_CHARS ? undefined : callbackOf(url);
    if (callback !== undefined) callbacks.push(callback);
    if (callbacks.length === MAX_CALLBACKS) break;
  }
  return callbacks;
}

function callbackOf(url: string): Callback | undefined {
  const [match, ipv6, ipv4, digits, path] = CALLBACK.exec(url) ?? [];
  const address = match === undefined ? undefined : parseAddress(ipv6 ?? ipv4 ?? '');
  const port = Number(digits ?? 80);
  if (address === undefined || port === 0 || port > 65_535) return undefined;
  return { address, port, path: path || '/' };
}

function secondsOf(timeout: string | undefined): number | undefined {
  const digits = /^second-(\d{1,9})$/i.exec(timeout ?? '')?.[1];
  return digits === undefined ? undefined : Number(digits);
}

export interface Notification {
  readonly callback: Callback;
  readonly sid: string;
  readonly seq: number;
  readonly values: Readonly<Record<string, string>>;
}

/** The whole request, head and body. */
export function encodeNotify({ callback, sid, seq, values }: Notification): string {
  const properties = Object.entries(values)
    .map(([name, value]) => `<e:property>${elements({ [name]: value })}</e:property>`)
    .join('');
  const body =
    '<?xml version="1.0"?>\r\n' +
    `<e:propertyset xmlns:e="urn:schemas-upnp-org:event-1-0">${properties}</e:propertyset>\r\n`;
  return (
    `NOTIFY ${callback.path} HTTP/1.1\r\n` +
    `HOST: ${bracketed(withoutZone(callback.address))}:${callback.port}\r\n` +
    'CONTENT-TYPE: text/xml; charset="utf-8"\r\n' +
    `CONTENT-LENGTH: ${Buffer.byteLength(body)}\r\n` +
    'NT: upnp:event\r\nNTS: upnp:propchange\r\n' +
    `SID: ${sid}\r\nSEQ: ${seq}\r\nCONNECTION: close\r\n\r\n${body}`
  );
}

/** 0 is the first message alone (UDA 2.0, section 4.3.1). */
export function nextSeq(seq: number): number {
  return seq >= 4_294_967_295 ? 1 : seq + 1;
}
