/**
 * What the tests of the wire formats draw from: valid fields, packets and documents that were valid once, and
 * the check that a decoder fails in its own words only.
 */

import * as fc from 'fast-check';
import { isNatwardError } from '../../src/errors.ts';
import { type IpAddress, parseAddress } from '../../src/net/address.ts';

export const port: fc.Arbitrary<number> = fc.integer({ min: 0, max: 0xffff });
export const uint8: fc.Arbitrary<number> = fc.integer({ min: 0, max: 0xff });
export const uint32: fc.Arbitrary<number> = fc.integer({ min: 0, max: 0xffff_ffff });

export const ipv4: fc.Arbitrary<IpAddress> = fc.ipV4();
/** In its short form; IPv4-mapped ones are IPv4 addresses. */
export const ip: fc.Arbitrary<IpAddress> = fc
  .oneof(fc.ipV4(), fc.ipV6())
  .map((text) => parseAddress(text) ?? text);

/** Text that survives an element: no control characters, no white space at its ends. */
export const value: fc.Arbitrary<string> = fc
  .string({ unit: 'grapheme' })
  // oxlint-disable-next-line no-control-regex
  .map((text) => text.replace(/[\u0000-\u001f\ufffe\uffff]/g, '').trim());

/** Text of a header: one line, and more than white space. */
export const headerValue: fc.Arbitrary<string> = fc
  .string({ unit: 'grapheme-ascii', minLength: 1 })
  .map((text) => text.trim())
  .filter((text) => text !== '');

interface Edit {
  readonly kind: 'set' | 'insert' | 'remove' | 'cut' | 'repeat';
  /** 0..1 of the length. */
  readonly place: number;
  readonly byte: number;
}

const edits: fc.Arbitrary<Edit[]> = fc.array(
  fc.record({
    kind: fc.constantFrom('set', 'insert', 'remove', 'cut', 'repeat'),
    place: fc.double({ min: 0, max: 1, noNaN: true }),
    byte: fc.oneof(uint8, fc.constantFrom(...new TextEncoder().encode('<>/&"\':;!?[]-= \r\n'))),
  }),
  { minLength: 1, maxLength: 8 },
);

/** Packets out of `valid`, with bytes changed, added, taken away, doubled, or cut off. */
export function mutatedBytes(valid: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> {
  return fc.tuple(valid, edits).map(([packet, changes]) => {
    const bytes = [...packet];
    for (const { kind, place, byte } of changes) {
      const at = Math.floor(place * bytes.length);
      if (kind === 'set') bytes[at] = byte;
      else if (kind === 'insert') bytes.splice(at, 0, byte);
      else if (kind === 'remove') bytes.splice(at, 1 + (byte % 16));
      else if (kind === 'cut') bytes.splice(at);
      else bytes.splice(at, 0, ...bytes.slice(at, at + byte));
    }
    return Uint8Array.from(bytes);
  });
}

/** Documents out of `valid`, changed in the same ways. */
export function mutatedText(valid: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const encoder = new TextEncoder();
  return mutatedBytes(valid.map((text) => encoder.encode(text))).map((bytes) =>
    new TextDecoder().decode(bytes),
  );
}

/** Pieces of XML in any order: far nearer to a document than arbitrary text is. */
export const markup: fc.Arbitrary<string> = fc
  .array(
    fc.oneof(
      fc.string(),
      fc.constantFrom('<a>', '</a>', '<s:Envelope>', '<s:Body>', '</s:Body>', '<u:xResponse>', '<device>'),
      fc.constantFrom('<serviceList><service><controlURL>', '</controlURL>', '<URLBase>', 'http://[', '<!--'),
      fc.constantFrom('-->', '<![CDATA[', ']]>', '<?xml', '?>', '<!DOCTYPE a [', '<!ENTITY a "b">', '&a;'),
      fc.constantFrom(
        '&#x110000;',
        '&#0;',
        '&amp',
        '<',
        '>',
        '<a b="',
        '"',
        "'",
        '/>',
        ' xmlns:u="',
        '\u0000',
      ),
      fc.constantFrom('<__proto__>', '<constructor>', '<s:Fault>', '<UPnPError>', '<errorCode>', '\ud800'),
    ),
    { maxLength: 40 },
  )
  .map((parts) => parts.join(''));

/** True where `decode` succeeds, or throws a NatwardError that says MALFORMED or HOSTILE; rethrows any other. */
export function failsInItsOwnWords(decode: () => unknown): boolean {
  try {
    decode();
    return true;
  } catch (error) {
    if (isNatwardError(error, 'MALFORMED', 'HOSTILE')) return error.message !== '';
    throw error;
  }
}

/** Bytes written as an RFC draws them: hex in any grouping, `;` starts a remark. */
export function bytes(layout: string): Uint8Array {
  const hex = layout.replace(/;.*$/gm, '').replace(/\s/g, '');
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}
