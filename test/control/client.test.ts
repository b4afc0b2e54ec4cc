import { spawn } from 'node:child_process';
import { chmod, chown, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { AgentEvent } from '../../src/agent/events.ts';
import { AgentClient, connectAgent } from '../../src/control/client.ts';
import { NatwardError } from '../../src/errors.ts';
import {
  FACTS,
  GATEWAY,
  LEASE,
  REQUEST,
  RESPONDER,
  RULE,
  STATUS,
  type FakeAgent,
  startAgent,
  temporary,
} from './support/fake-agent.ts';

const signal = new AbortController().signal;
const OPTIONS = { owner: 'user', timeoutMs: 1000, signal };

const stamp = { at: '2026-01-01T00:00:00.000Z' };
const EVENTS: readonly AgentEvent[] = [
  { ...stamp, id: 1, type: 'gateway-up', gateway: GATEWAY },
  { ...stamp, id: 2, type: 'granted', lease: LEASE },
  { ...stamp, id: 3, type: 'renewed', lease: { ...LEASE, description: 'two\nlines: \u2028 “quoted” 🚪' } },
  {
    ...stamp,
    id: 4,
    type: 'changed',
    lease: LEASE,
    previous: { externalAddress: null, externalPort: 444, internalClient: '192.168.1.9' },
  },
  { ...stamp, id: 5, type: 'lost', lease: { ...LEASE, state: 'lost' }, reason: 'the gateway restarted' },
  {
    ...stamp,
    id: 6,
    type: 'refused',
    lease: { ...LEASE, state: 'refused', error: { code: 'CONFLICT', message: 'taken', advice: null } },
  },
  { ...stamp, id: 7, type: 'released', lease: LEASE, reason: null },
  { ...stamp, id: 8, type: 'gateway-down', gateway: { ...GATEWAY, state: 'down' }, reason: 'the link went' },
  { ...stamp, id: 9, type: 'address-changed', gateway: GATEWAY, previous: '198.51.100.6' },
  { ...stamp, id: 10, type: 'warning', message: 'a hook failed', advice: 'Look at it.' },
];

function follow(agent: FakeAgent, since?: number) {
  const stop = new AbortController();
  const reader = agent.client.events(stop.signal, since)[Symbol.asyncIterator]();
  onTestFinished(() => stop.abort());
  return { stop, next: () => reader.next() };
}

/** Something else than an agent, at the place of one. */
async function listenInstead(answer: string): Promise<string> {
  const place = join(await temporary(), 'control.sock');
  const server: Server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.end(answer));
  });
  await new Promise<void>((resolve) => void server.listen(place, resolve));
  onTestFinished(() => void server.close());
  return place;
}

function http(status: string, body: string, type = 'application/json'): string {
  return `HTTP/1.1 ${status}\r\nContent-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

describe('connecting', () => {
  test('finds the first place where an agent answers', async () => {
    const { place } = await startAgent();
    const nobody = join(await temporary(), 'control.sock');
    const agent = await connectAgent([nobody, 'x'.repeat(200), place]);
    expect(agent).toMatchObject({ place, agent: FACTS });
  });

  test('finds none where none runs, nor where one died', async () => {
    const directory = await temporary();
    const file = join(directory, 'file');
    await writeFile(file, '');
    const dead = await deadSocket(directory);
    expect(await connectAgent([join(directory, 'none'), join(file, 'none'), dead])).toBeUndefined();
  });

  test.each([
    ['garbage', 'hello\n'],
    ['another program', http('200 OK', '{"version":"Docker 20"}')],
    ['a refusal without words', http('500 Internal Server Error', 'oops', 'text/plain')],
    ['a connection that breaks off', 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{'],
  ])('says so where %s answers', async (_, answer) => {
    const place = await listenInstead(answer);
    await expect(connectAgent([place])).rejects.toMatchObject({
      name: 'NatwardError',
      code: 'FAILED',
      message: expect.stringContaining(`the agent at ${place} does not answer as it should`),
    });
  });

  test.runIf(process.getuid?.() === 0)('says whose the agent is that this user may not ask', async () => {
    const { place } = await startAgent();
    const directory = dirname(place);
    const refused = `FAILED the agent at ${place} belongs to root Use sudo.\n`;
    await chmod(directory, 0o755);
    expect(await connectAs(65_534, place)).toBe(refused);
    await chmod(directory, 0o700);
    expect(await connectAs(65_534, place)).toBe(refused);
  });

  test.runIf(process.getuid?.() === 0)('trusts nobody but this user and root', async () => {
    const { place } = await startAgent();
    await chmod(dirname(place), 0o755);
    await chmod(place, 0o666);
    expect(await connectAs(65_534, place)).toBe('connected\n');
    await chown(place, 12_345, 0);
    expect(await connectAs(65_534, place)).toContain('it is of another user (uid 12345)');
  });
});

/** What `connectAgent` throws in a process of another user. */
async function connectAs(uid: number, place: string): Promise<string> {
  const program = `
    process.setgroups([]); process.setgid(${uid}); process.setuid(${uid});
    connectAgent([${JSON.stringify(place)}]).then(
      () => console.log('connected'),
      (error) => console.log(error.code, error.message, error.advice),
    );`;
  const client = fileURLToPath(new URL('../../src/control/client.ts', import.meta.url));
  return await run(`import { connectAgent } from ${JSON.stringify(client)};${program}`);
}

async function run(program: string): Promise<string> {
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  for await (const chunk of child.stdout.setEncoding('utf8')) text += chunk;
  return text;
}

/** As a process leaves it that was killed. */
async function deadSocket(directory: string): Promise<string> {
  const place = join(directory, 'dead.sock');
  await run(`
    const { createServer } = await import('node:net');
    createServer().listen(${JSON.stringify(place)}, () => process.kill(process.pid, 'SIGKILL'));`);
  return place;
}

describe('asking', () => {
  test('carries every question and answer whole', async () => {
    const { client, keeping } = await startAgent();
    const request = {
      ...REQUEST,
      protocols: ['tcp', 'udp'],
      external: 'any',
      host: '2001:db8::8',
      description: 'ssh',
      remotePeer: { address: '2001:db8::', prefixLength: 64, port: 0 },
      via: 'pcp',
      gateway: 'fe80::1%eth0',
      interface: 'eth0',
      family: 6,
      hooks: [
        { kind: 'run', argv: ['/usr/bin/logger', ''], on: ['granted'], timeoutSeconds: 5 },
        { kind: 'shell', line: 'logger "$NATWARD"' },
        { kind: 'webhook', url: 'https://example.org/hook' },
        { kind: 'sync', client: 'qbittorrent', url: 'http://admin:secret@127.0.0.1:8080' },
        { kind: 'dyndns', url: 'https://u:p@example.org/nic/update', hostname: 'home.example.org' },
      ],
    } as const;
    expect(await client.keep([REQUEST, request], OPTIONS)).toEqual([LEASE]);
    const selectors = [
      { kind: 'id', text: '3f', id: '3fa94c01' },
      {
        kind: 'spec',
        text: '1',
        ask: { protocols: ['udp'], external: 'any', internal: REQUEST.internal, host: undefined },
      },
    ] as const;
    const report = {
      released: [LEASE],
      failures: [{ selector: '3f', code: 'NOT_FOUND', message: 'none', advice: null }],
    } as const;
    keeping.answerDrop = async () => report;
    expect(await client.drop(selectors, { signal })).toEqual(report);
    expect(await client.status()).toEqual({
      agent: FACTS,
      ...STATUS,
      rulesPaused: false,
      rules: [RULE],
      responders: [RESPONDER],
    });
    expect(keeping.asked).toEqual([
      { requests: [REQUEST, request], owner: 'user', timeoutMs: 1000 },
      { selectors },
    ]);
  });

  test('a status of many leases comes whole', async () => {
    const { client, keeping } = await startAgent();
    const leases = Array.from({ length: 20_000 }, (_, at) => ({ ...LEASE, id: `lease ${at}` }));
    keeping.answerStatus = async () => ({ ...STATUS, leases });
    expect((await client.status()).leases).toEqual(leases);
  });

  test('what the keeper throws is thrown here', async () => {
    const { client, keeping } = await startAgent();
    const refusal = new NatwardError('CONFLICT', 'port 443 is taken', { advice: 'Take another.' });
    keeping.answerKeep = () => Promise.reject(refusal);
    await expect(client.keep([REQUEST], OPTIONS)).rejects.toMatchObject({
      name: 'NatwardError',
      code: 'CONFLICT',
      message: 'port 443 is taken',
      advice: 'Take another.',
    });
  });

  test('stops when it is told to, and so does the keeper', async () => {
    const { client, keeping } = await startAgent();
    const stopped = new Promise<void>((resolve) => {
      keeping.answerKeep = ({ signal }) =>
        new Promise(() => {
          signal.addEventListener('abort', () => resolve());
        });
    });
    const stop = new AbortController();
    const asked = client.keep([REQUEST], { ...OPTIONS, signal: stop.signal });
    await keeping.until(() => keeping.asked.length === 1);
    stop.abort();
    await expect(asked).rejects.toMatchObject({ code: 'ABORTED' });
    await stopped;
    await expect(client.drop([], { signal: stop.signal })).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('an agent that is gone is said to be gone', async () => {
    const { client, server } = await startAgent();
    await server[Symbol.asyncDispose]();
    await expect(client.status()).rejects.toMatchObject({
      code: 'FAILED',
      message: expect.stringMatching(`the agent \\(pid ${process.pid}\\) at .* is gone`),
    });
  });

  test('an agent that dies before it answers is said to be gone', async () => {
    const client = new AgentClient(await listenInstead(''), FACTS);
    await expect(client.keep([REQUEST], OPTIONS)).rejects.toMatchObject({
      code: 'FAILED',
      message: expect.stringContaining('is gone'),
    });
  });

  test('an agent that answers what this program does not know is said to be of another version', async () => {
    const odd = { ...LEASE, state: 'dreaming' };
    const place = await listenInstead(http('200 OK', JSON.stringify({ leases: [odd] })));
    await expect(new AgentClient(place, FACTS).keep([REQUEST], OPTIONS)).rejects.toMatchObject({
      code: 'MALFORMED',
      message: expect.stringMatching(/natward 1\.2\.3.*leases\.0\.state/),
    });
  });
});

describe('events', () => {
  test('come as they happened, in their order', async () => {
    const agent = await startAgent();
    const { next } = follow(agent);
    await agent.keeping.until(() => agent.keeping.readers === 1);
    agent.keeping.emit(...EVENTS);
    const seen: AgentEvent[] = [];
    while (seen.length < EVENTS.length) seen.push((await next()).value);
    expect(seen).toEqual(EVENTS);
    expect(agent.keeping.subscriptions).toEqual([undefined]);
  });

  test('are asked for from the call on, not from the first reading on', async () => {
    const agent = await startAgent();
    const { next } = follow(agent);
    await agent.keeping.until(() => agent.keeping.readers === 1);
    agent.keeping.emit(...EVENTS.slice(0, 1));
    expect((await next()).value).toEqual(EVENTS[0]);
  });

  test('go on from an event that was seen', async () => {
    const agent = await startAgent();
    follow(agent, 41);
    await agent.keeping.until(() => agent.keeping.readers === 1);
    expect(agent.keeping.subscriptions).toEqual([41]);
  });

  test('end for the keeper when the reader has had enough', async () => {
    const agent = await startAgent();
    const { stop, next } = follow(agent);
    await agent.keeping.until(() => agent.keeping.readers === 1);
    const waiting = next();
    stop.abort();
    expect(await waiting).toEqual({ done: true, value: undefined });
    await agent.keeping.until(() => agent.keeping.readers === 0);
    expect(agent.errors).toEqual([]);
  });

  test('end for the keeper when the reader leaves its loop', async () => {
    const agent = await startAgent();
    const events = agent.client.events(signal);
    await agent.keeping.until(() => agent.keeping.readers === 1);
    agent.keeping.emit(...EVENTS);
    for await (const event of events) {
      expect(event).toEqual(EVENTS[0]);
      break;
    }
    await agent.keeping.until(() => agent.keeping.readers === 0);
  });

  test('end with an error when the agent stops', async () => {
    const agent = await startAgent();
    const { next } = follow(agent);
    await agent.keeping.until(() => agent.keeping.readers === 1);
    agent.keeping.emit(...EVENTS.slice(0, 1));
    const ended = agent.server[Symbol.asyncDispose]();
    expect((await next()).value).toEqual(EVENTS[0]);
    await expect(next()).rejects.toMatchObject({ code: 'ABORTED', message: 'the agent stops' });
    await ended;
  });

  test('end with an error when the keeper ends them', async () => {
    const agent = await startAgent();
    const { next } = follow(agent);
    await agent.keeping.until(() => agent.keeping.readers === 1);
    agent.keeping.endEvents();
    await expect(next()).rejects.toMatchObject({ code: 'ABORTED' });
  });

  const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n';
  test.each([
    ['breaks off', `${HEAD}: alive\n\n`, /is gone/],
    ['tells an event without an end', `${HEAD}data: ${'x'.repeat(2 ** 20 + 1)}`, /without an end/],
    ['tells what is no event', `${HEAD}event: granted\ndata: {"type":"granted"}\n\n`, /does not understand/],
    ['tells what is not JSON', `${HEAD}event: lost\ndata: {\n\n`, /not JSON/],
    [
      'refuses',
      http('503 Service Unavailable', '{"error":{"code":"USAGE","message":"full","advice":null}}'),
      /full/,
    ],
  ])('end with an error when the agent %s', async (_, answer, words) => {
    const client = new AgentClient(await listenInstead(answer), FACTS);
    const reader = client.events(signal)[Symbol.asyncIterator]();
    await expect(reader.next()).rejects.toMatchObject({ name: 'NatwardError', message: words });
  });

  test('that this program does not know are passed over', async () => {
    const known = JSON.stringify(EVENTS[0]);
    const place = await listenInstead(
      `${HEAD}event: dreamt\ndata: {}\n\nevent: gateway-up\ndata: ${known}\n\n`,
    );
    const reader = new AgentClient(place, FACTS).events(signal)[Symbol.asyncIterator]();
    expect((await reader.next()).value).toEqual(EVENTS[0]);
  });
});
