import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { obstacles, type Passage } from '../../../src/forwarder/nftables/foreign.ts';

const CLIENT = {
  family: 4,
  protocol: 'tcp',
  source: '203.0.113.5',
  sourcePort: 40_000,
  inAdapter: 'ext0',
} as const;

const FORWARDED: Passage = {
  ...CLIENT,
  hook: 'forward',
  destination: '10.0.0.5',
  destinationPort: 8080,
  outAdapter: 'int0',
  isTranslated: true,
};

const ARRIVING: Passage = {
  ...CLIENT,
  hook: 'input',
  destination: '203.0.113.1',
  destinationPort: 8080,
  isTranslated: false,
};

function read(name: string): string {
  return readFileSync(new URL(`../../../fixtures/nftables/foreign/${name}`, import.meta.url), 'utf8');
}

/** What is found in a fixture, one line each. */
function found(name: string, passage: Passage, plain = read(`${name}.nft`)): string[] {
  return obstacles(JSON.parse(read(`${name}.json`)), [passage], plain).map(
    ({ table, chain, what, certainty }) => `${certainty}: ${table} ${chain}: ${what}`,
  );
}

function advised(name: string, passage: Passage): string | undefined {
  return obstacles(JSON.parse(read(`${name}.json`)), [passage], read(`${name}.nft`))[0]?.advice;
}

/** One forward chain with these rules, under a policy that drops. */
function table(rules: readonly (readonly unknown[])[], more: readonly unknown[] = []): unknown {
  const at = { family: 'inet', table: 'fw' };
  return {
    nftables: [
      { table: { family: 'inet', name: 'fw' } },
      ...more,
      {
        chain: { ...at, name: 'f', type: 'filter', hook: 'forward', prio: 0, policy: 'drop' },
      },
      ...rules.map((expr, index) => ({ rule: { ...at, chain: 'f', handle: index + 1, expr } })),
    ],
  };
}

const ACCEPT = { accept: null };
const field = (protocol: string, name: string): unknown => ({ payload: { protocol, field: name } });
const match = (left: unknown, right: unknown, op = '=='): unknown => ({ match: { op, left, right } });

/** How sure it is that a rule with this match does not accept the packet, and the policy drops it. */
function dropUnless(
  expression: unknown,
  passage: Passage = FORWARDED,
  more: readonly unknown[] = [],
): string {
  return obstacles(table([[expression, ACCEPT]], more), [passage])[0]?.certainty ?? 'passes';
}

describe('what real programs set', () => {
  test('docker drops what is forwarded to others than its containers', () => {
    expect(found('docker', FORWARDED)).toEqual(['sure: ip filter FORWARD: policy drop']);
    expect(found('docker', ARRIVING)).toEqual([]);
    expect(advised('docker', FORWARDED)).toContain(
      'iptables -I DOCKER-USER -m conntrack --ctstate DNAT -j ACCEPT',
    );
  });

  test('docker keeps one of its networks from the other', () => {
    const inside = { ...FORWARDED, inAdapter: 'docker0' };
    const bridge = /br-[0-9a-f]{12}/.exec(read('docker.json'))?.[0] ?? '';
    expect(found('docker', { ...inside, outAdapter: bridge })).toEqual([
      expect.stringMatching(
        /^sure: ip filter DOCKER-ISOLATION-STAGE-2: oifname "br-\w+" drop \(handle \d+\)$/,
      ),
    ]);
    expect(found('docker', { ...inside, outAdapter: 'int0' })).toEqual([]);
  });

  test('ufw drops both, and says by which command it would not', () => {
    expect(found('ufw', FORWARDED)).toEqual(['sure: ip filter FORWARD: policy drop']);
    expect(found('ufw', ARRIVING)).toEqual(['sure: ip filter INPUT: policy drop']);
    expect(found('ufw', { ...ARRIVING, destinationPort: 8443 })).toEqual([]);
    expect(advised('ufw', FORWARDED)).toContain('ufw route allow proto tcp to 10.0.0.5 port 8080');
    expect(advised('ufw', ARRIVING)).toContain('ufw allow proto tcp to any port 8080');
  });

  test('ufw passes what it was told to', () => {
    expect(found('ufw-allowed', FORWARDED)).toEqual([]);
    expect(found('ufw-allowed', ARRIVING)).toEqual([]);
    expect(found('ufw-allowed', { ...FORWARDED, destinationPort: 8081 })).toHaveLength(1);
  });

  test('without the plain listing nothing that hangs on an iptables match is sure', () => {
    expect(found('ufw', FORWARDED, '')).toEqual(['maybe: ip filter FORWARD: policy drop']);
    expect(found('ufw', ARRIVING, '')).toContain('maybe: ip filter INPUT: policy drop');
  });

  test('firewalld passes what is translated, and rejects the rest', () => {
    expect(found('firewalld', FORWARDED)).toEqual([]);
    expect(found('firewalld', { ...FORWARDED, isTranslated: false })).toEqual([
      expect.stringMatching(/^sure: inet firewalld filter_FWD_public: reject with icmpx admin-prohibited/),
    ]);
    expect(found('firewalld', ARRIVING)).toEqual([
      expect.stringMatching(/^sure: inet firewalld filter_IN_public: reject with icmpx admin-prohibited/),
    ]);
    expect(advised('firewalld', ARRIVING)).toContain('firewall-cmd --permanent --add-port=8080/tcp');
    expect(found('firewalld-allowed', ARRIVING, '')).toEqual([]);
    expect(found('firewalld-allowed', { ...FORWARDED, isTranslated: false }, '')).toEqual([]);
  });

  test('IPv6 has tables of its own', () => {
    const { source: _source, ...rest } = FORWARDED;
    const forwarded: Passage = { ...rest, family: 6, source: '2001:db8::5', destination: '2001:db8:1::5' };
    expect(found('ufw', forwarded)).toEqual(['sure: ip6 filter FORWARD: policy drop']);
    expect(advised('ufw', forwarded)).toContain('ufw route allow proto tcp to 2001:db8:1::5 port 8080');
    expect(found('docker', forwarded)).toEqual([]);
    expect(found('firewalld', { ...forwarded, isTranslated: false })).toHaveLength(1);
    expect(found('firewalld', { ...forwarded, isTranslated: false, destination: '2002:a00::1' })).toEqual([
      expect.stringContaining('sure: inet firewalld filter_FORWARD: ip6 daddr {'),
    ]);
    // It asks for the way back to the sender.
    expect(found('firewalld', { ...forwarded, hook: 'prerouting' })).toEqual([]);
  });

  test('miniupnpd passes the port that it was asked for, and its chain drops others', () => {
    expect(found('miniupnpd', FORWARDED)).toEqual([]);
    expect(found('miniupnpd', { ...FORWARDED, destinationPort: 8081 })).toEqual([
      'sure: inet filter forward: policy drop',
    ]);
    expect(found('miniupnpd', { ...FORWARDED, destination: '10.0.0.6' })).toHaveLength(1);
  });

  test("Debian's workstation drops what comes in and forwards", () => {
    expect(found('workstation', FORWARDED)).toEqual([]);
    expect(found('workstation', ARRIVING)).toEqual([
      expect.stringMatching(/^sure: inet filter input: drop \(handle \d+\)$/),
    ]);
  });

  test('a firewall by hand: sets, verdict maps, marks', () => {
    // The packet's mark is not known.
    expect(found('hand', FORWARDED)).toEqual(['maybe: inet firewall routed: policy drop']);
    expect(found('hand', { ...FORWARDED, mark: 0 })).toEqual(['sure: inet firewall routed: policy drop']);
    expect(found('hand', { ...FORWARDED, mark: 0x107 })).toEqual([]);
    expect(found('hand', { ...FORWARDED, destinationPort: 8000 })).toEqual([]);
    expect(found('hand', ARRIVING)).toEqual([
      expect.stringMatching(
        /^sure: inet firewall outside: meta l4proto tcp reject with tcp reset comment "closed"/,
      ),
    ]);
    expect(found('hand', { ...ARRIVING, destinationPort: 100 })).toEqual([]);
    expect(found('hand', { ...ARRIVING, source: '192.0.2.77', destinationPort: 100 })).toEqual([
      expect.stringMatching(/^sure: inet firewall outside: ip saddr @blocked drop comment "abuse"/),
    ]);
    expect(found('hand', { ...ARRIVING, inAdapter: 'lo' })).toEqual([]);
    expect(advised('hand', FORWARDED)).toContain(
      'nft insert rule inet firewall routed ct status dnat accept',
    );
  });

  test.each([
    [1, []],
    [2, []],
    [3, []],
    [4, []],
    [5, []],
    [6, ['sure: ip filter FORWARD: policy drop']],
    [7, ['maybe: ip filter FORWARD: policy drop']],
    [8, []],
    [9, ['sure: ip filter FORWARD: policy drop']],
    [11, []],
    [13, []],
    [14, ['maybe: ip filter FORWARD: policy drop']],
    [15, ['maybe: ip filter FORWARD: policy drop']],
    [16, []],
    [
      17,
      [
        'maybe: ip filter FORWARD: tcp dport 17 ct status dnat drop (handle 15)',
        'maybe: ip filter FORWARD: policy drop',
      ],
    ],
    [18, ['maybe: ip filter FORWARD: tcp dport 18 queue num 1 (handle 16)']],
    [19, ['sure: ip filter FORWARD: tcp dport 19 reject with tcp reset (handle 17)']],
    [20, ['sure: ip filter FORWARD: policy drop']],
    [21, ['maybe: ip filter FORWARD: policy drop']],
  ])('iptables forms: port %i', (destinationPort, expected) => {
    expect(found('iptables-forms', { ...FORWARDED, destinationPort })).toEqual(expected);
  });
});

describe('what a rule asks', () => {
  test.each([
    ['a set of states', match({ ct: { key: 'state' } }, { set: ['new', 'untracked'] }), 'passes'],
    ['no established state', match({ ct: { key: 'state' } }, ['established', 'related'], '!'), 'passes'],
    ['another state', match({ ct: { key: 'state' } }, 'invalid', 'in'), 'sure'],
    ['translated', match({ ct: { key: 'status' } }, 'dnat', 'in'), 'passes'],
    ['translated by bits', match({ '&': [{ ct: { key: 'status' } }, 'dnat'] }, 'dnat'), 'passes'],
    ['answered', match({ ct: { key: 'status' } }, ['seen-reply', 'assured'], 'in'), 'sure'],
    ['a source that was rewritten', match({ ct: { key: 'status' } }, 'snat', 'in'), 'maybe'],
    ['a mark of the connection', match({ ct: { key: 'mark' } }, 1), 'maybe'],
    ['the first way', match({ ct: { key: 'direction' } }, 'original'), 'passes'],
    ['SYN alone', match({ '&': [field('tcp', 'flags'), ['fin', 'syn', 'rst', 'ack']] }, 'syn'), 'passes'],
    ['a fragment', match({ '&': [field('ip', 'frag-off'), 8191] }, 0, '!='), 'sure'],
    ['a range of ports', match(field('th', 'dport'), { range: [8000, 9000] }), 'passes'],
    ['a greater port', match(field('tcp', 'dport'), 8080, '>'), 'sure'],
    ['another protocol', match(field('udp', 'dport'), 8080), 'sure'],
    ['other than in IPv6', match(field('ip6', 'saddr'), '::1', '!='), 'sure'],
    ['a network', match(field('ip', 'saddr'), { prefix: { addr: '203.0.113.0', len: 24 } }), 'passes'],
    ['bits of an address', match({ '&': [field('ip', 'daddr'), '255.0.0.255'] }, '10.0.0.5'), 'passes'],
    ['adapters that begin so', match({ meta: { key: 'iifname' } }, 'ext*'), 'passes'],
    ['an adapter of a set', match({ meta: { key: 'oifname' } }, { set: ['wg0', 'int*'] }, '!='), 'sure'],
    ['the way of the destination', match({ fib: { result: 'type', flags: ['daddr'] } }, 'local'), 'sure'],
    ['the time of day', match({ meta: { key: 'hour' } }, '10:00'), 'maybe'],
    ['something new', { brandnew: { a: 1 } }, 'maybe'],
    ['a rate it is within', { limit: { rate: 3, per: 'minute' } }, 'passes'],
    ['a rate it exceeds', { limit: { rate: 3, per: 'minute', inv: true } }, 'sure'],
    ['a match of iptables with no name', { xt: null }, 'maybe'],
  ])('%s', (_name, expression, expected) => {
    expect(dropUnless(expression)).toBe(expected);
  });

  test('what is not known of a packet may be anything', () => {
    const { source: _source, inAdapter: _adapter, ...unknown } = FORWARDED;
    expect(dropUnless(match(field('ip', 'saddr'), '192.0.2.1'), unknown)).toBe('maybe');
    expect(dropUnless(match(field('ip', 'saddr'), { prefix: { addr: '0.0.0.0', len: 0 } }), unknown)).toBe(
      'passes',
    );
    expect(dropUnless(match({ meta: { key: 'iifname' } }, 'ext0'), unknown)).toBe('maybe');
  });

  test('named sets of one field and of several', () => {
    const set = (elem: unknown): unknown => ({ set: { family: 'inet', table: 'fw', name: 's', elem } });
    const port = field('tcp', 'dport');
    const timed = [{ elem: { val: 8080, expires: 5 } }];
    expect(dropUnless(match(port, '@s'), FORWARDED, [set(timed)])).toBe('passes');
    expect(dropUnless(match(port, '@s'), FORWARDED, [set([80])])).toBe('sure');
    expect(dropUnless(match(port, '@s'), FORWARDED, [set(undefined)])).toBe('sure');
    expect(dropUnless(match(port, '@none'))).toBe('maybe');
    const pair = { concat: [field('ip', 'daddr'), port] };
    const element = { concat: [{ prefix: { addr: '10.0.0.0', len: 8 } }, { range: [8000, 8100] }] };
    expect(dropUnless(match(pair, '@s'), FORWARDED, [set([element])])).toBe('passes');
  });
});

describe('how verdicts are reached', () => {
  const at = { family: 'inet', table: 'fw' };
  const chain = (name: string, ...rules: readonly (readonly unknown[])[]): unknown[] => [
    { chain: { ...at, name } },
    ...rules.map((expr) => ({ rule: { ...at, chain: name, expr } })),
  ];
  const known = match(field('tcp', 'dport'), 8080);
  const open = match({ ct: { key: 'mark' } }, 1);
  const verdicts = (listing: unknown): string[] =>
    obstacles(listing, [FORWARDED]).map(
      ({ certainty, chain: where, what }) => `${certainty} ${where} ${what}`,
    );

  test('a drop behind what may hold may come', () => {
    expect(verdicts(table([[open, { drop: null }], [ACCEPT]]))).toEqual([
      'maybe f ct mark 1 drop (handle 1)',
    ]);
  });

  test('who may have returned comes to the policy surely', () => {
    const listing = table(
      [[{ jump: { target: 'c' } }]],
      chain('c', [open, { return: null }], [known, { return: null }]),
    );
    expect(verdicts(listing)).toEqual(['sure f policy drop']);
  });

  test('an accept in a chain that is jumped to ends the base chain', () => {
    expect(verdicts(table([[{ jump: { target: 'c' } }]], chain('c', [known, ACCEPT])))).toEqual([]);
    expect(verdicts(table([[open, { jump: { target: 'c' } }]], chain('c', [ACCEPT])))).toEqual([
      'maybe f policy drop',
    ]);
  });

  test('goto does not come back to the rule after it', () => {
    const listing = table([[{ goto: { target: 'c' } }], [ACCEPT]], chain('c', [open, { counter: null }]));
    expect(verdicts(listing)).toEqual(['sure f policy drop']);
  });

  test('a verdict map with an element for all others', () => {
    const map = (elements: unknown): unknown => ({
      vmap: { key: field('tcp', 'dport'), data: { set: elements } },
    });
    expect(
      verdicts(
        table([
          [
            map([
              [80, ACCEPT],
              ['*', { drop: null }],
            ]),
          ],
        ]),
      ),
    ).toEqual(['sure f tcp dport vmap { 80 : accept, * : drop } (handle 1)']);
    expect(
      verdicts(
        table([
          [
            map([
              [8080, ACCEPT],
              ['*', { drop: null }],
            ]),
          ],
        ]),
      ),
    ).toEqual([]);
  });

  test('chains that call themselves end', () => {
    const itself = { jump: { target: 'c' } };
    expect(verdicts(table([[itself]], chain('c', [itself])))).toEqual(['maybe f policy drop']);
    expect(verdicts(table([[itself]], chain('c', [itself], [itself])))).toEqual([
      'maybe f more rules than are looked at',
    ]);
  });

  test('more rules than are looked at leave a maybe', () => {
    const many = Array.from({ length: 100_001 }, () => [{ counter: null }]);
    expect(verdicts(table(many))).toEqual(['maybe f more rules than are looked at']);
  });

  test("natward's own tables, sleeping ones and those of the other family are passed over", () => {
    const dropping = (family: string, name: string, flags?: string): unknown[] => [
      { table: { family, name, flags } },
      { chain: { family, table: name, name: 'f', hook: 'forward', prio: 0, policy: 'drop' } },
    ];
    const nftables = [
      ...dropping('inet', 'natward'),
      ...dropping('ip', 'sleeps', 'd'),
      ...dropping('ip6', 'other'),
    ];
    expect(obstacles({ nftables }, [FORWARDED])).toEqual([]);
    expect(obstacles({ nftables: dropping('ip', 'awake') }, [FORWARDED, FORWARDED])).toHaveLength(1);
  });

  test('comments cannot act on the terminal, and names are not pasted into commands', () => {
    const nftables = [
      { table: { family: 'ip', name: 'a; reboot' } },
      { chain: { family: 'ip', table: 'a; reboot', name: 'f', hook: 'forward', prio: 0 } },
      {
        rule: { family: 'ip', table: 'a; reboot', chain: 'f', comment: '\u001b[2J', expr: [{ drop: null }] },
      },
    ];
    const [obstacle] = obstacles({ nftables }, [FORWARDED]);
    expect(obstacle?.what).toBe('drop comment " [2J"');
    expect(obstacle?.advice).not.toContain('reboot');
  });
});

describe('a hostile listing', () => {
  const words = fc.constantFrom(
    ...'match vmap jump goto xt set map concat elem val prefix range payload meta ct fib key op left right'.split(
      ' ',
    ),
    ...'data target expr chain table rule & name family hook prio policy type toString __proto__'.split(' '),
    ...'constructor limit mangle'.split(' '),
  );
  const scalars = fc.oneof(
    fc.constantFrom(
      ...'inet f fw forward drop @s == in ! < iifname state dport tcp ip th saddr 10.0.0.0'.split(' '),
      ...'::ffff:1.2.3.4 new target REJECT conntrack'.split(' '),
    ),
    fc.anything({ maxDepth: 1 }),
  );
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: 'medium' },
      scalars,
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(words, tie('value'), { maxKeys: 4 }),
    ),
  }));

  test('never throws', () => {
    fc.assert(
      fc.property(value, fc.array(fc.array(value, { maxLength: 4 }), { maxLength: 6 }), (any, rules) => {
        obstacles(any, [FORWARDED]);
        obstacles({ nftables: any }, [FORWARDED]);
        obstacles(table(rules, [any, { set: { family: 'inet', table: 'fw', name: 's', elem: any } }]), [
          FORWARDED,
          ARRIVING,
        ]);
      }),
      { numRuns: 2000 },
    );
  });

  test('matches of any form have an answer', () => {
    fc.assert(
      fc.property(scalars, value, value, (op, left, right) => {
        const port = field('tcp', 'dport');
        const rules = [
          [{ match: { op, left, right } }, { drop: null }],
          [{ match: { op: '==', left: port, right } }, { drop: null }],
          [{ vmap: { key: port, data: { set: [[right, left]] } } }],
        ];
        obstacles(table(rules), [FORWARDED], JSON.stringify(table(rules)));
      }),
      { numRuns: 2000 },
    );
  });

  test('depth and breadth end quickly', () => {
    let deep: unknown = 1;
    for (let depth = 0; depth < 100_000; depth++) deep = { '&': [deep, 1] };
    let list: unknown = 1;
    for (let depth = 0; depth < 100_000; depth++) list = [list];
    const set = {
      set: Array.from({ length: 200_000 }, (_, at) => `10.${at >> 16}.${(at >> 8) & 255}.${at & 255}`),
    };
    const began = performance.now();
    obstacles(table([[match(deep, list)], [match(deep, { range: [list, deep] })], [{ drop: null }]]), [
      FORWARDED,
    ]);
    obstacles(table(Array.from({ length: 100 }, () => [match(field('ip', 'saddr'), set), ACCEPT])), [
      FORWARDED,
    ]);
    expect(performance.now() - began).toBeLessThan(5_000);
  });
});
