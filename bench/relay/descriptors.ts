/** How many files a program may have open: what decides how many conversations and ports a relay can have. */

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** Enough for every part. */
export const WANTED_DESCRIPTORS = 100_000;

/** The hard limit of this process and of what it starts. Raised first, where the system lets it. */
export const DESCRIPTORS: number = raisedLimit();

function raisedLimit(): number {
  if (limit() < WANTED_DESCRIPTORS)
    spawnSync('prlimit', [
      '--pid',
      String(process.pid),
      `--nofile=${WANTED_DESCRIPTORS}:${WANTED_DESCRIPTORS}`,
    ]);
  return limit();
}

function limit(): number {
  const [, hard] = /^Max open files +\d+ +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
  return Number(hard);
}

/** Conversations that a relay with two descriptors for each can hold; the others get as many. */
export const MOST_CONVERSATIONS: number = DESCRIPTORS >= 24_000 ? 10_000 : 9_000;
