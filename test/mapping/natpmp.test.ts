import { describe, expect, test } from 'vitest';
import type { VpnHabits } from '../../src/responder/quirks/vpn.ts';
import { heldOf, type MapperAt, mapperAt, mapperOf, requestFor, tableOf } from './support.ts';

describe('NAT-PMP', () => {
  test('maps to this host alone, and sends nothing for another one', async () => {
    const at = await mapperAt('natpmp');
    await expect(at.map({ internalClient: '127.0.0.9' })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    expect(at.embedded.counters['natpmp map']).toBeUndefined();
  });

  test('releases with lifetime 0 and external port 0 (RFC 6886, section 3.4)', async () => {
    const at = await mapperAt('natpmp');
    const mapping = await at.map({ suggestedExternalPort: 19_000 });
    await at.clock.settle(at.mapper.unmap(mapping));
    expect(at.embedded.counters['natpmp unmap']).toBe(1);
    expect(at.embedded.table).toEqual([]);
  });

  test('a gateway that keeps a port of before for this host answers with that one', async () => {
    const at = await mapperAt('natpmp');
    await at.map();
    expect((await at.map({ suggestedExternalPort: 9999 })).externalPort).toBe(8080);
    expect(tableOf(at)).toEqual(['tcp 8080 -> 127.0.0.1:8080']);
  });

  test('quirk 26: an answer with ports of 8 bits is no answer: TIMEOUT, and not a wrong port', async () => {
    const at = await mapperAt('natpmp', { quirks: { natpmpTruncatesPorts: true } });
    await expect(at.map()).rejects.toMatchObject({ code: 'TIMEOUT' });
  });

  test('quirk 26: error 3 is NETWORK_DOWN', async () => {
    const at = await mapperAt('natpmp', { quirks: { natpmpNetworkFailure: true } });
    await expect(at.map()).rejects.toMatchObject({ code: 'NETWORK_DOWN', protocolCode: 'NAT-PMP 3' });
  });

  test('quirk 26: error 3 for the address alone: the port is mapped, without an address', async () => {
    const at = await mapperAt('natpmp', { quirks: { natpmpNetworkFailure: true } });
    at.quirk({ natpmpNetworkFailure: false });
    expect(await at.map()).toMatchObject({ externalPort: 8080, externalAddress: undefined });
  });
});

/** As over a VPN: a link of one address. */
async function overVpn(internalPortInAnswer: VpnHabits['internalPortInAnswer']): Promise<MapperAt> {
  const at = await mapperAt('natpmp', { quirks: { vpnHabits: { internalPortInAnswer } } });
  const gateway = { ...at.gateway, prefixLength: 32 };
  const mapper = await mapperOf({ ...at, gateway }, 'natpmp');
  return { ...at, mapper, map: (wanted) => at.clock.settle(mapper.map(requestFor(wanted))) };
}

describe('NAT-PMP of a VPN provider (quirk 31)', () => {
  describe.each(['zero', 'one', 'echo'] as const)('that answers for internal port %s', (answer) => {
    test('grants a port of its own choice, and that is where the traffic arrives', async () => {
      const at = await overVpn(answer);
      const mapping = await at.map();
      expect(mapping).toMatchObject({ internalPort: 8080, lifetimeSeconds: 60, via: 'natpmp' });
      expect(mapping.arrivesOnPort).toBe(mapping.externalPort);
      const { externalPort } = mapping;
      expect(tableOf(at)).toEqual([`tcp ${externalPort} -> 127.0.0.1:${externalPort}`]);
    });

    test('refreshes it on the same port, and takes it back', async () => {
      const at = await overVpn(answer);
      const mapping = await at.map();
      await at.clock.advance(30_000);
      const again = await at.map({ held: heldOf(mapping), suggestedExternalPort: mapping.externalPort });
      expect(again.externalPort).toBe(mapping.externalPort);
      await at.clock.settle(at.mapper.unmap(again));
      expect(at.embedded.table).toEqual([]);
    });

    test.each([6400, 6401, 256, 257, 1, 65_280])(
      'does so for internal port %i as well',
      async (internalPort) => {
        const at = await overVpn(answer);
        expect(await at.map({ internalPort })).toMatchObject({ internalPort, lifetimeSeconds: 60 });
      },
    );
  });

  test.each(['zero', 'one'] as const)(
    'says where traffic arrives on any other link too (%s)',
    async (answer) => {
      const at = await mapperAt('natpmp', { quirks: { vpnHabits: { internalPortInAnswer: answer } } });
      const mapping = await at.map();
      expect(mapping.arrivesOnPort).toBe(mapping.externalPort);
    },
  );

  test('a gateway at home delivers to the internal port, and says nothing else', async () => {
    const at = await mapperAt('natpmp');
    expect((await at.map({ suggestedExternalPort: 19_080 })).arrivesOnPort).toBeUndefined();
  });

  test.each([6400, 6401, 8080])(
    'quirk 26: port %i cut to 8 bits is still no answer',
    async (internalPort) => {
      const at = await mapperAt('natpmp', { quirks: { natpmpTruncatesPorts: true } });
      await expect(at.map({ internalPort })).rejects.toMatchObject({ code: 'TIMEOUT' });
    },
  );
});
