import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decide,
  explain,
  type FirstPacket,
  formatPacket,
  leadsBack,
  mismatch,
  type Surroundings,
} from '../../src/forwarder/decide.ts';
import { addressesOf, OWN_ADDRESSES, rule, smallPacket, smallTable, table } from './arbitraries.ts';

/** A Monday, ten in the morning. */
const around: Surroundings = { addressesOf, ownAddresses: OWN_ADDRESSES, weekday: 1, minuteOfDay: 600 };
const packet: FirstPacket = {
  direction: 'in',
  protocol: 'tcp',
  source: { address: '192.0.2.9', port: 50_000 },
  destination: { address: '10.0.0.1', port: 80 },
  adapter: 'eth0',
  mac: '02:00:00:00:00:01',
};

describe('a rule matches', () => {
  test.each([
    'in tcp -> :81',
    'in tcp+udp 80 -> :81',
    'in tcp 1-100,~79 -> :81',
    'in tcp 10.0.0.0/8:80 -> :81',
    'in tcp 192.0.2.1,self:80 -> :81',
    'in tcp 80 from 192.0.2.0/24 -> :81',
    'in tcp 80 from ALL EXCEPT .example.org -> :81',
    'in tcp 80 port 1024-65535 -> :81',
    'in tcp 80 on wlan0,eth0 -> :81',
    'in tcp 80 mac 02:00:00:00:00:01 -> :81',
    'in tcp 80 when mon-fri 08:00-18:00 -> :81',
    'in tcp 80 -> :80',
    'in tcp 80 -> drop',
  ])('%s', (line) => {
    expect(mismatch(rule(line, 'a'), packet, around)).toBeUndefined();
  });
});

describe('a rule that does not match says why', () => {
  test.each<[line: string, reason: string, other?: Partial<FirstPacket>]>([
    ['out tcp 80 -> :81', 'it is for what goes out'],
    ['in udp 80 -> :81', 'it is for UDP'],
    ['in tcp 443,8000-9000 -> :81', 'it is for port 443,8000-9000'],
    ['in tcp *,~80 -> :81', 'it is for port *,~80'],
    ['in tcp 10.1.0.1,other.example:80 -> :81', 'it is for what goes to 10.1.0.1, other.example'],
    ['in tcp unknown.example:80 -> :81', 'it is for what goes to unknown.example'],
    ['in tcp 80 from 10.0.0.0/8 -> :81', 'it is for what comes from 10.0.0.0/8'],
    ['in tcp 80 from .example.org -> :81', 'it is for what comes from .example.org'],
    ['in tcp 80 port 1-1023 -> :81', 'it is for source port 1-1023'],
    ['in tcp 80 on wlan0,eth1 -> :81', 'it is for interface wlan0, eth1'],
    ['in tcp 80 on eth0 -> :81', 'it is for interface eth0', { adapter: undefined }],
    ['in tcp 80 mac 02:00:00:00:00:02 -> :81', 'it is for MAC address 02:00:00:00:00:02'],
    ['in tcp 80 when sat,sun 00:00-24:00 -> :81', 'its time is sat,sun 00:00-24:00'],
    [
      'in tcp 80 -> :80',
      'it is for what comes from other hosts: the same port of the loopback address is its target',
      { destination: { address: '127.0.0.1', port: 80 } },
    ],
  ])('%s: %s', (line, reason, other = {}) => {
    expect(mismatch(rule(line, 'a'), { ...packet, ...other }, around)).toBe(reason);
  });

  test.each<[line: string, destination: string, reason: string | undefined]>([
    ['in tcp 80 -> :81', '10.0.0.9', 'it is for what comes to this host'],
    ['in tcp 80 -> :81', '2001:db8::9', 'it is for what comes to this host'],
    ['in tcp 80 -> :81', '10.1.0.1', undefined],
    ['in tcp 80 -> :81', '2001:db8::1', undefined],
    ['in tcp 80 -> :81', '127.0.0.9', undefined],
    ['in tcp 80 -> :81', '0.0.0.0', undefined],
    ['in tcp 80 -> :81', '::', undefined],
    ['in tcp 80 -> :81', '224.0.0.251', undefined],
    ['in tcp 80 -> :81', 'ff02::fb', undefined],
    ['in tcp 80 -> :81', '255.255.255.255', undefined],
    ['in tcp 10.0.0.0/8:80 -> :81', '10.0.0.9', undefined],
    ['out tcp :80 -> :81', '10.1.0.1', 'it is for what goes to other hosts'],
    ['out tcp :80 -> :81', '::1', 'it is for what goes to other hosts'],
    ['out tcp :80 -> :81', '0.0.0.0', 'it is for what goes to other hosts'],
    ['out tcp :80 -> :81', '10.0.0.9', undefined],
    ['out tcp :80 -> :81', 'ff02::fb', undefined],
    ['out tcp 10.0.0.0/8:80 -> :81', '10.1.0.1', undefined],
  ])('%s for what is sent to %s: %s', (line, address, reason) => {
    const one = rule(line, 'a');
    const other = { ...packet, direction: one.direction, destination: { address, port: 80 } };
    expect(mismatch(one, other, around)).toBe(reason);
  });

  test('an address with its zone is this host’s where the address is', () => {
    const surroundings = { ...around, ownAddresses: ['fe80::1%eth0'] };
    for (const address of ['fe80::1%eth0', 'fe80::1']) {
      const local = { ...packet, destination: { address, port: 80 } };
      expect(mismatch(rule('in tcp 80 -> :81', 'a'), local, surroundings)).toBeUndefined();
    }
  });

  test('what a socket of this host got has come to this host, by an address that no interface has, too', () => {
    const routed = { ...packet, destination: { address: '198.51.100.7', port: 80 } };
    const relay = { ...around, hasArrived: true };
    expect(mismatch(rule('in tcp 80 -> :81', 'a'), routed, relay)).toBeUndefined();
  });

  test('one that is off says so first', () => {
    expect(mismatch(rule('out udp 1 -> :81', 'a', false), packet, around)).toBe('it is disabled');
  });
});

test('a name of the source decides where a list names hosts', () => {
  const one = rule('in tcp 80 from .example.org -> :81', 'a');
  expect(mismatch(one, { ...packet, names: ['a.example.org'] }, around)).toBeUndefined();
});

describe('leadsBack()', () => {
  test.each([
    ['in tcp 80 -> :80', 80, true],
    ['in tcp 80 -> :+0', 80, true],
    ['in tcp 80 -> localhost', 80, true],
    ['in tcp 80 -> 10.0.0.1', 80, true],
    ['in tcp 80 -> monitor', 80, true],
    ['in tcp 80 -> 192.0.2.1 else :80', 80, true],
    ['in tcp 80-90 -> :85', 85, true],
    ['in tcp 80-90 -> :85', 84, false],
    ['in tcp 80 -> :81', 80, false],
    ['in tcp 80 -> 192.0.2.1:80', 80, false],
    ['in tcp 80 -> drop', 80, false],
    ['out tcp 80 -> :80', 80, false],
  ])('of %s at %i is %s', (line, port, expected) => {
    expect(leadsBack(rule(line, 'a'), port, around)).toBe(expected);
  });

  test('a rule that says the loopback address itself takes what is sent there', () => {
    const local = { ...packet, destination: { address: '127.0.0.1', port: 80 } };
    expect(mismatch(rule('in tcp 127.0.0.1:80 -> :80', 'a'), local, around)).toBeUndefined();
  });
});

describe('decide() and explain()', () => {
  const rules = table(
    'in tcp 80 from 10.0.0.0/8 -> :8080',
    'in udp 80 -> drop',
    'in tcp 80 -> :8081',
    'in tcp 1-100 -> refuse',
  );

  test('the first that matches decides', () => {
    expect(decide(rules, packet, around)?.id).toBe('c');
    const inside = { ...packet, source: { address: '10.0.0.7', port: 1 } };
    expect(decide(rules, inside, around)?.id).toBe('a');
  });

  test('those above it are told with their reasons, those below are not', () => {
    expect(explain(rules, packet, around)).toEqual({
      rule: rules[2],
      passed: [
        { position: 1, rule: rules[0], reason: 'it is for what comes from 10.0.0.0/8' },
        { position: 2, rule: rules[1], reason: 'it is for UDP' },
      ],
    });
  });

  test('where none matches, all are told', () => {
    const other = { ...packet, destination: { address: '10.0.0.1', port: 101 } };
    expect(decide(rules, other, around)).toBeUndefined();
    expect(explain(rules, other, around)).toMatchObject({
      rule: undefined,
      passed: [{ position: 1 }, { position: 2 }, { position: 3 }, { position: 4 }],
    });
  });

  test('an empty table decides nothing', () => {
    expect(decide([], packet, around)).toBeUndefined();
    expect(explain([], packet, around)).toEqual({ rule: undefined, passed: [] });
  });

  test('explain() names the rule that decide() does, and it alone of those told matches', () => {
    fc.assert(
      fc.property(smallTable, smallPacket, (rules, packet) => {
        const { rule, passed } = explain(rules, packet, around);
        expect(rule).toBe(decide(rules, packet, around));
        expect(passed.map((one) => one.rule)).toEqual(rules.slice(0, passed.length));
        expect(passed).toHaveLength(rule === undefined ? rules.length : rules.indexOf(rule));
        for (const { reason, rule: other } of passed) expect(mismatch(other, packet, around)).toBe(reason);
      }),
    );
  });
});

test('formatPacket() says where from and where to', () => {
  expect(formatPacket(packet)).toBe('in tcp 192.0.2.9:50000 -> 10.0.0.1:80');
  const six = { address: '2001:db8::1', port: 53 };
  expect(formatPacket({ direction: 'out', protocol: 'udp', source: six, destination: six })).toBe(
    'out udp [2001:db8::1]:53 -> [2001:db8::1]:53',
  );
});
