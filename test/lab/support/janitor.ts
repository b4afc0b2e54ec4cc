/**
 * Takes a lab down, also when the process that made it was killed: a shell of its own session that waits for
 * the end of its standard input, which comes when the lab says so or when its owner is no more.
 */

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Writable } from 'node:stream';

// $1 directory, $2 mark, then the namespaces. A program is ended only where its environment carries the
// mark, which proves that the lab started it; daemons that detached themselves are found by it, too.
const SCRIPT = `
  directory=$1 mark=$2; shift 2
  cat >/dev/null
  for namespace; do
    for pid in $(ip netns pids "$namespace" 2>/dev/null); do
      if tr '\\0' '\\n' <"/proc/$pid/environ" 2>/dev/null | grep -qxF "$mark"; then kill -KILL "$pid"; fi
    done
    ip netns delete "$namespace" 2>/dev/null
  done
  rm -rf "$directory"
`;

export class Janitor {
  readonly #shell: ChildProcessByStdio<Writable, null, null>;

  constructor(directory: string, mark: string, namespaces: readonly string[]) {
    this.#shell = spawn('sh', ['-c', SCRIPT, 'lab-janitor', directory, mark, ...namespaces], {
      // Ctrl-C at a terminal goes to everyone in the session.
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    // It must not keep its owner alive.
    this.#shell.unref();
  }

  /** Resolves when everything is gone. */
  async clean(): Promise<void> {
    if (this.#shell.exitCode !== null) return;
    this.#shell.ref();
    const gone = once(this.#shell, 'exit');
    this.#shell.stdin.end();
    await gone;
  }
}
