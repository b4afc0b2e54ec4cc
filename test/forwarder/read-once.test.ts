import { expect, test } from 'vitest';
import { readOnce } from '../../src/forwarder/read-once.ts';

test('the same text is one value', () => {
  const read = readOnce((text) => ({ text }));
  expect(read('a')).toBe(read('a'));
  expect(read('b')).toEqual({ text: 'b' });
});

test('what cannot be read is read again', () => {
  let times = 0;
  const read = readOnce((text): object => {
    times++;
    throw new Error(text);
  });
  expect(() => read('a')).toThrow('a');
  expect(() => read('a')).toThrow('a');
  expect(times).toBe(2);
});

test('many others push it out, and it is read again', () => {
  const read = readOnce((text) => ({ text }));
  const first = read('first');
  for (let at = 0; at < 5000; at++) read(String(at));
  expect(read('first')).not.toBe(first);
  expect(read('first')).toEqual(first);
});
