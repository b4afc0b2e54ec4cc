/** What a forwarder owes its users, asked of natward: each case of the conformance suite is one test. */

import { describe, test } from 'vitest';
import { CASE_LIMIT_MS, inapplicable, runCase } from './case.ts';
import { cases } from './cases.ts';
import { natward } from './programs/natward.ts';

/** Above the case's own limit, which says more. */
const TAKE_DOWN_MS = 10_000;

const owed = cases.filter((each) => inapplicable(each, natward) === undefined);

describe('natward, as a forwarder', () => {
  for (const each of owed.filter(({ alone }) => alone !== true))
    test.concurrent(`${each.protocol}: ${each.name}`, { timeout: limitMs(each.limitMs) }, () =>
      runCase(each, natward),
    );

  for (const each of owed.filter(({ alone }) => alone === true))
    test(`${each.protocol}: ${each.name}`, { timeout: limitMs(each.limitMs) }, () => runCase(each, natward));
});

function limitMs(caseLimitMs: number = CASE_LIMIT_MS): number {
  return caseLimitMs + TAKE_DOWN_MS;
}
