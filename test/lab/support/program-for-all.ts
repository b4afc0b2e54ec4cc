/** The built program where every user can read it: a clone may stand where only its owner can. */

import { chmodSync, cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';

const BUILT = fileURLToPath(new URL('../../../dist/bin', import.meta.url));

/** Its path, until the test's end. */
export function programForAll(): string {
  const directory = mkdtempSync(join(tmpdir(), 'natward-program-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  cpSync(BUILT, directory, { recursive: true });
  chmodSync(directory, 0o755);
  return join(directory, 'natward.cjs');
}
