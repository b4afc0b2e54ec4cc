import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { readHostsFiles } from '../../src/system/hosts-files.ts';

function directory(): string {
  const path = mkdtempSync(join(tmpdir(), 'natward-hosts-'));
  onTestFinished(() => rmSync(path, { recursive: true }));
  return path;
}

test('a file that is absent is an empty one', () => {
  const path = directory();
  writeFileSync(join(path, 'hosts.deny'), 'ALL: ALL\n');
  expect(readHostsFiles(path)).toEqual({ allow: '', deny: 'ALL: ALL\n' });
});

test('a file that cannot be read says which, and what that means', () => {
  const path = directory();
  mkdirSync(join(path, 'hosts.allow'));
  expect(() => readHostsFiles(path)).toThrow(
    expect.objectContaining({
      code: 'FAILED',
      message: expect.stringContaining(join(path, 'hosts.allow')),
      advice: expect.stringContaining('Nobody is let in'),
    }),
  );
});
