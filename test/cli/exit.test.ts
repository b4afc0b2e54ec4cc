import { expect, test } from 'vitest';
import { exitCodeFor, exitCodeOf } from '../../src/cli/exit.ts';
import { type ErrorCode, NatwardError } from '../../src/errors.ts';

const CODES: Readonly<Record<ErrorCode, number>> = {
  USAGE: 2,
  NO_ROUTE: 3,
  NO_GATEWAY: 3,
  TIMEOUT: 3,
  UNREACHABLE: 3,
  HOSTILE: 4,
  NOT_AUTHORIZED: 4,
  CONFLICT: 4,
  NO_RESOURCES: 4,
  UNSUPPORTED: 4,
  ONLY_PERMANENT: 4,
  NETWORK_DOWN: 4,
  REFUSED: 4,
  NOT_MAPPED: 4,
  NOT_FOUND: 1,
  NOT_OWN: 1,
  MALFORMED: 1,
  ABORTED: 1,
  FAILED: 1,
};

test.each(Object.entries(CODES) as [ErrorCode, number][])('%s ends the program with %i', (code, exit) => {
  expect(exitCodeOf(new NatwardError(code, 'why'))).toBe(exit);
});

test('what was done whole is 0, what was done in part is 5, what failed whole is the first failure’s', () => {
  const failures = [{ error: new NatwardError('CONFLICT', '') }, { error: new NatwardError('TIMEOUT', '') }];
  expect(exitCodeFor(3, [])).toBe(0);
  expect(exitCodeFor(0, [])).toBe(0);
  expect(exitCodeFor(1, failures)).toBe(5);
  expect(exitCodeFor(0, failures)).toBe(4);
});
