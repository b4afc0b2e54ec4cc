import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/system/clock.ts';
import { TestClock } from '../support/test-clock.ts';
import { clockContract } from './clock.ts';

describe('systemClock', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] }));
  afterEach(() => void vi.useRealTimers());
  clockContract('as a Clock', () => ({
    clock: systemClock,
    // A sleep of nothing is a timer of the platform's shortest.
    pass: (ms) => vi.advanceTimersByTimeAsync(ms),
  }));
});

describe('TestClock', () => {
  clockContract('as a Clock', () => {
    const clock = new TestClock();
    return { clock, pass: (ms) => clock.advance(ms) };
  });

  test('settle() moves just as far as the promise needs', async () => {
    const clock = new TestClock();
    const startMs = clock.now();
    void clock.sleep(10_000);
    const twice = clock.sleep(100).then(() => clock.sleep(200));
    await clock.settle(twice);
    expect(clock.now() - startMs).toBe(300);
    expect(clock.pending).toBe(1);
  });

  test('settle() rejects as its promise does', async () => {
    const clock = new TestClock();
    const failing = clock.sleep(100).then(() => {
      throw new Error('no');
    });
    await expect(clock.settle(failing)).rejects.toThrow('no');
  });

  test('settle() lets what happens outside of its time happen first', async () => {
    const clock = new TestClock();
    const startMs = clock.now();
    const arrives = new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    await clock.settle(Promise.race([arrives, clock.sleep(1000)]));
    expect(clock.now()).toBe(startMs);
  });
});
