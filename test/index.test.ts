import { expect, test } from 'vitest';
import * as natward from '../src/index.ts';

test('the library offers the agent, the way to the one of this host, its errors, and the machine', () => {
  expect(Object.keys(natward).sort()).toEqual([
    'Agent',
    'NatwardError',
    'connect',
    'isNatwardError',
    'realSystem',
  ]);
});
