import { expect, test } from 'vitest';
import { KnownNames } from '../../../src/forwarder/nftables/known-names.ts';
import type { HostAddresses } from '../../../src/system/names.ts';
import { TestClock } from '../../support/test-clock.ts';
import { TestNames } from '../relay/support.ts';

function found(ttlSeconds: number, ...addresses: readonly string[]): HostAddresses {
  return { addresses, ttlSeconds };
}

function sceneOf() {
  const [clock, names] = [new TestClock(), new TestNames()];
  let changes = 0;
  const known = new KnownNames(names, clock, () => changes++);
  return { clock, names, known, changes: () => changes };
}

test('names that are wanted have been asked for before anything goes on', async () => {
  const { names, known } = sceneOf();
  names.known.set('nas.lan', found(60, '192.168.1.8'));
  await known.want(new Set(['nas.lan', 'nobody.example']));
  expect(known.addressesOf('nas.lan')).toEqual(['192.168.1.8']);
  expect(known.addressesOf('nobody.example')).toEqual([]);
  await known.want(new Set(['nas.lan', 'nobody.example']));
  expect(names.asked.filter((name) => name === 'nas.lan')).toHaveLength(1);
});

test('who does not answer is not waited for longer than three seconds', async () => {
  const { clock, names, known, changes } = sceneOf();
  let answer: (found: HostAddresses) => void = () => undefined;
  names.known.set('slow.example', new Promise((resolve) => (answer = resolve)));
  let isOver = false;
  const wanting = known.want(new Set(['slow.example'])).then(() => (isOver = true));
  await clock.advance(2999);
  expect(isOver).toBe(false);
  await clock.advance(1);
  await wanting;
  expect(known.addressesOf('slow.example')).toEqual([]);
  answer(found(60, '192.0.2.1'));
  await clock.advance(0);
  expect(known.addressesOf('slow.example')).toEqual(['192.0.2.1']);
  expect(changes()).toBe(1);
});

test('a name is asked for again when DNS says that it is old, and what it stands for then is told', async () => {
  const { clock, names, known, changes } = sceneOf();
  names.known.set('nas.lan', found(60, '192.168.1.8'));
  await known.want(new Set(['nas.lan']));
  const before = changes();
  names.known.set('nas.lan', found(60, '192.168.1.9'));
  await clock.advance(59_000);
  known.refresh();
  await clock.advance(0);
  expect(known.addressesOf('nas.lan')).toEqual(['192.168.1.8']);
  await clock.advance(1000);
  known.refresh();
  await clock.advance(0);
  expect(known.addressesOf('nas.lan')).toEqual(['192.168.1.9']);
  expect(changes()).toBe(before + 1);
});

test('while nobody answers the old addresses serve', async () => {
  const { clock, names, known, changes } = sceneOf();
  names.known.set('nas.lan', found(1, '192.168.1.8'));
  await known.want(new Set(['nas.lan']));
  const before = changes();
  names.known.delete('nas.lan');
  await clock.advance(1000);
  known.refresh();
  await clock.advance(0);
  expect(known.addressesOf('nas.lan')).toEqual(['192.168.1.8']);
  expect(changes()).toBe(before);
  // It is not asked for again at once.
  const asked = names.asked.length;
  known.refresh();
  expect(names.asked).toHaveLength(asked);
  await clock.advance(5000);
  known.refresh();
  expect(names.asked).toHaveLength(asked + 1);
});

test('a name that is not wanted any more is forgotten', async () => {
  const { names, known } = sceneOf();
  names.known.set('nas.lan', found(60, '192.168.1.8'));
  await known.want(new Set(['nas.lan']));
  await known.want(new Set());
  expect(known.addressesOf('nas.lan')).toEqual([]);
});
