import { expect, test } from 'vitest';
import * as natward from '../src/index.ts';

test('the library offers the agent, its errors, and what it takes to hand in a system', () => {
  expect(Object.keys(natward).sort()).toEqual([
    'Agent',
    'NatwardError',
    'chooseGateways',
    'isNatwardError',
    'realSystem',
    'watchAnnouncements',
  ]);
});
