import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decodeNatpmpRequest,
  decodeNatpmpResponse,
  encodeNatpmpRequest,
  encodeNatpmpResponse,
  NATPMP_RESULT,
  type NatpmpRequest,
  type NatpmpResponse,
} from '../../src/wire/natpmp.ts';
import { bytes, failsInItsOwnWords, ipv4, mutatedBytes, port, uint32 } from './arbitraries.ts';

const protocol = fc.constantFrom('tcp', 'udp');
const uint16 = port;

const request: fc.Arbitrary<NatpmpRequest> = fc.oneof(
  fc.constant({ opcode: 'address' } as const),
  fc.record({
    opcode: fc.constant('map'),
    protocol,
    internalPort: port,
    suggestedExternalPort: port,
    lifetimeSeconds: uint32,
  }),
);

const response: fc.Arbitrary<NatpmpResponse> = fc.oneof(
  fc.record({
    opcode: fc.constant('address'),
    result: uint16,
    epochSeconds: uint32,
    externalAddress: ipv4,
  }),
  fc.record({
    opcode: fc.constant('map'),
    result: uint16,
    epochSeconds: uint32,
    protocol,
    internalPort: port,
    externalPort: port,
    lifetimeSeconds: uint32,
  }),
  fc.record({
    opcode: fc.constant('unknown'),
    result: fc.integer({ min: 1, max: 0xffff }),
    epochSeconds: uint32,
    requestOpcode: fc.integer({ min: 1, max: 127 }),
  }),
);

describe('requests', () => {
  test('the one for the address is two zeros (RFC 6886, section 3.2)', () => {
    const packet = bytes('00 00');
    expect(encodeNatpmpRequest({ opcode: 'address' })).toEqual(packet);
    expect(decodeNatpmpRequest(packet)).toEqual({ opcode: 'address' });
  });

  test('the one for a mapping is laid out as in RFC 6886, section 3.3', () => {
    const packet = bytes(`
      00 02 0000   ; version, opcode (2 is TCP), reserved
      1f90 01bb    ; internal port, suggested external port
      00001c20     ; lifetime, 7200 s
    `);
    const decoded = {
      opcode: 'map',
      protocol: 'tcp',
      internalPort: 8080,
      suggestedExternalPort: 443,
      lifetimeSeconds: 7200,
    } as const;
    expect(encodeNatpmpRequest(decoded)).toEqual(packet);
    expect(decodeNatpmpRequest(packet)).toEqual(decoded);
  });

  test('opcode 1 is UDP', () => {
    expect(decodeNatpmpRequest(bytes('0001 0000 0035 0000 00000000'))).toMatchObject({ protocol: 'udp' });
  });

  test('come back as they were', () => {
    fc.assert(
      fc.property(request, (value) => {
        expect(decodeNatpmpRequest(encodeNatpmpRequest(value))).toEqual(value);
      }),
    );
  });

  test.each([
    ['nothing', ''],
    ['one byte', '00'],
    ['another version', '0200'],
    ['an unknown opcode', '0003 0000 0000 0000 00000000'],
    ['an answer', '0080 0000 00000000 c0000201'],
    ['a mapping cut short', '0001 0000 0035 0000 000000'],
  ])('%s is MALFORMED', (_, packet) => {
    expect(() => decodeNatpmpRequest(bytes(packet))).toThrow(expect.objectContaining({ code: 'MALFORMED' }));
  });

  test('of any bytes fail in their own words', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.uint8Array({ maxLength: 40 }), mutatedBytes(request.map(encodeNatpmpRequest))),
        (packet) => {
          expect(failsInItsOwnWords(() => decodeNatpmpRequest(packet))).toBe(true);
        },
      ),
    );
  });
});

describe('responses', () => {
  test('the one with the address is laid out as in RFC 6886, section 3.2', () => {
    const packet = bytes(`
      00 80 0000   ; version, 128 + opcode, result
      0000000a     ; seconds since start of epoch
      c0000201     ; external address
    `);
    const decoded = {
      opcode: 'address',
      result: 0,
      epochSeconds: 10,
      externalAddress: '192.0.2.1',
    } as const;
    expect(encodeNatpmpResponse(decoded)).toEqual(packet);
    expect(decodeNatpmpResponse(packet)).toEqual(decoded);
  });

  test('the one with a mapping is laid out as in RFC 6886, section 3.3', () => {
    const packet = bytes(`
      00 81 0000   ; version, 128 + opcode (1 is UDP), result
      ffffffff     ; seconds since start of epoch
      0035 ffff    ; internal port, mapped external port
      00000e10     ; lifetime, 3600 s
    `);
    const decoded = {
      opcode: 'map',
      protocol: 'udp',
      result: 0,
      epochSeconds: 2 ** 32 - 1,
      internalPort: 53,
      externalPort: 65535,
      lifetimeSeconds: 3600,
    } as const;
    expect(encodeNatpmpResponse(decoded)).toEqual(packet);
    expect(decodeNatpmpResponse(packet)).toEqual(decoded);
  });

  test('come back as they were', () => {
    fc.assert(
      fc.property(response, (value) => {
        expect(decodeNatpmpResponse(encodeNatpmpResponse(value))).toEqual(value);
      }),
    );
  });

  test('a refusal may end after the epoch', () => {
    expect(decodeNatpmpResponse(bytes('0080 0003 00000007'))).toEqual({
      opcode: 'address',
      result: NATPMP_RESULT.NETWORK_FAILURE,
      epochSeconds: 7,
      externalAddress: '0.0.0.0',
    });
    expect(decodeNatpmpResponse(bytes('0082 0002 00000007'))).toEqual({
      opcode: 'unknown',
      result: NATPMP_RESULT.NOT_AUTHORIZED,
      epochSeconds: 7,
      requestOpcode: 2,
    });
  });

  test('an unknown opcode can only be refused', () => {
    expect(decodeNatpmpResponse(bytes('0089 0005 00000007'))).toMatchObject({
      opcode: 'unknown',
      result: NATPMP_RESULT.UNSUPPORTED_OPCODE,
      requestOpcode: 9,
    });
    expect(() => decodeNatpmpResponse(bytes('0089 0000 00000007'))).toThrow('opcode 137');
  });

  test.each([
    ['nothing', ''],
    ['seven bytes', '0080 0000 000000'],
    ['another version', '0280 0000 00000000 c0000201'],
    ['a request', '0000 0000 00000000 c0000201'],
    ['a success without its address', '0080 0000 00000007 c00002'],
    ['a success without its lifetime', '0081 0000 00000007 0035 0035 000000'],
  ])('%s is MALFORMED', (_, packet) => {
    expect(() => decodeNatpmpResponse(bytes(packet))).toThrow(expect.objectContaining({ code: 'MALFORMED' }));
  });

  test('are read from the middle of a larger buffer', () => {
    const buffer = bytes('ffffffff 0080 0000 00000001 c0000201 ffff');
    expect(decodeNatpmpResponse(buffer.subarray(4, 16))).toMatchObject({ externalAddress: '192.0.2.1' });
  });

  test('of any bytes fail in their own words', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.uint8Array({ maxLength: 40 }), mutatedBytes(response.map(encodeNatpmpResponse))),
        (packet) => {
          expect(failsInItsOwnWords(() => decodeNatpmpResponse(packet))).toBe(true);
        },
      ),
    );
  });
});

describe('packets of miniupnpd 2.3.1', () => {
  const recorded = new Map<string, { request: string; response: string }>(
    JSON.parse(
      readFileSync(new URL('../../fixtures/packets/miniupnpd-2.3.1-natpmp.json', import.meta.url), 'utf8'),
    ).map((exchange: { name: string; request: string; response: string }) => [exchange.name, exchange]),
  );
  const map = { opcode: 'map', result: 0 } as const;

  const expected: Record<string, [NatpmpRequest, NatpmpResponse]> = {
    'external address': [
      { opcode: 'address' },
      { opcode: 'address', result: 0, epochSeconds: 17, externalAddress: '11.22.33.44' },
    ],
    'map tcp': [
      {
        opcode: 'map',
        protocol: 'tcp',
        internalPort: 8080,
        suggestedExternalPort: 46001,
        lifetimeSeconds: 7200,
      },
      {
        ...map,
        protocol: 'tcp',
        epochSeconds: 17,
        internalPort: 8080,
        externalPort: 46001,
        lifetimeSeconds: 7200,
      },
    ],
    'map udp': [
      {
        opcode: 'map',
        protocol: 'udp',
        internalPort: 5000,
        suggestedExternalPort: 46002,
        lifetimeSeconds: 600,
      },
      {
        ...map,
        protocol: 'udp',
        epochSeconds: 17,
        internalPort: 5000,
        externalPort: 46002,
        lifetimeSeconds: 600,
      },
    ],
    // It does not refuse: it grants the first port that its rules allow.
    'map tcp, port 80 denied by the rules': [
      {
        opcode: 'map',
        protocol: 'tcp',
        internalPort: 8080,
        suggestedExternalPort: 80,
        lifetimeSeconds: 7200,
      },
      {
        ...map,
        protocol: 'tcp',
        epochSeconds: 17,
        internalPort: 8080,
        externalPort: 1024,
        lifetimeSeconds: 7200,
      },
    ],
    'unmap tcp': [
      {
        opcode: 'map',
        protocol: 'tcp',
        internalPort: 8080,
        suggestedExternalPort: 0,
        lifetimeSeconds: 0,
      },
      {
        ...map,
        protocol: 'tcp',
        epochSeconds: 18,
        internalPort: 8080,
        externalPort: 0,
        lifetimeSeconds: 0,
      },
    ],
  };

  test.each(Object.entries(expected))('%s', (name, [request, response]) => {
    const exchange = recorded.get(name);
    expect(decodeNatpmpRequest(bytes(exchange?.request ?? ''))).toEqual(request);
    expect(encodeNatpmpRequest(request)).toEqual(bytes(exchange?.request ?? ''));
    expect(decodeNatpmpResponse(bytes(exchange?.response ?? ''))).toEqual(response);
    expect(encodeNatpmpResponse(response)).toEqual(bytes(exchange?.response ?? ''));
  });

  test('unknown opcode', () => {
    const exchange = recorded.get('unknown opcode');
    expect(() => decodeNatpmpRequest(bytes(exchange?.request ?? ''))).toThrow('opcode 9');
    expect(decodeNatpmpResponse(bytes(exchange?.response ?? ''))).toEqual({
      opcode: 'unknown',
      result: NATPMP_RESULT.UNSUPPORTED_OPCODE,
      epochSeconds: 18,
      requestOpcode: 9,
    });
  });

  test('are all looked at', () => {
    expect([...recorded.keys()].toSorted()).toEqual([...Object.keys(expected), 'unknown opcode'].toSorted());
  });
});
