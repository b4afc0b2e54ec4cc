/** The client for services, before real loopback servers. */

import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { NatwardError } from '../../src/errors.ts';
import { type WebRequest, type WebResponse, webRequest } from '../../src/system/web.ts';
import { closedOrigin, serviceFor } from '../support/services.ts';

function get(url: string, options: Partial<WebRequest> = {}): Promise<WebResponse> {
  return webRequest({ method: 'GET', url, timeLimitMs: 15_000, ...options });
}

/** A server that speaks to its callers in bytes. */
async function rawServer(answer: string, { hangUp }: { readonly hangUp: boolean }): Promise<string> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => (hangUp ? socket.end(answer) : socket.write(answer)));
    onTestFinished(() => void socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe('webRequest()', () => {
  test('sends method, headers and body, and keeps no connection', async () => {
    const { origin, asked } = await serviceFor(() => ({
      status: 201,
      body: 'fine',
      headers: { 'X-A': 'b' },
    }));
    const response = await get(`${origin}/path?a=1`, {
      method: 'POST',
      headers: { 'User-Agent': 'natward/1', Referer: origin, Origin: origin, Cookie: 'a=b' },
      body: 'hello',
    });
    expect(response).toMatchObject({ status: 201, body: 'fine' });
    expect(response.headers.get('x-a')).toBe('b');
    expect(asked).toEqual([
      {
        method: 'POST',
        path: '/path?a=1',
        body: 'hello',
        headers: expect.objectContaining({
          'user-agent': 'natward/1',
          referer: origin,
          origin,
          cookie: 'a=b',
          connection: 'close',
        }),
      },
    ]);
    expect(asked[0]?.headers).not.toHaveProperty('authorization');
  });

  test('sends the user and password of the URL as Basic authorization', async () => {
    const { withUser, asked } = await serviceFor(() => ({}));
    await get(withUser('me', 'p@ss:wörd%'));
    const [, base64 = ''] = asked[0]?.headers.authorization?.split(' ') ?? [];
    expect(Buffer.from(base64, 'base64').toString()).toBe('me:p@ss:wörd%');
  });

  test('follows no redirect', async () => {
    const { origin, asked } = await serviceFor(() => ({ status: 302, headers: { Location: '/elsewhere' } }));
    expect((await get(origin)).status).toBe(302);
    expect(asked).toHaveLength(1);
  });

  test('reads 64 KiB of a body and no more, however long it goes on', async () => {
    const head = 'HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n';
    const { body } = await get(await rawServer(head + 'x'.repeat(70_000), { hangUp: false }));
    expect(body).toBe('x'.repeat(65_536));
  });

  test.each(['HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc', 'hello\r\n\r\n', ''])(
    'throws UNREACHABLE for an answer that breaks off, or is no HTTP: %j',
    async (answer) => {
      const url = await rawServer(answer, { hangUp: true });
      await expect(get(url)).rejects.toMatchObject({ code: 'UNREACHABLE' });
    },
  );

  test('throws UNREACHABLE where nobody listens, and where the name is not known', async () => {
    const origin = await closedOrigin();
    await expect(get(origin)).rejects.toMatchObject({
      code: 'UNREACHABLE',
      message: expect.stringContaining('ECONNREFUSED'),
    });
    await expect(get('http://natward.invalid/')).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });

  test('throws TIMEOUT for silence, before and within the body', async () => {
    const { origin } = await serviceFor(() => ({ instead: 'silence' }));
    await expect(get(origin, { timeLimitMs: 200 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    const half = await rawServer('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc', { hangUp: false });
    await expect(get(half, { timeLimitMs: 200 })).rejects.toMatchObject({ code: 'TIMEOUT' });
  });

  test('is stopped by the signal', async () => {
    const { origin } = await serviceFor(() => ({ instead: 'silence' }));
    const error = new NatwardError('ABORTED', 'enough');
    const stop = new AbortController();
    setTimeout(() => stop.abort(error), 50);
    await expect(get(origin, { signal: stop.signal })).rejects.toBe(error);
    await expect(get(origin, { signal: stop.signal })).rejects.toBe(error);
  });

  test.each(['ftp://127.0.0.1/', 'file:///etc/passwd', 'data:,x', 'nonsense'])(
    'throws USAGE for %s',
    async (url) => {
      await expect(get(url)).rejects.toMatchObject({ code: 'USAGE' });
    },
  );

  test('no error tells a user, a password or a path', async () => {
    const origin = await closedOrigin();
    const url = `${origin.replace('//', '//user:secret@')}/secret?secret`;
    const error = await get(url).catch((one: NatwardError) => one);
    const told = [error, (error as NatwardError).cause].map(
      (one) => `${String(one)} ${(one as Error).stack}`,
    );
    expect(told.join()).not.toMatch(/secret|user:/);
  });
});
