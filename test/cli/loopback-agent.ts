/** The built program's agent, keeping nothing, and commands that ask it: all on loopback, in a home of its own. */

import type { ChildProcess } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Ended, PROGRAM, type Run, start, startCommand, temporaryHome } from './natward.ts';

export interface Home {
  readonly home: string;
  /** Of this test alone. */
  readonly address: string;
  /** `natward ARGS`, with this home's agent. */
  run(...args: string[]): Promise<Ended>;
  /** The same without CAP_NET_ADMIN, whoever runs the tests. */
  runUnprivileged(...args: string[]): Promise<Ended>;
  start(...args: string[]): Run;
  /** The same, with `text` as its input. */
  pipe(text: string, ...args: string[]): Promise<Ended>;
  /** Writes a file, and resolves with its path. */
  write(name: string, text: string): Promise<string>;
}

export async function homeFor(): Promise<Home> {
  const home = await temporaryHome();
  const env = { NATWARD_HOME: home };
  const write = async (name: string, text: string) => {
    const path = join(home, name);
    await writeFile(path, text);
    return path;
  };
  return {
    home,
    address: `127.78.${randomInt(256)}.${randomInt(1, 255)}`,
    start: (...args) => start(args, env),
    run: (...args) => start(args, env).ended,
    runUnprivileged: (...args) =>
      startCommand(...withoutNetAdmin([process.execPath, PROGRAM, ...args]), env).ended,
    async pipe(text, ...args) {
      const input = await write('input', text);
      const line = 'exec "$0" "$@" < "$INPUT"';
      return await startCommand('sh', ['-c', line, process.execPath, PROGRAM, ...args], {
        ...env,
        INPUT: input,
      }).ended;
    },
    write,
  };
}

/** Root has the capability, and would put rules into the kernel of the machine that the tests run on. */
function withoutNetAdmin(command: readonly string[]): [command: string, args: readonly string[]] {
  const [program, ...args] = command as [string, ...string[]];
  if (process.getuid?.() !== 0) return [program, args];
  return ['setpriv', ['--bounding-set=-net_admin', '--inh-caps=-net_admin', '--', program, ...args]];
}

/** Starts the agent; the test's end ends it. */
export async function startAgentOf({ start: begin }: Pick<Home, 'start'>): Promise<void> {
  await said(begin('agent').child, /listens on/);
}

/** Resolves when the program has said it; rejects where it ends before. */
export function said({ stdout }: ChildProcess, words: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    stdout?.on('data', (more: string) => {
      text += more;
      if (words.test(text)) resolve(text);
    });
    stdout?.on('close', () => reject(new Error(`it ended, and said: ${text}`)));
  });
}
