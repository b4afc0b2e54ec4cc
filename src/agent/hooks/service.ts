/**
 * Requests to one service that a hook names, as all of them make them: who asks, for how long, with which
 * cookies, and what a status means. What is asked is the hook's own.
 */

import * as v from 'valibot';
import { isNatwardError, NatwardError } from '../../errors.ts';
import type { WebClient, WebRequest, WebResponse } from '../../system/web.ts';

/** What a hook that calls a service is given. */
export interface Reach {
  readonly web: WebClient;
  /** `natward/1.2.3` */
  readonly userAgent: string;
  /** Cuts what runs. */
  readonly signal: AbortSignal;
}

/** Of one answer, where the hook does not say. */
const ANSWER_SECONDS = 10;

export type ServiceRequest = Pick<WebRequest, 'method' | 'url' | 'headers' | 'body'>;

/** One conversation: it begins without cookies. */
export class Service {
  readonly #reach: Reach;
  readonly #timeLimitMs: number;
  readonly #cookies = new Map<string, string>();

  constructor(reach: Reach, { timeoutSeconds = ANSWER_SECONDS }: { timeoutSeconds?: number | undefined }) {
    this.#reach = reach;
    this.#timeLimitMs = timeoutSeconds * 1000;
  }

  /** Throws as `WebClient` does; an answer with any status is an answer. */
  async ask(request: ServiceRequest): Promise<WebResponse> {
    const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const response = await this.#reach.web({
      ...request,
      headers: {
        'User-Agent': this.#reach.userAgent,
        ...(cookie === '' ? {} : { Cookie: cookie }),
        ...request.headers,
      },
      timeLimitMs: this.#timeLimitMs,
      signal: this.#reach.signal,
    });
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^\s*([^=;]+)=([^;]*)/.exec(line) ?? [];
      if (name !== undefined && value !== undefined) this.#cookies.set(name.trim(), value.trim());
    }
    return response;
  }
}

/**
 * Throws where the status is not one of success: NOT_AUTHORIZED (401, 403), NOT_FOUND (404, 405, 410, a
 * redirect), UNREACHABLE (what passes: 408, 425, 429, 5xx), REFUSED.
 */
export function checkStatus({ status, headers }: WebResponse): void {
  if (status >= 200 && status < 300) return;
  if (status === 401 || status === 403) {
    throw new NatwardError('NOT_AUTHORIZED', `it does not let natward in (HTTP ${status})`, {
      advice: 'Look at the user and password in its URL, and at whom it allows to call.',
    });
  }
  if (status >= 300 && status < 400) {
    throw new NatwardError('NOT_FOUND', `it sends its callers to ${placeOf(headers)} (HTTP ${status})`, {
      advice: 'Write the URL that it sends to; natward follows no redirect.',
    });
  }
  if ([404, 405, 410].includes(status)) {
    throw new NatwardError('NOT_FOUND', `there is nothing of the kind at its URL (HTTP ${status})`);
  }
  const passes = status >= 500 || [408, 425, 429].includes(status);
  throw new NatwardError(passes ? 'UNREACHABLE' : 'REFUSED', `it answers with HTTP ${status}`);
}

/** The origin alone: a redirect may repeat a query that is secret. */
function placeOf(headers: Headers): string {
  const to = headers.get('location') ?? '';
  return URL.canParse(to) ? new URL(to).origin : 'another place';
}

/** Reports whether the same request may do better later. */
export function mayPass(error: NatwardError): boolean {
  return isNatwardError(error, 'TIMEOUT', 'UNREACHABLE');
}

/** The JSON of an answer. Throws MALFORMED. */
export function readJson<T>(schema: v.GenericSchema<unknown, T>, body: string): T {
  return readValue(schema, jsonOf(body));
}

/** A part of an answer. Throws MALFORMED. */
export function readValue<T>(schema: v.GenericSchema<unknown, T>, value: unknown): T {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  throw new NatwardError('MALFORMED', 'it answers with something else than it should', {
    advice: 'Look whether the URL is the one of its web interface.',
  });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Without user and password. */
export function bare(url: string): URL {
  const one = new URL(url);
  [one.username, one.password] = ['', ''];
  return one;
}

/** `path` below that of a URL, which may or may not end in a slash. */
export function below(url: URL, path: string): string {
  const one = new URL(url);
  one.pathname = `${one.pathname.replace(/\/+$/, '')}/${path}`;
  return one.href;
}
