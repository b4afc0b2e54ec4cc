import { describe, expect, test } from 'vitest';
import type { Granted } from '../../src/agent/port.ts';
import type { GatewayReport, OwnMapping } from '../../src/agent/survey.ts';
import {
  duration,
  failureJson,
  gatewayJson,
  mappingJson,
  printError,
  printFailures,
  printGateway,
  printMappings,
  printOffer,
  printReleased,
  printTable,
  rowJson,
} from '../../src/cli/output.ts';
import { NatwardError } from '../../src/errors.ts';
import { captureSaid } from './said.ts';

const said = captureSaid();

function granted(change: Partial<Granted> = {}): Granted {
  return {
    protocol: 'tcp',
    externalAddress: '198.51.100.7',
    externalPort: 443,
    internalClient: '192.168.1.10',
    internalPort: 8443,
    lifetimeSeconds: 7200,
    expiresAtMs: Date.UTC(2026, 10, 20, 12),
    via: 'pcp',
    gateway: '192.168.1.1',
    description: 'natward 8443/tcp',
    notes: [],
    nonce: new Uint8Array(12),
    pinholeId: undefined,
    requestedExternalPort: 443,
    ...change,
  };
}

function row(change: Partial<OwnMapping> = {}): OwnMapping {
  return {
    protocol: 'tcp',
    externalPort: 443,
    internalClient: '192.168.1.10',
    internalPort: 8443,
    description: 'natward 8443/tcp',
    remainingSeconds: 7199,
    enabled: true,
    own: true,
    ...change,
  };
}

describe('what was granted', () => {
  test('is one line', () => {
    printMappings([granted()]);
    expect(said.stdout).toBe('tcp 198.51.100.7:443 -> 192.168.1.10:8443 for 2h via PCP on 192.168.1.1\n');
  });

  test('is one line for a run of ports, in order', () => {
    printMappings(
      [2, 0, 1].map((at) => granted({ externalPort: 6000 + at, internalPort: 7000 + at, protocol: 'udp' })),
    );
    expect(said.stdout).toBe(
      'udp 198.51.100.7:6000-6002 -> 192.168.1.10:7000-7002 for 2h via PCP on 192.168.1.1\n',
    );
  });

  test('is a line of its own where anything differs', () => {
    printMappings([
      granted({ externalPort: 6000, internalPort: 7000 }),
      granted({ externalPort: 6001, internalPort: 7001, via: 'upnp' }),
      granted({ externalPort: 6002, internalPort: 7002, via: 'upnp', lifetimeSeconds: 3600 }),
      granted({ externalPort: 6004, internalPort: 7003, via: 'upnp', lifetimeSeconds: 3600 }),
      granted({ externalPort: 6004, internalPort: 7003, protocol: 'udp', via: 'upnp' }),
    ]);
    expect(said.stdout.split('\n')).toHaveLength(6);
  });

  test('is marked as without an end, and as without a known external address', () => {
    printMappings([granted({ lifetimeSeconds: 0, externalAddress: undefined })]);
    expect(said.stdout).toContain('tcp *:443 -> 192.168.1.10:8443 until deleted');
  });

  test('is followed by its notes', () => {
    printMappings([granted({ notes: ['external port 80 was not to be had: the gateway gave 443'] })]);
    expect(said.stdout.split('\n')[1]).toBe(
      'note: tcp 443: external port 80 was not to be had: the gateway gave 443',
    );
  });

  test('writes IPv6 addresses in brackets', () => {
    printMappings([granted({ externalAddress: '2001:db8::8', internalClient: '2001:db8::8' })]);
    expect(said.stdout).toContain('tcp [2001:db8::8]:443 -> [2001:db8::8]:8443');
  });

  test('says what was released in the same way', () => {
    const { protocol, externalPort, internalClient, internalPort, gateway } = granted();
    printReleased([{ protocol, externalPort, internalClient, internalPort, gateway }]);
    expect(said.stdout).toBe('tcp 443 -> 192.168.1.10:8443 released on 192.168.1.1\n');
  });
});

describe('the table', () => {
  test('is aligned, and marks what is own and what is disabled', () => {
    printTable([
      row(),
      row({ externalPort: 60_000, own: false, enabled: false, remainingSeconds: 0, description: 'games' }),
      row({ internalClient: '192.168.1.200', own: false, remainingSeconds: undefined, description: '' }),
    ]);
    expect(said.stdout.split('\n')).toEqual([
      'tcp   443 -> 192.168.1.10:8443  1h 59m "natward 8443/tcp" own',
      'tcp 60000 -> 192.168.1.10:8443  until deleted "games" disabled',
      'tcp   443 -> 192.168.1.200:8443 ? ""',
      '',
    ]);
  });

  test('is said to be empty', () => {
    printTable([]);
    expect(said.stdout).toBe('no mappings\n');
  });
});

describe('a router’s own words', () => {
  const evil = 'a\u001b[31mred\u0007\u009b2J\r\nnatward: forged';

  test('do not drive the terminal', () => {
    printTable([row({ description: evil })]);
    printMappings([granted({ notes: [evil] })]);
    printOffer({
      protocol: 'upnp',
      gateway: {
        address: '192.168.1.1',
        family: 4,
        interface: 'eth0',
        localAddress: '192.168.1.10',
        prefixLength: 24,
        ports: { pcp: 5351, ssdp: 1900 },
        chosenBy: 'route',
      },
      device: {
        location: 'http://192.168.1.1/',
        host: '192.168.1.1',
        model: evil,
        connection: { serviceType: evil, controlUrl: '' },
        connectionVersion: 1,
        firewall: undefined,
      },
    });
    printError(new NatwardError('REFUSED', evil, { advice: evil }));
    // oxlint-disable-next-line no-control-regex
    expect(said.stdout + said.stderr).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
    expect(said.stdout.trimEnd().split('\n')).toHaveLength(4);
    expect(said.stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  test('do not turn the reading direction of a line', () => {
    printTable([row({ description: 'a\u202etxt.exe\u2066b\u2028c' })]);
    expect(said.stdout).not.toMatch(/[\u2028-\u202e\u2066-\u2069]/);
  });
});

describe('an error', () => {
  test('is one line: what failed, and what to do', () => {
    printError(new NatwardError('CONFLICT', '192.168.1.1 refused TCP 443', { advice: 'Leave out --exact.' }));
    expect(said.stderr).toBe('natward: 192.168.1.1 refused TCP 443. Leave out --exact.\n');
    expect(said.stdout).toBe('');
  });

  test('that several ports share is written once, and the rest is counted', () => {
    const failures = Array.from({ length: 30 }, (_, at) => ({
      spec: String(at),
      error: new NatwardError('CONFLICT', at < 20 ? 'the same' : `port ${at}`),
    }));
    printFailures(failures);
    const lines = said.stderr.trimEnd().split('\n');
    expect(lines).toHaveLength(11);
    expect(lines[0]).toBe('natward: the same.');
    expect(lines[10]).toBe('natward: and 20 more failures: --json lists them all');
  });
});

test.each([
  [0, '0s'],
  [59, '59s'],
  [60, '1m'],
  [3661, '1h 1m'],
  [7200, '2h'],
  [86_400, '1d'],
  [604_800, '7d'],
  [90_061, '1d 1h'],
])('%i seconds are written as %s', (seconds, text) => {
  expect(duration(seconds)).toBe(text);
});

describe('JSON has exactly the agreed keys', () => {
  test('of a mapping', () => {
    expect(mappingJson(granted(), undefined)).toStrictEqual({
      protocol: 'tcp',
      externalAddress: '198.51.100.7',
      externalPort: 443,
      internalClient: '192.168.1.10',
      internalPort: 8443,
      target: null,
      lifetimeSeconds: 7200,
      expiresAt: '2026-11-20T12:00:00.000Z',
      via: 'pcp',
      gateway: '192.168.1.1',
      description: 'natward 8443/tcp',
      notes: [],
    });
    expect(
      mappingJson(granted({ externalAddress: undefined, expiresAtMs: undefined }), undefined),
    ).toMatchObject({
      externalAddress: null,
      expiresAt: null,
    });
  });

  test('of a failure', () => {
    const error = new NatwardError('NOT_AUTHORIZED', 'refused', { advice: 'Allow it.' });
    expect(failureJson({ spec: '22', error })).toStrictEqual({
      spec: '22',
      code: 'NOT_AUTHORIZED',
      message: 'refused',
      advice: 'Allow it.',
    });
    expect(failureJson({ spec: '22', error: new NatwardError('FAILED', 'x') })).toHaveProperty(
      'advice',
      null,
    );
  });

  test('of a row', () => {
    expect(rowJson(row({ remainingSeconds: undefined }))).toStrictEqual({
      protocol: 'tcp',
      externalPort: 443,
      internalClient: '192.168.1.10',
      internalPort: 8443,
      description: 'natward 8443/tcp',
      remainingSeconds: null,
      enabled: true,
      own: true,
    });
  });

  test('of a gateway', () => {
    const report: GatewayReport = {
      address: '192.168.1.1',
      interface: 'eth0',
      externalAddress: undefined,
      protocols: ['pcp'],
      upnp: undefined,
      verdict: { code: 'NO_EXTERNAL_ADDRESS', message: 'does not tell' },
    };
    expect(gatewayJson(report)).toStrictEqual({ ...report, externalAddress: null, upnp: null });
    printGateway(report);
    expect(said.stdout).toBe('192.168.1.1 does not tell\n');
  });
});
