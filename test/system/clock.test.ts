import { getEventListeners } from 'node:events';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { NatwardError } from '../../src/errors.ts';
import { aborted, systemClock } from '../../src/system/clock.ts';

const LONGEST_TIMER_MS = 2 ** 31 - 1;

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000 });
});

afterEach(() => {
  vi.useRealTimers();
});

/** What became of the promise so far. */
function watch(promise: Promise<void>): { state: string } {
  const seen = { state: 'waiting' };
  promise.then(
    () => (seen.state = 'awake'),
    (error: unknown) => (seen.state = error instanceof NatwardError ? error.code : String(error)),
  );
  return seen;
}

test('now() is the host clock', () => {
  expect(systemClock.now()).toBe(1_000_000);
});

describe('sleep()', () => {
  test('ends after its delay and not before', async () => {
    const sleep = watch(systemClock.sleep(500));
    await vi.advanceTimersByTimeAsync(499);
    expect(sleep.state).toBe('waiting');
    await vi.advanceTimersByTimeAsync(1);
    expect(sleep.state).toBe('awake');
  });

  test.each([0, -1, -(2 ** 40)])('of %i ms ends at once', async (delayMs) => {
    const sleep = watch(systemClock.sleep(delayMs));
    await vi.advanceTimersByTimeAsync(0);
    expect(sleep.state).toBe('awake');
    expect(vi.getTimerCount()).toBe(0);
  });

  test.each([
    ['the longest timer', LONGEST_TIMER_MS],
    ['one more than the longest timer', LONGEST_TIMER_MS + 1],
    ['a year', 365 * 24 * 3600 * 1000],
  ])('of %s takes as long as it says', async (_, delayMs) => {
    const sleep = watch(systemClock.sleep(delayMs));
    await vi.advanceTimersByTimeAsync(delayMs - 1);
    expect(sleep.state).toBe('waiting');
    await vi.advanceTimersByTimeAsync(1);
    expect(sleep.state).toBe('awake');
    expect(vi.getTimerCount()).toBe(0);
  });

  test('rejects with ABORTED when its signal fires, and leaves no timer', async () => {
    const controller = new AbortController();
    const sleep = watch(systemClock.sleep(LONGEST_TIMER_MS * 2, controller.signal));
    await vi.advanceTimersByTimeAsync(LONGEST_TIMER_MS + 5);
    controller.abort();
    await vi.advanceTimersByTimeAsync(0);
    expect(sleep.state).toBe('ABORTED');
    expect(vi.getTimerCount()).toBe(0);
  });

  test('rejects at once where the signal has fired before', async () => {
    const sleep = watch(systemClock.sleep(500, AbortSignal.abort()));
    await vi.advanceTimersByTimeAsync(0);
    expect(sleep.state).toBe('ABORTED');
    expect(vi.getTimerCount()).toBe(0);
  });

  test('leaves no listener on its signal, so that one signal may serve a year of sleeps', async () => {
    const { signal } = new AbortController();
    const sleep = watch(systemClock.sleep(LONGEST_TIMER_MS * 3, signal));
    expect(getEventListeners(signal, 'abort')).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(LONGEST_TIMER_MS * 2);
    expect(getEventListeners(signal, 'abort')).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(LONGEST_TIMER_MS);
    expect(sleep.state).toBe('awake');
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });
});

describe('aborted()', () => {
  test('is ABORTED, with the reason as its cause', () => {
    const reason = new Error('the user pressed Ctrl-C');
    expect(aborted(AbortSignal.abort(reason))).toMatchObject({ code: 'ABORTED', cause: reason });
  });

  test('is the reason itself where that is an error of ours', () => {
    const reason = new NatwardError('TIMEOUT', 'too late');
    expect(aborted(AbortSignal.abort(reason))).toBe(reason);
  });
});
