import { describe, expect, test } from 'vitest';
import { IntentBook } from '../../src/agent/intent-book.ts';
import { requestOf, selectorOf } from './keeping.ts';

function specsOf(book: IntentBook): string[] {
  return book.all.map(({ spec, owner }) => `${owner} ${spec}`);
}

describe('what is asked for', () => {
  test('again in the same words stays the same object', () => {
    const book = new IntentBook([]);
    const [intent] = book.add([requestOf('8443')], 'user');
    book.add([requestOf('8443')], 'user');
    expect(book.all).toHaveLength(1);
    expect(book.get(intent?.id ?? '')).toBe(intent);
  });

  test('again with another option is another object by the same id', () => {
    const book = new IntentBook([]);
    const [before] = book.add([requestOf('8443')], 'user');
    const [after] = book.add([requestOf('8443', { description: 'web' })], 'user');
    expect(after?.id).toBe(before?.id);
    expect(book.all).toEqual([after]);
  });

  test('against another intent is refused, and nothing of it is taken in', () => {
    const book = new IntentBook([]);
    book.add([requestOf('8443')], 'an-app');
    expect(() => book.add([requestOf('9000'), requestOf('443:8443')], 'user')).toThrow(/an-app has 8443/);
    expect(specsOf(book)).toEqual(['an-app 8443']);
  });
});

describe('the configuration', () => {
  test('read again takes out what is no longer in it, and leaves what others want', () => {
    const book = new IntentBook([]);
    book.add([requestOf('9000')], 'user');
    book.configure([requestOf('8443'), requestOf('8444')]);
    const [, kept] = book.all;
    book.configure([requestOf('8443')]);
    expect(specsOf(book)).toEqual(['user 9000', 'config 8443']);
    expect(book.all[1]).toEqual(kept);
  });

  test('takes the place of whoever has the same', () => {
    const book = new IntentBook([]);
    book.add([requestOf('8443'), requestOf('9000')], 'user');
    book.configure([requestOf('443:8443')]);
    expect(specsOf(book)).toEqual(['user 9000', 'config 443:8443']);
  });

  test('that contradicts itself is refused, and all is as it was', () => {
    const book = new IntentBook([]);
    book.configure([requestOf('8443')]);
    expect(() => book.configure([requestOf('9000'), requestOf('443:9000')])).toThrow(/same port/);
    expect(specsOf(book)).toEqual(['config 8443']);
  });
});

describe('drop()', () => {
  test('takes out what is meant by any of the selectors, and says what none of them is', () => {
    const book = new IntentBook([]);
    const [web] = book.add([requestOf('8443'), requestOf('9000')], 'user');
    const { ended, failures } = book.drop(['8443', web?.id ?? '', '1234'].map(selectorOf));
    expect([...ended]).toEqual([web?.id]);
    expect(failures).toMatchObject([{ selector: '1234', code: 'NOT_FOUND' }]);
    expect(specsOf(book)).toEqual(['user 9000']);
  });

  test('leaves what the configuration wants', () => {
    const book = new IntentBook([]);
    book.configure([requestOf('8443')]);
    expect(book.drop([selectorOf('8443')])).toMatchObject({ failures: [{ code: 'NOT_OWN' }] });
    expect(specsOf(book)).toEqual(['config 8443']);
  });
});
