/** The programs that read their rules from a file when they start, and again when a signal says so. */

import { rename, writeFile } from 'node:fs/promises';
import { untilListening } from '../listening.ts';
import type { Forwarder, ForwardRule } from '../program.ts';
import { ProgramProcess, usageOf } from './process.ts';

const QUICK_STOP_LIMIT_MS = 5000;
const DRAIN_LIMIT_MS = 60_000;

export interface FileProgram {
  readonly command: readonly string[];
  readonly file: string;
  configuration(rules: readonly ForwardRule[]): string;
  /** What it says each time that it has read the file, and how often. */
  readonly says?: { readonly words: string; readonly times: number };
  readonly signals: {
    readonly reload: NodeJS.Signals;
    readonly stop: NodeJS.Signals;
    readonly drain?: NodeJS.Signals;
  };
}

export async function startFromFile(
  { command, file, configuration, says, signals }: FileProgram,
  rules: readonly ForwardRule[],
): Promise<Forwarder> {
  await replace(file, configuration(rules));
  const running = new ProgramProcess(command);
  let current: readonly ForwardRule[] = [];
  const loaded = async (next: readonly ForwardRule[], saidBefore: number): Promise<void> => {
    if (says !== undefined) await running.said(says.words, saidBefore + says.times);
    await running.catches(signals.reload);
    await untilListening(next, current);
    current = next;
  };
  await running.meanwhile(loaded(rules, 0));
  return {
    pid: running.pid,
    usage: () => usageOf([running.pid]),
    reload: async (next) => {
      const saidBefore = says === undefined ? 0 : running.count(says.words);
      await replace(file, configuration(next));
      running.signal(signals.reload);
      await running.meanwhile(loaded(next, saidBefore));
    },
    stop: ({ drain }) =>
      drain && signals.drain !== undefined
        ? running.stop(signals.drain, DRAIN_LIMIT_MS)
        : running.stop(signals.stop, QUICK_STOP_LIMIT_MS),
    kill: () => running.kill(),
  };
}

/** At once: the program may still be reading what it was told before. */
async function replace(file: string, text: string): Promise<void> {
  await writeFile(`${file}.new`, text);
  await rename(`${file}.new`, file);
}
