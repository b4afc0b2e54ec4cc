/**
 * Loaded into a measured program before its own code (`node --import`): how late its event loop is. SIGUSR2 ends a
 * measurement and appends it as a line of JSON to the file in BENCH_LOOP_FILE, and the next SIGUSR2 begins another,
 * so that a minute can be measured without it: its timer wakes the program a hundred times a second. The first
 * one begins at once.
 */

import { appendFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';

const RESOLUTION_MS = 10;
const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
let running = histogram.enable();

process.on('SIGUSR2', () => {
  if (running) {
    histogram.disable();
    const [p99Ms, maxMs] = [histogram.percentile(99), histogram.max].map(
      // Each interval is the timer's own, and what it came late.
      (nanoseconds) => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS),
    );
    appendFileSync(process.env.BENCH_LOOP_FILE, `${JSON.stringify({ p99Ms, maxMs })}\n`);
  } else {
    histogram.reset();
    histogram.enable();
  }
  running = !running;
});
