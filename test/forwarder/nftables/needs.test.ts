import { describe, expect, test } from 'vitest';
import { KernelRule } from '../../../src/forwarder/nftables/kernel-rule.ts';
import { lackOf, needsOf } from '../../../src/forwarder/nftables/needs.ts';
import { namesOf } from '../../../src/forwarder/nftables/rewrite.ts';
import { rule } from '../arbitraries.ts';
import { AROUND, tableOf } from './scene.ts';

describe('what a table needs of the machine', () => {
  test.each<[line: string, forwards: readonly number[], loopback: boolean, ways: number]>([
    ['in tcp 80 -> :8080', [], false, 0],
    ['in tcp 80 -> 192.168.1.1:8080', [], false, 0],
    ['in tcp 80 -> monitor', [], false, 0],
    ['in tcp 80 -> refuse', [], false, 0],
    ['in tcp 80 -> 192.168.1.8:8080', [4], false, 0],
    ['in tcp 80 -> [2001:db8::8]:8080', [6], false, 0],
    ['in tcp 80 -> nas.lan:8080', [4, 6], false, 0],
    ['in tcp 80 -> 127.0.0.1:8080', [], true, 0],
    ['in tcp 80 -> localhost:8080', [], true, 0],
    ['in tcp 127.0.0.1:80 -> 192.168.1.8:8080', [4], true, 0],
    ['in tcp 80 -> reflect mirror', [4, 6], false, 0],
    ['out tcp :80 -> 192.168.1.8:8080', [], false, 0],
    ['out tcp :80 -> via eth1', [], false, 1],
    ['in tcp 80 -> 192.168.1.8 via eth1', [4], false, 1],
  ])('%s: families %j, loopback %s, %i ways', (line, forwards, loopback, ways) => {
    const needs = needsOf([new KernelRule(rule(line, 'a'), 1)], AROUND);
    expect([[...needs.forwards].sort((a, b) => a - b), needs.loopback, needs.ways.size]).toEqual([
      forwards,
      loopback,
      ways,
    ]);
  });

  test('the same way of two rules is one', () => {
    const table = tableOf(['out tcp :80 -> via eth1', 'out tcp :81 -> via eth1', 'out udp :81 -> via eth0']);
    const marked = table.map((one, at) => new KernelRule(one, at + 1));
    expect(needsOf(marked, AROUND).ways.size).toBe(2);
  });
});

describe('what a rule lacks', () => {
  const machine = { ...AROUND, adapters: new Set(['lo', 'eth0', 'eth1']) };

  test.each<[line: string, reason: string | undefined, isPartial?: boolean]>([
    ['in tcp 80 -> nas.lan:80', undefined],
    ['in tcp 80 on eth0 -> 192.168.1.8 via eth1', undefined],
    ['in tcp 80 -> nobody.example:80', 'nobody.example has no address; it is looked up again', false],
    [
      'in udp 80 -> monitor clone nobody.example:80',
      'nobody.example has no address; it is looked up again',
      false,
    ],
    ['in tcp nobody.example:80 -> :81', 'nobody.example has no address; it is looked up again', false],
    [
      'in tcp nobody.example,203.0.113.1:80 -> :81',
      'nobody.example has no address; it is looked up again',
      true,
    ],
    ['in tcp 80 on tun0 -> :81', 'there is no interface tun0 yet; it is waited for', true],
    ['in tcp 80 on eth0,tun0 -> :81', 'there is no interface tun0 yet; it is waited for', true],
    ['in tcp 80 -> 192.168.1.8 via tun0', 'there is no interface tun0 yet; it is waited for', false],
  ])('%s: %s', (line, reason, isPartial) => {
    expect(lackOf(rule(line, 'a'), machine)).toEqual(
      reason === undefined ? undefined : { reason, isPartial },
    );
  });

  test('a name that stands for a loopback address is no target', () => {
    const around = { ...machine, addressesOf: () => ['127.0.1.1'] };
    expect(lackOf(rule('in tcp 80 -> myself.example:80', 'a'), around)?.reason).toMatch(/write 127\.0\.0\.1/);
  });
});

test('names are those of the selector, the targets and the clone, but localhost', () => {
  expect(namesOf(rule('in tcp a.example:80 -> b.example:80 else localhost:80 clone c.example', 'a'))).toEqual(
    ['a.example', 'b.example', 'c.example'],
  );
});
