/** What every Clock does, whoever moves it. */

import { describe, expect, test } from 'vitest';
import { NatwardError } from '../../src/errors.ts';
import type { Clock } from '../../src/system/clock.ts';

export interface ClockUnderTest {
  readonly clock: Clock;
  /** Lets so much of the clock's time pass. */
  readonly pass: (ms: number) => Promise<unknown>;
}

export function clockContract(name: string, start: () => ClockUnderTest): void {
  describe(name, () => {
    test('sleep() resolves when its time is over, and not before', async () => {
      const { clock, pass } = start();
      const [startMs, woken] = [clock.now(), watched(clock.sleep(1000))];
      await pass(999);
      expect(woken.state).toBe('pending');
      await pass(1);
      expect(woken.state).toBe('resolved');
      expect(clock.now() - startMs).toBe(1000);
    });

    test('sleep(0) and a sleep of less resolve without any time', async () => {
      const { clock, pass } = start();
      const [zero, less] = [watched(clock.sleep(0)), watched(clock.sleep(-5))];
      await pass(0);
      expect([zero.state, less.state]).toEqual(['resolved', 'resolved']);
    });

    test('sleepers wake in the order of their times, and those of one time in the order of their sleeping', async () => {
      const { clock, pass } = start();
      const woken: string[] = [];
      for (const [word, ms] of [
        ['c', 30],
        ['a', 10],
        ['d', 30],
        ['b', 20],
      ] as const) {
        void clock.sleep(ms).then(() => woken.push(word));
      }
      await pass(30);
      expect(woken).toEqual(['a', 'b', 'c', 'd']);
    });

    test('sleep() waits longer than a timer of the platform can', async () => {
      const { clock, pass } = start();
      const days = 60 * 24 * 3_600_000;
      const woken = watched(clock.sleep(days));
      await pass(days - 1);
      expect(woken.state).toBe('pending');
      await pass(1);
      expect(woken.state).toBe('resolved');
    });

    test('sleep() rejects with ABORTED when its signal fires, and at once where it has fired', async () => {
      const { clock, pass } = start();
      const stop = new AbortController();
      const sleeping = watched(clock.sleep(1000, stop.signal));
      await pass(10);
      stop.abort();
      await expect(sleeping.promise).rejects.toMatchObject({ code: 'ABORTED' });
      await expect(clock.sleep(0, stop.signal)).rejects.toMatchObject({ code: 'ABORTED' });
    });

    test('sleep() rejects with the reason of its signal, where that is an error of ours', async () => {
      const { clock } = start();
      const reason = new NatwardError('TIMEOUT', 'it is late');
      await expect(clock.sleep(1000, AbortSignal.abort(reason))).rejects.toBe(reason);
    });

    test('a signal that fires after the sleep changes nothing', async () => {
      const { clock, pass } = start();
      const stop = new AbortController();
      const woken = watched(clock.sleep(5, stop.signal));
      await pass(5);
      stop.abort();
      await expect(woken.promise).resolves.toBeUndefined();
    });
  });
}

function watched(promise: Promise<void>): { readonly promise: Promise<void>; readonly state: string } {
  const seen = { promise, state: 'pending' };
  promise.then(
    () => {
      seen.state = 'resolved';
    },
    () => {
      seen.state = 'rejected';
    },
  );
  return seen;
}
