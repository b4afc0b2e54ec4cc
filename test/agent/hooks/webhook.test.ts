/** Webhooks, before a real server and with the test's clock between the tries. */

import { describe, expect, test } from 'vitest';
import type { WebhookHook } from '../../../src/agent/hooks/hook.ts';
import { callWebhook } from '../../../src/agent/hooks/webhook.ts';
import { webRequest } from '../../../src/system/web.ts';
import { type Answer, closedOrigin, serviceFor } from '../../support/services.ts';
import { granted, reachWith } from './support.ts';

/** Calls it; `rests` are the seconds between the tries, of which there is no more than `patience`. */
async function call(url: string, { patience = Infinity, timeoutSeconds = 15 } = {}) {
  const event = granted();
  const hook: WebhookHook = { kind: 'webhook', url, timeoutSeconds };
  const rests: number[] = [];
  const rest = async (delayMs: number): Promise<boolean> => rests.push(delayMs / 1000) <= patience;
  const failed = await callWebhook(reachWith(webRequest), hook, event, rest).then(
    () => undefined,
    (error: Error) => error,
  );
  return { event, rests, failed };
}

/** Answers with each of these, and then well. */
function after(...answers: readonly Answer[]): (asked: unknown, count: number) => Answer {
  return (_, count) => answers[count - 1] ?? {};
}

describe('callWebhook()', () => {
  test('POSTs the event as JSON', async () => {
    const { origin, asked } = await serviceFor(() => ({ status: 204 }));
    const { event, rests, failed } = await call(`${origin}/in?key=1`);
    expect(failed).toBeUndefined();
    expect(rests).toEqual([]);
    expect(asked).toHaveLength(1);
    expect(asked[0]).toMatchObject({
      method: 'POST',
      path: '/in?key=1',
      headers: { 'content-type': 'application/json', 'user-agent': 'natward/1.2.3' },
    });
    expect(JSON.parse(asked[0]?.body ?? '')).toEqual(event);
  });

  test('is not troubled by an answer that goes on and on', async () => {
    const { origin } = await serviceFor(() => ({ body: 'x'.repeat(2 ** 20) }));
    expect((await call(origin)).failed).toBeUndefined();
  });

  test('tries again while it may help, and later each time', async () => {
    const { origin, asked } = await serviceFor(
      after({ status: 500 }, { status: 503 }, { status: 429 }, { status: 408 }, { instead: 'reset' }),
    );
    const { rests, failed } = await call(origin);
    expect(failed).toBeUndefined();
    expect(rests).toEqual([1, 2, 4, 8, 16]);
    expect(new Set(asked.map(({ body }) => body)).size).toBe(1);
  });

  test('tries again after silence', async () => {
    const { origin } = await serviceFor(after({ instead: 'silence' }));
    expect(await call(origin, { timeoutSeconds: 1 })).toMatchObject({ rests: [1], failed: undefined });
  });

  test('gives up after five minutes, and says why', async () => {
    const { rests, failed } = await call(await closedOrigin());
    expect(rests).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    expect(failed).toMatchObject({ code: 'UNREACHABLE', message: expect.stringContaining('ECONNREFUSED') });
  });

  test('gives up where there is to be no other try', async () => {
    expect(await call(await closedOrigin(), { patience: 2 })).toMatchObject({
      rests: [1, 2, 4],
      failed: { code: 'UNREACHABLE' },
    });
  });

  test.each([
    [400, 'REFUSED', /HTTP 400/],
    [401, 'NOT_AUTHORIZED', /HTTP 401/],
    [403, 'NOT_AUTHORIZED', /HTTP 403/],
    [404, 'NOT_FOUND', /HTTP 404/],
    [302, 'NOT_FOUND', /^it sends its callers to https:\/\/other\.example\.org \(HTTP 302\)$/],
  ])('does not ask twice after %i', async (status, code, message) => {
    const headers = { Location: 'https://other.example.org/login?secret=1' };
    const { origin, asked } = await serviceFor(() => ({ status, headers }));
    expect(await call(origin)).toMatchObject({
      rests: [],
      failed: { code, message: expect.stringMatching(message) },
    });
    expect(asked).toHaveLength(1);
  });
});
