/** What the HTTP side of the gateway is asked and answers, apart from sockets. */

import type { Socket } from 'node:net';
import type { IpAddress } from '../net/address.ts';

export interface HttpRequest {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  /** The SOAPACTION header. */
  readonly soapAction: string | undefined;
  readonly body: string;
  /** Who asks. */
  readonly source: IpAddress;
  /** The gateway's own address that was asked. */
  readonly address: IpAddress;
}

export interface HttpAnswer {
  readonly kind: 'answer';
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export type HttpReply =
  | HttpAnswer
  /** The connection is reset. */
  | { readonly kind: 'reset' }
  /** Bytes that node:http would not write. */
  | { readonly kind: 'raw'; readonly write: (socket: Socket) => void };

export function plainAnswer(status: number, headers: Readonly<Record<string, string>> = {}): HttpAnswer {
  return { kind: 'answer', status, headers, body: '' };
}

export function xmlAnswer(status: number, xml: string): HttpAnswer {
  return {
    kind: 'answer',
    status,
    headers: { 'Content-Type': 'text/xml; charset="utf-8"', EXT: '' },
    body: xml,
  };
}
