import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isNatwardError } from '../../src/errors.ts';
import { formatAccessList, matchesAccess } from '../../src/forwarder/access.ts';
import { decideHostsAccess, type HostsFile, parseHostsAccess } from '../../src/forwarder/hosts-access.ts';

/** The rules in words: `allow 10.0.0.1 (2)`, with the line. */
function rules(text: string, daemon = 'natward', file: HostsFile = 'hosts.allow'): string[] {
  return parseHostsAccess(text, daemon, file).map(
    ({ verdict, clients, origin }) => `${verdict} ${formatAccessList(clients)} (${origin?.line})`,
  );
}

function verdict(allow: string, deny: string, address: string, ...names: string[]): string | undefined {
  return decideHostsAccess(allow, deny, 'natward').find(({ clients }) =>
    matchesAccess(clients, { address, names }),
  )?.verdict;
}

describe('the examples of hosts_access(5) and hosts_options(5)', () => {
  test('mostly closed', () => {
    const allow = 'ALL: LOCAL\nALL: .foobar.edu EXCEPT terminalserver.foobar.edu\n';
    const deny = 'ALL: ALL\n';
    expect(verdict(allow, deny, '192.0.2.1', 'printer')).toBe('allow');
    expect(verdict(allow, deny, '192.0.2.1', 'a.foobar.edu')).toBe('allow');
    expect(verdict(allow, deny, '192.0.2.1', 'terminalserver.foobar.edu')).toBe('deny');
    expect(verdict(allow, deny, '192.0.2.1')).toBe('deny');
  });

  test('mostly open', () => {
    const deny = 'ALL: some.host.name, .some.domain\nALL EXCEPT in.fingerd: other.host.name, .other.domain\n';
    expect(verdict('', deny, '192.0.2.1', 'a.some.domain')).toBe('deny');
    expect(verdict('', deny, '192.0.2.1', 'a.other.domain')).toBe('deny');
    expect(verdict('', deny, '192.0.2.1', 'a.third.domain')).toBe('allow');
    expect(rules(deny, 'in.fingerd', 'hosts.deny')).toEqual(['deny some.host.name,.some.domain (1)']);
  });

  test('all rules in one file', () => {
    const friends = 'ALL: .friendly.domain: ALLOW\nALL: ALL: DENY\n';
    expect(verdict(friends, '', '192.0.2.1', 'a.friendly.domain')).toBe('allow');
    expect(verdict(friends, '', '192.0.2.1')).toBe('deny');
    const enemies = 'ALL: .bad.domain: DENY\nALL: ALL: ALLOW\n';
    expect(verdict(enemies, 'ALL: ALL\n', '192.0.2.1', 'a.bad.domain')).toBe('deny');
    expect(verdict(enemies, 'ALL: ALL\n', '192.0.2.1')).toBe('allow');
  });
});

test('without a file everybody is let in', () => {
  expect(decideHostsAccess('', '', 'natward')).toEqual([
    { verdict: 'allow', clients: { lists: [[{ kind: 'all' }]] }, origin: undefined, notes: [] },
  ]);
});

test('the rules of hosts.allow come before those of hosts.deny, each in order', () => {
  const decisions = decideHostsAccess(
    'natward: 10.0.0.1\nnatward: 10.0.0.2: deny\n',
    '\nnatward: 10.0.0.0/8\n',
    'natward',
  );
  expect(decisions.map(({ verdict, origin }) => [verdict, origin])).toEqual([
    ['allow', { file: 'hosts.allow', line: 1 }],
    ['deny', { file: 'hosts.allow', line: 2 }],
    ['deny', { file: 'hosts.deny', line: 2 }],
    ['allow', undefined],
  ]);
});

describe('a line', () => {
  test.each([
    ['natward: 10.0.0.1', ['allow 10.0.0.1 (1)']],
    ['  natward  :10.0.0.1\t10.0.0.2,', ['allow 10.0.0.1,10.0.0.2 (1)']],
    ['natward: ALL\r\n', ['allow ALL (1)']],
    ['# a comment\n\n   \nnatward: ALL\n', ['allow ALL (4)']],
    ['natward: 10.0.0.1, \\\n  10.0.0.2\nnatward: ALL\n', ['allow 10.0.0.1,10.0.0.2 (1)', 'allow ALL (3)']],
    ['natward: 10.0.\\\n0.1\n', ['allow 10.0.0.1 (1)']],
    ['# a comment that goes on \\\nnatward: 10.0.0.1\nnatward: ALL', ['allow ALL (3)']],
    ['natward: [2001:db8::]/32 [2001:db9::1] : deny', ['deny 2001:db8::/32,2001:db9::1 (1)']],
    ['natward: 131.155. EXCEPT 131.155.1.', ['allow 131.155.0.0/16 EXCEPT 131.155.1.0/24 (1)']],
  ])('%j', (text, expected) => {
    expect(rules(text)).toEqual(expected);
  });
});

describe('a list of daemons', () => {
  test.each([
    ['natward', true],
    ['NatWard', true],
    ['ALL', true],
    ['sshd', false],
    ['sshd, natward', true],
    ['ALL EXCEPT sshd', true],
    ['ALL EXCEPT sshd natward', false],
    ['ALL EXCEPT ALL EXCEPT natward', true],
    ['sshd EXCEPT natward', false],
    ['sshd@192.0.2.1', false],
    ['in.tftpd', false],
    ['22', false],
  ])('%s: %s', (daemons, expected) => {
    expect(rules(`${daemons}: ALL`)).toHaveLength(expected ? 1 : 0);
  });

  test('of others is passed over, whatever follows it', () => {
    expect(rules('sshd: @trusted, *.example.org: aclexec /bin/check %a\nnatward: ALL\n')).toEqual([
      'allow ALL (2)',
    ]);
  });
});

describe('an option', () => {
  test.each([
    ['allow', 'hosts.deny', 'allow', []],
    ['DENY', 'hosts.allow', 'deny', []],
    ['severity mail.info', 'hosts.allow', 'allow', ['the option "severity" is left out']],
    ['severity=info', 'hosts.deny', 'deny', ['the option "severity" is left out']],
    [
      'spawn (/bin/echo a\\:b | /bin/mail root) & : deny',
      'hosts.allow',
      'deny',
      ['the option "spawn" is left out'],
    ],
    [
      'keepalive : linger 10 : allow',
      'hosts.deny',
      'allow',
      ['the option "keepalive" is left out', 'the option "linger" is left out'],
    ],
    [
      'twist /bin/echo 421 no',
      'hosts.allow',
      'deny',
      ['the option "twist" runs no program here: the client is refused'],
    ],
  ] as const)('%s in %s', (option, file, expected, notes) => {
    expect(parseHostsAccess(`natward: ALL: ${option}\n`, 'natward', file)).toMatchObject([
      { verdict: expected, notes },
    ]);
  });
});

describe('a line is refused with its file and number', () => {
  test.each([
    ['natward ALL', 'there is no ":"'],
    ['natward: ', 'is empty'],
    ['natward: ALL EXCEPT', 'ends in EXCEPT'],
    ['natward: @trusted', 'reads no netgroups'],
    ['natward: root@example.org', 'asks no client for its user'],
    ['natward: PARANOID', 'how a look-up went'],
    ['natward: /etc/friends', 'reads no pattern files'],
    ['natward: 10.0.0.5/8', 'bits below its mask; write 10.0.0.0/8'],
    ['natward: 2001:db8::1', 'an IPv6 address stands in brackets here'],
    ['natward: ::1', 'an IPv6 address stands in brackets here'],
    ['natward: ALL # everybody', '"#" cannot be in a client list'],
    ['natward: ALL: allow: deny', 'the option "allow" must be the last'],
    ['natward: ALL: allow now', 'the option "allow" takes no value'],
    ['natward: ALL:', '"" is no option'],
    ['natward: ALL: allow:', 'the option "allow" must be the last'],
    ['natward: ALL: aclexec /bin/check', 'asks a program'],
    ['natward: ALL: (/usr/sbin/safe_finger -l @%h) &', 'runs no shell commands'],
    ['natward@192.0.2.1: ALL', 'the address that was called'],
    ['ALL@192.0.2.1: ALL', 'the address that was called'],
    ['  # natward: ALL', '"#" is no name of a daemon'],
    ['.ward: ALL', '".ward" is no name of a daemon'],
    ['nat*: ALL', '"nat*" is no name of a daemon'],
    ['UNKNOWN: ALL', '"UNKNOWN" is no name of a daemon'],
  ])('%s', (text, reason) => {
    expect(() => decideHostsAccess('', `# rules\n\n${text}\n`, 'natward')).toThrow(
      expect.objectContaining({
        code: 'USAGE',
        message: expect.stringMatching(/^hosts\.deny line 3: /),
      }),
    );
    expect(() => rules(text)).toThrow(reason);
  });
});

test('a file is a megabyte at most', () => {
  expect(rules(`${'#'.repeat(999_980)}\nnatward: ALL`)).toEqual(['allow ALL (2)']);
  expect(rules('\\\n'.repeat(400_000) + 'natward: ALL')).toEqual(['allow ALL (1)']);
  expect(() => rules(`${'#'.repeat(1_000_000)}\n`)).toThrow('longer than a megabyte');
});

test('any text is read, or refused in words', () => {
  const piece = fc.constantFrom(
    'natward',
    'ALL',
    ':',
    ' ',
    ',',
    '\n',
    '\\',
    '\\\n',
    '#',
    '[',
    ']',
    'EXCEPT',
    '10.',
    'deny',
    '::1',
  );
  const text = fc.oneof(
    fc.string(),
    fc.array(piece, { maxLength: 30 }).map((pieces) => pieces.join('')),
  );
  const refused = (run: () => unknown): boolean => {
    try {
      run();
      return true;
    } catch (error) {
      return isNatwardError(error, 'USAGE') && /^hosts\.(allow|deny) line \d+: ./.test(error.message);
    }
  };
  fc.assert(
    fc.property(text, text, (allow, deny) => {
      expect(refused(() => decideHostsAccess(allow, deny, 'natward'))).toBe(true);
    }),
    { numRuns: 1000 },
  );
});
