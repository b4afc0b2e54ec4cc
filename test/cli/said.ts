/** What a test's own process writes to its standard output and error, kept from the terminal. */

import { afterEach, beforeEach, vi } from 'vitest';

/** Of the test that runs. To be called where a file's tests are described. */
export function captureSaid(): { stdout: string; stderr: string } {
  const said = { stdout: '', stderr: '' };
  beforeEach(() => {
    for (const name of ['stdout', 'stderr'] as const) {
      said[name] = '';
      vi.spyOn(process[name], 'write').mockImplementation((text) => {
        said[name] += String(text);
        return true;
      });
    }
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });
  return said;
}
