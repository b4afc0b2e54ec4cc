import { describe, expect, test } from 'vitest';
import { type AgentEvent, EventLog } from '../../src/agent/events.ts';

const REMEMBERED = 512;
const LONGEST_QUEUE = 50_000;

function logAt(startMs = 0): { readonly log: EventLog; say(count?: number): void } {
  let nowMs = startMs;
  const log = new EventLog(() => nowMs++);
  return {
    log,
    say(count = 1) {
      for (let at = 0; at < count; at++)
        log.emit({ type: 'warning', message: `w${log.lastId + 1}`, advice: null });
    },
  };
}

/** How many listeners there are, from now on. */
function listenersOf(log: EventLog): () => number {
  const listen = log.listen.bind(log);
  const listeners = new Set<object>();
  log.listen = (listener) => {
    const end = listen(listener);
    listeners.add(end);
    return () => {
      listeners.delete(end);
      end();
    };
  };
  return () => listeners.size;
}

function ids(events: readonly AgentEvent[]): number[] {
  return events.map(({ id }) => id);
}

async function read(events: AsyncIterable<AgentEvent>, count: number): Promise<number[]> {
  const found: number[] = [];
  const reader = events[Symbol.asyncIterator]();
  while (found.length < count) {
    const next = await reader.next();
    if (next.done) break;
    found.push(next.value.id);
  }
  return found;
}

describe('the log of events', () => {
  test('numbers what happens from 1, and says when it happened', () => {
    const { log, say } = logAt(Date.UTC(2026, 0, 1));
    const heard: AgentEvent[] = [];
    log.listen((event) => heard.push(event));
    expect(log.lastId).toBe(0);
    say(2);
    expect(log.lastId).toBe(2);
    expect(heard).toEqual([
      { type: 'warning', message: 'w1', advice: null, id: 1, at: '2026-01-01T00:00:00.000Z' },
      { type: 'warning', message: 'w2', advice: null, id: 2, at: '2026-01-01T00:00:00.001Z' },
    ]);
  });

  test('tells every listener, in the order of events, until it is ended', () => {
    const { log, say } = logAt();
    const [one, two]: [number[], number[]] = [[], []];
    const end = log.listen(({ id }) => one.push(id));
    log.listen(({ id }) => two.push(id));
    say(2);
    end();
    end();
    say();
    expect([one, two]).toEqual([
      [1, 2],
      [1, 2, 3],
    ]);
  });

  test(`remembers the last ${REMEMBERED}, and no more`, () => {
    const { log, say } = logAt();
    say(10);
    expect(ids(log.since(0))).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(ids(log.since(8))).toEqual([9, 10]);
    expect(log.since(10)).toEqual([]);
    say(5000);
    expect(log.since(0)).toHaveLength(REMEMBERED);
    expect(log.since(0)[0]?.id).toBe(5010 - REMEMBERED + 1);
    expect(ids(log.since(5008))).toEqual([5009, 5010]);
  });
});

describe('who follows', () => {
  test('reads what happens from then on, whether it is there already or comes later', async () => {
    const { log, say } = logAt();
    say(3);
    const events = log.follow(new AbortController().signal);
    say(2);
    const reading = read(events, 4);
    await Promise.resolve();
    say(2);
    expect(await reading).toEqual([4, 5, 6, 7]);
  });

  test('with `since` reads first what is remembered after it, without a gap', async () => {
    const { log, say } = logAt();
    say(5);
    const events = log.follow(new AbortController().signal, 3);
    say();
    expect(await read(events, 3)).toEqual([4, 5, 6]);
  });

  test('with an id of another agent’s life reads all that is remembered', async () => {
    const { log, say } = logAt();
    say(3);
    expect(await read(log.follow(new AbortController().signal, 4000), 3)).toEqual([1, 2, 3]);
  });

  test('reads what was there before its signal fired, and then the end', async () => {
    const { log, say } = logAt();
    const stop = new AbortController();
    const events = log.follow(stop.signal);
    say(2);
    stop.abort();
    say(2);
    const found: number[] = [];
    for await (const { id } of events) found.push(id);
    expect(found).toEqual([1, 2]);
  });

  test('whose signal has fired before reads no more than what was remembered, and nobody listens for it', async () => {
    const { log, say } = logAt();
    say(2);
    const listeners = listenersOf(log);
    expect(await read(log.follow(AbortSignal.abort(), 0), 9)).toEqual([1, 2]);
    say();
    expect(await read(log.follow(AbortSignal.abort()), 9)).toEqual([]);
    expect(listeners()).toBe(0);
  });

  test('is woken by its signal while it waits', async () => {
    const { log } = logAt();
    const stop = new AbortController();
    const reader = log.follow(stop.signal)[Symbol.asyncIterator]();
    const next = reader.next();
    stop.abort();
    expect(await next).toEqual({ done: true, value: undefined });
  });

  test('and leaves early, is not listened for any more', async () => {
    const { log, say } = logAt();
    const listeners = listenersOf(log);
    const { signal } = new AbortController();
    const seen: number[] = [];
    say(2);
    for await (const { id } of log.follow(signal, 0)) {
      seen.push(id);
      break;
    }
    expect(seen).toEqual([1]);
    expect(listeners()).toBe(0);
  });

  test('and goes after leaving reads the end', async () => {
    const { log, say } = logAt();
    const reader = log.follow(new AbortController().signal)[Symbol.asyncIterator]();
    await reader.return?.();
    say();
    expect(await reader.next()).toEqual({ done: true, value: undefined });
  });

  test(`and stays more than ${LONGEST_QUEUE} behind is told so, and nothing is kept for it any more`, async () => {
    const { log, say } = logAt();
    const listeners = listenersOf(log);
    const reader = log.follow(new AbortController().signal)[Symbol.asyncIterator]();
    say(2);
    expect(await reader.next()).toMatchObject({ value: { id: 1 } });
    say(LONGEST_QUEUE);
    expect(listeners()).toBe(0);
    await expect(reader.next()).rejects.toMatchObject({
      code: 'FAILED',
      message: expect.stringContaining(String(LONGEST_QUEUE)),
    });
  });

  test('is not hurt by another one that reads nothing', async () => {
    const { log, say } = logAt();
    log.follow(new AbortController().signal);
    const quick = log.follow(new AbortController().signal);
    say(100);
    expect(await read(quick, 100)).toHaveLength(100);
  });
});
