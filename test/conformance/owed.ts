/** What a forwarder owes its users, as tests: each case of the conformance suite is one. */

import { afterAll, describe, test } from 'vitest';
import { Apart } from './apart.ts';
import { CASE_LIMIT_MS, inapplicable, isBeside } from './case.ts';
import { cases } from './cases.ts';
import type { Program } from './program.ts';

/** Above the case's own limit, which says more. */
const TAKE_DOWN_MS = 10_000;

/** They are skipped where there is a reason for that. */
export function describeOwed(program: Program, reason?: string): void {
  const owed = cases.filter((each) => inapplicable(each, program) === undefined);

  describe.skipIf(reason)(
    `${program.name}, as a forwarder${reason === undefined ? '' : ` (${reason})`}`,
    () => {
      const apart = new Apart();
      afterAll(() => apart[Symbol.asyncDispose]());

      for (const each of owed.filter((one) => isBeside(one, program)))
        test.concurrent(`${each.protocol}: ${each.name}`, { timeout: limitMs(each.limitMs) }, () =>
          apart.run(each, program),
        );

      for (const each of owed.filter((one) => !isBeside(one, program)))
        test(`${each.protocol}: ${each.name}`, { timeout: limitMs(each.limitMs) }, () =>
          apart.run(each, program),
        );
    },
  );
}

function limitMs(caseLimitMs: number = CASE_LIMIT_MS): number {
  return caseLimitMs + TAKE_DOWN_MS;
}
