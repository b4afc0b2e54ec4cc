import { describe, expect, test } from 'vitest';
import { RuleNames } from '../../src/agent/rule-names.ts';
import type { IpAddress } from '../../src/net/address.ts';
import { TestClock } from '../support/test-clock.ts';
import { tableOf } from './steering-scene.ts';

interface Scene {
  readonly clock: TestClock;
  readonly names: RuleNames;
  readonly asked: string[];
  /** What is answered; none: nobody has such a name. */
  readonly answers: Map<string, Promise<readonly IpAddress[]>>;
}

const TABLE = tableOf(
  'a: in tcp me.example:80 -> nas.lan:80 else 10.0.0.1:80',
  'b: in tcp 81 -> [2001:db8::1]:80 clone copy.lan:80',
);

function sceneOf(...lines: readonly (readonly [string, IpAddress])[]): Scene {
  const clock = new TestClock();
  const asked: string[] = [];
  const answers: Scene['answers'] = new Map(
    lines.map(([name, address]) => [name, Promise.resolve([address])] as const),
  );
  const names = new RuleNames(clock, (name) => {
    asked.push(name);
    return answers.get(name) ?? Promise.reject(new Error(`${name} is not known`));
  });
  return { clock, names, asked, answers };
}

describe('the names of rules', () => {
  test('are those that they listen at, send to and copy to', async () => {
    const { names, asked } = sceneOf(['nas.lan', '10.0.0.5']);
    const addressesOf = await names.resolved(TABLE);
    expect(asked).toEqual(['me.example', 'nas.lan', 'copy.lan']);
    expect(addressesOf('nas.lan')).toEqual(['10.0.0.5']);
    expect(addressesOf('me.example')).toEqual([]);
  });

  test('are asked again where the answer is old, or there was none', async () => {
    const { clock, names, asked } = sceneOf(['nas.lan', '10.0.0.5'], ['me.example', '192.0.2.1']);
    await names.resolved(TABLE);
    asked.length = 0;
    await clock.advance(29_000);
    await names.resolved(TABLE);
    expect(asked).toEqual(['copy.lan']);
    await clock.advance(1000);
    await names.resolved(TABLE);
    expect(asked).toEqual(['copy.lan', 'me.example', 'nas.lan', 'copy.lan']);
  });

  test('hold nobody up a second time, and what they answer late is known then', async () => {
    const { clock, names, answers } = sceneOf();
    let answer: (addresses: readonly IpAddress[]) => void = () => undefined;
    answers.set('nas.lan', new Promise((resolve) => (answer = resolve)));
    const startMs = clock.steady();
    await clock.settle(names.resolved(TABLE));
    expect(clock.steady() - startMs).toBe(3000);
    expect((await names.resolved(TABLE))('nas.lan')).toEqual([]);
    expect(clock.steady() - startMs).toBe(3000);
    const { version } = names;
    answer(['10.0.0.5']);
    await clock.advance(0);
    expect((await names.resolved(TABLE))('nas.lan')).toEqual(['10.0.0.5']);
    expect(names.version).not.toBe(version);
  });

  test('keep the address that they had where nobody answers any more', async () => {
    const { clock, names, answers } = sceneOf(['nas.lan', '10.0.0.5']);
    await names.resolved(TABLE);
    const { version } = names;
    answers.delete('nas.lan');
    await clock.advance(60_000);
    expect((await names.resolved(TABLE))('nas.lan')).toEqual(['10.0.0.5']);
    expect(names.version).toBe(version);
  });
});
