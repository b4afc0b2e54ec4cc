import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { fileLimit } from '../../src/system/limits.ts';

const LIMITS = fileURLToPath(new URL('../../src/system/limits.ts', import.meta.url));

test('the limit is a number of files that something can be done with', () => {
  expect(fileLimit()).toBeGreaterThanOrEqual(64);
  expect(Number.isSafeInteger(fileLimit())).toBe(true);
});

test.runIf(process.platform === 'linux')('it is the one that this process was given', async () => {
  const program = `import(${JSON.stringify(LIMITS)}).then(({ fileLimit }) => console.log(fileLimit()))`;
  const { stdout } = await promisify(execFile)('sh', [
    '-c',
    'ulimit -n 123; exec "$0" --import tsx -e "$1"',
    process.execPath,
    program,
  ]);
  expect(stdout.trim()).toBe('123');
});
