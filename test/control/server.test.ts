import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import * as fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { LeaseKeeping } from '../../src/agent/keeping.ts';
import { PATHS } from '../../src/control/schema.ts';
import { NatwardError } from '../../src/errors.ts';
import {
  ask,
  FACTS,
  FakeKeeping,
  LEASE,
  postJson,
  REQUEST,
  RESPONDER,
  RULE,
  STATUS,
  startAgent,
} from './support/fake-agent.ts';

const KEEP = { requests: [REQUEST], owner: 'backup', timeoutMs: 1000 };
const SPEC_SELECTOR = {
  kind: 'spec',
  text: '443:8443',
  ask: { protocols: ['tcp'], external: 'any', internal: { first: 1, last: 1 } },
};

async function open(place: string): Promise<Socket> {
  const socket = connect(place);
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** All that comes until the other side ends. */
async function rest(socket: Socket): Promise<string> {
  let text = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  socket.on('error', () => undefined);
  await once(socket, 'close');
  return text;
}

describe('a question that is in order', () => {
  test('the status says who answers and what is kept', async () => {
    const { place } = await startAgent();
    const answer = await ask(place, 'GET', PATHS.status);
    expect(answer.status).toBe(200);
    expect(answer.headers['content-type']).toMatch(/^application\/json/);
    expect(answer.headers['cache-control']).toBe('no-store');
    expect(answer.json()).toEqual({
      agent: FACTS,
      ...STATUS,
      rulesPaused: false,
      rules: [RULE],
      responders: [RESPONDER],
    });
  });

  test('leases are kept as asked, and come back as they stand', async () => {
    const { place, keeping } = await startAgent();
    const answer = await postJson(place, PATHS.leases, KEEP);
    expect(answer.json()).toEqual({ leases: [LEASE] });
    expect(answer.status).toBe(200);
    expect(keeping.asked).toEqual([KEEP]);
  });

  test('what a request does not say has its default', async () => {
    const { place, keeping } = await startAgent();
    const port = { first: 8080, last: 8080 };
    const { status } = await postJson(place, PATHS.leases, {
      requests: [{ spec: '8080', protocols: ['tcp'], external: port, internal: port }],
    });
    expect(status).toBe(200);
    const request = { spec: '8080', protocols: ['tcp'], external: port, internal: port };
    expect(keeping.asked).toEqual([
      {
        requests: [{ ...request, lifetimeSeconds: 7200, choice: 'any', hooks: [] }],
        owner: 'user',
        timeoutMs: 5000,
      },
    ]);
  });

  test('leases are dropped by id and by spec', async () => {
    const { place, keeping } = await startAgent();
    const selectors = [{ kind: 'id', text: '3fa94c01', id: '3fa94c01' }, SPEC_SELECTOR];
    const answer = await postJson(place, PATHS.drop, { selectors });
    expect(answer.json()).toEqual({ released: [LEASE], failures: [] });
    expect(keeping.asked).toEqual([{ selectors }]);
  });

  test('HTTP 1.0 without a Host is answered, too', async () => {
    const { place } = await startAgent();
    const socket = await open(place);
    socket.write('GET /v1/status HTTP/1.0\r\n\r\n');
    expect(await rest(socket)).toMatch(/^HTTP\/1\.1 200 /);
  });
});

describe('a question that is not in order', () => {
  const WRONG: readonly (readonly [path: string, body: unknown, names: string])[] = [
    [PATHS.leases, '{"requests":', 'not JSON'],
    [PATHS.leases, '', 'not JSON'],
    [PATHS.leases, [], 'requests'],
    [PATHS.leases, '"requests"', 'Invalid type'],
    [PATHS.leases, {}, 'requests'],
    [PATHS.leases, { requests: [] }, 'requests'],
    [PATHS.leases, { ...KEEP, onwer: 'backup' }, 'onwer'],
    [PATHS.leases, { ...KEEP, owner: 'x'.repeat(65) }, 'owner'],
    [PATHS.leases, { ...KEEP, owner: 'responder' }, 'owner: is a name that natward itself has'],
    [PATHS.leases, { ...KEEP, timeoutMs: 1e9 }, 'timeoutMs'],
    [PATHS.leases, { requests: [REQUEST, { ...REQUEST, lifetimeSeconds: 0 }] }, 'requests.1.lifetimeSeconds'],
    [PATHS.leases, { requests: [{ ...REQUEST, protocols: ['tcp', 'tcp'] }] }, 'requests.0.protocols'],
    [PATHS.leases, { requests: [{ ...REQUEST, protocols: ['sctp'] }] }, 'requests.0.protocols.0'],
    [PATHS.leases, { requests: [{ ...REQUEST, external: { first: 2, last: 1 } }] }, 'requests.0.external'],
    [PATHS.leases, { requests: [{ ...REQUEST, external: { first: 1, last: 2 } }] }, 'equally many'],
    [PATHS.leases, { requests: [{ ...REQUEST, internal: { first: 0, last: 0 } }] }, 'internal.first'],
    [PATHS.leases, { requests: [{ ...REQUEST, internal: { first: 1.5, last: 2 } }] }, 'internal.first'],
    [PATHS.leases, { requests: [{ ...REQUEST, host: 'example.org' }] }, 'requests.0.host'],
    [PATHS.leases, { requests: [{ ...REQUEST, remotePeer: {} }] }, 'remotePeer.address'],
    [
      PATHS.leases,
      { requests: [{ ...REQUEST, remotePeer: { address: '192.0.2.1', prefixLength: 64, port: 0 } }] },
      '32 bits',
    ],
    [PATHS.leases, { requests: [{ ...REQUEST, hooks: [{ kind: 'rm' }] }] }, 'hooks.0.kind'],
    [PATHS.leases, { requests: [{ ...REQUEST, hooks: [{ kind: 'run', argv: [] }] }] }, 'hooks.0.argv'],
    [
      PATHS.leases,
      { requests: [{ ...REQUEST, hooks: [{ kind: 'webhook', url: 'file:///etc/passwd' }] }] },
      'hooks.0.url',
    ],
    [PATHS.leases, { requests: Array.from({ length: 1001 }, () => REQUEST) }, 'requests'],
    [
      PATHS.leases,
      { requests: [{ ...REQUEST, external: 'any', internal: { first: 1, last: 65_535 } }] },
      'more than 10000 leases',
    ],
    [PATHS.drop, { selectors: [] }, 'selectors'],
    [PATHS.drop, { selectors: [{ kind: 'id', text: 'x' }] }, 'selectors.0.id'],
    [PATHS.drop, { selectors: [{ ...SPEC_SELECTOR, ask: { ...SPEC_SELECTOR.ask, spec: '1' } }] }, 'spec'],
  ];
  test.each(WRONG.map(([path, body, names]) => ({ path, body, names })))(
    '$path is told where it is wrong: $names',
    async ({ path, body, names }) => {
      const { place, keeping, errors } = await startAgent();
      const answer = await postJson(place, path, body);
      expect(answer.json()).toEqual({
        error: { code: 'MALFORMED', message: expect.stringContaining(names), advice: null },
      });
      expect(answer.status).toBe(400);
      expect(keeping.asked).toEqual([]);
      expect(errors).toEqual([]);
    },
  );

  test('what is wrong is named in a few words, however long it is', async () => {
    const { place } = await startAgent();
    const { body } = await postJson(place, PATHS.leases, { ...KEEP, ['x'.repeat(500_000)]: 1 });
    expect(body.length).toBeLessThan(1000);
  });

  test('an unknown path is not found', async () => {
    const { place } = await startAgent();
    const answer = await ask(place, 'GET', '/v2/status');
    expect(answer.status).toBe(404);
    expect(answer.json()).toMatchObject({
      error: { code: 'NOT_FOUND', message: 'the agent has no /v2/status' },
    });
  });

  test.each([
    ['DELETE', PATHS.status, 'GET'],
    ['HEAD', PATHS.agent, 'GET'],
    ['POST', PATHS.agent, 'GET'],
    ['HEAD', PATHS.status, 'GET'],
    ['HEAD', PATHS.events, 'GET'],
    ['POST', PATHS.events, 'GET'],
    ['GET', PATHS.leases, 'POST'],
    ['PUT', PATHS.drop, 'POST'],
    ['OPTIONS', PATHS.drop, 'POST'],
  ])('%s %s is told which method there is', async (method, path, allowed) => {
    const { place, keeping } = await startAgent();
    const answer = await ask(place, method, path);
    expect(answer.status).toBe(405);
    expect(answer.headers['allow']).toBe(allowed);
    expect(keeping.subscriptions).toEqual([]);
  });

  test.each([
    [{}],
    [{ 'content-type': 'text/plain' }],
    [{ 'content-type': 'application/x-www-form-urlencoded' }],
    [{ 'content-type': 'application/json', 'content-encoding': 'gzip' }],
  ])('a body with %j is no JSON that natward reads', async (headers) => {
    const { place, keeping } = await startAgent();
    const answer = await ask(place, 'POST', PATHS.leases, { headers, body: JSON.stringify(KEEP) });
    expect(answer.status).toBe(415);
    expect(answer.json()).toMatchObject({ error: { code: 'USAGE' } });
    expect(keeping.asked).toEqual([]);
  });

  test('a charset is accepted, and a body that is not UTF-8 is not', async () => {
    const { place } = await startAgent();
    const headers = { 'content-type': 'Application/JSON; charset=utf-8' };
    expect(await ask(place, 'POST', PATHS.leases, { headers, body: JSON.stringify(KEEP) })).toMatchObject({
      status: 200,
    });
    const body = Buffer.from('{"owner":"\xff"}', 'latin1');
    expect(await ask(place, 'POST', PATHS.leases, { headers, body })).toMatchObject({ status: 400 });
  });

  test.each([
    ['with its length', {}],
    ['in chunks', { 'transfer-encoding': 'chunked' }],
  ])('a body %s of more than 1 MiB is refused, and the server goes on', async (_, framing) => {
    const { place, keeping } = await startAgent();
    const headers = { 'content-type': 'application/json', ...framing };
    const body = ' '.repeat(2 ** 20 + 1);
    const answer = await ask(place, 'POST', PATHS.leases, { headers, body });
    expect(answer.status).toBe(413);
    expect(answer.headers['connection']).toBe('close');
    expect(answer.json()).toMatchObject({ error: { code: 'USAGE' } });
    expect(keeping.asked).toEqual([]);
    expect(await ask(place, 'GET', PATHS.status)).toMatchObject({ status: 200 });
  });

  test('a web page is refused', async () => {
    const { place, keeping } = await startAgent();
    const headers = { origin: 'https://example.org' };
    for (const path of [PATHS.status, PATHS.events, '/']) {
      expect(await ask(place, 'GET', path, { headers })).toMatchObject({ status: 403 });
    }
    expect(keeping.subscriptions).toEqual([]);
  });

  test.each([
    ['what is not HTTP', 'garbage\r\n\r\n', 400],
    ['a Host with a path', 'GET /v1/status HTTP/1.1\r\nHost: a/b?c\r\nConnection: close\r\n\r\n', 400],
    ['a path with a backslash', 'GET /v1\\status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n', 400],
    ['a long head', `GET / HTTP/1.1\r\nX: ${'x'.repeat(9000)}\r\n\r\n`, 431],
  ])('%s is refused in JSON', async (_, text, status) => {
    const { place, errors } = await startAgent();
    const socket = await open(place);
    socket.write(text);
    const [head = '', body = ''] = (await rest(socket)).split('\r\n\r\n');
    expect(head).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(JSON.parse(body)).toMatchObject({ error: { code: 'USAGE', message: expect.any(String) } });
    expect(errors).toEqual([]);
  });

  test('no body brings the server down or reaches the keeper unchecked', async () => {
    const { place, keeping, errors } = await startAgent();
    const anything = fc.oneof(
      fc.json({ maxDepth: 8 }),
      fc.string({ unit: 'binary' }),
      fc.constantFrom('['.repeat(500_000), '{"a":'.repeat(100_000), '{"__proto__":{"requests":1}}', '1e999'),
      // Nearly right: one field of a good request is something else.
      fc
        .tuple(fc.constantFrom(...Object.keys(REQUEST), 'via', 'family', '__proto__'), fc.jsonValue())
        .map(([key, value]) => JSON.stringify({ requests: [{ ...REQUEST, [key]: value }] })),
    );
    await fc.assert(
      fc.asyncProperty(anything, fc.constantFrom(PATHS.leases, PATHS.drop), async (body, path) => {
        const { status } = await postJson(place, path, body);
        expect([200, 400]).toContain(status);
      }),
      { numRuns: 300 },
    );
    expect(errors).toEqual([]);
    for (const asked of keeping.asked) {
      expect(asked).toMatchObject({ requests: [{ protocols: expect.any(Array), hooks: expect.any(Array) }] });
    }
    expect(await ask(place, 'GET', PATHS.status)).toMatchObject({ status: 200 });
  });
});

test('questions that come before there is a keeper are answered when there is one', async () => {
  let made: (keeping: LeaseKeeping) => void = () => undefined;
  const keeping = new Promise<LeaseKeeping>((resolve) => {
    made = resolve;
  });
  const { place } = await startAgent({ keeping });
  const answers = [ask(place, 'GET', PATHS.status), postJson(place, PATHS.leases, KEEP)];
  const events = await open(place);
  events.write('GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n');
  const late = new FakeKeeping();
  made(late);
  expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200]);
  await late.until(() => late.readers === 1);
});

test('a client that went before there was a keeper takes no place of those who come later', async () => {
  const late = new FakeKeeping();
  const waiting: (() => void)[] = [];
  let asked: () => void = () => undefined;
  const isAsked = new Promise<void>((resolve) => {
    asked = resolve;
  });
  // A promise that tells when it is waited for.
  const keeping = {
    // oxlint-disable-next-line unicorn/no-thenable
    then(resolve: (keeping: LeaseKeeping) => void) {
      waiting.push(() => resolve(late));
      asked();
    },
  } as unknown as Promise<LeaseKeeping>;
  const { place } = await startAgent({ keeping, limits: { streams: 1 } });
  const gone = await open(place);
  gone.write('GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n');
  await isAsked;
  gone.destroy();
  // Whoever has answered these has seen that end before.
  await ask(place, 'GET', '/');
  await ask(place, 'GET', '/');
  waiting.shift()?.();
  await late.until(() => late.subscriptions.length === 1);
  await late.until(() => late.readers === 0);
  const stream = await open(place);
  stream.write('GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n');
  while (waiting.length === 0) await ask(place, 'GET', '/');
  waiting.shift()?.();
  const [head] = (await once(stream, 'data')) as [Buffer];
  expect(head.toString()).toMatch(/^HTTP\/1\.1 200 /);
});

describe('a keeper that fails', () => {
  test.each([
    ['USAGE', 400],
    ['NOT_OWN', 403],
    ['CONFLICT', 409],
    ['NO_GATEWAY', 503],
    ['TIMEOUT', 504],
    ['FAILED', 500],
  ] as const)('with %s is told with HTTP %i', async (code, status) => {
    const { place, keeping, errors } = await startAgent();
    keeping.answerKeep = async () => {
      throw new NatwardError(code, 'no', { advice: 'Try again.' });
    };
    const answer = await postJson(place, PATHS.leases, KEEP);
    expect(answer.status).toBe(status);
    expect(answer.json()).toEqual({ error: { code, message: 'no', advice: 'Try again.' } });
    expect(errors).toEqual([]);
  });

  test('in a way that natward did not expect is told and reported', async () => {
    const { place, keeping, errors } = await startAgent();
    const mistake = new TypeError('x is not a function');
    keeping.answerStatus = async () => {
      throw mistake;
    };
    const answer = await ask(place, 'GET', PATHS.status);
    expect(answer.status).toBe(500);
    expect(answer.json()).toMatchObject({
      error: { code: 'FAILED', message: expect.stringContaining('x is not a function') },
    });
    expect(errors).toEqual([mistake]);
  });
});

describe('limits', () => {
  test('a client that goes before its answer stops what it asked for', async () => {
    const { place, keeping } = await startAgent();
    const stopped = new Promise<void>((resolve) => {
      keeping.answerKeep = ({ signal }) =>
        new Promise((_, reject) => {
          signal.addEventListener('abort', () => {
            reject(new NatwardError('ABORTED', 'stopped'));
            resolve();
          });
        });
    });
    const socket = await open(place);
    const body = JSON.stringify(KEEP);
    socket.write(
      `POST /v1/leases HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    await keeping.until(() => keeping.asked.length === 1);
    socket.destroy();
    await stopped;
  });

  test.each([
    ['head', 'GET /v1/status HTTP/1.1\r\nHo'],
    [
      'body',
      'POST /v1/leases HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"requests":',
    ],
    ['question at all', ''],
  ])('a client that never ends its %s is cut', async (_, text) => {
    const { place, errors } = await startAgent({ limits: { headersMs: 50, requestMs: 100 } });
    const socket = await open(place);
    socket.write(text);
    expect(await rest(socket)).toMatch(/^(HTTP\/1\.1 408 |$)/);
    expect(errors).toEqual([]);
  });

  test('connections beyond the limit are closed, and those within it go on', async () => {
    const { place } = await startAgent({ limits: { connections: 2 } });
    const first = await open(place);
    await open(place);
    const third = await open(place);
    await rest(third);
    first.write('GET /v1/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    expect(await rest(first)).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('an end of the server is an end for all its connections', async () => {
    const { place, server, keeping } = await startAgent({ limits: { graceMs: 50 } });
    keeping.answerKeep = () => new Promise(() => undefined);
    const idle = await open(place);
    const waiting = await open(place);
    const body = JSON.stringify(KEEP);
    waiting.write(
      `POST /v1/leases HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    await keeping.until(() => keeping.asked.length === 1);
    const ends = [rest(idle), rest(waiting)];
    await server[Symbol.asyncDispose]();
    await Promise.all(ends);
    await expect(ask(place, 'GET', PATHS.status)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
