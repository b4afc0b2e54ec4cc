import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isNatwardError } from '../../src/errors.ts';
import { parseAccessList } from '../../src/forwarder/access.ts';
import { NO_ACCESS, NO_LIMITS, type RuleSpec } from '../../src/forwarder/rule.ts';
import { parseSchedule } from '../../src/forwarder/schedule.ts';
import { formatRule, parseRule } from '../../src/forwarder/text.ts';
import { checkDescription } from '../../src/forwarder/words.ts';
import { ANY_PORT, parsePortSet } from '../../src/net/port-set.ts';
import { ruleSpec } from './arbitraries.ts';

/** `in tcp -> monitor`, but for what is said. */
function spec(said: Partial<RuleSpec>): RuleSpec {
  return {
    direction: 'in',
    protocols: ['tcp'],
    to: { addresses: [], ports: ANY_PORT },
    from: { clients: undefined, ports: ANY_PORT },
    adapters: [],
    macs: [],
    schedule: undefined,
    verdict: 'monitor',
    targets: [],
    source: undefined,
    via: undefined,
    reflection: undefined,
    clone: undefined,
    proxy: undefined,
    acceptProxy: undefined,
    access: NO_ACCESS,
    limits: NO_LIMITS,
    idleSeconds: undefined,
    connectSeconds: undefined,
    description: '',
    ...said,
  };
}

const to = (ports: string) => ({ addresses: [], ports: parsePortSet(ports) });
const one = (host: string | undefined, port: number) => ({ host, port: { kind: 'one', port } as const });

function complaint(text: string): string {
  try {
    parseRule(text);
  } catch (error) {
    if (isNatwardError(error, 'USAGE')) return error.message;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('the examples of the specification', () => {
  test.each<[line: string, canonical: string, said: Partial<RuleSpec>]>([
    [
      'in  tcp 80                                   -> :8080',
      'in tcp 80 -> :8080',
      { to: to('80'), verdict: 'forward', targets: [one(undefined, 8080)] },
    ],
    [
      'out tcp verigio.com:25                       -> :8025',
      'out tcp verigio.com:25 -> :8025',
      {
        direction: 'out',
        to: { addresses: [{ kind: 'name', name: 'verigio.com' }], ports: parsePortSet('25') },
        verdict: 'forward',
        targets: [one(undefined, 8025)],
      },
    ],
    [
      'out tcp :80,443                              -> monitor',
      'out tcp :80,443 -> monitor',
      { direction: 'out', to: to('80,443') },
    ],
    [
      'in  tcp 2000-5000,~3000-3010 from 192.168.0.0/16 on eth0 -> 10.0.0.5:+0',
      'in tcp 2000-5000,~3000-3010 from 192.168.0.0/16 on eth0 -> 10.0.0.5:+0',
      {
        to: {
          addresses: [],
          ports: { included: [{ first: 2000, last: 5000 }], excluded: [{ first: 3000, last: 3010 }] },
        },
        from: { clients: parseAccessList('192.168.0.0/16'), ports: ANY_PORT },
        adapters: ['eth0'],
        verdict: 'forward',
        targets: [{ host: '10.0.0.5', port: { kind: 'shift', by: 0 } }],
      },
    ],
    [
      'in  tcp 80                                   -> 192.168.1.8:8080   "web to the NAS"',
      'in tcp 80 -> 192.168.1.8:8080 "web to the NAS"',
      {
        to: to('80'),
        verdict: 'forward',
        targets: [one('192.168.1.8', 8080)],
        description: 'web to the NAS',
      },
    ],
    [
      'in  udp 5000                                 -> :5000 clone 10.0.0.9:5000 idle 60s',
      'in udp 5000 -> :5000 clone 10.0.0.9:5000 idle 60s',
      {
        protocols: ['udp'],
        to: to('5000'),
        verdict: 'forward',
        targets: [one(undefined, 5000)],
        clone: one('10.0.0.9', 5000),
        idleSeconds: 60,
      },
    ],
    [
      'in  tcp 22 from ALL EXCEPT .example.org      -> refuse',
      'in tcp 22 from ALL EXCEPT .example.org -> refuse',
      {
        to: to('22'),
        from: { clients: parseAccessList('ALL EXCEPT .example.org'), ports: ANY_PORT },
        verdict: 'refuse',
      },
    ],
  ])('%s', (line, canonical, said) => {
    expect(parseRule(line)).toEqual(spec(said));
    expect(formatRule(parseRule(line))).toBe(canonical);
  });
});

describe('each clause', () => {
  test.each<[line: string, said: Partial<RuleSpec>]>([
    ['in tcp -> monitor', {}],
    ['in tcp+udp -> monitor', { protocols: ['tcp', 'udp'] }],
    [
      'in tcp port 1024-65535 -> monitor',
      { from: { clients: undefined, ports: parsePortSet('1024-65535') } },
    ],
    ['in tcp on eth0,wlan0.5 -> monitor', { adapters: ['eth0', 'wlan0.5'] }],
    [
      'in tcp mac 02:00:00:00:00:01,02:00:00:00:00:02 -> monitor',
      { macs: ['02:00:00:00:00:01', '02:00:00:00:00:02'] },
    ],
    [
      'in tcp when mon-fri 08:00-12:00 and sat 10:00-11:00 -> monitor',
      { schedule: parseSchedule('mon-fri 08:00-12:00 and sat 10:00-11:00') },
    ],
    ['in tcp -> drop', { verdict: 'drop' }],
    [
      'in tcp -> nas:80 else 10.0.0.6,[::1]:80',
      {
        verdict: 'forward',
        targets: [one('nas', 80), { host: '10.0.0.6', port: { kind: 'same' } }, one('::1', 80)],
      },
    ],
    [
      'in tcp -> :80 as client:same',
      { verdict: 'forward', targets: [one(undefined, 80)], source: { address: 'client', port: 'same' } },
    ],
    [
      'out tcp -> via wan1 source-mac 02:00:00:00:00:01 target-mac 02:00:00:00:00:02',
      {
        direction: 'out',
        verdict: 'forward',
        via: { adapter: 'wan1', sourceMac: '02:00:00:00:00:01', targetMac: '02:00:00:00:00:02' },
      },
    ],
    ['in tcp -> reflect route', { verdict: 'forward', reflection: 'route' }],
    [
      'in tcp -> 192.168.1.8:8080 reflect mirror',
      { verdict: 'forward', targets: [one('192.168.1.8', 8080)], reflection: 'mirror' },
    ],
    ['in tcp -> monitor clone 10.0.0.9', { clone: { host: '10.0.0.9', port: { kind: 'same' } } }],
    ['in tcp -> :80 proxy v2', { verdict: 'forward', targets: [one(undefined, 80)], proxy: 'v2' }],
    ['in tcp -> monitor accept-proxy 10.0.0.0/8', { acceptProxy: parseAccessList('10.0.0.0/8') }],
    [
      'in tcp -> monitor allow 10.0.0.0/8,LOCAL deny ALL EXCEPT a.example hosts sshd',
      {
        access: {
          allow: parseAccessList('10.0.0.0/8,LOCAL'),
          deny: parseAccessList('ALL EXCEPT a.example'),
          hosts: 'sshd',
        },
      },
    ],
    ['in tcp -> monitor idle 90s connect 5s', { idleSeconds: 90, connectSeconds: 5 }],
    [
      'in tcp -> monitor new 10/s open 100 per-client 5 rate 1MB/s quota 2GiB',
      {
        limits: {
          newPerSecond: 10,
          open: 100,
          openPerClient: 5,
          bytesPerSecond: 1_000_000,
          quotaBytes: 2 ** 31,
        },
      },
    ],
    [
      'in tcp [2001:db8::]/32,10.0.0.1,nas:* -> monitor',
      {
        to: {
          addresses: [
            { kind: 'network', address: '2001:db8::', prefixLength: 32 },
            { kind: 'network', address: '10.0.0.1', prefixLength: 32 },
            { kind: 'name', name: 'nas' },
          ],
          ports: ANY_PORT,
        },
      },
    ],
    ['in tcp -> monitor "with \\"quotes\\", a \\\\ and ->"', { description: 'with "quotes", a \\ and ->' }],
  ])('is read and written back: %s', (line, said) => {
    expect(parseRule(line)).toEqual(spec(said));
    expect(formatRule(spec(said))).toBe(line);
  });

  test.each([
    ['IN TCP 80 -> MONITOR', 'in tcp 80 -> monitor'],
    ['in udp+tcp 80->:81', 'in tcp+udp 80 -> :81'],
    ['in both 80 -> :81', 'in tcp+udp 80 -> :81'],
    ['in tcp *:80 -> :81', 'in tcp 80 -> :81'],
    ['in tcp :80 -> :81', 'in tcp 80 -> :81'],
    ['out tcp 80 -> :81', 'out tcp :80 -> :81'],
    ['in tcp 10.0.0.1 -> :81', 'in tcp 10.0.0.1:* -> :81'],
    ['in tcp * -> :81', 'in tcp -> :81'],
    ['\tin tcp\n80 -> :81  \r\n', 'in tcp 80 -> :81'],
    [
      'in tcp ON eth0 FROM 10., 11. -> :81 IDLE 2h',
      'in tcp from 10.0.0.0/8,11.0.0.0/8 on eth0 -> :81 idle 7200s',
    ],
    ['in tcp MAC AA-BB-CC-DD-EE-FF -> :81', 'in tcp mac aa:bb:cc:dd:ee:ff -> :81'],
    ['in tcp 80 -> VIA eth1', 'in tcp 80 -> via eth1'],
    ['in tcp 80 -> quota 1GB nas', 'quota: there is no target before it'],
    [
      'in tcp 80 -> target-mac 02:00:00:00:00:01 via eth1',
      'in tcp 80 -> via eth1 target-mac 02:00:00:00:00:01',
    ],
    ['in tcp 80 -> idle:', 'in tcp 80 -> idle:'],
    ['in tcp 80 -> Monitor:', 'in tcp 80 -> monitor:'],
    ['in tcp 80 -> monitor:90', 'in tcp 80 -> monitor:90'],
    ['in tcp 80 -> from', 'in tcp 80 -> from'],
    ['in tcp 80 -> nas:', 'in tcp 80 -> nas'],
    ['in tcp 80 -> :81 ""', 'in tcp 80 -> :81'],
    ['in tcp 80 -> :81 rate 500/s new 7', 'in tcp 80 -> :81 new 7/s rate 500B/s'],
    ['in tcp 80 -> :81 else refuse', 'in tcp 80 -> :81 else refuse'],
  ])('%s is %s', (line, canonical) => {
    let written: string;
    try {
      written = formatRule(parseRule(line));
    } catch (error) {
      if (!isNatwardError(error, 'USAGE')) throw error;
      written = error.message;
    }
    expect(written).toBe(canonical);
  });
});

describe('a line that is off is refused with what is wrong', () => {
  test.each([
    ['', 'the rule is empty'],
    ['  \n', 'the rule is empty'],
    ['"only a description"', 'the rule is empty'],
    ['into tcp 80 -> :81', 'a rule begins with "in" or "out", not with "into"'],
    ['-> :81', 'where the traffic comes from: in or out is missing before ->'],
    ['in', 'a protocol: tcp, udp or tcp+udp is missing at the end'],
    ['in -> :81', 'a protocol: tcp, udp or tcp+udp is missing before ->'],
    ['in sctp 80 -> :81', '"sctp" is no protocol: write tcp, udp or tcp+udp'],
    ['in tcp', '"->" is missing at the end'],
    ['in tcp 80', '"->" is missing at the end'],
    ['in tcp 80 ->', 'nothing is said after ->'],
    ['in tcp http -> :81 x', '"x" is not known after ->: else, as, via'],
    ['in tcp 80 to 10.0.0.1 -> :81', '"to" is not known before ->: from, port, on, mac, when'],
    ['in tcp 80 constructor 1 -> :81', '"constructor" is not known'],
    ['in tcp 80 idle 5s -> :81', '"idle" stands after ->'],
    ['in tcp 80 -> :81 from 10.0.0.1', '"from" stands before ->'],
    ['in tcp 80 -> :81 -> :82', 'a clause is missing before ->'],
    ['in tcp 80 on eth0 on eth1 -> :81', '"on" is said twice'],
    ['in tcp 80 -> :81 idle 1s IDLE 2s', '"idle" is said twice'],
    ['in tcp 80000 -> :81', 'port 80000 is out of range'],
    ['in tcp 80,~80 -> :81', '"80,~80" leaves no port over'],
    ['in tcp 10.0.0.0/33:80 -> :81', '"10.0.0.0/33": a prefix has at most 32 bits'],
    ['in tcp 2001:db8::1 -> :81', '"2001:db8::1" is not HOST:PORT: an IPv6 address stands in brackets'],
    ['in tcp nas: -> :81', '"" is not a port number'],
    ['in tcp 80 from -> :81', 'from: a list of addresses or names is missing before ->'],
    ['in tcp 80 from 10.0.0.1, -> :81', 'from: an address or a name is missing before ->'],
    ['in tcp 80 from ALL EXCEPT -> :81', 'from: a list is missing before ->'],
    ['in tcp 80 from 10.0.0.256 -> :81', 'from: "10.0.0.256" cannot be in a client list'],
    ['in tcp 80 port x -> :81', 'port: "x" is not a port number'],
    ['in tcp 80 port -> :81', 'port: a value is missing before ->'],
    ['in tcp 80 on eth/0 -> :81', 'on: "eth/0" is no name of an interface'],
    ['in tcp 80 on .. -> :81', 'on: ".." is no name of an interface'],
    ['in tcp 80 on eth0, -> :81', 'on: "" is no name of an interface'],
    ['in tcp 80 mac 02:00:00:00:00 -> :81', 'mac: "02:00:00:00:00" is no MAC address'],
    ['in tcp 80 when mon -> :81', 'when: hours is missing before ->'],
    ['in tcp 80 when mon 8-18 -> :81', 'when: "8-18" are no hours'],
    ['in tcp 80 when mon 08:00-18:00 and -> :81', 'when: days is missing before ->'],
    ['in tcp 80 -> 10.0.0', '"10.0.0" is neither an address nor a host name'],
    ['in tcp 80 -> :', '":" names no host and no port'],
    ['in tcp 80 -> :81-82', ':81-82: 1 ports cannot become the 2 of 81-82, one each'],
    ['in tcp 80 -> :-80', ':-80: port 80 moved by -80 is out of range'],
    ['in tcp 80 -> :81 else :81-82', ':81-82: 1 ports cannot become'],
    ['in tcp 80 -> :81 clone :81-82', ':81-82: 1 ports cannot become'],
    ['in tcp 80 -> :81 else', 'else: a value is missing at the end'],
    ['in tcp 80 -> :81 else :82,', 'else: "" names no host and no port'],
    ['in tcp 80 -> else :81', 'else: there is no target before it'],
    ['in tcp 80 -> via eth0 else :81', 'else: there is no target before it'],
    [
      `in tcp 80 -> :81 else ${Array.from({ length: 16 }, () => ':82').join(',')}`,
      'else: more than 16 targets',
    ],
    ['in tcp 80 -> :81 as nas', 'as: "nas" is no address of this host, nor "client"'],
    ['in tcp 80 -> :81 via a/b', 'via: "a/b" is no name of an interface'],
    ['in tcp 80 -> :81 source-mac 02:00:00:00:00:01', 'source-mac and target-mac need "via INTERFACE"'],
    ['in tcp 80 -> :81 via eth0 target-mac x', 'target-mac: "x" is no MAC address'],
    ['in tcp 80 -> :81 reflect back', 'reflect: "back" is no reflection: write plain, mirror, route'],
    ['in tcp 80 -> :81 clone 10.0.0', 'clone: "10.0.0" is neither'],
    ['in tcp 80 -> :81 proxy v3', 'proxy: "v3" is no version of the PROXY protocol: write v1, v2'],
    ['in tcp 80 -> :81 accept-proxy 10.0.0.1/8', 'accept-proxy: "10.0.0.1/8" cannot be in a client list'],
    ['in tcp 80 -> :81 allow EXCEPT a', 'allow: a client list has EXCEPT with nothing before it'],
    ['in tcp 80 -> :81 deny', 'deny: a list of addresses or names is missing at the end'],
    ['in tcp 80 -> :81 hosts a/b', 'hosts: "a/b" is no name of a daemon'],
    ['in tcp 80 -> :81 hosts 10.0.0.1', 'hosts: "10.0.0.1" is no name of a daemon'],
    ['in tcp 80 -> :81 idle 0', 'idle: "0" is no time from 1s to 604800s'],
    ['in tcp 80 -> :81 idle 8d', 'idle: "8d" is no time from 1s to 604800s'],
    ['in tcp 80 -> :81 idle soon', 'idle: "soon" is no time'],
    ['in tcp 80 -> :81 connect 301', 'connect: "301" is no time from 1s to 300s'],
    ['in tcp 80 -> :81 new 0/s', 'new: "0/s" is no number from 1 to 1000000'],
    ['in tcp 80 -> :81 new 5/m', 'new: "5/m" is no number'],
    ['in tcp 80 -> :81 open 1000001', 'open: "1000001" is no number from 1 to 1000000'],
    ['in tcp 80 -> :81 per-client many', 'per-client: "many" is no number'],
    ['in tcp 80 -> :81 rate fast', 'rate: "fast" is no amount of bytes'],
    ['in tcp 80 -> :81 quota 0', 'quota: "0" is no amount of bytes'],
    ['in tcp 80 -> monitor else :81', 'else: monitor sends the traffic nowhere else'],
    ['in tcp 80 -> refuse as 10.0.0.1', 'as: refuse sends the traffic nowhere else'],
    ['in tcp 80 -> drop via eth0', 'via: drop sends the traffic nowhere else'],
    ['in tcp 80 -> drop reflect plain', 'reflect: drop sends the traffic nowhere else'],
    ['in tcp 80 -> monitor proxy v1', 'proxy: monitor sends the traffic nowhere else'],
    ['in tcp 80 -> refuse clone :81', 'clone: refuse leaves nothing to copy'],
    ['in tcp 80 -> :81 "open', 'a quote in the rule is not closed, or not at its end'],
    ['in tcp 80 -> :81 "ends in \\"', 'a quote in the rule is not closed, or not at its end'],
    ['in tcp 80 "first" -> :81', 'a quote in the rule is not closed, or not at its end'],
    ['in tcp 80 -> :81 "a" "b"', 'a quote in the rule is not closed, or not at its end'],
    ['in tcp 80 -> :81 "\\q"', 'the description "\\q" has an unknown escape'],
    ['in tcp 80 -> :81 "\\u001b[2J"', 'description: no control characters'],
    [`in tcp 80 -> :81 "${'x'.repeat(251)}"`, 'description: at most 250 characters'],
  ])('%s', (line, message) => {
    expect(complaint(line)).toContain(message);
  });
});

test.each(['\u0000', '\n', '\u001b', '\u0085', '\u2028', '\u202e', '\ud800'])(
  'a description has no %j: it would break the line, or turn it',
  (character) => {
    expect(() => checkDescription(`a${character}b`)).toThrow('no control characters');
  },
);

test.each(['', 'ein Gerät', '家のNAS', '👩‍🔧 workshop', 'نمی‌خواهم', 'x'.repeat(250)])(
  'a description may be "%s"',
  (text) => {
    expect(checkDescription(text)).toBe(text);
    expect(parseRule(formatRule(spec({ description: text }))).description).toBe(text);
  },
);

describe('any rule', () => {
  test('reads back the same, and is written the same again', () => {
    fc.assert(
      fc.property(ruleSpec, (rule) => {
        const line = formatRule(rule);
        fc.pre(line.length <= 8192);
        expect(parseRule(line)).toEqual(rule);
        expect(formatRule(parseRule(line))).toBe(line);
        expect(line).not.toMatch(/[\n\r]/);
      }),
      { numRuns: 500 },
    );
  });

  test('reads back the same with other blanks, which count in the description only', () => {
    fc.assert(
      fc.property(ruleSpec, fc.constantFrom('  ', ' \t', '\r\n '), (rule, blanks) => {
        const line = formatRule({ ...rule, description: '' });
        fc.pre(line.length <= 4096);
        expect(parseRule(line.replaceAll(' ', blanks))).toEqual({ ...rule, description: '' });
      }),
    );
  });
});

describe('hostile text', () => {
  const WORDS =
    'in out tcp udp -> 80 :80 from ALL EXCEPT on eth0 mac when mon 08:00-09:00 and else as via clone idle 5s monitor ' +
    '" \\ , [ ] ~ * % \0 \u001b[2J __proto__ toString 10.0.0.0/8 [::1]:80 1e9 -1';
  const word = fc.constantFrom(...WORDS.split(' '), '\u2028', '\n');
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(word, { maxLength: 14 }).map((words) => words.join(' ')),
    fc.array(word, { maxLength: 10 }).map((words) => `in tcp 80 ${words.join(' ')}`),
    fc.array(word, { maxLength: 10 }).map((words) => `in tcp 80 -> :81 ${words.join('')}`),
    fc.tuple(ruleSpec, fc.nat(), word).map(([rule, place, junk]) => {
      const line = formatRule(rule);
      const at = place % (line.length + 1);
      return line.slice(0, at) + junk + line.slice(at + (place % 3));
    }),
  );

  test('fails in its own words only, and what is accepted reads back', () => {
    fc.assert(
      fc.property(text, (line) => {
        try {
          const rule = parseRule(line);
          expect(parseRule(formatRule(rule))).toEqual(rule);
        } catch (error) {
          if (!isNatwardError(error, 'USAGE')) throw error;
        }
      }),
      { numRuns: 2000 },
    );
  });

  test.each([
    ['commas in an endpoint', `in tcp ${','.repeat(8000)}] -> :80`],
    ['brackets in an endpoint', `in tcp ${'[]/111'.repeat(1200)}] -> :80`],
    ['blanks before a quote', `in tcp 80 -> :80${' '.repeat(8000)}"x`],
    ['backslashes in a quote', `in tcp 80 -> :80 "${'\\'.repeat(8001)}`],
    ['quotes', '"'.repeat(8192)],
    ['arrows', '->'.repeat(4096)],
    ['colons', `in tcp ${':'.repeat(8000)} -> :80`],
    ['labels', `in tcp ${'a-'.repeat(4000)} -> :80`],
    [
      'a thousand holes',
      `in tcp ${Array.from({ length: 1000 }, (_, at) => `~${at * 2 + 1}`).join(',')} -> :+1`,
    ],
    ['a long list', `in tcp 80 from ${'1.2.3.4,'.repeat(1000)}1.2.3.4 -> :80`],
    ['digits', `in tcp ${'9'.repeat(8000)} -> :80`],
    ['exceptions', `in tcp 80 from a${' EXCEPT a'.repeat(800)} -> :80`],
  ])('takes no time: %s', (_, line) => {
    const start = performance.now();
    try {
      parseRule(line);
    } catch (error) {
      if (!isNatwardError(error, 'USAGE')) throw error;
    }
    expect(performance.now() - start).toBeLessThan(1000);
  });

  test('ends at 8192 characters, read or written out', () => {
    const fits = `in tcp 80 -> :80 "${'x'.repeat(250)}"`;
    expect(() => parseRule(`${fits}${' '.repeat(8192 - fits.length)}`)).not.toThrow();
    expect(complaint(`${fits}${' '.repeat(8193 - fits.length)}`)).toBe('a rule has at most 8192 characters');
    const grows = `in tcp 80 from ${Array.from({ length: 1000 }, () => '10.').join(',')} -> :80`;
    expect(complaint(grows)).toBe('a rule has at most 8192 characters, with its addresses written out');
    const long = `in tcp 80 from ${Array.from({ length: 730 }, () => '10.0.0.0/8').join(',')} -> :80`;
    const left = 8192 - `${long} ""`.length;
    expect(() => parseRule(long, 'x'.repeat(left))).not.toThrow();
    expect(() => parseRule(long, 'x'.repeat(left + 1))).toThrow(/at most 8192/);
  });
});
