import { expect, test } from 'vitest';
import { Numbers } from '../../../src/forwarder/nftables/numbers.ts';

test('numbers are given from the first on, and those below it when the others are taken', () => {
  const numbers = new Numbers(5, 4);
  expect([1, 2, 3, 4, 5].map(() => numbers.fresh())).toEqual([4, 5, 1, 2, 3]);
  expect(numbers.fresh()).toBeUndefined();
});

test('one that is free again is given last', () => {
  const numbers = new Numbers(4, 1);
  expect([numbers.fresh(), numbers.fresh()]).toEqual([1, 2]);
  numbers.free(1);
  expect([numbers.fresh(), numbers.fresh(), numbers.fresh()]).toEqual([3, 4, 1]);
});

test('one that somebody has already is not given', () => {
  const numbers = new Numbers(3, 1);
  numbers.take(2);
  expect([numbers.fresh(), numbers.fresh(), numbers.fresh()]).toEqual([1, 3, undefined]);
});
