/** What the machine lets this process have. */

import { readFileSync } from 'node:fs';

/** Where the machine does not tell: what most systems give. */
const USUAL_FILES = 1024;

/** How many files and sockets this process may have open. Node has raised its soft limit to the hard one at start. */
export function fileLimit(): number {
  try {
    const [, soft] =
      /^Max open files\s+(\d+|unlimited)/m.exec(readFileSync('/proc/self/limits', 'latin1')) ?? [];
    if (soft === undefined) return USUAL_FILES;
    return soft === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(soft);
  } catch {
    // Windows has no such limit on sockets, and macOS tells nobody but a shell.
    return process.platform === 'win32' ? Number.MAX_SAFE_INTEGER : 10_240;
  }
}
