/** Time, as the rest of natward sees it: handed in, so that a test owns it. */

import { NatwardError } from '../errors.ts';

export interface Clock {
  /** Milliseconds since 1970, as the host's clock says. */
  now(): number;
  /** Milliseconds since some moment: nobody sets it, and it stands still while the machine sleeps. */
  steady(): number;
  /** Resolves after `delayMs`; rejects with ABORTED when `signal` fires first. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

/** setTimeout fires at once for anything longer. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** What a wait that `signal` has cut rejects with: its reason, where that is an error of ours. */
export function aborted(signal: AbortSignal): NatwardError {
  if (signal.reason instanceof NatwardError) return signal.reason;
  return new NatwardError('ABORTED', 'stopped on request', { cause: signal.reason });
}

/**
 * The reason for which something is cut that nobody waits for any more: one for all, since an error with its stack
 * costs more to make than most waits do.
 */
export const OVER: NatwardError = new NatwardError('ABORTED', 'it is over');

export const systemClock: Clock = hostClock('busy');
/** The same; but who sleeps by this one keeps no process alive. */
export const quietClock: Clock = hostClock('quiet');

function hostClock(sleeper: 'busy' | 'quiet'): Clock {
  return {
    now: () => Date.now(),
    steady: () => performance.now(),
    async sleep(delayMs, signal) {
      for (let leftMs = delayMs; leftMs > 0 || leftMs === delayMs; leftMs -= LONGEST_TIMER_MS) {
        await timer(Math.min(Math.max(leftMs, 0), LONGEST_TIMER_MS), sleeper, signal);
      }
    },
  };
}

function timer(delayMs: number, sleeper: 'busy' | 'quiet', signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(aborted(signal));
      return;
    }
    const stop = () => {
      clearTimeout(handle);
      reject(aborted(signal as AbortSignal));
    };
    const handle = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, delayMs);
    if (sleeper === 'quiet') handle.unref();
    signal?.addEventListener('abort', stop, { once: true });
  });
}

/** Resolves when `signal` fires, or has. */
export function fired(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
