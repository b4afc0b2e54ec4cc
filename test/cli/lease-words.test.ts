import { describe, expect, test } from 'vitest';
import type { AgentEvent } from '../../src/agent/events.ts';
import type { GatewayStatus, LeaseStatus } from '../../src/agent/lease.ts';
import { exitCodeOfLeases } from '../../src/cli/commands/keep.ts';
import {
  printDropped,
  printEvent,
  printLeaseErrors,
  printLeases,
  printStatus,
} from '../../src/cli/lease-words.ts';
import { sampleLease } from '../support/sample-lease.ts';
import { captureSaid } from './said.ts';

const said = captureSaid();

const REFUSAL = {
  code: 'NOT_AUTHORIZED',
  message: '192.168.1.1 refused TCP 443',
  advice: 'Ask for another.',
} as const;
const REFUSED = sampleLease({
  state: 'refused',
  externalAddress: null,
  externalPort: null,
  internalClient: null,
  error: REFUSAL,
});

const GATEWAY: GatewayStatus = {
  address: '192.168.1.1',
  family: 4,
  interface: 'eth0',
  localAddress: '192.168.1.10',
  state: 'up',
  protocols: ['pcp', 'upnp'],
  externalAddress: '198.51.100.7',
};

function range(count: number): LeaseStatus[] {
  return Array.from({ length: count }, (_, at) =>
    sampleLease({ externalPort: 6000 + at, internalPort: 7000 + at, requestedExternalPort: 6000 + at }),
  );
}

describe('printLeases()', () => {
  test('a lease is one line, with its id', () => {
    printLeases([sampleLease()]);
    expect(said.stdout).toBe(
      'tcp 198.51.100.7:443 -> 192.168.1.10:8443 kept, 2h at a time via PCP on 192.168.1.1 [3fa94c01]\n',
    );
  });

  test('a range is one line', () => {
    printLeases(range(100));
    expect(said.stdout).toMatch(/^tcp 198\.51\.100\.7:6000-6099 -> 192\.168\.1\.10:7000-7099 kept.*\n$/);
  });

  test('a range that stands in two ways is two lines', () => {
    printLeases([
      ...range(3),
      sampleLease({ state: 'lost', externalPort: null, internalPort: 7003, requestedExternalPort: 6003 }),
    ]);
    expect(said.stdout.split('\n')).toHaveLength(3);
  });

  test('TCP and UDP of a port are two lines', () => {
    printLeases([sampleLease({ protocol: 'udp' }), sampleLease()]);
    expect(said.stdout.split('\n').map((line) => line.slice(0, 3))).toEqual(['tcp', 'udp', '']);
  });

  test('a lease without an end says so, an IPv6 pinhole has its address in brackets', () => {
    printLeases([
      sampleLease({
        lifetimeSeconds: 0,
        family: 6,
        externalAddress: '2001:db8::8',
        internalClient: '2001:db8::8',
      }),
    ]);
    expect(said.stdout).toContain('tcp [2001:db8::8]:443 -> [2001:db8::8]:8443 kept, without an end via');
  });

  test.each([
    ['asking', 'tcp 443 -> 8443 is being asked for [3fa94c01]\n'],
    ['lost', 'tcp 443 -> 8443 lost, is being asked for again [3fa94c01]\n'],
    ['refused', 'tcp 443 -> 8443 refused, is asked for again from time to time [3fa94c01]\n'],
    ['no-gateway', 'tcp 443 -> 8443 waits for a gateway [3fa94c01]\n'],
  ] as const)('a lease that is %s says so', (state, line) => {
    printLeases([sampleLease({ state })]);
    expect(said.stdout).toBe(line);
  });

  test('notes are said once', () => {
    printLeases([
      sampleLease({ notes: ['watch out'] }),
      sampleLease({ protocol: 'udp', notes: ['watch out'] }),
    ]);
    expect(said.stdout.match(/note: watch out/g)).toHaveLength(1);
  });
});

describe('printStatus()', () => {
  const agent = {
    version: '1.2.3',
    pid: 7,
    startedAt: '2026-11-20T10:00:00.000Z',
    directory: '/var/lib/natward',
  };

  test('the agent, its gateways, its leases and its warnings', () => {
    printStatus({
      agent,
      gateways: [GATEWAY],
      leases: [sampleLease()],
      warnings: ['the disk is full'],
      rulesPaused: false,
      rules: [],
      responders: [],
      lastEventId: 3,
    });
    expect(said.stdout.split('\n')).toEqual([
      'agent 1.2.3, pid 7, since 2026-11-20T10:00:00.000Z, remembers in /var/lib/natward',
      'gateway 192.168.1.1 up: eth0, PCP, UPnP, external address 198.51.100.7',
      expect.stringContaining('[3fa94c01]'),
      'warning: the disk is full',
      '',
    ]);
  });

  test('where it is a gateway for others, and for how many', () => {
    const responder = { interface: 'docker0', addresses: ['172.17.0.1'], protocols: ['pcp' as const] };
    const status = { agent, gateways: [], rulesPaused: false, rules: [], warnings: [], lastEventId: 3 };
    const target = { address: '172.17.0.2', port: 8443 };
    printStatus({
      ...status,
      responders: [
        { ...responder, clients: 2, mappings: 3 },
        { ...responder, clients: 1, mappings: 1 },
        { ...responder, clients: 0, mappings: 0 },
      ],
      leases: [sampleLease({ owner: 'responder', target })],
    });
    expect(said.stdout.split('\n').slice(1, 5)).toEqual([
      'answers on docker0 (172.17.0.1): 3 mappings of 2 clients',
      'answers on docker0 (172.17.0.1): 1 mapping of 1 client',
      'answers on docker0 (172.17.0.1): no mappings',
      expect.stringContaining('tcp 198.51.100.7:443 -> 192.168.1.10:8443 -> 172.17.0.2:8443 kept'),
    ]);
  });

  test('a client’s lease that is not held says whose it is', () => {
    const status = { agent, gateways: [], rulesPaused: false, rules: [], warnings: [], lastEventId: 3 };
    const lost = sampleLease({ owner: 'responder', state: 'lost', spec: '443:172.17.0.2:8443/tcp' });
    printStatus({ ...status, responders: [], leases: [lost] });
    expect(said.stdout).toContain('tcp 443 -> 8443 (443:172.17.0.2:8443/tcp) lost');
  });

  test('an agent that keeps nothing says so', () => {
    printStatus({
      agent,
      gateways: [],
      leases: [],
      rulesPaused: false,
      rules: [],
      responders: [],
      warnings: [],
      lastEventId: 0,
    });
    expect(said.stdout).toContain('nothing is kept\n');
  });
});

describe('printEvent()', () => {
  const at = { id: 1, at: '2026-11-20T10:00:00.000Z' };
  const previous = { externalAddress: '198.51.100.1', externalPort: 442, internalClient: '192.168.1.9' };
  const cases: readonly (readonly [AgentEvent, string])[] = [
    [
      { ...at, type: 'granted', lease: sampleLease({ notes: ['n'] }) },
      'kept, 2h at a time via PCP on 192.168.1.1 [3fa94c01] (n)',
    ],
    [
      { ...at, type: 'changed', lease: sampleLease(), previous },
      ', changed: it was 198.51.100.1:442 -> 192.168.1.9',
    ],
    [
      { ...at, type: 'lost', lease: sampleLease({ state: 'lost' }), reason: 'it is gone' },
      'tcp 443 -> 8443 lost: it is gone',
    ],
    [
      { ...at, type: 'refused', lease: REFUSED },
      'tcp 443 -> 8443 refused: 192.168.1.1 refused TCP 443. Ask for another.',
    ],
    [{ ...at, type: 'released', lease: sampleLease(), reason: null }, 'tcp 443 -> 8443 released'],
    [
      { ...at, type: 'released', lease: sampleLease(), reason: 'no answer' },
      'tcp 443 -> 8443 not released: no answer',
    ],
    [
      { ...at, type: 'gateway-up', gateway: GATEWAY },
      'gateway 192.168.1.1 answers, external address 198.51.100.7',
    ],
    [
      { ...at, type: 'gateway-down', gateway: GATEWAY, reason: 'silence' },
      'gateway 192.168.1.1 is gone: silence',
    ],
    [
      { ...at, type: 'address-changed', gateway: GATEWAY, previous: '198.51.100.1' },
      'the external address is now 198.51.100.7, it was 198.51.100.1',
    ],
    [{ ...at, type: 'warning', message: 'a hook failed', advice: null }, 'warning: a hook failed'],
  ];
  test.each(cases.map(([event, words]) => [event.type, event, words] as const))(
    '%s',
    (_type, event, words) => {
      printEvent(event);
      expect(said.stdout).toContain(words);
      expect(said.stdout.endsWith('\n')).toBe(true);
    },
  );

  test('a renewal is no news', () => {
    printEvent({ ...at, type: 'renewed', lease: sampleLease() });
    expect(said.stdout).toBe('');
  });

  test('what a gateway wrote cannot drive the terminal', () => {
    printEvent({ ...at, type: 'lost', lease: sampleLease(), reason: 'a\u001b[2Jb\nc' });
    expect(said.stdout).toBe('tcp 443 -> 8443 lost: a?[2Jb?c\n');
  });
});

describe('printDropped()', () => {
  test('what was released, what never was held, and what could not be released', () => {
    printDropped([
      sampleLease(),
      REFUSED,
      sampleLease({ error: { code: 'TIMEOUT', message: 'no answer', advice: null } }),
    ]);
    expect(said.stdout.split('\n')).toEqual([
      'tcp 198.51.100.7:443 -> 192.168.1.10:8443 released',
      'tcp 443 -> 8443 is no longer kept',
      'tcp 198.51.100.7:443 -> 192.168.1.10:8443 is no longer kept, and not released: no answer',
      '',
    ]);
  });
});

describe('what keep tells the shell', () => {
  test('each refusal is said once, on stderr', () => {
    printLeaseErrors([REFUSED, { ...REFUSED, protocol: 'udp' }, sampleLease()]);
    expect(said.stderr).toBe('natward: 192.168.1.1 refused TCP 443. Ask for another.\n');
  });

  test.each([
    [[sampleLease()], 0],
    [[sampleLease(), REFUSED], 5],
    [[REFUSED], 4],
    [[sampleLease({ state: 'no-gateway' })], 3],
    [[sampleLease({ state: 'asking' })], 3],
  ])('the exit code of %#', (leases, code) => {
    expect(exitCodeOfLeases(leases)).toBe(code);
  });
});
