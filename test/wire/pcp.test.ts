import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decodePcpRequest,
  decodePcpResponse,
  encodePcpRequest,
  encodePcpResponse,
  PCP_RESULT,
  type PcpFilter,
  type PcpMap,
  type PcpOptions,
  type PcpPeer,
  type PcpRequest,
  PcpRequestError,
  type PcpResponse,
  pcpResultName,
} from '../../src/wire/pcp.ts';
import { bytes, failsInItsOwnWords, ip, mutatedBytes, port, uint8, uint32 } from './arbitraries.ts';

const NONCE = bytes('6e6174776172640001020304');

const filter: fc.Arbitrary<PcpFilter> = fc.record({
  prefixLength: fc.integer({ min: 0, max: 128 }),
  remotePort: port,
  remoteAddress: ip,
});
const peerOptions = {
  thirdParty: ip,
  description: fc.string({ unit: 'grapheme', maxLength: 20 }).map((text) => text.trim()),
};
const mapOptions = {
  ...peerOptions,
  preferFailure: fc.constant<true>(true),
  filters: fc.array(filter, { minLength: 1, maxLength: 8 }),
};
const mapped = {
  nonce: fc.uint8Array({ minLength: 12, maxLength: 12 }),
  protocol: uint8,
  internalPort: port,
  externalPort: port,
  externalAddress: ip,
};
const map: fc.Arbitrary<PcpMap> = fc.record({
  ...mapped,
  options: fc.record(mapOptions, { requiredKeys: [] }),
});
const peer: fc.Arbitrary<PcpPeer> = fc.record({
  ...mapped,
  remotePort: port,
  remoteAddress: ip,
  options: fc.record(peerOptions, { requiredKeys: [] }),
});
const request: fc.Arbitrary<PcpRequest> = fc.oneof(
  fc.record({ opcode: fc.constant('announce'), lifetimeSeconds: uint32, clientAddress: ip }),
  fc.record({ opcode: fc.constant('map'), lifetimeSeconds: uint32, clientAddress: ip, map }),
  fc.record({ opcode: fc.constant('peer'), lifetimeSeconds: uint32, clientAddress: ip, peer }),
);
const header = { result: uint8, lifetimeSeconds: uint32, epochSeconds: uint32 };
const response: fc.Arbitrary<PcpResponse> = fc.oneof(
  fc.record({ opcode: fc.constant('announce'), ...header }),
  fc.record({ opcode: fc.constant('map'), ...header, map }),
  fc.record({ opcode: fc.constant('peer'), ...header, peer }),
  fc.record({
    opcode: fc.constant('unknown'),
    ...header,
    result: fc.integer({ min: 1, max: 255 }),
    requestOpcode: fc.integer({ min: 1, max: 127 }),
  }),
);

const REQUEST_HEADER = `
  02 01 0000                          ; version, opcode (1 is MAP), reserved
  00000e10                            ; requested lifetime, 3600 s
  00000000 00000000 0000ffff c000020a ; client's address, IPv4-mapped
`;
const MAP_BODY = `
  6e617477 61726400 01020304          ; nonce
  06 000000                           ; protocol, reserved
  1f90 01bb                           ; internal port, external port
  00000000 00000000 0000ffff 00000000 ; external address: any IPv4
`;

const PEER_HEADER = REQUEST_HEADER.replace('02 01', '02 02');
const PEER_BODY = `${MAP_BODY}
  01bb 0000                           ; remote peer's port, reserved
  00000000 00000000 0000ffff cb007101 ; remote peer's address
`;
const ANNOUNCE = REQUEST_HEADER.replace('02 01', '02 00');
const THIRD_PARTY = '01000010 00000000 00000000 0000ffff c0000214';
const FILTER = '03000014 00780000 00000000 00000000 0000ffff cb007100';

/** The result that the decoder tells a server to answer. */
function resultFor(packet: Uint8Array): number {
  try {
    decodePcpRequest(packet);
  } catch (error) {
    if (error instanceof PcpRequestError) return error.result;
    throw error;
  }
  return PCP_RESULT.SUCCESS;
}

describe('requests', () => {
  test('a MAP is laid out as in RFC 6887, sections 7.1 and 11.1', () => {
    const packet = bytes(REQUEST_HEADER + MAP_BODY);
    const decoded: PcpRequest = {
      opcode: 'map',
      lifetimeSeconds: 3600,
      clientAddress: '192.0.2.10',
      map: {
        nonce: NONCE,
        protocol: 6,
        internalPort: 8080,
        externalPort: 443,
        externalAddress: '0.0.0.0',
        options: {},
      },
    };
    expect(packet).toHaveLength(60);
    expect(encodePcpRequest(decoded)).toEqual(packet);
    expect(decodePcpRequest(packet)).toEqual(decoded);
  });

  test('a PEER is a MAP and its remote peer (RFC 6887, section 12.1)', () => {
    const packet = bytes(PEER_HEADER + PEER_BODY);
    const decoded: PcpRequest = {
      opcode: 'peer',
      lifetimeSeconds: 3600,
      clientAddress: '192.0.2.10',
      peer: {
        nonce: NONCE,
        protocol: 6,
        internalPort: 8080,
        externalPort: 443,
        externalAddress: '0.0.0.0',
        remotePort: 443,
        remoteAddress: '203.0.113.1',
        options: {},
      },
    };
    expect(packet).toHaveLength(80);
    expect(encodePcpRequest(decoded)).toEqual(packet);
    expect(decodePcpRequest(packet)).toEqual(decoded);
  });

  test('an ANNOUNCE is the header alone (RFC 6887, section 14.1)', () => {
    const packet = bytes('02 00 0000 00000000 20010db8 00000000 00000000 0000000a');
    const decoded = { opcode: 'announce', lifetimeSeconds: 0, clientAddress: '2001:db8::a' } as const;
    expect(encodePcpRequest(decoded)).toEqual(packet);
    expect(decodePcpRequest(packet)).toEqual(decoded);
  });

  test('options are laid out as in RFC 6887, section 13, and RFC 7220', () => {
    const packet = bytes(`${REQUEST_HEADER}${MAP_BODY}
      01 00 0010 00000000 00000000 0000ffff c0000214               ; THIRD_PARTY
      02 00 0000                                                   ; PREFER_FAILURE
      03 00 0014 00 78 01bb 00000000 00000000 0000ffff cb007100    ; FILTER 203.0.113.0/24 (120 of 128), port 443
      80 00 0008 6e617477 61726421                                 ; DESCRIPTION "natward!"
    `);
    const decoded: PcpOptions = {
      thirdParty: '192.0.2.20',
      preferFailure: true,
      filters: [{ prefixLength: 120, remotePort: 443, remoteAddress: '203.0.113.0' }],
      description: 'natward!',
    };
    const request = decodePcpRequest(packet);
    expect(request).toMatchObject({ map: { options: decoded } });
    expect(encodePcpRequest(request)).toEqual(packet);
  });

  test('come back as they were', () => {
    fc.assert(
      fc.property(request, (value) => {
        expect(decodePcpRequest(encodePcpRequest(value))).toEqual(value);
      }),
    );
  });

  test('keep the nonce when the socket uses its buffer again', () => {
    const packet = Buffer.from(bytes(REQUEST_HEADER + MAP_BODY));
    const request = decodePcpRequest(packet);
    packet.fill(0);
    expect(request).toMatchObject({ map: { nonce: NONCE } });
  });

  test('of any bytes fail in their own words', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.uint8Array({ maxLength: 1200 }), mutatedBytes(request.map(encodePcpRequest))),
        (packet) => {
          expect(failsInItsOwnWords(() => decodePcpRequest(packet))).toBe(true);
        },
      ),
    );
  });
});

describe('the result for a request that cannot be served (RFC 6887, section 8.2)', () => {
  test.each([
    ['another version', '01 01 0000 00000000', PCP_RESULT.UNSUPP_VERSION],
    ['a length that is no multiple of 4', `${REQUEST_HEADER}${MAP_BODY} 00`, PCP_RESULT.MALFORMED_REQUEST],
    ['a MAP that is cut short', `${REQUEST_HEADER} 6e617477`, PCP_RESULT.MALFORMED_REQUEST],
    ['an unknown opcode', REQUEST_HEADER.replace('02 01', '02 05'), PCP_RESULT.UNSUPP_OPCODE],
    ['an unknown mandatory option', `${REQUEST_HEADER}${MAP_BODY} 4d000000`, PCP_RESULT.UNSUPP_OPTION],
    [
      'an option that runs past the end',
      `${REQUEST_HEADER}${MAP_BODY} 80000008 61626364`,
      PCP_RESULT.MALFORMED_OPTION,
    ],
    [
      'THIRD_PARTY without an address',
      `${REQUEST_HEADER}${MAP_BODY} 01000004 c0000201`,
      PCP_RESULT.MALFORMED_OPTION,
    ],
    ['FILTER without its data', `${REQUEST_HEADER}${MAP_BODY} 03000000`, PCP_RESULT.MALFORMED_OPTION],
    [
      'PREFER_FAILURE with data',
      `${REQUEST_HEADER}${MAP_BODY} 02000004 00000000`,
      PCP_RESULT.MALFORMED_OPTION,
    ],
    ['a PEER that is cut short', `${PEER_HEADER}${MAP_BODY}`, PCP_RESULT.MALFORMED_REQUEST],
    ['option 0, which is reserved', `${REQUEST_HEADER}${MAP_BODY} 00000000`, PCP_RESULT.UNSUPP_OPTION],
    [
      'THIRD_PARTY twice',
      `${REQUEST_HEADER}${MAP_BODY} ${THIRD_PARTY} ${THIRD_PARTY}`,
      PCP_RESULT.MALFORMED_OPTION,
    ],
    ['PREFER_FAILURE twice', `${REQUEST_HEADER}${MAP_BODY} 02000000 02000000`, PCP_RESULT.MALFORMED_OPTION],
    ['DESCRIPTION twice', `${REQUEST_HEADER}${MAP_BODY} 80000000 80000000`, PCP_RESULT.MALFORMED_OPTION],
    ['FILTER twice', `${REQUEST_HEADER}${MAP_BODY} ${FILTER} ${FILTER}`, PCP_RESULT.SUCCESS],
    ['PREFER_FAILURE with PEER', `${PEER_HEADER}${PEER_BODY} 02000000`, PCP_RESULT.MALFORMED_OPTION],
    ['FILTER with PEER', `${PEER_HEADER}${PEER_BODY} ${FILTER}`, PCP_RESULT.MALFORMED_OPTION],
    ['THIRD_PARTY with PEER', `${PEER_HEADER}${PEER_BODY} ${THIRD_PARTY}`, PCP_RESULT.SUCCESS],
    ['THIRD_PARTY with ANNOUNCE', `${ANNOUNCE} ${THIRD_PARTY}`, PCP_RESULT.MALFORMED_OPTION],
    ['an unknown mandatory option with ANNOUNCE', `${ANNOUNCE} 4d000000`, PCP_RESULT.UNSUPP_OPTION],
    ['an unknown optional option with ANNOUNCE', `${ANNOUNCE} ff000000`, PCP_RESULT.SUCCESS],
    [
      'an unknown option before one that runs past the end',
      `${REQUEST_HEADER}${MAP_BODY} 4d000000 80000008`,
      PCP_RESULT.MALFORMED_OPTION,
    ],
    [
      'more options than anybody has a use for',
      `${REQUEST_HEADER}${MAP_BODY} ${'ff000000'.repeat(65)}`,
      PCP_RESULT.MALFORMED_OPTION,
    ],
  ])('%s', (_, layout, result) => {
    expect(resultFor(bytes(layout))).toBe(result);
  });

  test('1100 bytes are read, 1104 are not (section 7)', () => {
    const packet = bytes(`${REQUEST_HEADER}${MAP_BODY}`);
    const padded = (length: number) => {
      const whole = new Uint8Array(length);
      whole.set(packet);
      whole.set([0xff, 0, (length - 64) >> 8, (length - 64) & 0xff], 60);
      return whole;
    };
    expect(resultFor(padded(1100))).toBe(PCP_RESULT.SUCCESS);
    expect(resultFor(padded(1104))).toBe(PCP_RESULT.MALFORMED_REQUEST);
  });

  test('an unknown optional option is skipped (section 7.3)', () => {
    const packet = bytes(`${REQUEST_HEADER}${MAP_BODY} ff000001 61000000 02000000`);
    expect(decodePcpRequest(packet)).toMatchObject({ map: { options: { preferFailure: true } } });
  });
});

describe('responses', () => {
  test('a MAP is laid out as in RFC 6887, sections 7.2 and 11.1', () => {
    const packet = bytes(`
      02 81 00 00                         ; version, response + opcode, reserved, result
      00000e10 0000000a                   ; lifetime, epoch time
      00000000 00000000 00000000          ; reserved
      6e617477 61726400 01020304          ; nonce
      11 000000                           ; protocol, reserved
      1f90 01bb                           ; internal port, assigned external port
      20010db8 00000000 00000000 00000001 ; assigned external address
    `);
    const decoded: PcpResponse = {
      opcode: 'map',
      result: 0,
      lifetimeSeconds: 3600,
      epochSeconds: 10,
      map: {
        nonce: NONCE,
        protocol: 17,
        internalPort: 8080,
        externalPort: 443,
        externalAddress: '2001:db8::1',
        options: {},
      },
    };
    expect(encodePcpResponse(decoded)).toEqual(packet);
    expect(decodePcpResponse(packet)).toEqual(decoded);
  });

  test('come back as they were', () => {
    fc.assert(
      fc.property(response, (value) => {
        expect(decodePcpResponse(encodePcpResponse(value))).toEqual(value);
      }),
    );
  });

  test('a refusal of another opcode shows its header alone', () => {
    const packet = bytes('02 85 00 04 0000001e 00000007 00000000 00000000 00000000');
    expect(decodePcpResponse(packet)).toEqual({
      opcode: 'unknown',
      requestOpcode: 5,
      result: PCP_RESULT.UNSUPP_OPCODE,
      lifetimeSeconds: 30,
      epochSeconds: 7,
    });
  });

  test('a MAP refusal may come without its payload', () => {
    const packet = bytes('02 81 00 02 0000001e 00000007 00000000 00000000 00000000');
    expect(decodePcpResponse(packet)).toMatchObject({ opcode: 'unknown', requestOpcode: 1, result: 2 });
  });

  test('an unknown option in an answer means nothing', () => {
    const answer = encodePcpResponse({
      opcode: 'map',
      result: 0,
      lifetimeSeconds: 1,
      epochSeconds: 1,
      map: {
        nonce: NONCE,
        protocol: 6,
        internalPort: 1,
        externalPort: 1,
        externalAddress: '192.0.2.1',
        options: {},
      },
    });
    const packet = Uint8Array.from([...answer, ...bytes('4d000000 02000000')]);
    expect(decodePcpResponse(packet)).toMatchObject({ map: { options: { preferFailure: true } } });
  });

  test.each([
    ['nothing', ''],
    ['less than a header', '0280 0000 00000000 00000000'],
    ["NAT-PMP's refusal of version 2", '0080 0001 00000007'],
    ['another version', '0180 0000 00000000 00000000 00000000 00000000 00000000'],
    ['a request', '0200 0000 00000000 00000000 00000000 00000000 00000000'],
    ['a success in an unknown opcode', '0285 0000 00000000 00000000 00000000 00000000 00000000'],
    ['a granted MAP without its payload', '0281 0000 00000000 00000000 00000000 00000000 00000000'],
    ['a length that is no multiple of 4', '0280 0000 00000000 00000000 00000000 00000000 00000000 00'],
  ])('%s is MALFORMED', (_, packet) => {
    expect(() => decodePcpResponse(bytes(packet))).toThrow(expect.objectContaining({ code: 'MALFORMED' }));
  });

  test('of any bytes fail in their own words', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.uint8Array({ maxLength: 1200 }), mutatedBytes(response.map(encodePcpResponse))),
        (packet) => {
          expect(failsInItsOwnWords(() => decodePcpResponse(packet))).toBe(true);
        },
      ),
    );
  });
});

const encoded = (description: string) =>
  encodePcpRequest({
    opcode: 'map',
    lifetimeSeconds: 1,
    clientAddress: '192.0.2.10',
    map: {
      nonce: NONCE,
      protocol: 6,
      internalPort: 1,
      externalPort: 1,
      externalAddress: '0.0.0.0',
      options: { description },
    },
  });

const described = (description: string) => {
  const request = decodePcpRequest(encoded(description));
  return request.opcode === 'map' ? request.map.options.description : undefined;
};

describe('a description', () => {
  test('needs no padding, which miniupnpd 2.3.1 takes for the next option', () => {
    for (const text of ['', 'a', 'ab', 'abc', 'abcd', 'é', 'natward']) {
      const option = encoded(text).subarray(60);
      expect(option.length - 4).toBe(((option[2] ?? 0) << 8) | (option[3] ?? 0));
      expect(described(text)).toBe(text);
    }
  });

  test('is cut to 256 bytes at the border of a character', () => {
    expect(described('x'.repeat(300))).toBe('x'.repeat(256));
    expect(described('é'.repeat(300))).toBe('é'.repeat(128));
    expect(described(`${'x'.repeat(254)}😀`)).toBe('x'.repeat(254));
  });

  test('that is no UTF-8 is read with replacements', () => {
    const packet = bytes(`${REQUEST_HEADER}${MAP_BODY} 80000004 61ff62fe`);
    expect(decodePcpRequest(packet)).toMatchObject({
      map: { options: { description: 'a\ufffdb\ufffd' } },
    });
  });
});

test('pcpResultName() knows every result of RFC 6887, section 7.4, and says so of others', () => {
  expect(Array.from({ length: 15 }, (_, result) => pcpResultName(result))).toEqual([
    'SUCCESS',
    'UNSUPP_VERSION',
    'NOT_AUTHORIZED',
    'MALFORMED_REQUEST',
    'UNSUPP_OPCODE',
    'UNSUPP_OPTION',
    'MALFORMED_OPTION',
    'NETWORK_FAILURE',
    'NO_RESOURCES',
    'UNSUPP_PROTOCOL',
    'USER_EX_QUOTA',
    'CANNOT_PROVIDE_EXTERNAL',
    'ADDRESS_MISMATCH',
    'EXCESSIVE_REMOTE_PEERS',
    'UNKNOWN',
  ]);
});

const refused = (result: number) => ({ opcode: 'map', result });

describe('packets of miniupnpd 2.3.1', () => {
  interface Exchange {
    readonly name: string;
    readonly request: string | null;
    readonly response: string;
  }
  const recorded: Exchange[] = JSON.parse(
    readFileSync(new URL('../../fixtures/packets/miniupnpd-2.3.1-pcp.json', import.meta.url), 'utf8'),
  );
  const granted = { opcode: 'map', result: PCP_RESULT.SUCCESS };

  const expected: Record<string, object> = {
    announce: { opcode: 'announce', result: 0, epochSeconds: 18 },
    'announcement to 224.0.0.1:5350 at start': { opcode: 'announce', result: 0, epochSeconds: 0 },
    'map tcp': {
      ...granted,
      lifetimeSeconds: 3600,
      map: { protocol: 6, internalPort: 8080, externalPort: 47001, externalAddress: '11.22.33.44' },
    },
    'map tcp refreshed': { ...granted, map: { externalPort: 47001 } },
    // Seven bytes and one of padding: see the description's own test.
    'map udp with a description': refused(PCP_RESULT.MALFORMED_OPTION),
    // It says yes with another port, as if PREFER_FAILURE were not there: the assigned port must be looked at.
    'map udp prefer failure, port taken by upnp': {
      ...granted,
      map: { externalPort: 45003, options: { preferFailure: true } },
    },
    'map tcp for a third party': {
      ...refused(PCP_RESULT.UNSUPP_OPTION),
      map: { options: { thirdParty: '192.168.77.20' } },
    },
    'map tcp with a filter': {
      ...granted,
      map: {
        externalPort: 47006,
        options: { filters: [{ prefixLength: 128, remotePort: 0, remoteAddress: '203.0.113.2' }] },
      },
    },
    'map tcp, port 80 denied by the rules': refused(PCP_RESULT.CANNOT_PROVIDE_EXTERNAL),
    'wrong client address': refused(PCP_RESULT.ADDRESS_MISMATCH),
    // It hands the mapping over to whoever asks for the same internal port.
    'wrong nonce': { ...granted, map: { nonce: new Uint8Array(12), externalPort: 47001 } },
    'unknown mandatory option': refused(PCP_RESULT.UNSUPP_OPTION),
    'unknown opcode': { opcode: 'unknown', requestOpcode: 5, result: PCP_RESULT.UNSUPP_OPCODE },
    'version 3': refused(PCP_RESULT.UNSUPP_VERSION),
    'pinhole tcp over ipv6': {
      ...granted,
      map: { internalPort: 8080, externalPort: 8080, externalAddress: '2001:db8:1::10' },
    },
    'unmap tcp': refused(PCP_RESULT.NOT_AUTHORIZED),
  };

  test.each(recorded.filter(({ name }) => name !== 'version 1'))('$name', ({ name, response }) => {
    expect(decodePcpResponse(bytes(response))).toMatchObject(expected[name] ?? { name: 'not expected' });
  });

  test('version 1', () => {
    const exchange = recorded.find(({ name }) => name === 'version 1');
    expect(() => decodePcpResponse(bytes(exchange?.response ?? ''))).toThrow('version 1');
  });

  test.each(recorded.filter(({ request }) => request !== null))(
    'the request "$name"',
    ({ name, request }) => {
      const refusals: Record<string, number> = {
        'unknown mandatory option': PCP_RESULT.UNSUPP_OPTION,
        'unknown opcode': PCP_RESULT.UNSUPP_OPCODE,
        'version 1': PCP_RESULT.UNSUPP_VERSION,
        'version 3': PCP_RESULT.UNSUPP_VERSION,
      };
      expect(resultFor(bytes(request ?? ''))).toBe(refusals[name] ?? PCP_RESULT.SUCCESS);
    },
  );
});
