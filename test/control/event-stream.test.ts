import { request, type IncomingMessage } from 'node:http';
import { once } from 'node:events';
import { expect, onTestFinished, test } from 'vitest';
import type { AgentEvent } from '../../src/agent/events.ts';
import { HEARTBEAT_MS } from '../../src/control/event-stream.ts';
import { END_EVENT, PATHS } from '../../src/control/schema.ts';
import { TestClock } from '../support/test-clock.ts';
import { ask, type FakeAgent, LEASE, startAgent } from './support/fake-agent.ts';

/** Answers when the stream is open; nothing of it is read yet. */
async function openStream(agent: FakeAgent, headers: Record<string, string> = {}): Promise<IncomingMessage> {
  const asked = request({ socketPath: agent.place, path: PATHS.events, headers, agent: false });
  asked.on('error', () => undefined);
  onTestFinished(() => void asked.destroy());
  asked.end();
  const [answer] = (await once(asked, 'response')) as [IncomingMessage];
  answer.setEncoding('utf8').on('error', () => undefined);
  return answer;
}

/** Reads until what has come holds `words`. */
async function readUntil(answer: IncomingMessage, words: string): Promise<string> {
  let text = '';
  while (!text.includes(words)) {
    const chunk = answer.read() as string | null;
    if (chunk === null) await once(answer, 'readable');
    else text += chunk;
  }
  return text;
}

function events(count: number): AgentEvent[] {
  return Array.from({ length: count }, (_, at) => ({
    type: 'renewed',
    id: at + 1,
    at: '2026-01-01T00:00:00.000Z',
    lease: { ...LEASE, description: 'x'.repeat(1000) },
  }));
}

test('an event has its id, its type and its data', async () => {
  const agent = await startAgent();
  const answer = await openStream(agent);
  expect(answer.headers).toMatchObject({ 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  const [event] = events(1) as [AgentEvent];
  agent.keeping.emit(event);
  const text = await readUntil(answer, 'data:');
  expect(text).toBe(`: alive\n\nid: 1\nevent: renewed\ndata: ${JSON.stringify(event)}\n\n`);
});

test.each([
  [{}, undefined],
  [{ 'last-event-id': '' }, undefined],
  [{ 'last-event-id': '0' }, 0],
  [{ 'last-event-id': '41' }, 41],
])('with %j the keeper tells what happened since %s', async (headers, since) => {
  const agent = await startAgent();
  await openStream(agent, headers);
  expect(agent.keeping.subscriptions).toEqual([since]);
});

test.each(['x', '-1', '1e3', '9'.repeat(16)])('a Last-Event-ID of %s is no id', async (id) => {
  const { place, keeping } = await startAgent();
  expect(await ask(place, 'GET', PATHS.events, { headers: { 'last-event-id': id } })).toMatchObject({
    status: 400,
  });
  expect(keeping.subscriptions).toEqual([]);
});

test('a quiet agent shows now and then that it is alive', async () => {
  const clock = new TestClock();
  const agent = await startAgent({ clock, limits: { graceMs: 0 } });
  const answer = await openStream(agent);
  expect(await readUntil(answer, 'alive')).toBe(': alive\n\n');
  for (let beats = 0; beats < 3; beats++) {
    await clock.advance(HEARTBEAT_MS - 1);
    expect(answer.read()).toBeNull();
    await clock.advance(1);
    expect(await readUntil(answer, 'alive')).toBe(': alive\n\n');
  }
});

test('a reader that has gone leaves no timer and no reader behind', async () => {
  const clock = new TestClock();
  const agent = await startAgent({ clock, limits: { graceMs: 0 } });
  const answer = await openStream(agent);
  expect(clock.pending).toBe(1);
  answer.destroy();
  await agent.keeping.until(() => agent.keeping.readers === 0);
  expect(clock.pending).toBe(0);
});

test('a reader that is too slow gets what has waited for him and is told why there is no more', async () => {
  const agent = await startAgent({ limits: { backlogBytes: 2 ** 20 } });
  const slow = await openStream(agent);
  const quick = await openStream(agent);
  const told = readUntil(quick, '"id":1,');
  agent.keeping.emit(...events(1));
  await told;
  agent.keeping.emit(...events(10_000));
  await agent.keeping.until(() => agent.keeping.readers === 0);
  const text = await readUntil(slow, '"NO_RESOURCES"');
  const ids = [...text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id));
  expect(ids.length).toBeGreaterThan(500);
  expect(ids.length).toBeLessThan(5000);
  expect(ids.slice(1)).toEqual(ids.slice(1).map((_, at) => at + 1));
  expect(text).toContain(`event: ${END_EVENT}\ndata: {"error":{"code":"NO_RESOURCES"`);
});

test('a burst that fits its backlog cuts nobody', async () => {
  const agent = await startAgent();
  const answer = await openStream(agent);
  agent.keeping.emit(...events(4000));
  const text = await readUntil(answer, '"id":4000,');
  expect(text).not.toContain(END_EVENT);
  expect(agent.keeping.readers).toBe(1);
});

test('a reader that reads nothing at all loses its place to the next one', async () => {
  const agent = await startAgent({ limits: { backlogBytes: 2 ** 20, graceMs: 20, streams: 1 } });
  const answer = await openStream(agent);
  answer.socket.pause();
  agent.keeping.emit(...events(10_000));
  await agent.keeping.until(() => agent.keeping.readers === 0);
  let next: IncomingMessage;
  do next = await openStream(agent);
  while (next.statusCode === 503);
  expect(next.statusCode).toBe(200);
});

test('there are no more streams than questions can be asked beside them', async () => {
  const agent = await startAgent({ limits: { streams: 2 } });
  const first = await openStream(agent);
  await openStream(agent);
  expect((await openStream(agent)).statusCode).toBe(503);
  expect((await ask(agent.place, 'GET', PATHS.status)).status).toBe(200);
  first.destroy();
  await agent.keeping.until(() => agent.keeping.readers === 1);
  expect((await openStream(agent)).statusCode).toBe(200);
});

test('a keeper that fails is the last that a reader hears', async () => {
  const agent = await startAgent();
  agent.keeping.events = () => {
    throw new TypeError('x is not a function');
  };
  const text = await readUntil(await openStream(agent), 'error');
  expect(text).toContain(`event: ${END_EVENT}\ndata: {"error":{"code":"FAILED"`);
});
