import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isNatwardError } from '../../src/errors.ts';
import { adapterOfSysctl, createSysctls, sysctlPath } from '../../src/system/sysctl.ts';

describe('sysctlPath', () => {
  test.each([
    ['net.ipv4.ip_forward', 'net/ipv4/ip_forward'],
    ['net.ipv4.conf.all.rp_filter', 'net/ipv4/conf/all/rp_filter'],
    ['net.ipv4.conf.eth0.100.rp_filter', 'net/ipv4/conf/eth0.100/rp_filter'],
    ['net.ipv6.conf.br-lan.accept_ra', 'net/ipv6/conf/br-lan/accept_ra'],
    ['net.netfilter.nf_conntrack_acct', 'net/netfilter/nf_conntrack_acct'],
    ['net.bridge.bridge-nf-call-iptables', 'net/bridge/bridge-nf-call-iptables'],
  ])('%s is %s', (name, path) => {
    expect(sysctlPath(name)).toBe(path);
  });

  test.each([
    ['kernel.core_pattern'],
    ['net'],
    ['net.'],
    ['net..core'],
    ['net/ipv4/ip_forward'],
    ['net.ipv4.conf...forwarding'],
    ['net.ipv4.conf.../../../kernel.core_pattern'],
    ['net.ipv4.conf.a b.forwarding'],
    ['net.ipv4.conf.sixteen_letters_.forwarding'],
    ['net.ipv4.IP_FORWARD'],
    ['net.ipv4.ip_forward\n'],
  ])('%j is no setting of the network', (name) => {
    expect(() => sysctlPath(name)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });

  test('whatever the name, the path stays below net', () => {
    const piece = fc.constantFrom('net', 'ipv4', 'conf', 'neigh', '.', '..', '/', 'eth0', 'forwarding', '\0');
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 9 }), (pieces) => {
        try {
          const path = sysctlPath(pieces.join(''));
          expect(join('/proc/sys', path).startsWith('/proc/sys/net/')).toBe(true);
          expect(path.split('/')).not.toContain('..');
        } catch (error) {
          if (!isNatwardError(error, 'USAGE')) throw error;
        }
      }),
    );
  });
});

describe('adapterOfSysctl', () => {
  test.each([
    ['net.ipv4.conf.eth0.100.rp_filter', 'eth0.100'],
    ['net.ipv6.neigh.eth0.retrans_time_ms', 'eth0'],
    ['net.ipv4.conf.all.rp_filter', undefined],
    ['net.ipv6.conf.default.accept_ra', undefined],
    ['net.ipv4.ip_forward', undefined],
  ])('%s belongs to %s', (name, adapter) => {
    expect(adapterOfSysctl(name)).toBe(adapter);
  });
});

describe('createSysctls', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'natward-sysctl-'));
    mkdirSync(join(root, 'net/ipv4'), { recursive: true });
    writeFileSync(join(root, 'net/ipv4/ip_forward'), '0\n');
  });
  afterEach(() => rmSync(root, { recursive: true }));

  test('reads a value without its line end, and writes one', () => {
    const sysctls = createSysctls(root);
    expect(sysctls.read('net.ipv4.ip_forward')).toBe('0');
    sysctls.write('net.ipv4.ip_forward', '1');
    expect(readFileSync(join(root, 'net/ipv4/ip_forward'), 'latin1')).toMatch(/^1/);
  });

  test('one that is not there is undefined, and is not made by writing', () => {
    const sysctls = createSysctls(root);
    expect(sysctls.read('net.netfilter.nf_conntrack_acct')).toBeUndefined();
    expect(() => sysctls.write('net.netfilter.nf_conntrack_acct', '1')).toThrow(
      expect.objectContaining({
        code: 'UNSUPPORTED',
        advice: expect.stringContaining('modprobe nf_conntrack'),
      }),
    );
    expect(() => sysctls.write('net.ipv4.none', '1')).toThrow('the kernel has no net.ipv4.none');
  });

  test('without the right to it the capability is named', () => {
    // Nobody may write this one, root neither.
    const name = 'net.ipv4.conf.lo.mc_forwarding';
    expect(() => createSysctls().write(name, '0')).toThrow(
      expect.objectContaining({ code: 'FAILED', advice: expect.stringContaining('CAP_NET_ADMIN') }),
    );
  });

  test.skipIf(process.platform !== 'linux')('the kernel’s own are read', () => {
    expect(createSysctls().read('net.core.somaxconn')).toMatch(/^\d+$/);
  });
});
