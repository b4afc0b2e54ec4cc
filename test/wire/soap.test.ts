import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decodePortListing,
  decodeSoapCall,
  decodeSoapReply,
  encodePortListing,
  encodeSoapCall,
  encodeSoapReply,
  type SoapCall,
  type SoapReply,
  type SoapValues,
  soapAction,
} from '../../src/wire/soap.ts';
import { failsInItsOwnWords, markup, mutatedText, value } from './arbitraries.ts';

const SERVICE = 'urn:schemas-upnp-org:service:WANIPConnection:2';

const name = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,20}$/);
const values: fc.Arbitrary<SoapValues> = fc.dictionary(name, value, { maxKeys: 10, noNullPrototype: true });
const call: fc.Arbitrary<SoapCall> = fc.record({ serviceType: value, action: name, values });
const reply: fc.Arbitrary<SoapReply> = fc.oneof(
  fc.record({ kind: fc.constant('response'), values }),
  fc.record({
    kind: fc.constant('fault'),
    errorCode: fc.integer({ min: 100, max: 999 }),
    errorDescription: value,
  }),
);
const listing = fc.array(values, { maxLength: 5 });

const envelope = (content: string) =>
  `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>${content}</s:Body></s:Envelope>`;

test('soapAction() puts the action behind the service, in quotes (UDA 2.0, section 3.2.1)', () => {
  expect(soapAction(SERVICE, 'AddPortMapping')).toBe(`"${SERVICE}#AddPortMapping"`);
});

describe('a call', () => {
  test('is read the same by the short way, which plain ones take, and by the long one', () => {
    const plain = fc.stringMatching(/^[ -%'-;=?-~]{0,20}$/);
    const plainValues = fc.dictionary(name, plain, { maxKeys: 10, noNullPrototype: true });
    fc.assert(
      fc.property(fc.record({ serviceType: plain, action: name, values: plainValues }), (made) => {
        const document = encodeSoapCall(made);
        // A comment is for the long way alone.
        const commented = document.replace('<s:Body>', '<s:Body><!-- long -->');
        expect(decodeSoapCall(document)).toEqual(decodeSoapCall(commented));
      }),
    );
  });

  test('however it was damaged, is read the same or refused', () => {
    const read = (document: string) => {
      try {
        return decodeSoapCall(document);
      } catch {
        return 'refused';
      }
    };
    fc.assert(
      fc.property(mutatedText(call.map((made) => encodeSoapCall(made))), (document) => {
        const short = read(document);
        // Behind the end of a document a comment changes nothing, but that the long way is taken.
        fc.pre(short !== 'refused');
        expect(read(`${document}<!-- long -->`)).toEqual(short);
      }),
    );
  });

  test('is written as UDA 2.0, section 3.2.1, has it', () => {
    expect(
      encodeSoapCall({
        serviceType: SERVICE,
        action: 'DeletePortMapping',
        values: { NewRemoteHost: '', NewExternalPort: '443', NewProtocol: 'TCP' },
      }),
    ).toBe(
      '<?xml version="1.0"?>\r\n' +
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">' +
        `<s:Body><u:DeletePortMapping xmlns:u="${SERVICE}">` +
        '<NewRemoteHost></NewRemoteHost><NewExternalPort>443</NewExternalPort><NewProtocol>TCP</NewProtocol>' +
        '</u:DeletePortMapping></s:Body></s:Envelope>\r\n',
    );
  });

  test('comes back as it was', () => {
    fc.assert(
      fc.property(call, (sent) => {
        expect(decodeSoapCall(encodeSoapCall(sent))).toEqual(sent);
      }),
    );
  });

  test('keeps its arguments in order', () => {
    const values = { z: '1', a: '2', m: '3' };
    expect(
      Object.keys(decodeSoapCall(encodeSoapCall({ serviceType: 's', action: 'a', values })).values),
    ).toEqual(['z', 'a', 'm']);
  });

  test.each(['<a/>', '<s:Envelope/>', '<s:Envelope><s:Body/></s:Envelope>', 'ok'])(
    'without an action is MALFORMED: %s',
    (document) => {
      expect(() => decodeSoapCall(document)).toThrow(expect.objectContaining({ code: 'MALFORMED' }));
    },
  );

  test('of any text fails in its own words', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), markup, mutatedText(call.map(encodeSoapCall))), (document) => {
        expect(failsInItsOwnWords(() => decodeSoapCall(document))).toBe(true);
      }),
    );
  });
});

describe('a reply', () => {
  test('comes back as it was', () => {
    fc.assert(
      fc.property(call, reply, (asked, answered) => {
        expect(decodeSoapReply(encodeSoapReply(asked, answered))).toEqual(answered);
      }),
    );
  });

  test('carries a listing as it is, and one that would end its CDATA escaped', () => {
    const asked = { serviceType: SERVICE, action: 'GetListOfPortMappings' };
    for (const listing of ['<a>&amp;</a>', '<a>]]></a>']) {
      const answered = { kind: 'response', values: { NewPortListing: listing, NewOther: '1' } } as const;
      expect(decodeSoapReply(encodeSoapReply(asked, answered))).toEqual(answered);
    }
  });

  test('is known by its name alone, whatever its namespace and prefix (quirk 21)', () => {
    for (const answer of [
      '<u:DeletePortMappingResponse xmlns:u="DeletePortMapping"/>',
      '<m:DeletePortMappingResponse/>',
      '<DeletePortMappingResponse xmlns=""></DeletePortMappingResponse>',
      '<u:deleteportmappingresponse/>',
    ]) {
      expect(decodeSoapReply(envelope(answer))).toEqual({ kind: 'response', values: {} });
    }
  });

  test('may come without an envelope', () => {
    expect(decodeSoapReply('<u:XResponse><NewA>1</NewA></u:XResponse>')).toEqual({
      kind: 'response',
      values: { NewA: '1' },
    });
  });

  test('is a yes where the body is empty: DeletePortMapping on Portable SDK 1.6.22', () => {
    expect(decodeSoapReply(envelope(''))).toEqual({ kind: 'response', values: {} });
    expect(decodeSoapReply('<s:Envelope><s:Body/></s:Envelope>')).toEqual({ kind: 'response', values: {} });
  });

  test.each([
    ['a web page', '<html><head><title>404</title></head><body>Not Found</body></html>'],
    ['a web page with nothing on it', '<html><body></body></html>'],
    ['a web page with tags', '<html><body><h1>Login</h1></body></html>'],
    ['an answer that was cut short', '<?xml version="1.0"?><s:Envelope><s:Body><u:AddPortMapp'],
    ['an envelope without a body', '<s:Envelope></s:Envelope>'],
    ['an envelope with a text', envelope('Internal Server Error')],
    ['a description', '<root><device/></root>'],
    ['the call itself', envelope('<u:AddPortMapping/>')],
    ['text', 'ok'],
    ['nothing', ''],
  ])('is none: %s is MALFORMED', (_, document) => {
    expect(() => decodeSoapReply(document)).toThrow(expect.objectContaining({ code: 'MALFORMED' }));
  });

  test('loses a value that the document ends in', () => {
    const cut = `${envelope('').slice(0, -22)}<u:XResponse><NewA>1</NewA><NewExternalIPAddress>198.51.100.2`;
    expect(decodeSoapReply(cut)).toEqual({
      kind: 'response',
      values: { NewA: '1', NewExternalIPAddress: '' },
    });
  });

  test('of any text fails in its own words', () => {
    const valid = fc.tuple(call, reply).map(([asked, answered]) => encodeSoapReply(asked, answered));
    fc.assert(
      fc.property(fc.oneof(fc.string(), markup, mutatedText(valid)), (document) => {
        expect(failsInItsOwnWords(() => decodeSoapReply(document))).toBe(true);
      }),
    );
  });
});

const fault = (detail: string) =>
  decodeSoapReply(
    envelope(
      `<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring>${detail}</s:Fault>`,
    ),
  );

describe('a fault', () => {
  test("carries UPnP's own code", () => {
    expect(
      fault(
        '<detail><UPnPError><errorCode>718</errorCode><errorDescription>Conflict</errorDescription></UPnPError></detail>',
      ),
    ).toEqual({ kind: 'fault', errorCode: 718, errorDescription: 'Conflict' });
  });

  test('without a code of three digits is "Action Failed" (UDA 2.0, table 3-3)', () => {
    for (const code of ['', 'abc', '7181', '-18', '1e2']) {
      expect(fault(`<detail><UPnPError><errorCode>${code}</errorCode></UPnPError></detail>`)).toMatchObject({
        errorCode: 501,
      });
    }
    expect(fault('')).toEqual({ kind: 'fault', errorCode: 501, errorDescription: 'UPnPError' });
  });

  test('is one inside SOAP-ENV and in any letter case', () => {
    expect(
      decodeSoapReply(
        '<SOAP-ENV:Envelope><SOAP-ENV:Body><SOAP-ENV:FAULT/></SOAP-ENV:Body></SOAP-ENV:Envelope>',
      ),
    )
      // oxlint-disable-next-line vitest/prefer-strict-equal
      .toEqual({ kind: 'fault', errorCode: 501, errorDescription: '' });
  });
});

describe('a port listing', () => {
  test('is written and read as WANIPConnection:2, section 2.3.31, has it', () => {
    const entry = {
      NewRemoteHost: '',
      NewExternalPort: '5002',
      NewProtocol: 'UDP',
      NewInternalPort: '4001',
      NewInternalClient: '192.168.1.123',
      NewEnabled: '1',
      NewDescription: 'a & b',
      NewLeaseTime: '0',
    };
    const document = encodePortListing([entry]);
    expect(document).toContain('<p:PortMappingEntry><p:NewRemoteHost></p:NewRemoteHost>');
    expect(document).toContain('<p:NewDescription>a &amp; b</p:NewDescription>');
    expect(decodePortListing(document)).toEqual([entry]);
  });

  test('comes back as it was', () => {
    fc.assert(
      fc.property(listing, (entries) => {
        expect(decodePortListing(encodePortListing(entries))).toEqual(entries);
      }),
    );
  });

  test('comes back as it was inside a reply', () => {
    fc.assert(
      fc.property(listing, (entries) => {
        const document = encodeSoapReply(
          { serviceType: SERVICE, action: 'GetListOfPortMappings' },
          { kind: 'response', values: { NewPortListing: encodePortListing(entries) } },
        );
        const reply = decodeSoapReply(document);
        const inner = reply.kind === 'response' ? reply.values['NewPortListing'] : undefined;
        expect(decodePortListing(inner ?? '')).toEqual(entries);
      }),
    );
  });

  test('may be empty', () => {
    expect(decodePortListing('<p:PortMappingList/>')).toEqual([]);
  });

  test('of any text fails in its own words', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), markup, mutatedText(listing.map(encodePortListing))), (document) => {
        expect(failsInItsOwnWords(() => decodePortListing(document))).toBe(true);
      }),
    );
  });
});

describe('hostile names', () => {
  const names = ['__proto__', 'constructor', 'prototype', 'toString', 'valueOf', 'hasOwnProperty'];
  const inner = names.map((name) => `<${name}>evil<polluted>1</polluted></${name}>`).join('');

  test('are values like any other, and reach no prototype', () => {
    const reply = decodeSoapReply(envelope(`<u:XResponse>${inner}</u:XResponse>`));
    const call = decodeSoapCall(envelope(`<u:X>${inner}</u:X>`));
    const [row] = decodePortListing(`<l><PortMappingEntry>${inner}</PortMappingEntry></l>`);
    for (const values of [reply.kind === 'response' ? reply.values : {}, call.values, row ?? {}]) {
      expect(Object.keys(values)).toEqual(names);
      expect(Object.getPrototypeOf(values)).toBe(Object.prototype);
      expect(Object.getPrototypeOf({ ...values })).toBe(Object.prototype);
    }
    expect(Object.keys(Object.prototype)).toEqual([]);
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  test('are written again as they were', () => {
    const call = decodeSoapCall(
      envelope(`<u:X>${names.map((name) => `<${name}>1</${name}>`).join('')}</u:X>`),
    );
    expect(decodeSoapCall(encodeSoapCall(call))).toEqual(call);
  });

  test('cannot leave the attribute that a service type is written to', () => {
    const serviceType = '"><NewInternalClient>192.0.2.1</NewInternalClient><x y="';
    expect(decodeSoapCall(encodeSoapCall({ serviceType, action: 'X', values: {} }))).toEqual({
      serviceType,
      action: 'X',
      values: {},
    });
  });
});
