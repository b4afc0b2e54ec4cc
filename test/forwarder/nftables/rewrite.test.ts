import { describe, expect, test } from 'vitest';
import { portPairs, type Rewrite, rewriteOf, wayKey } from '../../../src/forwarder/nftables/rewrite.ts';
import { rule } from '../arbitraries.ts';
import { AROUND } from './scene.ts';

function of(line: string): Rewrite {
  return rewriteOf(rule(line, 'a'), AROUND);
}

describe('where the traffic comes from, as the target sees it', () => {
  test.each<[line: string, source: Rewrite['source']['kind'], staysHere: boolean]>([
    ['in tcp 80 -> :8080', 'kept', true],
    ['in tcp 80 -> 127.0.0.1:8080', 'kept', true],
    ['in tcp 80 -> 192.168.1.1:8080', 'kept', true],
    ['in tcp 80 -> monitor', 'kept', true],
    ['in tcp 80 -> 192.168.1.8:8080', 'host', false],
    ['in tcp 80 -> nas.lan:8080', 'host', false],
    ['in tcp 80 -> 192.168.1.8:8080 as client', 'kept', false],
    ['in tcp 80 -> 192.168.1.8:8080 as 192.168.1.1', 'address', false],
    ['in tcp 80 -> reflect mirror', 'destination', false],
    ['in tcp 80 on eth0 -> 192.168.1.8 reflect route', 'kept', false],
    ['in tcp 80 -> 192.168.1.8 via eth1', 'host', false],
    ['out tcp :80 -> 192.168.1.8:8080', 'host', false],
    ['out tcp :80 -> via eth1', 'host', false],
    ['out tcp :80 -> :8080', 'kept', false],
    ['out tcp :80 -> :8080 reflect plain', 'kept', false],
  ])('of %s: %s, and it ends here: %s', (line, source, staysHere) => {
    expect(of(line)).toMatchObject({ source: { kind: source }, staysHere });
  });
});

test('a target is carried in its own families alone', () => {
  expect(of('in tcp 80 -> :81').families).toEqual([4, 6]);
  expect(of('in tcp 80 -> 192.168.1.8:81').families).toEqual([4]);
  expect(of('in tcp 80 -> nas.lan:81').families).toEqual([4, 6]);
  expect(of('in tcp 80 -> nas.lan:81 as 192.168.1.1').families).toEqual([4]);
  expect(of('in tcp 80 -> localhost:81').families).toEqual([4]);
  expect(of('in tcp 80 -> nobody.example:81').families).toEqual([]);
});

test('each port has its own', () => {
  const pairs = (line: string) => portPairs(rule(line, 'a'), of(line).port);
  expect(pairs('in tcp 80,90-91 -> :7000-7002')).toEqual([
    [80, 7000],
    [90, 7001],
    [91, 7002],
  ]);
  expect(pairs('in tcp 80-81 -> :-10')).toEqual([
    [80, 70],
    [81, 71],
  ]);
});

test('ways that differ in anything have keys that differ', () => {
  const adapter = 'eth1';
  const mac = '02:00:00:00:00:01';
  const ways = [
    { adapter, sourceMac: undefined, targetMac: undefined },
    { adapter, sourceMac: mac, targetMac: undefined },
    { adapter, sourceMac: undefined, targetMac: mac },
    { adapter: 'eth0', sourceMac: undefined, targetMac: undefined },
  ];
  expect(new Set(ways.map(wayKey)).size).toBe(4);
});
