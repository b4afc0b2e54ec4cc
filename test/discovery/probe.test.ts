import { describe, expect, test } from 'vitest';
import { probeNatpmp, probePcp } from '../../src/discovery/probe.ts';
import type { MappingProtocol } from '../../src/net/protocol.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import { type LinkedGateway, linkedGateway, NEVER } from './support.ts';

/** Both probes at once, as discovery does it: what each one came to, and after how long. */
async function probeBoth({ gateway, link, clock }: LinkedGateway, signal: AbortSignal = NEVER) {
  const startMs = clock.now();
  const outcome = (probe: Promise<{ protocol: string }>) =>
    probe.then(
      ({ protocol }) => `${protocol} after ${clock.now() - startMs} ms`,
      (error: { code: string }) => `${error.code} after ${clock.now() - startMs} ms`,
    );
  return clock.settle(
    Promise.all([outcome(probePcp(gateway, link, signal)), outcome(probeNatpmp(gateway, link, signal))]),
  );
}

function speaking(...protocols: MappingProtocol[]): Partial<GatewaySettings> {
  return { protocols };
}

describe('the probes of PCP and NAT-PMP', () => {
  test('find both where a gateway speaks both, with one packet each', async () => {
    const at = await linkedGateway(speaking('pcp', 'natpmp'));
    expect(await probeBoth(at)).toEqual(['pcp after 0 ms', 'natpmp after 0 ms']);
    expect(at.embedded.counters).toEqual({ 'pcp announce': 1, 'natpmp address': 1 });
    expect(at.link.dropped).toBe(0);
  });

  test('find PCP alone: its gateway refuses version 0 with UNSUPP_VERSION, and nobody waits', async () => {
    const at = await linkedGateway(speaking('pcp'));
    expect(await probeBoth(at)).toEqual(['pcp after 0 ms', 'UNSUPPORTED after 0 ms']);
  });

  test('find NAT-PMP alone: its gateway refuses version 2 in version 0, and nobody waits', async () => {
    const at = await linkedGateway(speaking('natpmp'));
    expect(await probeBoth(at)).toEqual(['UNSUPPORTED after 0 ms', 'natpmp after 0 ms']);
  });

  test('end at once where the host refuses with ICMP', async () => {
    const at = await linkedGateway(speaking('upnp'));
    expect(await probeBoth(at)).toEqual(['UNREACHABLE after 0 ms', 'UNREACHABLE after 0 ms']);
  });

  test('end at their deadline where nothing answers', async () => {
    const silentOn = ['pcp announce', 'natpmp address'];
    const at = await linkedGateway({ quirks: { silentOn } });
    expect(await probeBoth(at)).toEqual(['TIMEOUT after 2000 ms', 'TIMEOUT after 2000 ms']);
    expect(at.embedded.counters).toEqual({ 'pcp announce': 5, 'natpmp address': 5 });
  });

  test('are repeated where the first packets are lost', async () => {
    const at = await linkedGateway({ quirks: { loseAnswers: { 'pcp announce': 2, 'natpmp address': 1 } } });
    expect(await probeBoth(at)).toEqual(['pcp after 300 ms', 'natpmp after 100 ms']);
  });

  test('end with ABORTED when they are stopped', async () => {
    const at = await linkedGateway({ quirks: { silentOn: ['pcp announce', 'natpmp address'] } });
    const stop = new AbortController();
    void at.clock.sleep(500).then(() => stop.abort());
    expect(await probeBoth(at, stop.signal)).toEqual(['ABORTED after 500 ms', 'ABORTED after 500 ms']);
    expect(at.clock.pending).toBe(0);
  });

  test('NAT-PMP tells the external address and the epoch', async () => {
    const { gateway, link, clock } = await linkedGateway({ externalAddress: '203.0.113.9' });
    await clock.advance(42_000);
    const offer = await clock.settle(probeNatpmp(gateway, link, NEVER));
    expect(offer).toMatchObject({ epochSeconds: 42, externalAddress: '203.0.113.9' });
  });

  test('PCP tells the epoch', async () => {
    const { gateway, link, clock } = await linkedGateway();
    await clock.advance(42_000);
    expect(await clock.settle(probePcp(gateway, link, NEVER))).toMatchObject({ epochSeconds: 42 });
  });

  test('quirk 26: NAT-PMP that answers "network failure" is an offer without an address, PCP beside it is one', async () => {
    const { gateway, link, clock } = await linkedGateway({ quirks: { natpmpNetworkFailure: true } });
    const natpmp = await clock.settle(probeNatpmp(gateway, link, NEVER));
    expect(natpmp).toMatchObject({ protocol: 'natpmp', externalAddress: undefined });
    expect(await clock.settle(probePcp(gateway, link, NEVER))).toMatchObject({ protocol: 'pcp' });
  });

  test('quirk 24: an external address of 0.0.0.0 is no address', async () => {
    const { gateway, link, clock } = await linkedGateway({ quirks: { externalAddressReported: '0.0.0.0' } });
    expect(await clock.settle(probeNatpmp(gateway, link, NEVER))).toMatchObject({
      externalAddress: undefined,
    });
  });

  test('PCP is probed over IPv6 as well', async () => {
    const { gateway, link, clock } = await linkedGateway({ address: '::1' });
    expect(await clock.settle(probePcp(gateway, link, NEVER))).toMatchObject({ protocol: 'pcp' });
  });
});
