import { describe, expect, test } from 'vitest';
import type { FirstPacket } from '../../../src/forwarder/decide.ts';
import { obstaclesOf } from '../../../src/forwarder/nftables/obstacles.ts';
import type { Others } from '../../../src/forwarder/nftables/tools.ts';
import { rule } from '../arbitraries.ts';
import { AROUND } from './scene.ts';

/** Another program's table that drops at one hook whatever has this destination port. */
function dropping(hook: string, port: number): Others {
  const place = { family: 'inet', table: 'other' };
  const match = {
    match: { op: '==', left: { payload: { protocol: 'tcp', field: 'dport' } }, right: port },
  };
  const nftables = [
    { table: { family: 'inet', name: 'other', handle: 1 } },
    { chain: { ...place, name: 'c', handle: 2, type: 'filter', hook, prio: 0, policy: 'accept' } },
    { rule: { ...place, chain: 'c', handle: 3, expr: [match, { drop: null }] } },
  ];
  return { listing: { nftables }, plain: '' };
}

const PACKET: FirstPacket = {
  direction: 'in',
  protocol: 'tcp',
  source: { address: '198.51.100.7', port: 50_000 },
  destination: { address: '203.0.113.1', port: 80 },
};

function isTold(line: string, hook: string, port: number, packet?: FirstPacket): boolean {
  return obstaclesOf(rule(line, 'a'), packet, AROUND, dropping(hook, port)).length > 0;
}

describe('the traffic of a rule', () => {
  test.each<[line: string, hook: string, port: number, told: boolean]>([
    // To this host: as it was sent first, then as it becomes.
    ['in tcp 80 -> :8080', 'prerouting', 80, true],
    ['in tcp 80 -> :8080', 'input', 8080, true],
    ['in tcp 80 -> :8080', 'input', 80, false],
    ['in tcp 80 -> :8080', 'forward', 8080, false],
    ['in tcp 80 -> 192.168.1.1:8080', 'input', 8080, true],
    ['in tcp 80 -> monitor', 'input', 80, true],
    // To another host.
    ['in tcp 80 -> 192.168.1.8:8080', 'forward', 8080, true],
    ['in tcp 80 -> 192.168.1.8:8080', 'input', 8080, false],
    ['in tcp 80 -> 192.168.1.8', 'forward', 80, true],
    // From this host.
    ['out tcp :80 -> 192.168.1.8:8080', 'output', 8080, true],
    ['out tcp :80 -> 192.168.1.8:8080', 'prerouting', 80, false],
    ['in udp 80 -> :8080', 'input', 8080, false],
  ])('%s meets what drops at %s port %i: %s', (line, hook, port, told) => {
    expect(isTold(line, hook, port)).toBe(told);
  });
});

test('of one packet only what it meets is told', () => {
  const line = 'in tcp 80-90 -> :+1000';
  expect(isTold(line, 'input', 1080, PACKET)).toBe(true);
  expect(isTold(line, 'input', 1085, PACKET)).toBe(false);
  expect(isTold(line, 'input', 1085, { ...PACKET, destination: { address: '203.0.113.1', port: 85 } })).toBe(
    true,
  );
});

test('it is told in a sentence: whose table, which chain, what it does', () => {
  const [sentence] = obstaclesOf(rule('in tcp 80 -> :8080', 'a'), PACKET, AROUND, dropping('input', 8080));
  expect(sentence).toMatch(
    /^Another program's table inet other, chain c, drops it: tcp dport 8080 drop .*\. nft insert rule /,
  );
});
