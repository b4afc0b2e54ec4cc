import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isNatwardError } from '../../src/errors.ts';
import type { Endpoint } from '../../src/net/endpoint.ts';
import {
  decodeProxyDatagram,
  encodeProxyHeader,
  type ProxiedConversation,
  type ProxyRead,
  readProxyHeader,
} from '../../src/wire/proxy-protocol.ts';
import { bytes, failsInItsOwnWords, ip, ipv4, mutatedBytes, port } from './arbitraries.ts';

const SIGNATURE = '0d0a0d0a 000d0a51 5549540a';

const ipv6 = fc
  .array(fc.integer({ min: 1, max: 0xffff }), { minLength: 7, maxLength: 7 })
  .map((groups) => ['2001', ...groups.map((group) => group.toString(16))].join(':'));
const protocol = fc.constantFrom('tcp', 'udp');
const endpoint: fc.Arbitrary<Endpoint> = fc.record({ address: ip, port });
const conversation: fc.Arbitrary<ProxiedConversation> = fc.record({
  protocol,
  source: endpoint,
  destination: endpoint,
});
const tcpConversation = conversation.map((value) => ({ ...value, protocol: 'tcp' as const }));
const header: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc
    .tuple(fc.constantFrom('v1', 'v2'), conversation)
    .map(([version, value]) => encodeProxyHeader(version, value)),
  fc.constantFrom(encodeProxyHeader('v1', 'local'), encodeProxyHeader('v2', 'local')),
);

const WEB: ProxiedConversation = {
  protocol: 'tcp',
  source: { address: '192.0.2.1', port: 56324 },
  destination: { address: '198.51.100.2', port: 443 },
};

function line(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function textOf(packet: Uint8Array): string {
  return new TextDecoder().decode(packet);
}

/** A version 2 header for a TCP conversation over IPv4, with `extras` after its addresses. */
function withTlvs(extras: Uint8Array): Uint8Array {
  const plain = encodeProxyHeader('v2', WEB);
  const packet = Uint8Array.of(...plain, ...extras);
  new DataView(packet.buffer).setUint16(14, packet.length - 16);
  return packet;
}

/** The answer, or the word of the error. */
function outcome(packet: Uint8Array): ProxyRead | 'MALFORMED' {
  try {
    return readProxyHeader(packet);
  } catch (error) {
    if (isNatwardError(error, 'MALFORMED')) return 'MALFORMED';
    throw error;
  }
}

function isMore(answer: ProxyRead | 'MALFORMED'): answer is { state: 'more' } {
  return answer !== 'MALFORMED' && answer.state === 'more';
}

function expectMalformed(packet: Uint8Array): void {
  expect(() => readProxyHeader(packet)).toThrow(expect.objectContaining({ code: 'MALFORMED' }));
}

describe('version 1', () => {
  test('is one line of text (section 2.1)', () => {
    const packet = line('PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n');
    expect(encodeProxyHeader('v1', WEB)).toEqual(packet);
    expect(readProxyHeader(packet)).toEqual({
      state: 'done',
      header: { version: 'v1', local: false, ...WEB },
      length: packet.length,
    });
  });

  test('writes IPv6 in its short form, without a zone', () => {
    const destination = { address: '2001:db8::1', port: 443 };
    const source = { address: 'fe80::1%eth0', port: 1 };
    expect(textOf(encodeProxyHeader('v1', { protocol: 'tcp', source, destination }))).toBe(
      'PROXY TCP6 fe80::1 2001:db8::1 1 443\r\n',
    );
  });

  test('maps the IPv4 address of a conversation between families, in hexadecimal', () => {
    const packet = encodeProxyHeader('v1', { ...WEB, destination: { address: '2001:db8::1', port: 443 } });
    expect(textOf(packet)).toBe('PROXY TCP6 ::ffff:c000:201 2001:db8::1 56324 443\r\n');
  });

  test('has no word for UDP, nor for the relay itself', () => {
    expect(textOf(encodeProxyHeader('v1', { ...WEB, protocol: 'udp' }))).toBe('PROXY UNKNOWN\r\n');
    expect(textOf(encodeProxyHeader('v1', 'local'))).toBe('PROXY UNKNOWN\r\n');
  });

  test.each([
    ['PROXY UNKNOWN\r\n'],
    ['PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff::ffff 65535 65535\r\n'],
    ['PROXY UNKNOWN what\never\rit is\r\n'],
  ])('what follows UNKNOWN is ignored: %j', (text) => {
    expect(readProxyHeader(line(text))).toEqual({
      state: 'done',
      header: { version: 'v1', local: false },
      length: text.length,
    });
  });

  test('the dotted quad that haproxy writes in an IPv4-mapped address is taken', () => {
    expect(readProxyHeader(line('PROXY TCP6 ::ffff:192.0.2.1 2001:DB8::1 0 65535\r\n'))).toMatchObject({
      header: {
        source: { address: '192.0.2.1', port: 0 },
        destination: { address: '2001:db8::1', port: 65535 },
      },
    });
  });

  test('of any conversation over TCP comes back as it was', () => {
    fc.assert(
      fc.property(tcpConversation, (value) => {
        const packet = encodeProxyHeader('v1', value);
        expect(packet.length).toBeLessThanOrEqual(107);
        expect(readProxyHeader(packet)).toEqual({
          state: 'done',
          header: { version: 'v1', local: false, ...value },
          length: packet.length,
        });
      }),
    );
  });

  test('takes 107 bytes and not one more', () => {
    const longest = `PROXY UNKNOWN ${'x'.repeat(91)}\r\n`;
    expect(longest).toHaveLength(107);
    expect(readProxyHeader(line(longest))).toMatchObject({ state: 'done', length: 107 });
    expectMalformed(line(longest.replace('\r', 'x\r')));
    expectMalformed(line(`PROXY UNKNOWN ${'x'.repeat(93)}`));
  });

  test.each([
    'PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n',
    'PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n',
    'PROXY TCP4 192.0.2.01 198.51.100.2 56324 443\r\n',
    'PROXY TCP4 192.0.2.1 2001:db8::1 56324 443\r\n',
    'PROXY TCP6 192.0.2.1 2001:db8::1 56324 443\r\n',
    'PROXY TCP6 fe80::1%eth0 2001:db8::1 56324 443\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 -1 443\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\r\n',
    'PROXY UDP4 192.0.2.1 198.51.100.2 56324 443\r\n',
    'PROXY tcp4 192.0.2.1 198.51.100.2 56324 443\r\n',
    'PROXY UNKNOWNS\r\n',
    'PROXY \r\n',
    'PROXYTCP4 192.0.2.1 198.51.100.2 56324 443\r\n',
    'GET / HTTP/1.1\r\n',
    ' PROXY UNKNOWN\r\n',
  ])('%j is MALFORMED', (text) => {
    expectMalformed(line(text));
  });

  test('a line feed alone ends no line', () => {
    expect(readProxyHeader(line('PROXY UNKNOWN\n'))).toEqual({ state: 'more' });
    expect(readProxyHeader(line('PROXY UNKNOWN\r'))).toEqual({ state: 'more' });
  });
});

describe('version 2', () => {
  test('is laid out as in section 2.2, for TCP over IPv4', () => {
    const packet = bytes(`
      ${SIGNATURE}
      21 11 000c   ; version and command PROXY, INET and STREAM, length
      c0000201     ; source address
      c6336402     ; destination address
      dc04 01bb    ; ports
    `);
    expect(encodeProxyHeader('v2', WEB)).toEqual(packet);
    expect(readProxyHeader(packet)).toEqual({
      state: 'done',
      header: { version: 'v2', local: false, ...WEB },
      length: 28,
    });
  });

  test('for UDP between families, is INET6 and DGRAM, with the IPv4 address mapped', () => {
    const packet = bytes(`
      ${SIGNATURE}
      21 22 0024
      20010db8000000000000000000000001
      00000000000000000000ffffc6336402
      0035 01bb
    `);
    const value: ProxiedConversation = {
      protocol: 'udp',
      source: { address: '2001:db8::1', port: 53 },
      destination: { address: '198.51.100.2', port: 443 },
    };
    expect(encodeProxyHeader('v2', value)).toEqual(packet);
    expect(readProxyHeader(packet)).toMatchObject({ header: value, length: 52 });
  });

  test('of the relay itself is LOCAL and empty', () => {
    const packet = bytes(`${SIGNATURE} 20 00 0000`);
    expect(encodeProxyHeader('v2', 'local')).toEqual(packet);
    expect(readProxyHeader(packet)).toEqual({
      state: 'done',
      header: { version: 'v2', local: true },
      length: 16,
    });
  });

  test.each([
    ['LOCAL with a family that is none', '20 ff 0003 abcdef', true, 19],
    ['LOCAL with addresses', '20 11 000c c0000201 c6336402 dc04 01bb', true, 28],
    ['an unspecified family', '21 00 0002 abcd', false, 18],
    ['an unspecified transport', '21 10 0000', false, 16],
    ['a Unix socket', `21 31 00d8 ${'00'.repeat(216)}`, false, 232],
  ])('%s is skipped by its length', (_, rest, local, length) => {
    expect(readProxyHeader(bytes(`${SIGNATURE} ${rest}`))).toEqual({
      state: 'done',
      header: { version: 'v2', local },
      length,
    });
  });

  test('of any conversation comes back as it was', () => {
    fc.assert(
      fc.property(conversation, (value) => {
        const packet = encodeProxyHeader('v2', value);
        expect(readProxyHeader(packet)).toEqual({
          state: 'done',
          header: { version: 'v2', local: false, ...value },
          length: packet.length,
        });
      }),
    );
  });

  test('skips what else is in it', () => {
    const packet = withTlvs(bytes('02 0003 612e62 e0 0000 04 0001 00'));
    expect(readProxyHeader(packet)).toMatchObject({ header: WEB, length: 41 });
  });

  test('holds 2048 bytes of extras and not one more', () => {
    const padding = (length: number) => {
      const tlv = new Uint8Array(length).fill(0xff);
      tlv.set([4, (length - 3) >> 8, (length - 3) & 0xff]);
      return withTlvs(tlv);
    };
    expect(readProxyHeader(padding(2048))).toMatchObject({ header: WEB, length: 28 + 2048 });
    expectMalformed(padding(2049).subarray(0, 16));
    expectMalformed(bytes(`${SIGNATURE} 20 00 ffff`));
  });

  describe('its checksum', () => {
    // Computed elsewhere, with a CRC32c that gives e3069283 for "123456789".
    const CHECKED = bytes(`
      ${SIGNATURE} 21 11 001c c0000201 c6336402 dc04 01bb
      04 0001 ff
      03 0004 b1466387
      e0 0002 abcd
    `);

    test('is held against the header', () => {
      expect(readProxyHeader(CHECKED)).toMatchObject({ header: WEB, length: CHECKED.length });
    });

    test('shows every bit that changed after the length', () => {
      // But for those of its own type: without a checksum, there is nothing to hold.
      const typeAt = 32;
      const places = Array.from({ length: CHECKED.length * 8 }, (_, bit) => bit).filter(
        (bit) => bit >= 16 * 8 && bit >> 3 !== typeAt,
      );
      const changed = places.map((bit) =>
        CHECKED.map((byte, at) => (at === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte)),
      );
      expect(changed.filter((packet) => outcome(packet) !== 'MALFORMED')).toEqual([]);
    });

    test.each([
      ['of 3 bytes', '03 0003 000000'],
      ['twice', '03 0004 00000000 03 0004 00000000'],
    ])('%s is MALFORMED', (_, tlvs) => {
      expectMalformed(withTlvs(bytes(tlvs)));
    });
  });

  test.each([
    ['version 1', '11 11 000c'],
    ['version 3', '31 11 000c'],
    ['an unknown command', '22 11 000c'],
    ['an unknown family', '21 41 000c'],
    ['an unknown transport', '21 13 000c'],
    ['too short for IPv4', '21 11 000b'],
    ['too short for IPv6', '21 21 0023'],
    ['too short for a Unix socket', '21 31 00d7'],
  ])('%s is MALFORMED before its addresses have come', (_, rest) => {
    expectMalformed(bytes(`${SIGNATURE} ${rest}`));
  });

  test.each([
    ['a type alone', '04'],
    ['half a length', '04 00'],
    ['a value cut short', '04 0002 00'],
    ['a byte too many', '04 0001 00 00'],
  ])('an extra that is %s is MALFORMED', (_, tlvs) => {
    expectMalformed(withTlvs(bytes(tlvs)));
  });
});

describe('a header that comes in pieces', () => {
  test('is done with its last byte, whatever follows', () => {
    fc.assert(
      fc.property(header, fc.uint8Array({ maxLength: 200 }), (packet, payload) => {
        const stream = Uint8Array.of(...packet, ...payload);
        const done = readProxyHeader(packet);
        expect(done).toMatchObject({ state: 'done', length: packet.length });
        for (let end = 0; end <= stream.length; end++) {
          expect(readProxyHeader(stream.subarray(0, end))).toEqual(
            end < packet.length ? { state: 'more' } : done,
          );
        }
      }),
      { numRuns: 40 },
    );
  });

  test('gives one answer only, however it was changed on its way', () => {
    fc.assert(
      fc.property(mutatedBytes(header), (packet) => {
        const answers = Array.from({ length: packet.length + 1 }, (_, end) =>
          outcome(packet.subarray(0, end)),
        );
        const settled = answers.slice(answers.findLastIndex(isMore) + 1);
        expect(answers.findIndex((answer) => !isMore(answer))).toBe(
          settled.length === 0 ? -1 : answers.length - settled.length,
        );
        expect(settled).toEqual(settled.map(() => settled[0]));
      }),
    );
  });

  test('is refused at the first byte that is not its own', () => {
    expect(readProxyHeader(new Uint8Array(0))).toEqual({ state: 'more' });
    expectMalformed(line('G'));
    expectMalformed(line('PROXI'));
    expectMalformed(bytes('0d0a0d0a 000d0a52'));
    expectMalformed(bytes(`${SIGNATURE} 31`));
  });

  test('is never more than 2280 bytes', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 2280, maxLength: 2400 }),
        mutatedBytes(header),
        (tail, front) => {
          const answer = outcome(Uint8Array.of(...front, ...tail));
          expect(answer).toSatisfy(
            (one: typeof answer) => one === 'MALFORMED' || (one.state === 'done' && one.length <= 2280),
          );
        },
      ),
    );
  });
});

test('any bytes fail in their own words, and nothing outside them is read', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 300 }),
        mutatedBytes(header),
        fc.uint8Array({ maxLength: 60 }).map((rest) => Uint8Array.of(...bytes(SIGNATURE), ...rest)),
        fc.string({ maxLength: 60 }).map((rest) => line(`PROXY TCP6 ${rest}\r\n`)),
      ),
      fc.uint8Array({ minLength: 1, maxLength: 40 }),
      (packet, around) => {
        expect(failsInItsOwnWords(() => readProxyHeader(packet))).toBe(true);
        expect(failsInItsOwnWords(() => decodeProxyDatagram(packet))).toBe(true);
        const buffer = Uint8Array.of(...around, ...packet, ...around);
        const inside = buffer.subarray(around.length, around.length + packet.length);
        expect(outcome(inside)).toEqual(outcome(packet));
      },
    ),
  );
});

describe('a datagram', () => {
  test('carries its header at the front', () => {
    fc.assert(
      fc.property(conversation, fc.uint8Array({ maxLength: 50 }), (value, payload) => {
        const packet = encodeProxyHeader('v2', value);
        expect(decodeProxyDatagram(Uint8Array.of(...packet, ...payload))).toEqual({
          header: { version: 'v2', local: false, ...value },
          length: packet.length,
        });
      }),
    );
  });

  test.each([
    ['nothing', new Uint8Array(0)],
    ['a signature alone', bytes(SIGNATURE)],
    ['a header cut short', encodeProxyHeader('v2', WEB).subarray(0, 27)],
    ['version 1', encodeProxyHeader('v1', WEB)],
    ['a query to DNS', bytes('abcd 0100 0001 0000 0000 0000 00 0001 0001')],
  ])('that holds %s is MALFORMED', (_, packet) => {
    expect(() => decodeProxyDatagram(packet)).toThrow(expect.objectContaining({ code: 'MALFORMED' }));
  });
});

test('families do not mix on their own', () => {
  fc.assert(
    fc.property(ipv4, ipv6, protocol, (v4, v6, transport) => {
      const of = (source: string, destination: string) =>
        encodeProxyHeader('v2', {
          protocol: transport,
          source: { address: source, port: 1 },
          destination: { address: destination, port: 2 },
        }).length;
      expect([of(v4, v4), of(v4, v6), of(v6, v4), of(v6, v6)]).toEqual([28, 52, 52, 52]);
    }),
  );
});
