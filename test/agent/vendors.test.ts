import { createRequire } from 'node:module';
import { describe, expect, test } from 'vitest';
import { randomAddress, Vendors } from '../../src/agent/vendors.ts';

const LIST = {
  '3C22FB': 'Apple, Inc.\n1 Infinite Loop\nCupertino CA 95014\nUnited States',
  '001B21': 'Intel Corporate\nLot 8, Jalan Hi-Tech 2/3\nKulim Kedah 09000\nMalaysia',
  A0369F: 'Intel Corporation',
  '0050C2': 'IEEE Registration Authority',
  '0050C2001': 'Intelligent Mats',
  C85CE2: 'IEEE Registration Authority',
  C85CE27: 'SYNERGY SYSTEMS',
  '100000': 'Private',
  '00005E': 'ICANN, IANA Department',
  '02AABB': 'RACAL-DATACOM',
  '50C7BF': 'TP-LINK TECHNOLOGIES CO.,LTD.',
};
const vendors = new Vendors(LIST);

describe('whose an address is', () => {
  test.each([
    ['3c:22:fb:12:34:56', 'Apple, Inc.'],
    ['c8:5c:e2:7a:bc:de', 'SYNERGY SYSTEMS'],
    ['00:50:c2:00:1f:ff', 'Intelligent Mats'],
    ['00:00:5e:00:01:01', 'ICANN, IANA Department'],
    ['c8:5c:e2:9a:bc:de', undefined],
    ['10:00:00:00:00:01', undefined],
    ['f6:87:7a:00:cf:3f', undefined],
  ])('%s: the smallest block that has it says so: %s', (address, vendor) => {
    expect(vendors.of(address)).toBe(vendor);
  });
});

describe('the vendors that are meant by', () => {
  test.each([
    ['intel', ['Intel Corporate', 'Intel Corporation']],
    ['Intel Corporation', ['Intel Corporation']],
    ['tp-link', ['TP-LINK TECHNOLOGIES CO.,LTD.']],
    ['TP LINK technologies', ['TP-LINK TECHNOLOGIES CO.,LTD.']],
    ['mats', ['Intelligent Mats']],
    ['nobody at all', []],
    ['', []],
    ['.,', []],
  ])('%j', (text, names) => {
    expect([...vendors.named(text)]).toEqual(names);
  });

  test('what is mistyped has names that look like it', () => {
    expect(vendors.like('tplink')).toEqual(['TP-LINK TECHNOLOGIES CO.,LTD.']);
    expect(vendors.like('--')).toEqual([]);
  });
});

test('prefixes are those an adapter may have: nothing unnamed, of protocols, or made up', () => {
  expect(vendors.prefixes().toSorted()).toEqual(
    ['3C22FB', '001B21', 'A0369F', '0050C2001', 'C85CE27', '50C7BF'].toSorted(),
  );
  expect(vendors.prefixes((name) => name.startsWith('Intel Corp'))).toEqual(['001B21', 'A0369F']);
});

test.each([
  ['3C22FB', '3c:22:fb:dd:ee:0f'],
  ['C85CE27', 'c8:5c:e2:7d:ee:0f'],
  ['0050C2001', '00:50:c2:00:1e:0f'],
])('what follows the prefix %s is random', (prefix, address) => {
  expect(randomAddress(prefix, (bytes) => bytes.set([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0x0f]))).toBe(address);
});

test('the real list has the large vendors, and each of their prefixes makes an address of theirs', () => {
  // As Node reads it: vitest would make a module of 53,000 exports of it.
  const list: Record<string, string> = createRequire(import.meta.url)('oui-data');
  const real = new Vendors(list);
  expect(real.of('00:1b:21:00:00:01')).toBe('Intel Corporate');
  for (const name of ['intel', 'apple', 'tp-link', 'cisco', 'realtek']) {
    const names = real.named(name);
    const prefixes = real.prefixes((vendor) => names.has(vendor));
    expect(prefixes.length, name).toBeGreaterThan(2);
    const vendorsOf = new Set(
      prefixes.map((prefix) => real.of(randomAddress(prefix, (bytes) => bytes.fill(0x5a)))),
    );
    expect(vendorsOf).toEqual(names);
  }
  expect(real.prefixes().length).toBeGreaterThan(50_000);
});
