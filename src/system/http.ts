/**
 * One HTTP request to a router. Routers answer in HTTP/1.0, with a Content-Length that is wrong, without a
 * Content-Type; and what calls itself a router may be hostile. So the parser is the lenient one, no redirect
 * is followed, no connection is kept, and size and time have an end.
 */

import http, { type IncomingMessage } from 'node:http';
import { NatwardError } from '../errors.ts';
import type { IpAddress } from '../net/address.ts';
import { aborted } from './clock.ts';

export interface HttpRequest {
  readonly method: 'GET' | 'POST';
  /** `http:` only. */
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly localAddress?: IpAddress;
  /** False: waiting for the answer keeps no process alive. */
  readonly keepsAlive?: boolean;
  readonly signal?: AbortSignal;
}

export interface HttpResponse {
  readonly status: number;
  readonly body: string;
}

/**
 * Throws UNREACHABLE (refused or reset), TIMEOUT, HOSTILE (a body or a head over the limit, a redirect), or
 * ABORTED. An answer with any other status is an answer.
 */
export type HttpClient = (request: HttpRequest) => Promise<HttpResponse>;

const MAX_BODY_BYTES = 512 * 1024;
const MAX_HEAD_BYTES = 64 * 1024;
const LIMIT_MS = 5000;

export const httpRequest: HttpClient = (request) => {
  const url = new URL(request.url);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return new Promise((resolve, reject) => {
    const body = request.body === undefined ? undefined : new TextEncoder().encode(request.body);
    const outgoing = http.request({
      method: request.method,
      host,
      port: url.port === '' ? 80 : Number(url.port),
      path: url.pathname + url.search,
      agent: false,
      insecureHTTPParser: true,
      maxHeaderSize: MAX_HEAD_BYTES,
      ...(request.localAddress === undefined ? {} : { localAddress: request.localAddress }),
      headers: {
        Connection: 'close',
        ...request.headers,
        ...(body === undefined ? {} : { 'Content-Length': String(body.length) }),
      },
    });
    const finish = (act: () => void) => {
      clearTimeout(limit);
      request.signal?.removeEventListener('abort', stop);
      act();
    };
    const fail = (error: NatwardError) => {
      // Closed in the ordinary way, the kernel would go on to deliver the request: a mapping nobody waits for.
      if (outgoing.socket?.connecting === false) outgoing.socket.resetAndDestroy();
      outgoing.destroy();
      finish(() => reject(error));
    };
    const stop = () => fail(aborted(request.signal as AbortSignal));
    const limit = setTimeout(
      () =>
        fail(
          new NatwardError('TIMEOUT', `${url.host} did not finish its answer within ${LIMIT_MS / 1000} s`),
        ),
      LIMIT_MS,
    );
    if (request.keepsAlive === false) {
      limit.unref();
      outgoing.on('socket', (socket) => socket.unref());
    }
    const chunks: Uint8Array[] = [];
    let size = 0;
    let answer: IncomingMessage | undefined;
    const take = (chunk: Uint8Array) => {
      size += chunk.length;
      if (size <= MAX_BODY_BYTES) chunks.push(chunk);
      else fail(new NatwardError('HOSTILE', `${url.host} sends more than ${MAX_BODY_BYTES / 1024} KiB`));
    };
    const complete = (status: number) =>
      finish(() => resolve({ status, body: Buffer.concat(chunks).toString('utf8') }));
    outgoing.on('error', (cause: NodeJS.ErrnoException) => {
      if (answer?.statusCode !== undefined) {
        // A Content-Length that promises too little: what follows is no HTTP. What came is judged by its parser.
        const rest: Uint8Array | null = answer.read();
        if (rest !== null) take(rest);
        complete(answer.statusCode);
        return;
      }
      const code = cause.code === 'HPE_HEADER_OVERFLOW' ? 'HOSTILE' : 'UNREACHABLE';
      const why = cause.message || cause.code;
      fail(new NatwardError(code, `no HTTP answer from ${url.host}: ${why}`, { cause }));
    });
    outgoing.on('response', (response) => {
      const status = response.statusCode ?? 0;
      if (status >= 300 && status < 400) {
        const to = String(response.headers.location).slice(0, 80);
        fail(new NatwardError('HOSTILE', `${url.host} redirects to ${to}`));
        return;
      }
      answer = response;
      response.on('data', take);
      response.on('end', () => complete(status));
      // A Content-Length that promises too much: the connection ends first.
      response.on('error', () => complete(status));
    });
    if (request.signal?.aborted) {
      stop();
      return;
    }
    request.signal?.addEventListener('abort', stop, { once: true });
    outgoing.end(body);
  });
};
