/**
 * One HTTP or HTTPS request to a service that the person named: a webhook, a BitTorrent client, a name service.
 * Built on the platform's fetch. Follows no redirect, keeps no connection and no cookie, and has an end in time
 * and size. What the routers get is http.ts: they need another parser.
 */

import { NatwardError } from '../errors.ts';
import { aborted } from './clock.ts';

export interface WebRequest {
  readonly method: 'GET' | 'POST';
  /** `http:` or `https:`. A user and password in it are sent as Basic authorization (RFC 7617). */
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** For the whole of it, body included. 1..2147483647 */
  readonly timeLimitMs: number;
  readonly signal?: AbortSignal;
}

export interface WebResponse {
  readonly status: number;
  readonly headers: Headers;
  /** Its first 64 KiB; nobody needs more. */
  readonly body: string;
}

/**
 * Throws UNREACHABLE (no connection, a certificate that is not trusted, an answer that breaks off), TIMEOUT,
 * ABORTED, or USAGE (not an HTTP URL). An answer with any status is an answer. No message tells more of the URL
 * than its host.
 */
export type WebClient = (request: WebRequest) => Promise<WebResponse>;

const MAX_BODY_BYTES = 64 * 1024;

export const webRequest: WebClient = async (request) => {
  const { url, authorization } = addressOf(request.url);
  const stop = new AbortController();
  const limit = setTimeout(
    () => stop.abort(new NatwardError('TIMEOUT', `${url.host} did not answer within ${seconds(request)} s`)),
    request.timeLimitMs,
  );
  const abort = () => stop.abort(aborted(request.signal as AbortSignal));
  if (request.signal?.aborted) abort();
  request.signal?.addEventListener('abort', abort, { once: true });
  try {
    const response = await fetch(url, {
      method: request.method,
      redirect: 'manual',
      signal: stop.signal,
      headers: { Connection: 'close', ...authorization, ...request.headers },
      ...(request.body === undefined ? {} : { body: request.body }),
    });
    return { status: response.status, headers: response.headers, body: await startOf(response) };
  } catch (cause) {
    if (stop.signal.aborted) throw stop.signal.reason;
    throw new NatwardError('UNREACHABLE', `no answer from ${url.host}: ${whyNot(cause)}`, { cause });
  } finally {
    clearTimeout(limit);
    request.signal?.removeEventListener('abort', abort);
  }
};

function seconds({ timeLimitMs }: WebRequest): number {
  return timeLimitMs / 1000;
}

function addressOf(text: string): {
  readonly url: URL;
  readonly authorization: Readonly<Record<string, string>>;
} {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw new NatwardError('USAGE', 'a service is reached by an http:// or https:// URL');
  }
  const { username, password } = url;
  // fetch refuses a URL that holds them, and shows it whole.
  [url.username, url.password] = ['', ''];
  if (username === '' && password === '') return { url, authorization: {} };
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return { url, authorization: { Authorization: `Basic ${Buffer.from(pair).toString('base64')}` } };
}

async function startOf(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let room = MAX_BODY_BYTES;
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk.subarray(0, room));
    room -= chunk.length;
    if (room <= 0) break; // ends the connection as well
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** fetch says "fetch failed", and why in its cause. */
function whyNot(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  if (!(cause instanceof Error)) return String(cause);
  // Both addresses of a name refused: an error of errors, without words of its own.
  return cause.message || ('code' in cause ? String(cause.code) : cause.name);
}
