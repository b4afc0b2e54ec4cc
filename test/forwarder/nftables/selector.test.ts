import * as fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { describe, expect, test } from 'vitest';
import { isNatwardError } from '../../../src/errors.ts';
import { type AccessList, matchesAccess, parseAccessList } from '../../../src/forwarder/access.ts';
import { type FirstPacket, leadsBack, mismatch } from '../../../src/forwarder/decide.ts';
import { type Match, matchesOf, refusedBy } from '../../../src/forwarder/nftables/selector.ts';
import { NO_ACCESS, type Rule } from '../../../src/forwarder/rule.ts';
import { parseRule } from '../../../src/forwarder/text.ts';
import { family, type IpAddress, isLoopback } from '../../../src/net/address.ts';
import { hasPort } from '../../../src/net/port-set.ts';
import { addressesOf, OWN_ADDRESSES, rule, ruleSpec, smallPacket, smallTable } from '../arbitraries.ts';

const AROUND = { addressesOf, ownAddresses: OWN_ADDRESSES, weekday: 1, minuteOfDay: 0 };

function of(line: string): readonly Match[] {
  return matchesOf(rule(line, 'a'), AROUND);
}

/** `tcp 4 ip saddr 10.0.0.0/8`; `*` is both families. */
function words(line: string): string[] {
  return of(line).map(({ protocol, family, conditions }) =>
    `${protocol} ${family ?? '*'} ${conditions}`.trim(),
  );
}

interface Asked {
  readonly field: string;
  readonly isNot: boolean;
  readonly values: readonly string[];
}

const CONDITION =
  /([io]ifname|ether saddr|ip6? [sd]addr|(?:tcp|udp) sport) (!= )?(?:\{ ([^{}]+) \}|([^{}\s]+))(?: (?=\S)|$)/y;

/** What the text asks, by its grammar alone; throws at what is not of it. */
function read(conditions: string): Asked[] {
  const asked: Asked[] = [];
  for (let at = 0; at < conditions.length; ) {
    CONDITION.lastIndex = at;
    const [whole, field = '', not, set, one = ''] = CONDITION.exec(conditions) ?? [];
    if (whole === undefined) throw new Error(`cannot read "${conditions.slice(at)}"`);
    asked.push({ field, isNot: not !== undefined, values: set === undefined ? [one] : set.split(', ') });
    at += whole.length;
  }
  return asked;
}

function isAddressIn(value: string, address: IpAddress): boolean {
  const wanted = ipaddr.parse(address);
  const [first = '', last] = value.split('-');
  if (first.includes('/')) {
    const [network, bits] = ipaddr.parseCIDR(first);
    return network.kind() === wanted.kind() && wanted.match([network, bits] as never);
  }
  const digits = (one: ipaddr.IPv4 | ipaddr.IPv6): string => Buffer.from(one.toByteArray()).toString('hex');
  const [low, high] = [ipaddr.parse(first), ipaddr.parse(last ?? first)];
  return low.kind() === wanted.kind() && digits(low) <= digits(wanted) && digits(wanted) <= digits(high);
}

function holds({ field, isNot, values }: Asked, packet: FirstPacket): boolean {
  const [what = '', side] = field.split(' ');
  if (side === undefined) return values.includes(`"${packet.adapter}"`);
  if (what === 'ether') return values.includes(packet.mac ?? '');
  if (side === 'sport') {
    return (
      what === packet.protocol &&
      values.some((value) => {
        const [first = '', last = first] = value.split('-');
        return Number(first) <= packet.source.port && packet.source.port <= Number(last);
      })
    );
  }
  const { address } = side === 'saddr' ? packet.source : packet.destination;
  // Of the other family there is no such field, and so nothing that it is not.
  if (family(address) !== (what === 'ip' ? 4 : 6)) return false;
  return values.some((value) => isAddressIn(value, address)) !== isNot;
}

function isOwn(address: IpAddress): boolean {
  return OWN_ADDRESSES.includes(address) || isLoopback(address);
}

/** What the kernel would say. */
function takes(match: Match, packet: FirstPacket): boolean {
  const { source, destination, direction, protocol } = packet;
  return (
    match.protocol === protocol &&
    (match.family === undefined ||
      (match.family === family(source.address) && match.family === family(destination.address))) &&
    hasPort(match.ports, destination.port) &&
    (match.destination === undefined || match.destination === destination.address) &&
    (!match.isOwnDestination || isOwn(destination.address) === (direction === 'in')) &&
    read(match.conditions).every((asked) => holds(asked, packet))
  );
}

const clients: fc.Arbitrary<AccessList> = fc
  .array(
    fc.array(
      fc.constantFrom(
        'ALL',
        '10.0.0.0/8',
        '10.0.0.1',
        '127.',
        '::/0',
        '2001:db8::/32',
        '0.0.0.0/0',
        'LOCAL',
        '192.0.2.9',
      ),
      { minLength: 1, maxLength: 3 },
    ),
    { minLength: 1, maxLength: 3 },
  )
  .map((lists) => parseAccessList(lists.map((list) => list.join(',')).join(' EXCEPT ')));
const perhapsClients = fc.option(clients, { nil: undefined });

/** Rules that the kernel may carry, always on. */
const kernelRule: fc.Arbitrary<Rule> = fc
  .tuple(
    fc.oneof(
      { weight: 3, arbitrary: smallTable.map(([first]) => first as Rule) },
      { weight: 1, arbitrary: ruleSpec },
    ),
    perhapsClients,
  )
  .map(
    ([spec, list]): Rule => ({
      ...spec,
      id: 'a',
      enabled: true,
      schedule: undefined,
      from: { ...spec.from, clients: list },
    }),
  );

/** One that the rule may well be for: what leaves has no neighbour, a packet is of one family. */
function packetFor(one: Rule): fc.Arbitrary<FirstPacket> {
  const named = one.to.addresses.flatMap((pattern) =>
    pattern.kind === 'network' && !pattern.address.includes('%') ? [pattern.address] : [],
  );
  return fc
    .record({
      packet: smallPacket,
      destination: fc.constantFrom(undefined, ...named),
      port: fc.constantFrom(undefined, ...one.to.ports.included.map(({ first }) => first)),
      adapter: fc.constantFrom(undefined, ...one.adapters),
      mac: fc.constantFrom(undefined, ...one.macs),
      direction: fc.constantFrom(one.direction),
    })
    .map(({ packet, destination, port, adapter, mac, direction }) => ({
      ...packet,
      direction,
      names: [],
      adapter: adapter ?? packet.adapter,
      mac: direction === 'in' ? (mac ?? packet.mac) : undefined,
      destination: {
        address: destination ?? packet.destination.address,
        port: port ?? packet.destination.port,
      },
    }))
    .filter(({ source, destination: { address } }) => family(source.address) === family(address));
}

describe('a selector', () => {
  test('without conditions is one match of both families', () => {
    expect(of('in tcp 80,443 -> 10.0.0.5:8080')).toEqual([
      {
        protocol: 'tcp',
        family: undefined,
        ports: [
          { first: 80, last: 80 },
          { first: 443, last: 443 },
        ],
        conditions: '',
        isOwnDestination: true,
      },
    ]);
    expect(of('in tcp 80 from ALL -> :81')).toMatchObject([{ family: undefined, conditions: '' }]);
  });

  test('says everything that it asks, in one order', () => {
    expect(
      words(
        'in udp 10.0.0.0/24:53 port 1000-2000,53 on eth0,eth1 mac 02:00:00:00:00:0A from 10.1.0.0/16,10.3.0.1 -> :54',
      ),
    ).toEqual([
      'udp 4 iifname { "eth0", "eth1" } ether saddr 02:00:00:00:00:0a ip saddr { 10.1.0.0/16, 10.3.0.1 } ' +
        'ip daddr 10.0.0.0/24 udp sport { 53, 1000-2000 }',
    ]);
  });

  test('is one match a protocol', () => {
    expect(words('in tcp+udp 53 port 53 -> :54')).toEqual(['tcp * tcp sport 53', 'udp * udp sport 53']);
  });

  test('is one match a family where addresses are asked for', () => {
    expect(words('in tcp 80 from 10.0.0.0/8,2001:db8::/32 -> :81')).toEqual([
      'tcp 4 ip saddr 10.0.0.0/8',
      'tcp 6 ip6 saddr 2001:db8::/32',
    ]);
    expect(words('in tcp 80 from 10.0.0.0/8 -> :81')).toEqual(['tcp 4 ip saddr 10.0.0.0/8']);
    expect(words('in tcp 0.0.0.0/0:80 -> :81')).toEqual(['tcp 4']);
    expect(words('in tcp [2001:db8::1]:80 from 10.0.0.0/8 -> :81')).toEqual([]);
  });

  test('says the shorter of what it takes and what it does not', () => {
    expect(words('in tcp 80 from ALL EXCEPT 10.0.0.0/8 -> :81')).toEqual([
      'tcp 4 ip saddr != 10.0.0.0/8',
      'tcp 6',
    ]);
    expect(words('in tcp 80 from 0.0.0.0/0 EXCEPT 10.0.0.1,10.0.0.3,10.0.0.5 -> :81')).toEqual([
      'tcp 4 ip saddr != { 10.0.0.1, 10.0.0.3, 10.0.0.5 }',
    ]);
  });

  test('of what leaves asks for the interface that it leaves by', () => {
    expect(words('out tcp other.example:25 on eth0 -> :8025')).toEqual([
      'tcp 4 oifname "eth0" ip daddr { 10.0.0.9, 192.0.2.9 }',
    ]);
    expect(of('out tcp 25 -> :8025')).toMatchObject([{ conditions: '', isOwnDestination: true }]);
  });

  test('matches nothing where its name stands for nothing', () => {
    expect(of('in tcp nobody.example:80 -> :81')).toEqual([]);
    expect(words('in tcp nobody.example,10.0.0.1:80 -> :81')).toEqual(['tcp 4 ip daddr 10.0.0.1']);
  });

  test('matches nothing where the kernel can have no such interface, or no neighbour', () => {
    expect(of('in tcp 80 on Local_Area_Connection -> :81')).toEqual([]);
    expect(words('in tcp 80 on Local_Area_Connection,eth0 -> :81')).toEqual(['tcp * iifname "eth0"']);
    expect(of('out tcp 80 mac 02:00:00:00:00:01 -> :81')).toEqual([]);
  });

  test('takes the packets that the rule is for, and no others', () => {
    let taken = 0;
    fc.assert(
      fc.property(
        kernelRule.chain((one) =>
          fc.tuple(fc.constant(one), fc.array(packetFor(one), { minLength: 1, maxLength: 10 })),
        ),
        ([one, packets]) => {
          const matches = matchesOf(one, AROUND);
          for (const packet of packets) {
            const { address, port } = packet.destination;
            // Asked of whoever writes the ruleset: it is about the target, and about this host.
            const isServers =
              one.to.addresses.length === 0 && isLoopback(address) && leadsBack(one, port, AROUND);
            if (isServers) continue;
            const isRules = mismatch(one, packet, AROUND) === undefined;
            expect(matches.filter((match) => takes(match, packet)).length).toBe(isRules ? 1 : 0);
            if (isRules) taken++;
          }
        },
      ),
      { numRuns: 2000 },
    );
    expect(taken).toBeGreaterThan(100);
  });
});

describe('a refusal', () => {
  function refused(access: { readonly allow?: string; readonly deny?: string }): string[] {
    const [allow, deny] = [access.allow, access.deny].map((text) =>
      text === undefined ? undefined : parseAccessList(text),
    );
    return refusedBy({ ...NO_ACCESS, allow, deny }).map(({ family, condition }) =>
      `${family ?? '*'} ${condition}`.trim(),
    );
  }

  test('nobody is refused where nothing is said', () => {
    expect(refused({})).toEqual([]);
    expect(refused({ allow: 'ALL' })).toEqual([]);
  });

  test('those denied, and those who are not allowed', () => {
    expect(refused({ deny: '10.0.0.0/8' })).toEqual(['4 ip saddr 10.0.0.0/8']);
    expect(refused({ allow: '10.0.0.0/8' })).toEqual(['4 ip saddr != 10.0.0.0/8', '6']);
    expect(refused({ allow: '10.0.0.0/8', deny: '10.0.0.7' })).toEqual([
      '4 ip saddr != { 10.0.0.0-10.0.0.6, 10.0.0.8-10.255.255.255 }',
      '6',
    ]);
  });

  test('everybody', () => {
    expect(refused({ deny: 'ALL' })).toEqual(['*']);
    expect(refused({ allow: '10.0.0.0/8', deny: '10.0.0.0/7' })).toEqual(['*']);
  });

  test('is what the relay says to the same client', () => {
    fc.assert(
      fc.property(
        perhapsClients,
        perhapsClients,
        fc.array(smallPacket, { minLength: 1 }),
        (allow, deny, packets) => {
          const conditions = refusedBy({ allow, deny });
          for (const packet of packets) {
            const { address } = packet.source;
            const isDenied = deny !== undefined && matchesAccess(deny, { address });
            const isAllowed = allow === undefined || matchesAccess(allow, { address });
            const isRefused = conditions.some(
              (one) =>
                (one.family ?? family(address)) === family(address) &&
                read(one.condition).every((asked) => holds(asked, packet)),
            );
            expect(isRefused).toBe(isDenied || !isAllowed);
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('hostile text', () => {
  const TOKEN =
    /^(?:[{},]|!=|[io]ifname|ether|ip6?|[sd]addr|tcp|udp|sport|"[\w.@-]{1,15}"|[\da-f]{2}(?::[\da-f]{2}){5}|\d{1,5}(?:-\d{1,5})?|[\da-f.:]+(?:\/\d{1,3}|-[\da-f.:]+)?)$/;
  const hostile = fc.oneof(
    fc.constantFrom(
      'eth0"',
      '";',
      '}',
      '{',
      'accept',
      'drop;',
      '\\',
      '$x',
      '#',
      'nas.lan',
      'eth0',
      '10.0.0.1',
      'fe80::1%x-1',
    ),
    fc.constantFrom(
      'flush ruleset',
      '\n flush ruleset\n',
      '[fe80::1%"eth0]',
      '02:00:00:00:00:01',
      '*',
      '.',
      '..',
      '@set',
    ),
    fc.string({ unit: 'binary', maxLength: 12 }),
    fc.stringMatching(/^[\w.@%*/-]{1,20}$/),
  );
  const line = fc
    .tuple(
      fc.constantFrom('in', 'out'),
      fc.option(hostile, { nil: undefined }),
      fc.array(fc.tuple(fc.constantFrom('on', 'mac', 'from', 'port', 'when'), hostile), { maxLength: 2 }),
      fc.option(hostile, { nil: undefined }),
      fc.string({ unit: 'binary', maxLength: 20 }),
    )
    .map(([direction, host, clauses, target, description]) =>
      [
        `${direction} tcp+udp ${host === undefined ? '' : `${host}:`}80`,
        ...clauses.map(([word, value]) => `${word} ${value}`),
        `-> ${target ?? ''}:81 ${JSON.stringify(description)}`,
      ].join(' '),
    );

  test('becomes nothing but addresses, ports and quoted names, in any rule that is taken', () => {
    let taken = 0;
    fc.assert(
      fc.property(line, (text) => {
        const one = accepted(text);
        if (one === undefined) return;
        taken++;
        for (const { conditions } of matchesOf(one, AROUND)) {
          const tokens = conditions.replaceAll(',', ' ,').split(' ');
          expect(tokens.filter((token) => token !== '' && !TOKEN.test(token))).toEqual([]);
          read(conditions);
        }
      }),
      { numRuns: 3000 },
    );
    expect(taken).toBeGreaterThan(50);
  });

  test('the same of every rule that a line can say', () => {
    fc.assert(
      fc.property(ruleSpec, perhapsClients, (spec, list) => {
        const one: Rule = { ...spec, id: 'a', enabled: true, from: { ...spec.from, clients: list } };
        for (const { conditions } of matchesOf(one, AROUND)) {
          expect(conditions).not.toMatch(/[\n\\;$#]/);
          read(conditions);
        }
      }),
    );
  });

  /** Of those that the kernel may carry: names in client lists are for others. */
  function accepted(text: string): Rule | undefined {
    try {
      const spec = parseRule(text);
      const hasNames = spec.from.clients?.lists.some((list) =>
        list.some(({ kind }) => kind === 'name' || kind === 'domain'),
      );
      return hasNames === true ? undefined : { ...spec, id: 'a', enabled: true };
    } catch (error) {
      if (!isNatwardError(error, 'USAGE')) throw error;
      return undefined;
    }
  }
});
