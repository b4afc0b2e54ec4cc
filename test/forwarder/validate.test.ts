import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decide, type FirstPacket, type Surroundings } from '../../src/forwarder/decide.ts';
import type { Rule, Target } from '../../src/forwarder/rule.ts';
import { MAX_RULES, type Table } from '../../src/forwarder/table.ts';
import { targetPortOf } from '../../src/forwarder/target.ts';
import { parseRule } from '../../src/forwarder/text.ts';
import { type Finding, validate, type ValidationSurroundings } from '../../src/forwarder/validate.ts';
import { family, type IpAddress } from '../../src/net/address.ts';
import { ANY_PORT, portRanges } from '../../src/net/port-set.ts';
import { addressesOf, OWN_ADDRESSES, rule, smallPacket, smallTable, table } from './arbitraries.ts';

const around: ValidationSurroundings = {
  addressesOf,
  ownAddresses: OWN_ADDRESSES,
  ownPorts: [{ protocol: 'udp', port: 5350, what: "it hears the gateway's announcements there" }],
};

function messages(rules: Table): string[] {
  return validate(rules, around).map(({ message }) => message);
}

function loopsOf(rules: Table): readonly Finding[] {
  return validate(rules, around).filter(({ message }) => message.startsWith('loop: '));
}

test('an empty table, and one with nothing wrong, have no findings', () => {
  expect(validate([], around)).toEqual([]);
  const rules = table(
    'in tcp 80 from 10.0.0.0/8 -> :8080',
    'in tcp 80 -> 192.0.2.7:80',
    'in udp 80 -> :8080',
    'out tcp :80 -> monitor',
    'in tcp 22 -> :22',
  );
  expect(validate(rules, around)).toEqual([]);
});

test('thousands of rules beneath, with ports of their own, hide nothing and add nothing', () => {
  const far = Array.from({ length: 2000 }, (_, at) => rule(`in tcp ${30_000 + at} -> nas:80`, `far${at}`));
  fc.assert(
    fc.property(smallTable, (near) => {
      expect(validate([...near, ...far], around)).toEqual(validate(near, around));
    }),
    { numRuns: 100 },
  );
});

describe('a rule that can never match', () => {
  test('is told with the first that takes all of it', () => {
    const rules = table(
      'in udp 80 -> :81',
      'in tcp 1-100 -> nas',
      'in tcp 1-90 -> nas',
      'in tcp 80 -> nas:8080',
    );
    expect(validate(rules, around)).toEqual([
      {
        severity: 'warning',
        ruleId: 'c',
        position: 3,
        field: 'to',
        message: 'rule 3 can never match: rule 2 takes all of it',
        advice: 'Move it above rule 2, or remove it.',
      },
      expect.objectContaining({ ruleId: 'd', message: 'rule 4 can never match: rule 2 takes all of it' }),
    ]);
  });

  test.each([
    ['in tcp+udp 80 -> nas', 'in tcp 80 from 10.0.0.1 -> nas'],
    ['in tcp -> refuse', 'in tcp 1-70,80-90 -> nas'],
    ['in tcp 10-20,21-30 -> nas', 'in tcp 15-25 -> nas'],
    ['in tcp 10.0.0.0/8:80 -> nas', 'in tcp 10.0.0.1,10.1.0.0/16:80 -> nas'],
    ['in tcp 10.0.0.0/9,10.128.0.0/9,[::]/0:80 -> nas', 'in tcp [2001:db8::1],10.200.0.1:80 -> nas'],
    ['in tcp self,nas.example:80 -> nas', 'in tcp nas.example:80 -> nas'],
    ['in tcp 80 from 10.0.0.0/8,192.0.2.0/24 -> nas', 'in tcp 80 from 192.0.2.1,10.0.0.0/9 -> nas'],
    ['in tcp 80 from 10.0.0.0/8 -> nas', 'in tcp 80 from 10.0.0.0/9 EXCEPT 10.0.0.1 -> nas'],
    [
      'in tcp 80 from ALL EXCEPT .example.org -> nas',
      'in tcp 80 from ALL EXCEPT .example.org on eth0 -> nas',
    ],
    ['in tcp 80 from a.example,.b.example -> nas', 'in tcp 80 from .b.example port 1 -> nas'],
    ['in tcp 80 from ALL -> nas', 'in tcp 80 -> nas'],
    ['in tcp 80 port 1-10 -> nas', 'in tcp 80 port 5,7 -> nas'],
    ['in tcp 80 on eth0,eth1 -> nas', 'in tcp 80 on eth1 -> nas'],
    ['in tcp 80 mac 02:00:00:00:00:01 -> nas', 'in tcp 80 mac 02:00:00:00:00:01 from LOCAL -> nas'],
    ['in tcp 80 -> nas', 'in tcp 80 when mon 08:00-09:00 -> nas'],
    ['in tcp 80 -> nas', 'in tcp 10.0.0.1,127.0.0.1:80 -> nas'],
    ['out tcp :80 -> monitor', 'out tcp 192.0.2.1:80 -> :81'],
    ['in tcp 80-90 -> :80-90', 'in tcp 10.0.0.1:80 -> nas'],
    ['in tcp 80-90 -> :85', 'in tcp 80 -> nas'],
    ['in tcp 80-90 -> :80-90', 'in tcp 80-85 -> monitor'],
  ])('%s takes all of %s', (above, below) => {
    expect(messages(table(above, below))).toEqual(['rule 2 can never match: rule 1 takes all of it']);
  });

  test.each([
    ['in tcp 80 -> nas', 'in tcp+udp 80 -> nas'],
    ['in tcp 80 -> nas', 'out tcp 80 -> nas'],
    // What passes through, and what this host sends to itself, is not for a rule without an address.
    ['in tcp 80 -> nas', 'in tcp 192.0.2.1:80 -> nas'],
    ['in tcp 80 -> nas', 'in tcp 10.0.0.0/8:80 -> nas'],
    ['out tcp :80 -> monitor', 'out tcp 10.0.0.1:80 -> :81'],
    ['out tcp :80 -> monitor', 'out tcp 10.0.0.0/8:80 -> :81'],
    ['in tcp 80-90,~85 -> nas', 'in tcp 84-86 -> nas'],
    ['in tcp 10.0.0.0/8:80 -> nas', 'in tcp 80 -> nas'],
    ['in tcp 10.0.0.0/8:80 -> nas', 'in tcp 10.0.0.1,192.0.2.1:80 -> nas'],
    ['in tcp self:80 -> nas', 'in tcp 10.0.0.1:80 -> nas'],
    ['in tcp 10.0.0.1:80 -> nas', 'in tcp self:80 -> nas'],
    ['in tcp 80 from 10.0.0.0/8 -> nas', 'in tcp 80 -> nas'],
    ['in tcp 80 from 10.0.0.0/8 EXCEPT 10.0.0.1 -> nas', 'in tcp 80 from 10.0.0.1 -> nas'],
    ['in tcp 80 from 0.0.0.0/0 -> nas', 'in tcp 80 from ::/0 -> nas'],
    ['in tcp 80 from a.example -> nas', 'in tcp 80 from .example -> nas'],
    ['in tcp 80 port 1-10 -> nas', 'in tcp 80 -> nas'],
    ['in tcp 80 on eth0 -> nas', 'in tcp 80 -> nas'],
    ['in tcp 80 on eth0 -> nas', 'in tcp 80 on eth0,eth1 -> nas'],
    ['in tcp 80 mac 02:00:00:00:00:01 -> nas', 'in tcp 80 -> nas'],
    ['in tcp 80 when daily 08:00-09:00 -> nas', 'in tcp 80 when daily 08:00-08:30 -> nas'],
    // What is sent to the loopback address is left to the server there, and so to the rule below.
    ['in tcp 80-90 -> :80-90', 'in tcp 80 -> nas'],
    ['in tcp 80-90 -> :85', 'in tcp 84-85 -> nas'],
    ['in tcp 80 -> monitor', 'in tcp 127.0.0.1:80 -> nas'],
    ['in tcp 80 -> :80', 'in tcp 0.0.0.0/0:80 -> nas'],
  ])('%s does not take all of %s', (above, below) => {
    expect(messages(table(above, below))).toEqual([]);
  });

  test('a rule that is off neither takes nor is told', () => {
    const off = (line: string, id: string) => rule(line, id, false);
    const on = rule('in tcp 80 -> nas', 'c');
    expect(
      validate([off('in tcp -> nas', 'a'), on, off('in tcp 80 from LOCAL -> nas', 'd')], around),
    ).toEqual([]);
  });

  test('is never the one that decides', () => {
    fc.assert(
      fc.property(
        smallTable,
        fc.array(smallPacket, { minLength: 30, maxLength: 60 }),
        fc.integer({ min: 0, max: 6 }),
        fc.integer({ min: 0, max: 1439 }),
        (rules, packets, weekday, minuteOfDay) => {
          const never = new Set(
            validate(rules, around)
              .filter(({ message }) => message.includes('can never match'))
              .map(({ ruleId }) => ruleId),
          );
          fc.pre(never.size > 0);
          for (const packet of packets) {
            const chosen = decide(rules, packet, { ...around, weekday, minuteOfDay });
            expect(never.has(chosen?.id ?? '')).toBe(false);
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('two rules for the same traffic', () => {
  test('are an error at the lower one, which is not said to be shadowed as well', () => {
    expect(validate(table('in tcp 22 -> nas', 'in tcp 80 -> nas:1', 'in tcp 80 -> nas:2'), around)).toEqual([
      {
        severity: 'error',
        ruleId: 'c',
        position: 3,
        field: 'to',
        message: 'rule 3 and rule 2 listen for the same traffic (in tcp 80)',
        advice: 'Remove one of them, or disable it.',
      },
    ]);
  });

  test.each([
    ['in tcp 80,443 -> nas', 'in tcp 443,80 -> nas', 'in tcp 443,80'],
    ['in tcp 1-10,~5 -> nas', 'in tcp 1-4,6-10 -> nas', 'in tcp 1-4,6-10'],
    ['in tcp * -> nas', 'in tcp 1-65535 -> nas', 'in tcp 1-65535'],
    ['in tcp 10.0.0.9/8,self:80 -> nas', 'in tcp self,10.0.0.0/8:80 -> nas', 'in tcp self,10.0.0.0/8:80'],
    ['in tcp 80 on a,b -> nas', 'in tcp 80 on b,a -> nas "->"', 'in tcp 80 on b,a'],
    [
      'in tcp 80 when mon,tue 08:00-09:00 -> nas',
      'in tcp 80 when tue,mon 08:00-09:00 -> nas',
      'in tcp 80 when mon,tue 08:00-09:00',
    ],
    ['in tcp 22 from LOCAL -> nas', 'in tcp 22 from local -> refuse', 'in tcp 22 from LOCAL'],
  ])('%s and %s are such', (above, below, selector) => {
    expect(messages(table(above, below))).toEqual([
      `rule 2 and rule 1 listen for the same traffic (${selector})`,
    ]);
  });

  test('outgoing ones listen to nothing', () => {
    expect(messages(table('out tcp :80 -> monitor', 'out tcp :80 -> monitor'))).toEqual([
      'rule 2 can never match: rule 1 takes all of it',
    ]);
  });
});

describe('rules that share a listener', () => {
  test('must say the same accept-proxy', () => {
    const rules = table(
      'in tcp 80-90 from 10.0.0.0/8 -> nas accept-proxy 10.0.0.1',
      'in tcp 85 from 192.0.2.0/24 -> nas',
      'in tcp 91 -> nas',
      'in udp 85 -> nas',
    );
    expect(validate(rules, around)).toEqual([
      {
        severity: 'error',
        ruleId: 'b',
        position: 2,
        field: 'accept-proxy',
        message: 'rule 2 and rule 1 share a listening port and differ in accept-proxy',
        advice: 'Say the same accept-proxy in both, or give them different ports or addresses.',
      },
    ]);
  });

  test.each([
    ['in tcp 85 from LOCAL -> nas', 'in tcp 80-90 -> nas accept-proxy LOCAL', true],
    ['in tcp 80 from LOCAL -> nas accept-proxy LOCAL', 'in tcp 80 -> nas accept-proxy LOCAL', false],
    ['in tcp 80 from LOCAL -> nas accept-proxy LOCAL', 'in tcp 80 -> nas accept-proxy ALL', true],
    ['in tcp 10.0.0.1:80 -> nas accept-proxy LOCAL', 'in tcp 10.1.0.1:80 -> nas', false],
    ['in tcp 10.0.0.1:80 -> nas accept-proxy LOCAL', 'in tcp 10.0.0.0/8:80 -> nas', true],
    ['in tcp 10.0.0.1:80 -> nas accept-proxy LOCAL', 'in tcp 80 -> nas', true],
    ['in tcp 10.0.0.1:80 -> nas accept-proxy LOCAL', 'in tcp self:80 -> nas', true],
    ['in tcp unknown:80 -> nas accept-proxy LOCAL', 'in tcp unknown:80-81 -> nas', true],
    ['in tcp 80 on eth0 -> nas accept-proxy LOCAL', 'in tcp 80 on eth1 -> nas', false],
    ['out tcp :80 -> monitor accept-proxy LOCAL', 'in tcp 80 -> nas', false],
  ])('%s, %s: %s', (above, below, conflict) => {
    const found = validate(table(above, below), around).filter(({ field }) => field === 'accept-proxy');
    expect(found).toHaveLength(conflict ? 1 : 0);
  });
});

describe('a circle through this host', () => {
  test('is told step by step, at its first rule', () => {
    const rules = table('in udp 9 -> nas', 'in tcp 8080 -> :8081', 'in tcp 8081 -> localhost:8080');
    expect(validate(rules, around)).toEqual([
      {
        severity: 'error',
        ruleId: 'b',
        position: 2,
        field: 'target',
        message: 'loop: rule 2 sends TCP 8080 to 8081 of this host, which rule 3 sends to 8080',
        advice: 'Send it to another host or port, or say the addresses that the rule listens on.',
      },
    ]);
  });

  test.each<[string, string[], string]>([
    [
      'one rule that listens on its target',
      ['in tcp 127.0.0.1:80 -> :80'],
      'loop: rule 1 sends TCP 80 to 80 of this host, where it takes it again',
    ],
    [
      'one whose target is an outer address of this host',
      ['in tcp 80 -> 10.0.0.1'],
      'loop: rule 1 sends TCP 80 to 80 of this host, where it takes it again',
    ],
    [
      'one whose target is a name of this host',
      ['in udp 10.0.0.0/8:80 -> self:80'],
      'loop: rule 1 sends UDP 80 to 80 of this host, where it takes it again',
    ],
    [
      'what is watched at the loopback address',
      ['in tcp 127.0.0.0/8:80 -> monitor'],
      'loop: rule 1 sends TCP 80 to 80 of this host, where it takes it again',
    ],
    [
      'a copy',
      ['in udp 5000 -> nas clone :5001', 'in udp 5001 -> :5000'],
      'loop: rule 1 sends UDP 5000 to 5001 of this host, which rule 2 sends to 5000',
    ],
    [
      'a second target',
      ['in tcp 80 -> nas else :81', 'in tcp 81 -> :80'],
      'loop: rule 1 sends TCP 80 to 81 of this host, which rule 2 sends to 80',
    ],
    [
      'another that takes what one left to the loopback address',
      ['in tcp 80 -> :80', 'in tcp 127.0.0.1:80 -> :80'],
      'loop: rule 2 sends TCP 80 to 80 of this host, where it takes it again',
    ],
    [
      'the unspecified address',
      ['in tcp 80 -> 0.0.0.0:81', 'in tcp 81 -> :80'],
      'loop: rule 1 sends TCP 80 to 81 of this host, which rule 2 sends to 80',
    ],
    [
      'ranges',
      ['in tcp 1000-1999 -> :+1000', 'in tcp 2500-2999 -> :-1000'],
      'loop: rule 1 sends TCP 1500 to 2500 of this host, which rule 2 sends to 1500',
    ],
    [
      'many to one',
      ['in tcp 1000-1999,~1500 -> :1500', 'in tcp 1500 -> :1001'],
      'loop: rule 1 sends TCP 1001 to 1500 of this host, which rule 2 sends to 1001',
    ],
    [
      'six',
      Array.from({ length: 6 }, (_, at) => `in tcp ${at + 1} -> :${((at + 1) % 6) + 1}`),
      'loop: rule 1 sends TCP 1 to 2 of this host, which rule 2 sends to 3, which rule 3 sends to 4, which rule 4 sends to 5, and so on, until rule 1 has it again',
    ],
    [
      'hours that may meet',
      ['in tcp 80 when mon 08:00-09:00 -> :81', 'in tcp 81 -> :80'],
      'loop: rule 1 sends TCP 80 to 81 of this host, which rule 2 sends to 80',
    ],
    [
      'clients that this host is among',
      ['in tcp 80 from LOCAL -> :81', 'in tcp 81 from 127.0.0.0/8 -> :80'],
      'loop: rule 1 sends TCP 80 to 81 of this host, which rule 2 sends to 80',
    ],
    [
      'names that this host may have',
      ['in tcp 80 -> 10.0.0.1:81', 'in tcp 81 from .example.org -> :80'],
      'loop: rule 1 sends TCP 80 to 81 of this host, which rule 2 sends to 80',
    ],
    [
      'a source that is the client, whoever that is',
      ['in tcp 80 -> 10.0.0.1:81 as client', 'in tcp 81 from 192.0.2.0/24 -> :80'],
      'loop: rule 1 sends TCP 80 to 81 of this host, which rule 2 sends to 80',
    ],
    [
      'IPv6',
      ['in tcp [::]/0:80 -> :81', 'in tcp [::1]:81 -> :80'],
      'loop: rule 1 sends TCP 80 to 81 of this host, which rule 2 sends to 80',
    ],
  ])('%s', (_, lines, message) => {
    expect(loopsOf(table(...lines)).map((one) => one.message)).toEqual([message]);
  });

  test.each<[string, string[]]>([
    ['a chain that ends', ['in tcp 80 -> :81', 'in tcp 81 -> :82', 'in tcp 82 -> nas']],
    ['the same port of the loopback address', ['in tcp 80 -> :80', 'in tcp 81 -> monitor']],
    ['a rule that is off', ['in tcp 80 -> :81']],
    ['the other protocol', ['in tcp 80 -> :81', 'in udp 81 -> :80']],
    ['what another rule takes first', ['in tcp 81 -> nas', 'in tcp 80 -> :81', 'in tcp 81 on eth0 -> :80']],
    ['clients that this host is not among', ['in tcp 80 from 192.0.2.0/24 -> :81', 'in tcp 81 -> :80']],
    ['other addresses', ['in tcp 10.0.0.1:80 -> :81', 'in tcp 81 -> :80']],
    ['another family', ['in tcp 0.0.0.0/0:80 -> :81', 'in tcp [::1]:81 -> [::1]:80']],
    ['a neighbour', ['in tcp 80 mac 02:00:00:00:00:01 -> :81', 'in tcp 81 -> :80']],
    ['an interface, as to the loopback address', ['in tcp 80 on eth0 -> :81', 'in tcp 81 -> :80']],
    ['a range that moves on and out', ['in tcp 1000-2000 -> :+1']],
    ['ranges whose ports do not come back', ['in tcp 1000-1999 -> :+1000', 'in tcp 2000-2999 -> :-1001']],
    ['another host', ['in tcp 80 -> 192.0.2.1:81', 'in tcp 81 -> other.example:80']],
    ['outgoing rules', ['out tcp :80 -> :81', 'out tcp :81 -> :80']],
  ])('is not: %s', (_, lines) => {
    expect(loopsOf(table(...lines))).toEqual([]);
  });

  const moment = fc.record({
    weekday: fc.integer({ min: 0, max: 6 }),
    minuteOfDay: fc.integer({ min: 0, max: 1439 }),
    names: fc.constantFrom([], ['a.example.org']),
    adapter: fc.constantFrom('eth0', 'eth1'),
    sourcePort: fc.integer({ min: 1, max: 8 }),
  });
  type Moment = typeof moment extends fc.Arbitrary<infer T> ? T : never;

  function addressesOfTarget({ host }: Target, from: IpAddress): readonly IpAddress[] {
    if (host === undefined) return [family(from) === 4 ? '127.0.0.1' : '::1'];
    if (host === 'localhost') return ['127.0.0.1', '::1'];
    return host === 'self' ? addressesOf(host) : [host];
  }

  /** What this host sends to itself, where the rule has taken the packet. */
  function sentOn(rule: Rule, packet: FirstPacket, at: Moment): FirstPacket[] {
    const { address, port } = packet.destination;
    const watched: Target[] = rule.verdict === 'monitor' ? [{ host: undefined, port: { kind: 'same' } }] : [];
    const targets = [...watched, ...rule.targets, ...(rule.clone === undefined ? [] : [rule.clone])];
    return targets.flatMap((target) =>
      addressesOfTarget(target, address)
        .filter((one) => one.startsWith('127.') || one === '::1' || OWN_ADDRESSES.includes(one))
        .map((one): FirstPacket => {
          const isLocal = one.startsWith('127.') || one === '::1';
          return {
            direction: 'in',
            protocol: packet.protocol,
            source: {
              address: rule.source?.address ?? one,
              port: typeof rule.source?.port === 'number' ? rule.source.port : at.sourcePort,
            },
            destination: { address: one, port: targetPortOf(target.port, portRanges(rule.to.ports), port) },
            names: isLocal ? [] : at.names,
            adapter: isLocal ? 'lo' : at.adapter,
          };
        }),
    );
  }

  function goesRound(rules: Table, packet: FirstPacket, at: Moment): boolean {
    const surroundings: Surroundings = { ...around, ...at };
    const under = new Set<string>();
    const done = new Set<string>();
    const follow = (one: FirstPacket): boolean => {
      const key = JSON.stringify(one);
      if (under.has(key)) return true;
      if (done.has(key)) return false;
      under.add(key);
      const chosen = decide(rules, one, surroundings);
      const round = chosen !== undefined && sentOn(chosen, one, at).some(follow);
      under.delete(key);
      done.add(key);
      return round;
    };
    return packet.direction === 'in' && follow(packet);
  }

  /** To every port of every address, from outside. */
  const packets: readonly FirstPacket[] = ['127.0.0.1', '::1', '10.0.0.1', '10.1.0.1', '2001:db8::1'].flatMap(
    (address) =>
      Array.from({ length: 8 }, (_, at) => at + 1).flatMap((port) =>
        (['tcp', 'udp'] as const).map(
          (protocol): FirstPacket => ({
            direction: 'in',
            protocol,
            source: { address: '192.0.2.9', port: 3 },
            destination: { address, port },
          }),
        ),
      ),
  );

  test('where none is found, nothing goes round, whatever comes', () => {
    let calm = 0;
    fc.assert(
      fc.property(smallTable, moment, fc.array(smallPacket, { maxLength: 20 }), (rules, at, more) => {
        if (loopsOf(rules).length > 0) return;
        calm++;
        for (const packet of [...packets, ...more]) expect(goesRound(rules, packet, at)).toBe(false);
      }),
      { numRuns: 600 },
    );
    expect(calm).toBeGreaterThan(50);
  });

  test('where one is found among rules without conditions, something goes round', () => {
    const bare = (one: Rule): Rule => ({
      ...one,
      from: { clients: undefined, ports: ANY_PORT },
      adapters: [],
      macs: [],
      schedule: undefined,
    });
    let found = 0;
    fc.assert(
      fc.property(smallTable, moment, (table, at) => {
        const rules = table.map(bare);
        const round = packets.some((packet) => goesRound(rules, packet, at));
        expect(loopsOf(rules).length > 0).toBe(round);
        if (round) found++;
      }),
      { numRuns: 600 },
    );
    expect(found).toBeGreaterThan(50);
  });
});

describe("natward's own port", () => {
  const own = "UDP 5350 is natward's own port: it hears the gateway's announcements there";

  test.each([
    ['in udp 5350 -> nas', 'to', 'Leave it out: ~5350 among the ports.'],
    ['in tcp+udp 5000-6000 -> nas', 'to', 'Leave it out: ~5350 among the ports.'],
    ['in udp 5350 -> drop', 'to', 'Leave it out: ~5350 among the ports.'],
    ['in udp 80 -> :5350', 'target', 'Send it to another port.'],
    ['in udp 80 -> 10.0.0.1:5350', 'target', 'Send it to another port.'],
    ['in udp 350-360 -> self:+5000', 'target', 'Send it to another port.'],
    ['in udp 1-10,21-30 -> localhost:5340-5359', 'target', 'Send it to another port.'],
    ['in udp 80 -> nas else :5350', 'else', 'Send it to another port.'],
    ['in udp 80 -> nas clone :5350', 'clone', 'Send it to another port.'],
  ])('%s is an error of %s', (line, field, advice) => {
    expect(validate(table(line), around)).toEqual([
      { severity: 'error', ruleId: 'a', position: 1, field, message: own, advice },
    ]);
  });

  test.each([
    'in tcp 5350 -> nas',
    'in udp *,~5350 -> nas',
    'in udp 80 -> nas:5350',
    'in udp 350-360,~350 -> :+5000',
    'out udp :5350 -> monitor',
  ])('%s is none of it', (line) => {
    expect(validate(table(line), around)).toEqual([]);
  });
});

describe('a large table', () => {
  const spread = (count: number, line: (at: number) => string): Table =>
    Array.from({ length: count }, (_, at) => rule(line(at), `r${at}`));
  const address = (at: number) => `10.${at >> 16}.${(at >> 8) & 255}.${at & 255}`;

  test.each<[string, (at: number) => string]>([
    ['a port each', (at) => `in tcp ${at + 1} -> 192.0.2.1:+0`],
    ['a port each, to this host', (at) => `in tcp ${at + 1} -> :${at + 20_001}`],
    ['an address each at one port', (at) => `in tcp ${address(at)}:80 -> nas:${at + 1}`],
    ['clients each at one port', (at) => `in tcp 80 from ${address(at)} -> nas:${at + 1}`],
    ['clients each at every port, to this host', (at) => `in tcp from ${address(at + 256)} -> 10.0.0.1:+0`],
    ['ranges that lie in each other', (at) => `in tcp ${at + 1}-${60_000 - at} from ${address(at)} -> nas`],
    [
      'accept-proxy each its own',
      (at) => `in tcp ${(at % 5000) + 1} from ${address(at)} -> nas accept-proxy ${address(at)}`,
    ],
    ['ranges that cross', (at) => `in tcp ${at + 1}-${at + 20_001} -> nas`],
    ['all shadowed', (at) => `in tcp 1-${60_000 - at} -> nas`],
    ['a long chain', (at) => `in tcp ${at + 1} -> :${at + 2}`],
  ])('of ten thousand rules is looked through in no time: %s', (_, line) => {
    const rules = spread(10_000, line);
    const start = performance.now();
    validate(rules, around);
    expect(performance.now() - start).toBeLessThan(5000);
  });

  test('a chain over every port is followed, and its circle found', () => {
    const rules = table('in tcp 1-65534 -> :+1', 'in tcp 65535 -> :1');
    expect(loopsOf(rules)).toEqual([expect.objectContaining({ ruleId: 'a', position: 1 })]);
  });

  test('of more rules than can be run is refused at the first that is too many', () => {
    const spec = parseRule('in tcp 80 -> nas');
    const rules = Array.from({ length: MAX_RULES + 1 }, (_, at) => ({
      ...spec,
      id: `r${at}`,
      enabled: true,
    }));
    expect(validate(rules, around)).toEqual([
      {
        severity: 'error',
        ruleId: `r${MAX_RULES}`,
        position: MAX_RULES + 1,
        field: 'rules',
        message: `there are ${MAX_RULES + 1} rules: at most ${MAX_RULES} can be run`,
      },
    ]);
  });
});

test('findings come in the order of the rules', () => {
  const rules = table(
    'in udp 5350 -> nas',
    'in tcp 80 -> :81',
    'in tcp 81 -> :80',
    'in tcp 80 from LOCAL -> nas',
  );
  expect(validate(rules, around).map(({ position }) => position)).toEqual([1, 2, 4]);
});
