import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseNeighbours, readHardwareAddress } from '../../src/system/neighbours.ts';

const HEAD = 'IP address       HW type     Flags       HW address            Mask     Device\n';
/** As Linux 6.1 writes it. */
const TABLE = `${HEAD}192.168.1.1      0x1         0x2         02:42:AC:11:00:02     *        eth0
192.168.1.7      0x1         0x0         00:00:00:00:00:00     *        eth0
192.168.1.1      0x1         0x2         02:42:ac:11:00:99     *        wlan0
192.168.1.9      0x1         0x6         02:42:ac:11:00:09     *        br-lan
10.2.0.1         0x1ff       0x2         *                     *        tun0
`;

describe('parseNeighbours', () => {
  test('tells a neighbour’s hardware address, in small letters', () => {
    expect(parseNeighbours(TABLE, '192.168.1.1', 'eth0')).toBe('02:42:ac:11:00:02');
  });

  test('two networks may have the same addresses: the interface tells which is meant', () => {
    expect(parseNeighbours(TABLE, '192.168.1.1', 'wlan0')).toBe('02:42:ac:11:00:99');
    expect(parseNeighbours(TABLE, '192.168.1.1', 'eth1')).toBeUndefined();
  });

  test('an entry that was set by hand counts', () => {
    expect(parseNeighbours(TABLE, '192.168.1.9', 'br-lan')).toBe('02:42:ac:11:00:09');
  });

  test('one that was asked for and has not answered is not known', () => {
    expect(parseNeighbours(TABLE, '192.168.1.7', 'eth0')).toBeUndefined();
  });

  test('a link without hardware addresses has none', () => {
    expect(parseNeighbours(TABLE, '10.2.0.1', 'tun0')).toBeUndefined();
  });

  test('another host’s, an empty table and its head alone tell nothing', () => {
    expect(parseNeighbours(TABLE, '192.168.1.10', 'eth0')).toBeUndefined();
    expect(parseNeighbours('', '192.168.1.1', 'eth0')).toBeUndefined();
    expect(parseNeighbours(HEAD, 'IP', 'Device')).toBeUndefined();
  });

  test('any text is read, and what comes out is a hardware address or nothing', () => {
    const word = fc.constantFrom('192.168.1.1', 'eth0', '0x2', '0x0', '02:42:ac:11:00:02', '*', 'x', '\t');
    const line = fc.array(word, { maxLength: 8 }).map((words) => words.join(' '));
    const text = fc.oneof(
      fc.string(),
      fc.array(line).map((lines) => lines.join('\n')),
    );
    fc.assert(
      fc.property(text, (table) => {
        const found = parseNeighbours(table, '192.168.1.1', 'eth0');
        expect(found ?? '00:00:00:00:00:00').toMatch(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
      }),
    );
  });
});

describe('readHardwareAddress', () => {
  test('never throws, and knows nobody who is not there', () => {
    expect(readHardwareAddress('192.0.2.1', 'nowhere0')).toBeUndefined();
    expect(readHardwareAddress('2001:db8::1', 'eth0')).toBeUndefined();
  });
});
