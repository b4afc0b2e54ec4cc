import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeGena, encodeNotify } from '../../src/wire/gena.ts';
import { parseXml } from '../../src/wire/xml.ts';

const subscribe = (headers: Record<string, string>) =>
  decodeGena('SUBSCRIBE', (name) => ({ nt: 'upnp:event', ...headers })[name]);

describe('a subscription', () => {
  test('names callbacks and a timeout', () => {
    const callback = '<http://192.168.1.2/><http://192.168.1.2:5000/a?b=c><http://[fe80::1%25eth0]:5000>';
    expect(subscribe({ callback, timeout: 'Second-300' })).toEqual({
      kind: 'subscribe',
      callbacks: [
        { address: '192.168.1.2', port: 80, path: '/' },
        { address: '192.168.1.2', port: 5000, path: '/a?b=c' },
        { address: 'fe80::1', port: 5000, path: '/' },
      ],
      timeoutSeconds: 300,
    });
  });

  test('has three callbacks at most', () => {
    const wish = subscribe({ callback: '<http://192.168.1.2/>'.repeat(9) });
    expect(wish.kind === 'subscribe' && wish.callbacks).toHaveLength(3);
  });

  test('of any callback is refused, or leads to a literal address by a path without spaces', () => {
    const piece = fc.constantFrom(
      '<',
      '>',
      'http://',
      '192.168.1.2',
      '[::1]',
      ':80',
      '/',
      '@',
      '#',
      ' ',
      '\r\n',
      '%',
      'a',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 14 }), (pieces) => {
        const wish = subscribe({ callback: pieces.join('') });
        if (wish.kind !== 'subscribe') return;
        for (const { address, port, path } of wish.callbacks) {
          expect(['192.168.1.2', '::1']).toContain(address);
          expect(port).toBe(80);
          expect(path).toMatch(/^\/[\x21-\x7e]*$/);
        }
      }),
      { numRuns: 2_000 },
    );
  });
});

test('a notification says what has changed, in its own property each', () => {
  const message = encodeNotify({
    callback: { address: 'fe80::1%eth0', port: 5000, path: '/a' },
    sid: 'uuid:1',
    seq: 7,
    values: { One: 'a < b', Two: 'é' },
  });
  const [head = '', body = ''] = message.split('\r\n\r\n');
  expect(head.split('\r\n')).toEqual([
    'NOTIFY /a HTTP/1.1',
    'HOST: [fe80::1]:5000',
    'CONTENT-TYPE: text/xml; charset="utf-8"',
    `CONTENT-LENGTH: ${Buffer.byteLength(body)}`,
    'NT: upnp:event',
    'NTS: upnp:propchange',
    'SID: uuid:1',
    'SEQ: 7',
    'CONNECTION: close',
  ]);
  const properties = parseXml(body).children;
  expect(properties.map(({ name, children }) => [name, children[0]?.name, children[0]?.text])).toEqual([
    ['property', 'One', 'a < b'],
    ['property', 'Two', 'é'],
  ]);
});
