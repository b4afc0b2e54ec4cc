import { expect, test } from 'vitest';
import { RuleState } from '../../../src/forwarder/relay/rule-state.ts';
import { TestClock } from '../../support/test-clock.ts';
import { named } from './support.ts';

const CLIENT = '192.0.2.1';
const MANY = 1000;

function stateOf(clauses: string, clock: TestClock): RuleState {
  return new RuleState(named('r', `in tcp 80 -> :81 ${clauses}`), clock.steady());
}

/** A machine that was set, or slept: its two clocks are apart. */
function apartClock(): TestClock {
  const clock = new TestClock();
  clock.sleepThrough(1_000_000_000);
  return clock;
}

test('a rate is kept by a clock that nobody sets', () => {
  const clock = apartClock();
  const state = stateOf('rate 100kB/s', clock);
  expect(state.spend(16_384, clock.steady())).toBe(0);
  expect(state.spend(10_000, clock.steady())).toBeCloseTo(100);
  expect(state.spend(10_000, clock.steady())).toBeCloseTo(200);
  expect(state.spend(0, clock.steady() + 200)).toBeCloseTo(0);
});

test('conversations that begin are counted by a clock that nobody sets', async () => {
  const clock = apartClock();
  const state = stateOf('new 2/s', clock);
  const admit = () => state.admit(CLIENT, clock, MANY);
  expect([admit(), admit()]).toEqual([undefined, undefined]);
  clock.sleepThrough(10_000_000);
  expect(admit()).toMatch(/more than 2 conversations began in a second/);
  await clock.advance(500);
  expect(admit()).toBeUndefined();
  expect(state.activity.lastAtMs).toBe(clock.now());
});

test('a rule without a rate and a quota is not metered', () => {
  const clock = new TestClock();
  expect(stateOf('', clock).isMetered).toBe(false);
  expect(stateOf('rate 1kB/s', clock).isMetered).toBe(true);
  expect(stateOf('quota 1kB', clock).isMetered).toBe(true);
});

test('a quota begins anew with an edit, and what was counted stays', () => {
  const clock = new TestClock();
  const before = stateOf('quota 100B', clock);
  before.admit(CLIENT, clock, MANY);
  before.bytesIn = 120;
  before.spend(120, clock.steady());
  before.leave(CLIENT);
  expect(before.admit(CLIENT, clock, MANY)).toBe('its quota is used up');
  before.refuse('its quota is used up', clock.now());
  const after = stateOf('quota 200B', clock);
  after.inherit(before);
  expect(after.admit(CLIENT, clock, MANY)).toBeUndefined();
  expect(after.activity).toMatchObject({
    bytesIn: 120,
    conversations: 2,
    refused: 1,
    open: 1,
    lastRefusal: 'its quota is used up',
  });
});

test('what the conversations of an edited rule do is counted as long as they run, through edits in a row', () => {
  const clock = new TestClock();
  const states = ['idle 1s', 'idle 2s', 'idle 3s', 'idle 4s'].map((clauses) => stateOf(clauses, clock));
  const [first, second, third, last] = states as [RuleState, RuleState, RuleState, RuleState];
  first.admit(CLIENT, clock, MANY);
  first.bytesIn = 10;
  second.inherit(first);
  third.inherit(second);
  third.admit('192.0.2.2', clock, MANY);
  last.inherit(third);
  first.bytesIn += 5;
  third.bytesOut += 7;
  expect(last.activity).toMatchObject({ bytesIn: 15, bytesOut: 7, open: 2, conversations: 2 });
  third.leave('192.0.2.2');
  expect(last.activity).toMatchObject({ bytesIn: 15, bytesOut: 7, open: 1, conversations: 2 });
  first.bytesIn += 1;
  first.leave(CLIENT);
  expect(last.activity).toMatchObject({ bytesIn: 16, bytesOut: 7, open: 0, conversations: 2 });
  expect(last.activity).toMatchObject({ bytesIn: 16, bytesOut: 7, open: 0, conversations: 2 });
});

test('an edit does not give a client, or all, a second share', () => {
  const clock = new TestClock();
  const before = stateOf('open 2 per-client 1', clock);
  before.admit(CLIENT, clock, MANY);
  const after = stateOf('open 2 per-client 1 idle 9s', clock);
  after.inherit(before);
  expect(after.admit(CLIENT, clock, MANY)).toMatch(/192\.0\.2\.1 has 1 conversations open/);
  expect(after.admit('192.0.2.2', clock, MANY)).toBeUndefined();
  expect(after.admit('192.0.2.3', clock, MANY)).toMatch(/2 conversations are open/);
  before.leave(CLIENT);
  expect(after.admit(CLIENT, clock, MANY)).toBeUndefined();
  after.leave(CLIENT);
  expect(after.admit(CLIENT, clock, MANY)).toBeUndefined();
});

test('a client without a limit of the rule’s own has the engine’s', () => {
  const clock = new TestClock();
  const state = stateOf('', clock);
  expect(state.admit(CLIENT, clock, 1)).toBeUndefined();
  expect(state.admit(CLIENT, clock, 1)).toMatch(/the limit of each client/);
  state.leave(CLIENT);
  expect(state.admit(CLIENT, clock, 1)).toBeUndefined();
});
