import { describe, expect, onTestFinished, test } from 'vitest';
import { Discovery, type DiscoveryReport } from '../../src/discovery/discover.ts';
import type { Offer } from '../../src/discovery/gateway.ts';
import type { ErrorCode, NatwardError } from '../../src/errors.ts';
import { MAPPING_PROTOCOLS, type MappingProtocol } from '../../src/net/protocol.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import { gatewayFor, type TestGateway } from '../support/gateway.ts';

interface Asked {
  readonly protocols?: readonly MappingProtocol[];
  readonly known?: string;
  readonly stopWhen?: (offer: Offer) => boolean;
}

/** Discovers to the end. */
async function discovered(at: TestGateway, { protocols = MAPPING_PROTOCOLS, known, stopWhen }: Asked = {}) {
  const startMs = at.clock.now();
  const offers: { readonly offer: Offer; readonly atMs: number }[] = [];
  const stop = new AbortController();
  const discovery = new Discovery(at.system, {
    gateway: at.gateway,
    protocols: new Set(protocols),
    knownDevice: undefined,
    knownLocation: () => known,
    onOffer: (offer) => {
      offers.push({ offer, atMs: at.clock.now() - startMs });
      if (stopWhen?.(offer) === true) stop.abort();
    },
    signal: stop.signal,
  });
  onTestFinished(() => discovery[Symbol.asyncDispose]());
  const report: DiscoveryReport = await at.clock.settle(discovery.done);
  return {
    offers,
    found: offers.map(({ offer }) => offer.protocol).toSorted(),
    failed: report.failures.map((failure) => (failure as NatwardError).code),
    endMs: at.clock.now() - startMs,
    dropped: report.dropped,
  };
}

async function discoveredAt(settings: Partial<GatewaySettings>, asked: Asked = {}) {
  const at = await gatewayFor(settings);
  return { ...at, ...(await discovered(at, asked)) };
}

describe('a discovery', () => {
  test('reports all that a gateway offers as it comes, and is over when all have answered', async () => {
    const { found, failed, endMs, dropped } = await discoveredAt({});
    expect({ found, failed, endMs, dropped }).toEqual({
      found: ['natpmp', 'pcp', 'upnp'],
      failed: [],
      endMs: 0,
      dropped: 0,
    });
  });

  test.each<[MappingProtocol, ErrorCode[]]>([
    ['pcp', ['UNSUPPORTED', 'TIMEOUT']],
    ['natpmp', ['UNSUPPORTED', 'TIMEOUT']],
    ['upnp', ['UNREACHABLE', 'UNREACHABLE']],
  ])('finds a gateway that speaks %s alone', async (protocol, failures) => {
    const { found, failed } = await discoveredAt({ protocols: [protocol] });
    expect({ found, failed }).toEqual({ found: [protocol], failed: failures });
  });

  test('asks over the protocols that are wanted, and over no other', async () => {
    const { found, embedded } = await discoveredAt({}, { protocols: ['natpmp'] });
    expect(found).toEqual(['natpmp']);
    expect(embedded.counters).toEqual({ 'natpmp address': 1 });
  });

  test('is over within 1.2 s where the host refuses everything with ICMP', async () => {
    const { found, failed, endMs } = await discoveredAt({ protocols: [] });
    expect({ found, failed }).toEqual({ found: [], failed: ['UNREACHABLE', 'UNREACHABLE', 'TIMEOUT'] });
    expect(endMs).toBeLessThanOrEqual(1200);
  });

  test('is over within 3 s where nothing answers at all', async () => {
    const silentOn = ['pcp announce', 'natpmp address', 'ssdp search'];
    const { found, endMs } = await discoveredAt({ quirks: { silentOn } });
    expect(found).toEqual([]);
    expect(endMs).toBeLessThanOrEqual(3000);
  });

  test('does not ask for NAT-PMP over IPv6', async () => {
    const { found, embedded } = await discoveredAt({ address: '::1' });
    expect(found).toEqual(['pcp', 'upnp']);
    expect(embedded.counters['natpmp address']).toBeUndefined();
  });

  test('ends when it is stopped', async () => {
    const silentOn = ['natpmp address', 'ssdp search'];
    const { found, failed, endMs } = await discoveredAt({ quirks: { silentOn } }, { stopWhen: () => true });
    expect({ found, endMs }).toEqual({ found: ['pcp'], endMs: 0 });
    expect(failed).toContain('ABORTED');
  });

  test('counts what was dropped by all of its protocols', async () => {
    expect((await discoveredAt({ quirks: { junkFirst: ['request-echo'] } })).dropped).toBeGreaterThanOrEqual(
      3,
    );
  });
});

describe('a location that is known from last time', () => {
  test('is asked without a search, and offered once', async () => {
    const at = await gatewayFor({ quirks: { delayMs: { ssdp: 500 } } });
    const { offers } = await discovered(at, { protocols: ['upnp'], known: at.embedded.location });
    expect(offers).toMatchObject([{ atMs: 5, offer: { device: { location: at.embedded.location } } }]);
    expect(at.embedded.counters['http GET /rootDesc.xml']).toBe(1);
  });

  test('is left alone where PCP has answered first', async () => {
    const at = await gatewayFor({ quirks: { silentOn: ['ssdp search'] } });
    const { found } = await discovered(at, { known: at.embedded.location });
    expect(found).toEqual(['natpmp', 'pcp']);
    expect(at.embedded.counters['http GET /rootDesc.xml']).toBeUndefined();
  });

  test('quirk 17: that has moved at a reboot is no failure, the search finds it again', async () => {
    const at = await gatewayFor({ quirks: { controlPortMoves: true } });
    const known = at.embedded.location;
    await at.embedded.wipe();
    const { offers, failed } = await discovered(at, { protocols: ['upnp'], known });
    expect(failed).toEqual([]);
    expect(offers).toMatchObject([{ offer: { device: { location: at.embedded.location } } }]);
    expect(at.embedded.location).not.toBe(known);
  });

  test('that is on a foreign host is not asked', async () => {
    const at = await gatewayFor();
    const { found, failed } = await discovered(at, { protocols: ['upnp'], known: 'http://127.0.0.66:9/' });
    expect({ found, failed }).toEqual({ found: ['upnp'], failed: [] });
  });
});
