/**
 * What the tests of rules draw from: every value that a line can say, and small rules that meet each other often.
 */

import * as fc from 'fast-check';
import { type AccessList, parseAccessList } from '../../src/forwarder/access.ts';
import type { FirstPacket } from '../../src/forwarder/decide.ts';
import {
  type AddressPattern,
  type Direction,
  NO_ACCESS,
  NO_LIMITS,
  type Rule,
  type RuleSpec,
  type Source,
  type Target,
  type TargetPort,
  type Verdict,
} from '../../src/forwarder/rule.ts';
import { parseSchedule, type Schedule } from '../../src/forwarder/schedule.ts';
import { parseRule } from '../../src/forwarder/text.ts';
import { checkDescription } from '../../src/forwarder/words.ts';
import { isNatwardError } from '../../src/errors.ts';
import { family, type IpAddress, parseAddress } from '../../src/net/address.ts';
import { type PortRange, portCount } from '../../src/net/port-range.ts';
import { type PortSet, portRanges } from '../../src/net/port-set.ts';
import type { TransportProtocol } from '../../src/net/protocol.ts';

export const port: fc.Arbitrary<number> = fc.integer({ min: 1, max: 65_535 });

const portRange: fc.Arbitrary<PortRange> = fc
  .oneof(
    port.map((one) => [one, one]),
    fc.tuple(port, port),
  )
  .map(([a = 1, b = 1]) => ({ first: Math.min(a, b), last: Math.max(a, b) }));

/** With something left of it. */
export const portSet: fc.Arbitrary<PortSet> = fc
  .record({
    included: fc.array(portRange, { maxLength: 4 }),
    excluded: fc.array(portRange, { maxLength: 3 }),
  })
  .filter((set) => portRanges(set).length > 0);

const ip: fc.Arbitrary<IpAddress> = fc
  .oneof(
    fc.ipV4(),
    fc.ipV6(),
    fc.constantFrom('fe80::1%eth0', 'fe80::2%br-lan', '127.0.0.1', '::1', '::', '0.0.0.0'),
  )
  .map((text) => parseAddress(text) as IpAddress);

const label = fc.stringMatching(/^[a-z_]([a-z0-9-]{0,8}[a-z0-9])?$/);
/** Among them those that are words of the language. */
const hostName = fc.oneof(
  fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join('.')),
  fc.constantFrom('monitor', 'refuse', 'drop', 'idle', 'via', 'as', 'from', 'else', 'clone', 'in', 'tcp'),
);

export const addressPattern: fc.Arbitrary<AddressPattern> = fc.oneof(
  fc.tuple(ip, fc.nat()).map(([address, bits]) => ({
    kind: 'network' as const,
    address,
    prefixLength: bits % 3 === 0 ? full(address) : bits % (full(address) + 1),
  })),
  hostName.map((name) => ({ kind: 'name' as const, name })),
);

function full(address: IpAddress): number {
  return family(address) === 4 ? 32 : 128;
}

const accessWord = fc.oneof(
  fc.constantFrom('ALL', 'LOCAL', '10.0.0.0/8', '192.168.', '[2001:db8::]/32', '198.51.100.7', '::1'),
  fc.domain(),
  fc.domain().map((name) => `.${name}`),
);
const accessList: fc.Arbitrary<AccessList> = fc
  .array(
    fc.array(accessWord, { minLength: 1, maxLength: 3 }).map((words) => words.join(', ')),
    { minLength: 1, maxLength: 3 },
  )
  .map((lists) => parseAccessList(lists.join(' EXCEPT ')));

const schedule: fc.Arbitrary<Schedule> = fc
  .array(
    fc.constantFrom('mon-fri 08:00-18:00', 'sat,sun 00:00-24:00', 'daily 22:00-06:00', 'wed 12:30-12:45'),
    {
      minLength: 1,
      maxLength: 3,
    },
  )
  .map((windows) => parseSchedule(windows.join(' and ')));

const adapter = fc.stringMatching(/^[a-z][\w.@-]{0,14}$/);
const mac = fc
  .uint8Array({ minLength: 6, maxLength: 6 })
  .map((bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':'));

const description: fc.Arbitrary<string> = fc
  .array(
    fc.oneof(
      fc.constantFrom('"', '\\', '->', ' ', 'ü', '👩‍🔧'),
      fc.string({ unit: 'grapheme', maxLength: 4 }),
    ),
    {
      maxLength: 8,
    },
  )
  .map((parts) => parts.join(''))
  .filter(isDescription);

function isDescription(text: string): boolean {
  try {
    return checkDescription(text) === text;
  } catch (error) {
    if (isNatwardError(error, 'USAGE')) return false;
    throw error;
  }
}

/** Only such as can take these ports. */
function targetPort(ports: PortSet): fc.Arbitrary<TargetPort> {
  const ranges = portRanges(ports);
  const count = ranges.reduce((sum, range) => sum + portCount(range), 0);
  const [least, most] = [ranges[0]?.first ?? 1, ranges.at(-1)?.last ?? 1];
  const plain: fc.Arbitrary<TargetPort>[] = [
    fc.constant({ kind: 'same' }),
    port.map((one) => ({ kind: 'one', port: one })),
    fc.integer({ min: 1 - least, max: 65_535 - most }).map((by) => ({ kind: 'shift', by })),
  ];
  if (count > 1) {
    const first = fc.integer({ min: 1, max: 65_536 - count });
    plain.push(first.map((at) => ({ kind: 'range', range: { first: at, last: at + count - 1 } })));
  }
  return fc.oneof(...plain);
}

function target(ports: PortSet): fc.Arbitrary<Target> {
  return fc
    .record({ host: fc.oneof(fc.constant(undefined), ip, hostName), port: targetPort(ports) })
    .filter(({ host, port: { kind } }) => host !== undefined || kind !== 'same');
}

const source: fc.Arbitrary<Source> = fc
  .record({
    address: fc.oneof(fc.constantFrom('client' as const, undefined), ip),
    port: fc.oneof(fc.constantFrom('same' as const, undefined), port),
  })
  .filter((one) => one.address !== undefined || one.port !== undefined);

function perhaps<T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> {
  return fc.option(arbitrary, { nil: undefined });
}

const upTo = (max: number) => perhaps(fc.integer({ min: 1, max }));
const bytes = perhaps(
  fc.oneof(
    fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    fc.constantFrom(1000, 1024, 10_000_000, 2 ** 31),
  ),
);

const protocols: fc.Arbitrary<readonly TransportProtocol[]> = fc.constantFrom(
  ['tcp'],
  ['udp'],
  ['tcp', 'udp'],
);

/** Any rule that a line can say. */
export const ruleSpec: fc.Arbitrary<RuleSpec> = fc
  .tuple(portSet, fc.constantFrom<Verdict>('forward', 'monitor', 'refuse', 'drop'))
  .chain(([ports, verdict]) => {
    const forwards = verdict === 'forward';
    const leaves = forwards || verdict === 'monitor';
    return fc
      .record({
        direction: fc.constantFrom<Direction>('in', 'out'),
        protocols,
        to: fc.record({ addresses: fc.array(addressPattern, { maxLength: 3 }), ports: fc.constant(ports) }),
        from: fc.record({ clients: perhaps(accessList), ports: portSet }),
        adapters: fc.array(adapter, { maxLength: 2 }),
        macs: fc.array(mac, { maxLength: 2 }),
        schedule: perhaps(schedule),
        verdict: fc.constant(verdict),
        targets: forwards ? fc.array(target(ports), { maxLength: 3 }) : fc.constant([]),
        source: forwards ? perhaps(source) : fc.constant(undefined),
        via: forwards
          ? perhaps(fc.record({ adapter, sourceMac: mac, targetMac: mac }, { requiredKeys: ['adapter'] }))
          : fc.constant(undefined),
        reflection: forwards ? perhaps(fc.constantFrom('plain', 'mirror', 'route')) : fc.constant(undefined),
        clone: leaves ? perhaps(target(ports)) : fc.constant(undefined),
        proxy: forwards ? perhaps(fc.constantFrom('v1', 'v2')) : fc.constant(undefined),
        acceptProxy: perhaps(accessList),
        access: fc.record({
          allow: perhaps(accessList),
          deny: perhaps(accessList),
          hosts: perhaps(fc.constantFrom('sshd', 'in.telnetd', 'Natward')),
        }),
        limits: fc.record({
          newPerSecond: upTo(1_000_000),
          open: upTo(1_000_000),
          openPerClient: upTo(1_000_000),
          bytesPerSecond: bytes,
          quotaBytes: bytes,
        }),
        idleSeconds: upTo(604_800),
        connectSeconds: upTo(300),
        description,
      })
      .filter(
        (rule) =>
          rule.verdict !== 'forward' ||
          rule.targets.length > 0 ||
          (rule.source ?? rule.via ?? rule.reflection) !== undefined,
      );
  });

/** A rule that a line says. */
export function rule(line: string, id: string, enabled = true): Rule {
  return { ...parseRule(line), id, enabled };
}

/** A table of rules that are all on, with the ids a, b, c and so on. */
export function table(...lines: readonly string[]): readonly Rule[] {
  return lines.map((line, at) => rule(line, String.fromCharCode(97 + at)));
}

/** This host in the tests of what rules do together. */
export const OWN_ADDRESSES: readonly IpAddress[] = ['10.0.0.1', '10.1.0.1', '2001:db8::1'];
const ADDRESSES_OF: ReadonlyMap<string, readonly IpAddress[]> = new Map([
  ['self', ['10.0.0.1']],
  ['other.example', ['10.0.0.9', '192.0.2.9']],
]);
export function addressesOf(name: string): readonly IpAddress[] {
  return ADDRESSES_OF.get(name) ?? [];
}

const smallPort = fc.integer({ min: 1, max: 8 });
const smallRange = fc
  .tuple(smallPort, fc.constantFrom(0, 0, 1, 3))
  .map(([first, more]): PortRange => ({ first, last: Math.min(8, first + more) }));
const smallPorts: fc.Arbitrary<PortSet> = fc
  .record({
    included: fc.array(smallRange, { maxLength: 2 }),
    excluded: fc.oneof({ weight: 4, arbitrary: fc.constant([]) }, fc.array(smallRange, { maxLength: 1 })),
  })
  .map(({ included, excluded }) => ({
    included: included.length === 0 ? [{ first: 1, last: 8 }] : included,
    excluded,
  }))
  .filter((set) => portRanges(set).length > 0);
const smallPattern: fc.Arbitrary<AddressPattern> = fc.constantFrom<AddressPattern>(
  { kind: 'network', address: '10.0.0.1', prefixLength: 32 },
  { kind: 'network', address: '10.0.0.0', prefixLength: 16 },
  { kind: 'network', address: '10.0.0.0', prefixLength: 8 },
  { kind: 'network', address: '127.0.0.0', prefixLength: 8 },
  { kind: 'network', address: '::', prefixLength: 0 },
  { kind: 'name', name: 'self' },
  { kind: 'name', name: 'other.example' },
);
const smallClients = fc
  .constantFrom(
    'ALL',
    'LOCAL',
    '10.0.0.0/8',
    '10.0.0.0/16, 127.',
    '10.0.0.1',
    '.example.org',
    'ALL EXCEPT 10.0.0.0/16',
  )
  .map(parseAccessList);
const smallTarget: fc.Arbitrary<Target> = fc.record({
  host: fc.constantFrom(
    undefined,
    undefined,
    'localhost',
    '127.0.0.1',
    '::1',
    '10.0.0.1',
    '10.0.0.9',
    'self',
  ),
  port: fc.oneof(
    smallPort.map((one): TargetPort => ({ kind: 'one', port: one })),
    fc.integer({ min: 0, max: 3 }).map((by): TargetPort => ({ kind: 'shift', by })),
  ),
});

/** Mostly without a condition, now and then with one. */
function rarely<T>(arbitrary: fc.Arbitrary<T>, usual: T): fc.Arbitrary<T> {
  return fc.oneof({ weight: 5, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary });
}

const smallSpec: fc.Arbitrary<RuleSpec> = fc
  .record({
    direction: fc.constantFrom<Direction>('in', 'in', 'in', 'out'),
    protocols,
    to: fc.record({ addresses: rarely(fc.array(smallPattern, { maxLength: 2 }), []), ports: smallPorts }),
    from: fc.record({
      clients: rarely<AccessList | undefined>(smallClients, undefined),
      ports: rarely(smallPorts, { included: [], excluded: [] }),
    }),
    adapters: rarely(fc.subarray(['lo', 'eth0']), []),
    macs: rarely<readonly string[]>(fc.constant(['02:00:00:00:00:01']), []),
    schedule: rarely<Schedule | undefined>(schedule, undefined),
    verdict: fc.constantFrom<Verdict>('forward', 'forward', 'forward', 'monitor', 'drop'),
    targets: fc.array(smallTarget, { minLength: 1, maxLength: 2 }),
    source: rarely<Source | undefined>(
      fc.constantFrom<Source>({ address: '10.1.0.1', port: undefined }, { address: undefined, port: 4 }),
      undefined,
    ),
    clone: rarely<Target | undefined>(smallTarget, undefined),
  })
  .map((some) => ({
    ...some,
    targets: some.verdict === 'forward' ? some.targets : [],
    source: some.verdict === 'forward' ? some.source : undefined,
    clone: some.verdict === 'drop' ? undefined : some.clone,
    via: undefined,
    reflection: undefined,
    proxy: undefined,
    acceptProxy: undefined,
    access: NO_ACCESS,
    limits: NO_LIMITS,
    idleSeconds: undefined,
    connectSeconds: undefined,
    description: '',
  }));

/** Up to eight rules about the same few ports and addresses, some of them off. */
export const smallTable: fc.Arbitrary<readonly Rule[]> = fc
  .array(fc.record({ spec: smallSpec, enabled: rarely(fc.constant(false), true) }), {
    minLength: 1,
    maxLength: 8,
  })
  .map((rules) => rules.map(({ spec, enabled }, at) => ({ ...spec, id: `r${at + 1}`, enabled })));

const smallAddress = fc.constantFrom(
  '127.0.0.1',
  '127.0.0.2',
  '::1',
  '10.0.0.1',
  '10.1.0.1',
  '10.0.0.9',
  '192.0.2.9',
  '2001:db8::1',
);
export const smallPacket: fc.Arbitrary<FirstPacket> = fc.record({
  direction: fc.constantFrom<Direction>('in', 'in', 'out'),
  protocol: fc.constantFrom('tcp', 'udp'),
  source: fc.record({ address: smallAddress, port: smallPort }),
  destination: fc.record({ address: smallAddress, port: smallPort }),
  names: fc.constantFrom([], ['a.example.org'], ['nas']),
  adapter: fc.constantFrom('lo', 'eth0', 'eth1'),
  mac: fc.constantFrom('02:00:00:00:00:01', '02:00:00:00:00:02'),
});
