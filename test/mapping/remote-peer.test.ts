import { describe, expect, test } from 'vitest';
import { mapperAt } from './support.ts';

const HOST = { address: '127.0.0.9', prefixLength: 32, port: 0 };
const NETWORK = { address: '192.0.2.0', prefixLength: 24, port: 53 };

describe('a mapping for one remote peer', () => {
  test.each(['pcp', 'upnp'] as const)('over %s lets in that host alone, and is taken back', async (via) => {
    const { map, mapper, embedded, clock } = await mapperAt(via);
    const mapping = await map({ remotePeer: HOST });
    expect(mapping.remotePeer).toEqual(HOST);
    expect(embedded.table).toMatchObject([{ externalPort: 8080, remotePeers: [HOST] }]);
    await clock.settle(mapper.unmap(mapping));
    expect(embedded.table).toEqual([]);
  });

  test('over pcp may be for a network, and for one port of it', async () => {
    const { map, embedded } = await mapperAt('pcp');
    await map({ remotePeer: NETWORK });
    expect(embedded.table).toMatchObject([{ remotePeers: [NETWORK] }]);
  });

  test('over upnp is for a host: a network is UNSUPPORTED, and nothing is asked', async () => {
    const { map, embedded } = await mapperAt('upnp');
    await expect(map({ remotePeer: NETWORK })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    expect(embedded.counters['soap AddPortMapping']).toBeUndefined();
  });

  test('over natpmp is UNSUPPORTED: everybody would be let in', async () => {
    const { map, embedded } = await mapperAt('natpmp');
    await expect(map({ remotePeer: HOST })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    expect(embedded.table).toEqual([]);
  });
});
