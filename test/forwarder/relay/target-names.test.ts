import { expect, test } from 'vitest';
import { TargetNames } from '../../../src/forwarder/relay/target-names.ts';
import { TestClock } from '../../support/test-clock.ts';
import { TestNames } from './support.ts';

function names() {
  const [clock, system] = [new TestClock(), new TestNames()];
  return { clock, system, names: new TargetNames(system, clock) };
}

test('a name is asked for once while its time lasts, and again when it is over', async () => {
  const { clock, system, names: ours } = names();
  system.known.set('a', { addresses: ['127.0.0.1'], ttlSeconds: 5 });
  expect(ours.peek('a')).toBeUndefined();
  const both = await Promise.all([ours.addressesOf('a'), ours.addressesOf('a')]);
  expect(both).toEqual([['127.0.0.1'], ['127.0.0.1']]);
  await clock.advance(4999);
  expect(ours.peek('a')).toEqual(['127.0.0.1']);
  system.known.set('a', { addresses: ['127.0.0.2'], ttlSeconds: 5 });
  await clock.advance(1);
  expect(ours.peek('a')).toBeUndefined();
  expect(await ours.addressesOf('a')).toEqual(['127.0.0.2']);
  expect(system.asked).toEqual(['a', 'a']);
});

test('what was known goes on while nobody answers, and is asked for again soon', async () => {
  const { clock, system, names: ours } = names();
  system.known.set('a', { addresses: ['127.0.0.1'], ttlSeconds: 1 });
  await ours.addressesOf('a');
  system.known.delete('a');
  await clock.advance(1000);
  expect(await ours.addressesOf('a')).toEqual(['127.0.0.1']);
  expect(ours.peek('a')).toEqual(['127.0.0.1']);
  await clock.advance(2000);
  system.known.set('a', { addresses: ['127.0.0.2'], ttlSeconds: 1 });
  expect(await ours.addressesOf('a')).toEqual(['127.0.0.2']);
});

test('a name that cannot be resolved is not asked for at once again', async () => {
  const { clock, system, names: ours } = names();
  expect(await ours.addressesOf('none')).toEqual([]);
  expect(ours.peek('none')).toEqual([]);
  expect(await ours.addressesOf('none')).toEqual([]);
  expect(system.asked).toHaveLength(1);
  await clock.advance(2000);
  await ours.addressesOf('none');
  expect(system.asked).toHaveLength(2);
});

test('names that no rule has any more are forgotten', async () => {
  const { system, names: ours } = names();
  system.known.set('a', { addresses: ['127.0.0.1'], ttlSeconds: 9 });
  system.known.set('b', { addresses: ['127.0.0.1'], ttlSeconds: 9 });
  await Promise.all(['a', 'b'].map((name) => ours.addressesOf(name)));
  ours.keepOnly(new Set(['b']));
  expect([ours.peek('a'), ours.peek('b')]).toEqual([undefined, ['127.0.0.1']]);
});

test('a client is looked up once a minute, however many conversations it begins', async () => {
  const { clock, system, names: ours } = names();
  system.back.set('127.0.0.7', ['client.example']);
  const both = await Promise.all([ours.namesOf('127.0.0.7'), ours.namesOf('127.0.0.7')]);
  expect(both).toEqual([['client.example'], ['client.example']]);
  await ours.namesOf('127.0.0.7');
  expect(system.asked).toHaveLength(1);
  await clock.advance(60_000);
  await ours.namesOf('127.0.0.7');
  expect(system.asked).toHaveLength(2);
});

test('of many clients the oldest is forgotten', async () => {
  const { system, names: ours } = names();
  for (let at = 0; at <= 4096; at++) await ours.namesOf(`10.0.${at >> 8}.${at & 255}`);
  await ours.namesOf('10.0.0.1');
  expect(system.asked).toHaveLength(4097);
  await ours.namesOf('10.0.0.0');
  expect(system.asked).toHaveLength(4098);
});
