import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  child,
  childText,
  descendant,
  elements,
  escapeXml,
  parseXml,
  type XmlElement,
} from '../../src/wire/xml.ts';
import { failsInItsOwnWords, markup, mutatedText, value } from './arbitraries.ts';

const hostile = expect.objectContaining({ code: 'HOSTILE' });
const malformed = expect.objectContaining({ code: 'MALFORMED' });

const name = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_.-]{0,12}$/);

interface Tree {
  readonly name: string;
  readonly text: string;
  readonly children: readonly Tree[];
}
const trees = (depth: number): fc.Arbitrary<Tree> =>
  fc.record({
    name,
    text: value,
    children: depth === 0 ? fc.constant([]) : fc.array(trees(depth - 1), { maxLength: 3 }),
  });
const tree = trees(3);

function written(tree: Tree): string {
  return `<${tree.name}>${escapeXml(tree.text)}${tree.children.map(written).join('')}</${tree.name}>`;
}

function shapeOf(element: XmlElement): Tree {
  return { name: element.name, text: element.text, children: element.children.map(shapeOf) };
}

describe('parseXml()', () => {
  test('reads names, text and children', () => {
    const root = parseXml('<?xml version="1.0"?><a x="1">one<b/> two <c>three</c></a>');
    expect(shapeOf(root)).toEqual({
      name: 'a',
      text: 'one two',
      children: [
        { name: 'b', text: '', children: [] },
        { name: 'c', text: 'three', children: [] },
      ],
    });
  });

  test('reads what escapeXml() wrote', () => {
    fc.assert(
      fc.property(tree, (value) => {
        expect(shapeOf(parseXml(written(value)))).toEqual(value);
      }),
    );
  });

  test('drops prefixes, bound or not', () => {
    const root = parseXml('<s:a><u:b xmlns:u="urn:x">1</u:b><nobody:c>2</nobody:c></s:a>');
    expect(root.children.map(({ name, namespace, text }) => [name, namespace, text])).toEqual([
      ['b', 'urn:x', '1'],
      ['c', undefined, '2'],
    ]);
  });

  test('knows the namespace that an element declares for its own prefix', () => {
    expect(parseXml('<a xmlns="urn:one" xmlns:b="urn:two"/>').namespace).toBe('urn:one');
    expect(parseXml('<b:a xmlns="urn:one" xmlns:b="urn:two"/>').namespace).toBe('urn:two');
    expect(parseXml('<constructor:a/>').namespace).toBeUndefined();
    expect(parseXml('<a/>').namespace).toBeUndefined();
  });

  test('quirk 29: white space, a byte order mark and junk may stand before `<?xml`', () => {
    for (const before of ['\r\n\t ', '\ufeff', 'ok\n', '\ufeff\n <!-- built in 2009 -->\n']) {
      expect(parseXml(`${before}<?xml version="1.0"?><a>1</a>`).text).toBe('1');
    }
  });

  test('skips comments and instructions', () => {
    expect(parseXml('<a><!-- <b>no</b> -->1<?php <c/> ?><!-- -- > -->2</a>')).toMatchObject({
      text: '12',
      children: [],
    });
  });

  test('takes CDATA as it stands', () => {
    expect(parseXml('<a><![CDATA[<b>&amp; a<b <3]]></a>').text).toBe('<b>&amp; a<b <3');
    expect(parseXml('<a><![CDATA[x]]>]]>y</a>').text).toBe('x]]>y');
  });

  test('knows the five entities of XML and characters by number', () => {
    expect(parseXml('<a>&lt;&gt;&amp;&quot;&apos;&#65;&#x42;&#x1F600;</a>').text).toBe('<>&"\'AB😀');
  });

  test('takes any other entity as text', () => {
    expect(parseXml('<a>&nbsp; &copy; &lol1;</a>').text).toBe('&nbsp; &copy; &lol1;');
    expect(parseXml('<a>&#x110000;&#xd800;&#0;</a>').text).toBe('\ufffd\ufffd\ufffd');
  });

  test('quirk 21: an unescaped `&` is text', () => {
    expect(parseXml('<a>Q&A & co &amp; R&D; &</a>').text).toBe('Q&A & co & R&D; &');
  });

  test.each([
    ['a<b', 'a<b'],
    ['1 < 2', '1 < 2'],
    ['I <3 it', 'I <3 it'],
    ['<<<<', '<<<<'],
    ['<', '<'],
    ['a</b', 'a</b'],
    ['</ x', '</ x'],
  ])('quirk 21: in <a>%s</a> the `<` is text, and the next element is a sibling', (text, read) => {
    const root = parseXml(`<r><a>${text}</a><b>2</b></r>`);
    expect(shapeOf(root).children).toEqual([
      { name: 'a', text: read, children: [] },
      { name: 'b', text: '2', children: [] },
    ]);
  });

  test('quirk 21: a whole tag in a text ends with its element', () => {
    const root = parseXml('<r><a>from <me> to</a><b>2</b></r>');
    expect(root.children.map(({ name, text }) => [name, text])).toEqual([
      ['a', 'from'],
      ['b', '2'],
    ]);
  });

  test('takes an end that belongs to nothing for nothing', () => {
    expect(parseXml('<a></b>1</A>2</a>').text).toBe('12');
  });

  test('of what a cut document ends in, nothing is believed', () => {
    const root = parseXml('<a>1<b>2</b><c>192.168.1');
    expect(root).toMatchObject({ text: '', closed: false });
    expect(root.children).toMatchObject([
      { name: 'b', text: '2', closed: true },
      { name: 'c', text: '', closed: false },
    ]);
  });

  test.each(['', ' ', 'ok', '404 Not Found', '<?xml version="1.0"?>', '<!-- -->', '< a>', '<', '\u0000'])(
    'finds no element in %j',
    (document) => {
      expect(() => parseXml(document)).toThrow(malformed);
    },
  );

  test('of any text fails in its own words', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), markup, mutatedText(tree.map(written))), (document) => {
        expect(failsInItsOwnWords(() => parseXml(document))).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});

const nested = (depth: number) => '<a>'.repeat(depth) + '</a>'.repeat(depth);

describe('a hostile document', () => {
  test('with a document type is refused', () => {
    const laughs = Array.from(
      { length: 10 },
      (_, level) => `<!ENTITY lol${level + 1} "${`&lol${level};`.repeat(10)}">`,
    );
    const bomb = `<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol0 "lol">${laughs.join('')}]><a>&lol10;</a>`;
    expect(() => parseXml(bomb)).toThrow(hostile);
    expect(() => parseXml('<!DOCTYPE a SYSTEM "http://192.0.2.1/a.dtd"><a/>')).toThrow(hostile);
    expect(() => parseXml('<!doctype html><html></html>')).toThrow(hostile);
    expect(() => parseXml('<a/><!DOCTYPE a>')).toThrow(hostile);
    expect(() => parseXml('<!ENTITY a SYSTEM "file:///etc/passwd"><a>&a;</a>')).toThrow(hostile);
  });

  test('nested beyond 32 levels is refused', () => {
    expect(parseXml(nested(32)).name).toBe('a');
    expect(() => parseXml(nested(33))).toThrow(hostile);
    expect(() => parseXml('<a>'.repeat(100_000))).toThrow(hostile);
  });

  test('of 100,000 siblings is refused', () => {
    expect(() => parseXml(`<a>${'<b/>'.repeat(100_000)}</a>`)).toThrow(hostile);
  });

  test('of half a MiB in one name, attribute, text, comment or heap of brackets is read or refused', () => {
    const size = 512 * 1024;
    const documents = [
      `<${'a'.repeat(size)}/>`,
      `<a b="${'x'.repeat(size)}"/>`,
      `<a ${'b="" '.repeat(size / 5)}/>`,
      `<a>${'&'.repeat(size)}</a>`,
      `<a>&#${'1'.repeat(size)}</a>`,
      `<a>${'<'.repeat(size)}</a>`,
      `<a>${'</'.repeat(size / 2)}</a>`,
      '<a'.repeat(size / 2),
      `<a>${'<!--'.repeat(size / 4)}</a>`,
      `<a>${'<![CDATA['.repeat(size / 9)}</a>`,
      `<a>${'<?'.repeat(size / 2)}</a>`,
    ];
    for (const document of documents) expect(failsInItsOwnWords(() => parseXml(document))).toBe(true);
  });

  test('cannot reach a prototype through its names', () => {
    const names = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty'];
    for (const name of names) {
      const root = parseXml(`<${name} ${name}="1"><${name} xmlns="urn:x">2</${name}></${name}>`);
      expect(child(root, name)?.text).toBe('2');
      expect(root.namespace).toBeUndefined();
    }
    expect(Object.keys(Object.prototype)).toEqual([]);
    expect(child(parseXml('<a/>'), 'constructor')).toBeUndefined();
  });
});

test('child(), childText() and descendant() look in any letter case', () => {
  const root = parseXml('<a><B><controlUrl>1</controlUrl></B><b>2</b></a>');
  expect(child(root, 'b')?.name).toBe('B');
  expect(childText(root, 'missing')).toBeUndefined();
  expect(descendant(root, 'controlURL')?.text).toBe('1');
  expect(descendant(root, 'A')).toBe(root);
  expect(descendant(root, 'c')).toBeUndefined();
});

test('escapeXml() drops what XML 1.0 cannot carry', () => {
  expect(escapeXml('a\u0000\u0008\u000b\u001f\ufffe\uffffb\t\r\n<>&"')).toBe('ab\t\r\n&lt;&gt;&amp;&quot;');
});

test('elements() keeps the order that it is given', () => {
  expect(elements({ b: 1, a: '<', c: '' })).toBe('<b>1</b><a>&lt;</a><c></c>');
});
