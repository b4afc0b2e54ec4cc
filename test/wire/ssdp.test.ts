import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeSsdp, encodeSsdp, type SsdpMessage } from '../../src/wire/ssdp.ts';
import { failsInItsOwnWords, headerValue, mutatedBytes } from './arbitraries.ts';

const IGD = 'urn:schemas-upnp-org:device:InternetGatewayDevice:1';
const malformed = expect.objectContaining({ code: 'MALFORMED' });

const counter = fc.integer({ min: 0, max: 2 ** 31 - 1 });
const identity = { usn: headerValue, bootId: fc.option(counter, { nil: undefined }) };
const presence = { ...identity, location: headerValue, server: headerValue, maxAgeSeconds: counter };

const message: fc.Arbitrary<SsdpMessage> = fc.oneof(
  fc.record({
    kind: fc.constant('search'),
    searchTarget: headerValue,
    maxWaitSeconds: fc.integer({ min: 0, max: 5 }),
    host: headerValue,
  }),
  fc.record({ kind: fc.constant('response'), searchTarget: headerValue, ...presence }),
  fc.record({ kind: fc.constant('alive'), notificationType: headerValue, ...presence }),
  fc.record({
    kind: fc.constant('update'),
    notificationType: headerValue,
    ...identity,
    location: headerValue,
    nextBootId: fc.option(counter, { nil: undefined }),
  }),
  fc.record({ kind: fc.constant('byebye'), notificationType: headerValue, ...identity }),
);

const encoded = (text: string) => new TextEncoder().encode(text);
const lines = (...all: string[]) => encoded(`${all.join('\r\n')}\r\n\r\n`);
const written = (value: SsdpMessage) => new TextDecoder().decode(encodeSsdp(value));

const response = (...more: string[]) =>
  lines(
    'HTTP/1.1 200 OK',
    'LOCATION: http://192.168.1.1:5000/a.xml',
    `ST: ${IGD}`,
    `USN: uuid:1::${IGD}`,
    ...more,
  );

const searchWith = (mx: string) =>
  decodeSsdp(lines('M-SEARCH * HTTP/1.1', 'MAN: "ssdp:discover"', `MX: ${mx}`, 'ST: ssdp:all'));

describe('messages', () => {
  test('come back as they were', () => {
    fc.assert(
      fc.property(message, (value) => {
        expect(decodeSsdp(encodeSsdp(value))).toEqual(value);
      }),
    );
  });

  test('a search is written as UDA 2.0, section 1.3.2, has it', () => {
    expect(
      written({ kind: 'search', searchTarget: IGD, maxWaitSeconds: 2, host: '239.255.255.250:1900' }),
    ).toBe(
      `M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 2\r\nST: ${IGD}\r\n\r\n`,
    );
  });

  test('a unicast search has no MX', () => {
    const text = written({
      kind: 'search',
      searchTarget: IGD,
      maxWaitSeconds: 0,
      host: '192.168.1.1:1900',
    });
    expect(text).not.toContain('MX');
    expect(decodeSsdp(encoded(text))).toMatchObject({ maxWaitSeconds: 0 });
  });

  test('a response is written as UDA 2.0, section 1.3.3, has it', () => {
    expect(
      written({
        kind: 'response',
        searchTarget: IGD,
        usn: `uuid:1::${IGD}`,
        bootId: 7,
        location: 'http://192.168.1.1:5000/a.xml',
        server: 'Linux UPnP/2.0 natward/0',
        maxAgeSeconds: 120,
      }).split('\r\n'),
    ).toEqual([
      'HTTP/1.1 200 OK',
      'CACHE-CONTROL: max-age=120',
      'EXT: ',
      'LOCATION: http://192.168.1.1:5000/a.xml',
      'SERVER: Linux UPnP/2.0 natward/0',
      `ST: ${IGD}`,
      `USN: uuid:1::${IGD}`,
      'BOOTID.UPNP.ORG: 7',
      'CONFIGID.UPNP.ORG: 1',
      '',
      '',
    ]);
  });

  test('a value cannot begin a header of its own', () => {
    const text = written({
      kind: 'search',
      searchTarget: `${IGD}\r\nLOCATION: http://192.0.2.1/`,
      maxWaitSeconds: 1,
      host: 'a\nb',
    });
    expect(text).not.toContain('LOCATION');
    expect(decodeSsdp(encoded(text))).toMatchObject({ searchTarget: IGD, host: 'a' });
  });
});

describe('decodeSsdp()', () => {
  test('quirk 22: reads headers in any case, with LF alone, without spaces, without the last blank line', () => {
    expect(
      decodeSsdp(encoded(`http/1.0 200\nlOcAtIoN:http://192.168.1.1/a\nst :${IGD}\nuSn:  uuid:1`)),
    ).toEqual({
      kind: 'response',
      searchTarget: IGD,
      usn: 'uuid:1',
      bootId: undefined,
      location: 'http://192.168.1.1/a',
      server: '',
      maxAgeSeconds: 1800,
    });
  });

  test('ends the headers at the blank line', () => {
    const packet = encoded(
      `${new TextDecoder().decode(response())}LOCATION: http://192.0.2.66/evil\r\nSERVER: x\r\n`,
    );
    expect(decodeSsdp(packet)).toMatchObject({ location: 'http://192.168.1.1:5000/a.xml', server: '' });
  });

  test('reads max-age among other directives, and half an hour where there is none', () => {
    expect(decodeSsdp(response('Cache-Control: no-cache="Ext", MAX-AGE = 60'))).toMatchObject({
      maxAgeSeconds: 60,
    });
    expect(decodeSsdp(response('Cache-Control: no-cache'))).toMatchObject({ maxAgeSeconds: 1800 });
    expect(decodeSsdp(response('Cache-Control: max-age=99999999999999'))).toMatchObject({
      maxAgeSeconds: 1800,
    });
  });

  test('takes a BOOTID that is no number for none', () => {
    for (const id of ['-1', '1.5', 'abc', '12345678901', '0x1']) {
      expect(decodeSsdp(response(`BOOTID.UPNP.ORG: ${id}`))).toMatchObject({ bootId: undefined });
    }
  });

  test('takes MX beyond 5 as 5 (UDA 2.0, section 1.3.3)', () => {
    expect(searchWith('120')).toMatchObject({ maxWaitSeconds: 5 });
    expect(searchWith('soon')).toMatchObject({ maxWaitSeconds: 0 });
  });

  test('knows byebye and update (UDA 2.0, sections 1.2.3 and 1.2.4)', () => {
    const notify = (subtype: string) => [
      'NOTIFY * HTTP/1.1',
      `NT: ${IGD}`,
      `NTS: ${subtype}`,
      'USN: uuid:1',
      'BOOTID.UPNP.ORG: 7',
    ];
    expect(decodeSsdp(lines(...notify('ssdp:byebye')))).toEqual({
      kind: 'byebye',
      notificationType: IGD,
      usn: 'uuid:1',
      bootId: 7,
    });
    expect(decodeSsdp(lines(...notify('ssdp:update'), 'NEXTBOOTID.UPNP.ORG: 8'))).toEqual({
      kind: 'update',
      notificationType: IGD,
      usn: 'uuid:1',
      bootId: 7,
      location: '',
      nextBootId: 8,
    });
  });

  test.each([
    ['nothing', encoded('')],
    ['another protocol', encoded('SIP/2.0 200 OK\r\n\r\n')],
    ['another status', lines('HTTP/1.1 404 Not Found', 'LOCATION: http://a/', 'ST: a')],
    ['a response without LOCATION', lines('HTTP/1.1 200 OK', `ST: ${IGD}`)],
    ['a response with an empty LOCATION', lines('HTTP/1.1 200 OK', 'LOCATION:', `ST: ${IGD}`)],
    ['a response without ST', lines('HTTP/1.1 200 OK', 'LOCATION: http://a/')],
    ['a search without MAN', lines('M-SEARCH * HTTP/1.1', 'ST: ssdp:all')],
    ['a search for something else', lines('M-SEARCH * HTTP/1.1', 'MAN: "other"', 'ST: ssdp:all')],
    ['an alive without LOCATION', lines('NOTIFY * HTTP/1.1', 'NT: a', 'NTS: ssdp:alive')],
    ['an unknown NTS', lines('NOTIFY * HTTP/1.1', 'NT: a', 'NTS: upnp:propchange')],
    ['a datagram beyond 8 KiB', response(`X: ${'x'.repeat(8192)}`)],
  ])('%s is MALFORMED', (_, packet) => {
    expect(() => decodeSsdp(packet)).toThrow(malformed);
  });

  test('looks at 65 lines of headers and no more', () => {
    const many = Array.from({ length: 62 }, (_, index) => `X-${index}: y`);
    expect(decodeSsdp(response(...many, 'SERVER: last'))).toMatchObject({ server: '' });
    expect(decodeSsdp(response(...many.slice(1), 'SERVER: last'))).toMatchObject({ server: 'last' });
  });

  test('keeps headers named like a prototype apart', () => {
    expect(decodeSsdp(response('__proto__: evil', 'constructor: evil'))).toMatchObject({ server: '' });
    expect(Object.keys(Object.prototype)).toEqual([]);
  });

  test('of any bytes fails in its own words', () => {
    const start = fc.constantFrom('M-SEARCH * HTTP/1.1', 'HTTP/1.1 200 OK', 'NOTIFY * HTTP/1.1');
    const header = fc.tuple(
      fc.constantFrom('ST', 'NT', 'NTS', 'LOCATION', 'USN', 'MAN', 'MX', 'HOST', 'BOOTID.UPNP.ORG'),
      fc.oneof(fc.string(), fc.constantFrom('ssdp:alive', 'ssdp:byebye', '"ssdp:discover"')),
    );
    const near = fc
      .tuple(start, fc.array(header))
      .map(([first, headers]) => lines(first, ...headers.map(([name, value]) => `${name}: ${value}`)));
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array(), near, mutatedBytes(message.map(encodeSsdp))), (packet) => {
        expect(failsInItsOwnWords(() => decodeSsdp(packet))).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});
