/** What the HTTP side of the gateway is asked and answers, apart from sockets. */

import type { Socket } from 'node:net';
import type { IpAddress } from '../net/address.ts';

export interface HttpRequest {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  /** A header's value, by its name in lower case. */
  readonly header: (name: string) => string | undefined;
  readonly body: string;
  /** Who asks. */
  readonly source: IpAddress;
  /** The same as it can be reached: a link-local address with its zone. */
  readonly peer: IpAddress;
  /** The gateway's own address that was asked. */
  readonly address: IpAddress;
}

export interface HttpAnswer {
  readonly kind: 'answer';
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Called when it is on its way. */
  readonly sent?: () => void;
}

export type HttpReply =
  | HttpAnswer
  /** The connection is reset. */
  | { readonly kind: 'reset' }
  /** Bytes as they are written. */
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
