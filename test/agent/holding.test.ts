import { describe, expect, test } from 'vitest';
import type { Line } from '../../src/agent/gateway-watch.ts';
import { claimants, isOf, isSamePlace, movedFrom, placesOf } from '../../src/agent/holding.ts';
import { intentOf } from '../../src/agent/intent.ts';
import type { KeepRequest } from '../../src/agent/lease.ts';
import { type Holding, LeaseRecord } from '../../src/agent/lease-record.ts';
import { leasesOf } from '../../src/agent/reconcile.ts';
import { requestOf } from './keeping.ts';
import { remembered } from './remembered.ts';

function held(change: Parameters<typeof remembered>[0] = {}, leaseKey = '01234567/1'): Holding {
  return { leaseKey, interface: 'eth0', hardwareAddress: null, mapping: remembered(change) };
}

function leaseOf(spec: string, options: Partial<KeepRequest> = {}): LeaseRecord {
  const [wanted] = leasesOf(intentOf(requestOf(spec, options), 'user'));
  if (wanted === undefined) throw new Error(`${spec} has no lease`);
  return new LeaseRecord(wanted, []);
}

describe('a holding is of the gateway', () => {
  const gateway = { address: '192.168.1.1', interface: 'eth0' };
  const KNOWN = '02:00:00:00:00:01';

  test.each([
    [null, undefined, true],
    [null, KNOWN, true],
    [KNOWN, undefined, true],
    [KNOWN, KNOWN, true],
    [KNOWN, '02:00:00:00:00:99', false],
  ])('that had the hardware address %s, where it is %s now: %s', (hardwareAddress, now, isSame) => {
    const line = { gateway, hardwareAddress: now } as unknown as Line;
    expect(isOf({ ...held(), hardwareAddress }, line)).toBe(isSame);
  });

  test('at its address and on its interface alone', () => {
    const line = { gateway, hardwareAddress: undefined } as unknown as Line;
    expect(isOf(held({ gateway: '192.168.1.2' }), line)).toBe(false);
    expect(isOf({ ...held(), interface: 'wlan0' }, line)).toBe(false);
  });
});

test.each([
  ['gateway', { gateway: '192.168.1.2' }],
  ['protocol', { protocol: 'udp' }],
  ['external port', { externalPort: 9 }],
  ['internal client', { internalClient: '192.168.1.11' }],
  ['internal port', { internalPort: 9 }],
] as const)('another %s is another place', (_what, change) => {
  expect(isSamePlace(held(), held(change))).toBe(false);
});

test('another lifetime, nonce or external address is no other place', () => {
  expect(isSamePlace(held(), held({ nonce: null, lifetimeSeconds: 1, externalAddress: null }))).toBe(true);
});

test('a mapping has moved with its external end or its client, not with what is not known', () => {
  const old = remembered();
  const before = { externalAddress: '198.51.100.7', externalPort: 8080, internalClient: '192.168.1.10' };
  expect(movedFrom(old, remembered())).toBeUndefined();
  expect(movedFrom(old, remembered({ externalAddress: null }))).toBeUndefined();
  expect(movedFrom(old, remembered({ externalAddress: '198.51.100.8' }))).toEqual(before);
  expect(movedFrom(old, remembered({ externalPort: 9 }))).toEqual(before);
  expect(movedFrom(old, remembered({ internalClient: '192.168.1.11' }))).toEqual(before);
});

test('UPnP knows a mapping by its external end alone, the others by both', () => {
  expect(placesOf(remembered({ via: 'upnp' }))).toHaveLength(1);
  expect(placesOf(remembered({ via: 'pcp' }))).toHaveLength(2);
});

describe('what is held is claimed', () => {
  test('by the lease that it was granted to, before one with its inner end', () => {
    const [own, other] = [leaseOf('8443'), leaseOf('443:8080')];
    const claimant = claimants([own, other]);
    expect(claimant(held({}, own.key))).toBe(own);
    expect(claimant(held())).toBe(other);
  });

  test('by nobody with another inner port, protocol, host or family', () => {
    const claimant = claimants([leaseOf('8080', { host: '192.168.1.99' }), leaseOf('9/udp')]);
    expect(claimant(held())).toBeUndefined();
    expect(claimant(held({ internalClient: '192.168.1.99' }))).toBeDefined();
    expect(claimant(held({ internalPort: 9 }))).toBeUndefined();
    expect(claimants([leaseOf('8080')])(held({ internalClient: '2001:db8::1' }))).toBeUndefined();
  });
});
