import { describe, expect, test } from 'vitest';
import { mapperAt, tableOf } from './support.ts';

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
