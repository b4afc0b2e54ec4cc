import { describe, expect, test } from 'vitest';
import { ClientGuard, type ClientGuardOptions } from '../../src/responder/client-guard.ts';
import type { ClientRights } from '../../src/responder/rights.ts';
import { TestClock } from '../support/test-clock.ts';

const RIGHTS: ClientRights = {
  externalPorts: [{ first: 1024, last: 65_535 }],
  maxMappings: 32,
  requestsPerSecond: 50,
  mayMapForOthers: false,
};

const IPV4 = { address: '10.77.0.1', prefixLength: 24 };
const GLOBAL = { address: '2001:db8::1', prefixLength: 64 };
const LINK_LOCAL = { address: 'fe80::1%docker0', prefixLength: 64 };

interface Scene {
  readonly clock: TestClock;
  readonly guard: ClientGuard;
  /** How many of so many requests are answered. */
  count(source: string, requests: number): number;
}

function scene(options: Partial<ClientGuardOptions> = {}): Scene {
  const clock = new TestClock();
  const guard = new ClientGuard({
    networks: [IPV4, GLOBAL, LINK_LOCAL],
    rightsOf: () => RIGHTS,
    isOwn: (address) => [IPV4.address, GLOBAL.address, LINK_LOCAL.address].includes(address),
    clock,
    ...options,
  });
  const count = (source: string, requests: number) =>
    Array.from({ length: requests }, () => guard.admits(source)).filter(Boolean).length;
  return { clock, guard, count };
}

function ipv4(network: string, at: number): string {
  return `${network}.${at >> 8}.${at & 255}`;
}

describe('who is answered', () => {
  test.each(['10.77.0.2', '10.77.0.254', '2001:db8::2', '2001:db8::ffff:0:1', 'fe80::2%docker0'])(
    '%s, of a network of the interface',
    (source) => {
      expect(scene().guard.admits(source)).toBe(true);
    },
  );

  test.each([
    ['10.77.1.2', 'of another network'],
    ['192.168.1.2', 'of another network'],
    ['2001:db8:0:1::2', 'of another network'],
    ['fe80::2%eth0', 'of another link'],
    ['10.77.0.1', 'this host itself'],
    ['2001:db8::1', 'this host itself'],
    ['fe80::1%docker0', 'this host itself'],
    ['10.77.0.0', 'the network'],
    ['10.77.0.255', 'its broadcast address'],
    ['255.255.255.255', 'everybody'],
    ['0.0.0.0', 'nobody'],
    ['::', 'nobody'],
    ['224.0.0.1', 'a group'],
    ['ff02::1', 'a group'],
    ['127.0.0.1', 'this host itself, from inside'],
  ])('%s is not: %s', (source) => {
    const { guard } = scene();
    expect(guard.admits(source)).toBe(false);
    expect(guard.admits(source)).toBe(false);
  });

  test('a group is not answered where the network has all addresses', () => {
    const networks = [
      { address: '10.77.0.1', prefixLength: 0 },
      { address: '2001:db8::1', prefixLength: 0 },
    ];
    const { guard } = scene({ networks });
    for (const source of ['224.0.0.1', '239.255.255.250', '255.255.255.255', '0.0.0.0', 'ff02::1', '::']) {
      expect(guard.admits(source)).toBe(false);
    }
    expect(guard.admits('192.0.2.1')).toBe(true);
  });

  test('a link of two hosts has no broadcast address', () => {
    const { guard } = scene({ networks: [{ address: '10.77.0.0', prefixLength: 31 }], isOwn: () => false });
    expect(guard.admits('10.77.0.1')).toBe(true);
  });

  test('whoever has no rights is not, and is as soon as it has some', async () => {
    let rights: ClientRights | undefined;
    const { clock, guard } = scene({ rightsOf: () => rights });
    expect(guard.admits('10.77.0.2')).toBe(false);
    rights = RIGHTS;
    await clock.advance(2000);
    expect(guard.admits('10.77.0.2')).toBe(true);
    rights = undefined;
    await clock.advance(2000);
    expect(guard.admits('10.77.0.2')).toBe(false);
  });

  test('rights are not looked up for each request', () => {
    let lookups = 0;
    const rightsOf = () => {
      lookups++;
      return RIGHTS;
    };
    scene({ rightsOf }).count('10.77.0.2', 90);
    expect(lookups).toBe(1);
  });
});

describe('how often', () => {
  test('twice as much as in a second at once, and then its rate', async () => {
    const { clock, count } = scene();
    expect(count('10.77.0.2', 500)).toBe(100);
    await clock.advance(1000);
    expect(count('10.77.0.2', 500)).toBe(50);
    await clock.advance(60_000);
    expect(count('10.77.0.2', 500)).toBe(100);
  });

  test('ten at once for whoever may ask once a second: UPnP asks in bursts', () => {
    const { count } = scene({ rightsOf: () => ({ ...RIGHTS, requestsPerSecond: 1 }) });
    expect(count('10.77.0.2', 500)).toBe(10);
  });

  test('one who asks too much takes nothing from another', () => {
    const { count } = scene();
    count('10.77.0.2', 5000);
    expect(count('10.77.0.3', 100)).toBe(100);
  });

  test('all together no more than 2000 a second, shared equally', async () => {
    const { clock, guard, count } = scene({ networks: [{ address: '10.77.0.1', prefixLength: 16 }] });
    const greedy = Array.from({ length: 200 }, (_, at) => ipv4('10.77', 256 + at));
    let admitted = 0;
    for (let seconds = 0; seconds < 10; seconds++) {
      admitted = 0;
      for (const source of greedy) admitted += count(source, 60);
      await clock.advance(1000);
    }
    expect(admitted).toBeLessThanOrEqual(4000);
    for (const source of greedy) count(source, 60);
    expect(count(greedy[0] as string, 10)).toBe(0);
    expect(guard.admits('10.77.0.9')).toBe(true);
    await clock.advance(110);
    expect(guard.admits('10.77.0.9')).toBe(true);
  });

  test('a client that may ask for more than that is not held to it', () => {
    const { count } = scene({ rightsOf: () => ({ ...RIGHTS, requestsPerSecond: 50_000 }) });
    expect(count('10.77.0.2', 30_000)).toBe(30_000);
  });
});

describe('sources that are made up', () => {
  const networks = [
    { address: '10.77.0.1', prefixLength: 8 },
    { address: '2001:db8::1', prefixLength: 64 },
  ];

  test('a flood of them takes no memory, and no turn from those who are known', async () => {
    const { clock, guard, count } = scene({ networks });
    expect(guard.admits('10.77.0.2')).toBe(true);
    for (let seconds = 0; seconds < 120; seconds++) {
      for (let at = 0; at < 500; at++) guard.admits(`2001:db8::${seconds.toString(16)}:${at.toString(16)}`);
      await clock.advance(1000);
      expect(count('10.77.0.2', 1)).toBe(1);
    }
    expect(guard.size).toBeLessThanOrEqual(4096);
  });

  test('strangers to the network take no place and no turn at all', () => {
    const { guard } = scene();
    for (let at = 0; at < 10_000; at++) guard.admits(ipv4('192.168', at));
    expect(guard.size).toBe(0);
    expect(guard.admits('10.77.0.2')).toBe(true);
  });

  test('when they are idle they are forgotten for those who come', async () => {
    const { clock, guard } = scene({ networks });
    for (let at = 0; guard.size < 4096; at++) {
      guard.admits(`2001:db8::1:${at.toString(16)}`);
      if (at % 100 === 0) await clock.advance(1000);
    }
    await clock.advance(60_000);
    expect(guard.admits('10.77.0.2')).toBe(true);
    expect(guard.size).toBe(4096);
  });
});
