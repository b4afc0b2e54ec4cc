import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { laxityOf, linkNames } from '../../src/system/source-validation.ts';

/** rp_filter by interface. */
function sysctlsOf(filters: Readonly<Record<string, number>>) {
  return {
    read: (name: string) => filters[/^net\.ipv4\.conf\.(.+)\.rp_filter$/.exec(name)?.[1] ?? '']?.toString(),
  };
}

describe('laxityOf', () => {
  test.each([
    ['nothing is checked', { all: 0, eth0: 0 }, ['eth0'], ['net.ipv4.conf.all.rp_filter=1']],
    ['strict for all', { all: 1, eth0: 0 }, [], []],
    ['strict for itself', { all: 0, eth0: 1 }, [], []],
    ['as systemd has it', { all: 0, eth0: 2 }, ['eth0'], ['net.ipv4.conf.eth0.rp_filter=1']],
    ['the larger one holds', { all: 1, eth0: 2 }, ['eth0'], ['net.ipv4.conf.eth0.rp_filter=1']],
    ['loose for all', { all: 2, eth0: 1 }, ['eth0'], ['net.ipv4.conf.all.rp_filter=1']],
    [
      'each in its own way',
      { all: 0, eth0: 2, eth1: 0, eth2: 1 },
      ['eth0', 'eth1'],
      ['net.ipv4.conf.all.rp_filter=1', 'net.ipv4.conf.eth0.rp_filter=1'],
    ],
    ['a VLAN', { all: 0, 'eth0.7': 2 }, ['eth0.7'], ['net/ipv4/conf/eth0.7/rp_filter=1']],
  ])('%s', (_, filters: Readonly<Record<string, number>>, interfaces, settings) => {
    const names = Object.keys(filters).filter((name) => name !== 'all');
    expect(laxityOf(4, names, sysctlsOf(filters))).toEqual({ interfaces, settings });
    // What it says is enough.
    const set = settings.map((one) => /conf[./](.+)[./]rp_filter=1$/.exec(one)?.[1] ?? '');
    const after = { ...filters, ...Object.fromEntries(set.map((name) => [name, 1])) };
    expect(laxityOf(4, names, sysctlsOf(after))).toEqual({ interfaces: [], settings: [] });
  });

  test('what cannot be read is passed over, and IPv6 has no such check', () => {
    expect(laxityOf(4, ['eth0'], sysctlsOf({}))).toEqual({ interfaces: [], settings: [] });
    expect(laxityOf(6, ['eth0'], sysctlsOf({ all: 1 }))).toEqual({ interfaces: ['eth0'], settings: [] });
  });
});

test('links are what is up, without the loopback and the ports of bridges', () => {
  const root = mkdtempSync(join(tmpdir(), 'natward-links-'));
  onTestFinished(() => rmSync(root, { recursive: true }));
  const link = (name: string, flags: string) => {
    mkdirSync(join(root, name));
    writeFileSync(join(root, name, 'flags'), `${flags}\n`);
  };
  link('eth0', '0x1003');
  link('eth1', '0x1002');
  link('veth7', '0x1003');
  mkdirSync(join(root, 'veth7', 'brport'));
  expect(linkNames(['lo', 'eth0', 'eth1', 'veth7', 'untold'], root)).toEqual(['eth0', 'untold']);
});
