import { expect, test } from 'vitest';
import { kernelShortcoming } from '../../../src/forwarder/nftables/shortcoming.ts';
import { rule } from '../arbitraries.ts';

test.each<[line: string, field: string, reason: RegExp]>([
  ['in tcp 80 -> 192.168.1.8:80 else 192.168.1.9:80', 'else', /target is gone/],
  ['in tcp 80 -> 192.168.1.8:80 connect 5s', 'connect', /does not connect/],
  ['in tcp 80 -> 192.168.1.8:80 proxy v2', 'proxy', /writes no headers/],
  ['in tcp 80 -> 192.168.1.8:80 accept-proxy 10.0.0.1', 'accept-proxy', /reads no headers/],
  ['in tcp 80 -> [::1]:80', 'target', /::1/],
  ['in tcp [::]/0:80 -> 192.168.1.8:80', 'target', /IPv4 of IPv6/],
  ['in tcp 203.0.113.1:80 -> [2001:db8::8]:80', 'target', /IPv4 of IPv6/],
  ['in tcp 80 -> 192.168.1.8:80 as [2001:db8::1]', 'as', /not of one family/],
  ['in tcp 80 from .example.org -> :81', 'from', /by address, not by name/],
  ['in tcp 80 -> :81 allow nas.lan', 'allow', /by address, not by name/],
  ['in tcp 80 -> :81 deny .example.org', 'deny', /by address, not by name/],
  ['in tcp 80 -> :81 hosts sshd', 'hosts', /hosts\.allow/],
  ['out tcp :80 mac 02:00:00:00:00:01 -> :81', 'mac', /no neighbour/],
  ['in tcp 80 on an-interface-of-16 -> :81', 'on', /as long as/],
  ['in tcp 80 on lo -> :81', 'on', /no interface/],
  ['out tcp :80 on eth0 -> 192.168.1.8 reflect route', 'reflect', /as it is/],
  ['in udp 80 -> reflect plain', 'reflect', /one side/],
  ['in udp 80 on eth0,eth1 -> reflect plain', 'reflect', /one side/],
  ['in udp 80 on eth0 -> 192.168.1.8 reflect plain', 'reflect', /no target/],
  ['in udp 80-82 -> :+1 reflect mirror', 'target', /one port/],
  ['in udp 80 -> :81 clone :82', 'clone', /other hosts/],
  ['in udp 80 -> :81 clone localhost:82', 'clone', /other hosts/],
  ['in udp 80 -> :81 clone 127.0.0.1:82', 'clone', /other hosts/],
  ['in tcp 80 -> :81 clone 192.168.1.7:82', 'clone', /connection of its own/],
  ['in udp 80-82 -> :81 clone 192.168.1.7:+1', 'clone', /one port/],
])('%s is too much for the kernel: %s', (line, field, reason) => {
  const found = kernelShortcoming(rule(line, 'a'));
  expect(found?.field).toBe(field);
  expect(found?.reason).toMatch(reason);
  expect(found?.advice).toMatch(/\.$/);
});

test.each([
  'in tcp 80 -> :81',
  'in tcp nas.lan:80 -> 192.168.1.8:80',
  'in tcp 203.0.113.1,[2001:db8::1]:80 -> 192.168.1.8:80',
  'in tcp 80 from ALL EXCEPT 10.0.0.0/8 -> 127.0.0.1:81 allow 10.0.0.0/8 deny 10.0.0.7',
  'in tcp 80 mac 02:00:00:00:00:01 on eth0 -> 192.168.1.8 via eth1 source-mac 02:00:00:00:00:02',
  'in udp 80 -> :81 clone 192.168.1.7:82',
  'in tcp 80 -> :81 clone 192.168.1.7',
  'in udp 80 on eth0 -> reflect plain',
  'out tcp :80 -> :8080 reflect plain',
  'in tcp 80 -> 192.168.1.8:80 as client',
  'in tcp 80 when daily 08:00-09:00 -> refuse',
])('%s is not', (line) => {
  expect(kernelShortcoming(rule(line, 'a'))).toBeUndefined();
});
