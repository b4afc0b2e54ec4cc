import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatAmount, parseAmount } from '../../src/forwarder/amount.ts';

test.each([
  ['500', 500, '500B'],
  ['500B', 500, '500B'],
  ['64KiB', 65_536, '64KiB'],
  ['64ki', 65_536, '64KiB'],
  ['10MB', 10_000_000, '10MB'],
  ['10m', 10_000_000, '10MB'],
  ['1.5G', 1_500_000_000, '1500MB'],
  ['1.5GiB', 1_610_612_736, '1536MiB'],
  ['2TB', 2_000_000_000_000, '2TB'],
  ['1TiB', 2 ** 40, '1TiB'],
  ['1kB', 1000, '1kB'],
  ['0.5KiB', 512, '512B'],
])('%s is %i bytes, written %s', (text, bytes, written) => {
  expect(parseAmount(text)).toBe(bytes);
  expect(formatAmount(bytes)).toBe(written);
});

test('what is written reads back the same', () => {
  const amount = fc.oneof(
    fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    fc.integer({ min: 1, max: 5000 }).map((count) => count * 1024 ** 2),
    fc.constantFrom(1, Number.MAX_SAFE_INTEGER, 10 ** 15 + 1),
  );
  fc.assert(
    fc.property(amount, (bytes) => {
      expect(parseAmount(formatAmount(bytes))).toBe(bytes);
    }),
  );
});

test.each([
  '',
  '0',
  '0.0001',
  '-1',
  '+1',
  '1e3',
  '1 MB',
  '10 ',
  'MB',
  '1.',
  '.5',
  '1.2345k',
  '10Mb/s',
  '1KiBB',
  '٣',
  '9007199254740992',
  '99999999TiB',
])('"%s" is refused by its name', (text) => {
  expect(() => parseAmount(text)).toThrow(
    expect.objectContaining({
      code: 'USAGE',
      message: `"${text}" is no amount of bytes: write 500, 64KiB, 10MB or 2GB`,
    }),
  );
});
