/** Bytes as people write them: `500`, `64KiB`, `10MB`, `1.5G`. Pure. */

import { NatwardError } from '../errors.ts';

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  ...Object.fromEntries(
    ['k', 'm', 'g', 't'].flatMap((letter, index) => [
      [letter, 1000 ** (index + 1)],
      [`${letter}i`, 1024 ** (index + 1)],
    ]),
  ),
};

/** Whole bytes, from 1. Throws USAGE. */
export function parseAmount(text: string): number {
  const [, digits, unit = ''] = /^(\d{1,16}(?:\.\d{1,3})?)([kmgt]i?)?b?$/.exec(text.toLowerCase()) ?? [];
  const bytes = digits === undefined ? 0 : Math.round(Number(digits) * (UNITS[unit] as number));
  if (bytes < 1 || bytes > Number.MAX_SAFE_INTEGER) {
    throw new NatwardError('USAGE', `"${text}" is no amount of bytes: write 500, 64KiB, 10MB or 2GB`);
  }
  return bytes;
}

/** In the largest unit that leaves no fraction; parses back to the same. */
export function formatAmount(bytes: number): string {
  const names = ['TiB', 'TB', 'GiB', 'GB', 'MiB', 'MB', 'KiB', 'kB'];
  for (const name of names) {
    const unit = UNITS[name.slice(0, -1).toLowerCase()] as number;
    if (bytes % unit === 0) return `${bytes / unit}${name}`;
  }
  return `${bytes}B`;
}
