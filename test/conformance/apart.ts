/**
 * Runs cases of programs that have to be alone, each in a process with a network namespace of its own: its clients, its
 * targets and the program are in there. The processes are used again, one case at a time; the others' cases are run
 * here.
 */

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { inOwnNetwork } from '../support/own-network.ts';
import { type Case, runCase } from './case.ts';
import type { Program } from './program.ts';

export interface Task {
  readonly program: string;
  readonly case: string;
}

export interface Outcome {
  /** Why it failed. */
  readonly reason: string | undefined;
}

const RUNNER = fileURLToPath(new URL('apart-runner.ts', import.meta.url));

export class Apart implements AsyncDisposable {
  readonly #all: ChildProcess[] = [];
  readonly #idle: ChildProcess[] = [];

  /** Rejects with the reason where the program does not give it. */
  async run(each: Case, program: Program): Promise<void> {
    if (program.isAlone !== true) return runCase(each, program);
    const runner = this.#idle.pop() ?? this.#start();
    const task: Task = { program: program.name, case: each.name };
    const { reason } = await answerTo(task, runner);
    this.#idle.push(runner);
    if (reason !== undefined) throw new Error(reason);
  }

  #start(): ChildProcess {
    const [execPath, ...execArgv] = inOwnNetwork([process.execPath, '--import', 'tsx']);
    const runner = fork(RUNNER, [], { execPath, execArgv });
    this.#all.push(runner);
    return runner;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      this.#all.map(async (runner) => {
        if (runner.exitCode !== null || runner.signalCode !== null) return;
        runner.disconnect();
        await once(runner, 'exit');
      }),
    );
  }
}

async function answerTo(task: Task, runner: ChildProcess): Promise<Outcome> {
  const over = new AbortController();
  const { signal } = over;
  try {
    const answer = once(runner, 'message', { signal }) as Promise<[Outcome]>;
    const ended = once(runner, 'exit', { signal }).then(() => {
      throw new Error('its process has ended');
    });
    runner.send(task);
    const [outcome] = await Promise.race([answer, ended]);
    return outcome;
  } finally {
    over.abort();
  }
}
