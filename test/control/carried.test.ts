import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { FOREGROUND_RULES } from '../../src/agent/rule-memory.ts';
import { Steering } from '../../src/agent/steering.ts';
import {
  type CarriedAsk,
  carryingAgent,
  carryOn,
  refusedElsewhere,
  takeAway,
  withCarryAdvice,
} from '../../src/control/carried.ts';
import { ownPlaces } from '../../src/control/place.ts';
import { type ErrorCode, NatwardError } from '../../src/errors.ts';
import { parseRuleId } from '../../src/forwarder/table.ts';
import { parseRule } from '../../src/forwarder/text.ts';
import { asksOf } from '../agent/support.ts';
import { TestEngine } from '../agent/test-engine.ts';
import { TestClock } from '../support/test-clock.ts';
import { startAgent, temporary } from './support/fake-agent.ts';

function askOf(spec: string): CarriedAsk {
  return asksOf(spec)[0] as CarriedAsk;
}

function rulesOf(): { readonly steering: Steering; readonly engine: TestEngine; texts(): Promise<string[]> } {
  const engine = new TestEngine();
  const steering = new Steering({
    engine,
    memory: FOREGROUND_RULES,
    clock: new TestClock(),
    fillRandom: (bytes) => void crypto.getRandomValues(bytes),
    ownAddresses: () => [],
    addressesOf: async () => [],
    ownPorts: [],
    tidy: () => undefined,
    isTaken: () => false,
    warn: () => undefined,
  });
  onTestFinished(() => steering[Symbol.asyncDispose]());
  const texts = async () => (await steering.rules()).map(({ id, text }) => `${id} ${text}`);
  return { steering, engine, texts };
}

describe('what is carried', () => {
  const failure = (spec: string, code: ErrorCode) => ({ spec, error: new NatwardError(code, 'no') });

  test('is what goes to another host and was refused', () => {
    const asks = asksOf('80:10.0.0.5:8080 81:10.0.0.5:8081 82:8082 83:10.0.0.5:8083');
    const failures = [
      failure('80:10.0.0.5:8080', 'UNSUPPORTED'),
      failure('82:8082', 'NOT_AUTHORIZED'),
      failure('83:10.0.0.5:8083', 'TIMEOUT'),
    ];
    expect(refusedElsewhere(asks, failures).map(({ spec }) => spec)).toEqual(['80:10.0.0.5:8080']);
  });

  test.each(['TIMEOUT', 'UNREACHABLE', 'NO_GATEWAY', 'NO_ROUTE', 'ABORTED'] as const)(
    'is nothing that nobody answered for: %s',
    (code) => {
      const spec = '80:10.0.0.5:8080';
      expect(refusedElsewhere(asksOf(spec), [failure(spec, code)])).toEqual([]);
    },
  );

  test('without an agent is told what would help, with what went wrong', () => {
    const { spec, error } = withCarryAdvice(failure('80:10.0.0.5:8080', 'NOT_AUTHORIZED'));
    expect(spec).toBe('80:10.0.0.5:8080');
    expect(error).toMatchObject({
      code: 'NOT_AUTHORIZED',
      message: 'no',
      advice: expect.stringContaining('natward keep 80:10.0.0.5:8080'),
    });
  });
});

describe('carryOn() and takeAway()', () => {
  test.each([
    ['80:10.0.0.5:8080', 'map-tcp-8080-10.0.0.5 in tcp 8080 -> 10.0.0.5:+0'],
    ['6000-6010:10.0.0.5:7000-7010/udp', 'map-udp-7000-7010-10.0.0.5 in udp 7000-7010 -> 10.0.0.5:+0'],
    ['80:[2001:db8::5]:8080/tcp+udp', 'map-tcp-udp-8080-2001-db8--5 in tcp+udp 8080 -> [2001:db8::5]:+0'],
  ])('%s is one rule', async (spec, text) => {
    const { steering, texts } = rulesOf();
    expect(await carryOn(steering, askOf(spec))).toBe(true);
    expect(await texts()).toEqual([`${text} "natward map ${spec}"`]);
    expect(await takeAway(steering, askOf(spec))).toBe(true);
    expect(await takeAway(steering, askOf(spec))).toBe(false);
    expect(await texts()).toEqual([]);
  });

  test('again changes nothing, and enables what was disabled', async () => {
    const { steering, engine } = rulesOf();
    const ask = askOf('80:10.0.0.5:8080');
    await carryOn(steering, ask);
    const count = engine.applied.length;
    expect(await carryOn(steering, ask)).toBe(false);
    expect(engine.applied).toHaveLength(count);
    await steering.edit({ kind: 'disable', names: ['1'] }, { conversations: 'drain', dryRun: false });
    expect(await carryOn(steering, ask)).toBe(true);
    expect(engine.table).toMatchObject([{ enabled: true }]);
  });

  test('of the same port of two hosts is refused for the second, and the first goes on', async () => {
    const { steering, texts } = rulesOf();
    await carryOn(steering, askOf('80:10.0.0.5:8080'));
    const before = await texts();
    await expect(carryOn(steering, askOf('81:10.0.0.6:8080'))).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(await takeAway(steering, askOf('81:10.0.0.6:8080'))).toBe(false);
    expect(await texts()).toEqual(before);
  });

  test('leave a rule of the configuration with that id alone', async () => {
    const { steering, texts } = rulesOf();
    const id = 'map-tcp-8080-10.0.0.5';
    await steering.configure([{ id, enabled: true, spec: parseRule('in tcp 1 -> :2') }]);
    expect(await takeAway(steering, askOf('80:10.0.0.5:8080'))).toBe(false);
    await expect(carryOn(steering, askOf('80:10.0.0.5:8080'))).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(await texts()).toEqual([`${id} in tcp 1 -> :2`]);
  });

  test('give ids that are ids, also to the longest', async () => {
    const { steering } = rulesOf();
    const host = '2001:db8:1111:2222:3333:4444:5555:6666';
    await carryOn(steering, askOf(`60000-60010:[${host}]:60000-60010/tcp+udp`));
    const [made] = await steering.rules();
    expect(parseRuleId(made?.id ?? '')).toBe(
      'map-tcp-udp-60000-60010-2001-db8-1111-2222-3333-4444-5555-6666',
    );
  });
});

describe('carryingAgent()', () => {
  async function withPlace(place: string): Promise<void> {
    vi.stubEnv('NATWARD_HOME', place);
    onTestFinished(() => {
      vi.unstubAllEnvs();
    });
  }

  test('is the agent that runs', async () => {
    const home = await temporary();
    await withPlace(home);
    const [place] = await ownPlaces();
    const { steering } = await startAgent({ place });
    const agent = await carryingAgent();
    await agent?.edit({ kind: 'remove', names: ['a'] }, { conversations: 'drain', dryRun: false });
    expect(steering.asked).toHaveLength(1);
  });

  test('is nobody where none runs', async () => {
    await withPlace(join(await temporary(), 'home'));
    expect(await carryingAgent()).toBeUndefined();
  });
});
