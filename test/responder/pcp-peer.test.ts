import { describe, expect, test } from 'vitest';
import type { Endpoint } from '../../src/net/endpoint.ts';
import { decodePcpResponse, PCP_RESULT, type PcpResponse } from '../../src/wire/pcp.ts';
import { addMapping, ask, INNER, type MapOptions, NONCE, pcpMap, pcpPeerPacket } from './support/client.ts';
import { StillClock } from './support/clock.ts';
import { gatewayFor, type TestGateway } from './support/gateway.ts';

const OTHER_NONCE = new Uint8Array(12).fill(0xee);
const REMOTE = { address: '192.0.2.1', port: 443 };

async function pcpPeer(
  gateway: TestGateway,
  internalPort: number,
  options: MapOptions & { readonly externalPort?: number; readonly remote?: Endpoint } = {},
): Promise<PcpResponse | undefined> {
  const packet = pcpPeerPacket(internalPort, options.remote ?? REMOTE, options);
  const answer = await ask(packet, { address: options.to ?? INNER, port: gateway.ports.pcp }, options);
  return answer === undefined ? undefined : decodePcpResponse(answer);
}

describe('PEER', () => {
  test('makes a mapping for one remote peer alone, and says which', async () => {
    const gateway = await gatewayFor({ externalAddress: '203.0.113.7' });
    expect(await pcpPeer(gateway, 8080, { externalPort: 18_080 })).toEqual({
      opcode: 'peer',
      result: 0,
      lifetimeSeconds: 7200,
      epochSeconds: 0,
      peer: {
        nonce: NONCE,
        protocol: 6,
        internalPort: 8080,
        externalPort: 18_080,
        externalAddress: '203.0.113.7',
        remotePort: 443,
        remoteAddress: '192.0.2.1',
        options: {},
      },
    });
    expect(gateway.table).toMatchObject([
      { externalPort: 18_080, remotePeers: [{ address: '192.0.2.1', prefixLength: 32, port: 443 }] },
    ]);
    expect(gateway.counters).toEqual({ 'pcp peer': 1 });
  });

  test('tells the mapping that is there, with what is left of it, and leaves it as it is', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    await pcpMap(gateway, 8080, 18_080, { lifetimeSeconds: 3600 });
    const before = gateway.table;
    await clock.advance(600_000);
    for (const lifetimeSeconds of [7200, 0]) {
      // What is suggested counts for a new mapping only.
      expect(await pcpPeer(gateway, 8080, { externalPort: 9, lifetimeSeconds })).toMatchObject({
        result: 0,
        lifetimeSeconds: 3000,
        peer: { externalPort: 18_080 },
      });
    }
    expect(gateway.table).toEqual(before);
  });

  test('renews its own mapping, and never shortens or ends it', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    await pcpPeer(gateway, 8080, { lifetimeSeconds: 3600 });
    await clock.advance(600_000);
    expect(await pcpPeer(gateway, 8080, { lifetimeSeconds: 120 })).toMatchObject({ lifetimeSeconds: 3000 });
    expect(await pcpPeer(gateway, 8080, { lifetimeSeconds: 0 })).toMatchObject({ lifetimeSeconds: 3000 });
    expect(await pcpPeer(gateway, 8080, { lifetimeSeconds: 7200 })).toMatchObject({ lifetimeSeconds: 7200 });
    expect(gateway.table).toHaveLength(1);
    await pcpMap(gateway, 8080, 0, { lifetimeSeconds: 0 });
    expect(gateway.table).toEqual([]);
  });

  test('another peer of the same port shares its external port', async () => {
    const gateway = await gatewayFor();
    await pcpPeer(gateway, 8080, { externalPort: 18_080 });
    const remote = { address: '192.0.2.2', port: 80 };
    expect(await pcpPeer(gateway, 8080, { remote })).toMatchObject({
      result: 0,
      peer: { externalPort: 18_080 },
    });
    expect(gateway.table).toMatchObject([{ remotePeers: [{ port: 443 }, { port: 80 }] }]);
    for (let port = 1; port <= 6; port++) await pcpPeer(gateway, 8080, { remote: { ...remote, port } });
    expect(await pcpPeer(gateway, 8080, { remote: { ...remote, port: 9 } })).toMatchObject({
      result: PCP_RESULT.EXCESSIVE_REMOTE_PEERS,
    });
    expect(gateway.table[0]?.remotePeers).toHaveLength(8);
  });

  test('a MAP of the same port opens it for everybody, and a later one keeps it so', async () => {
    const gateway = await gatewayFor();
    await pcpPeer(gateway, 8080, { externalPort: 18_080 });
    for (const _time of ['first', 'again']) {
      expect(await pcpMap(gateway, 8080, 0)).toMatchObject({ result: 0, map: { externalPort: 18_080 } });
      expect(gateway.table).toMatchObject([{ externalPort: 18_080, remotePeers: [] }]);
    }
  });

  test('lifetime 0 makes nothing where nothing is', async () => {
    const gateway = await gatewayFor();
    expect(await pcpPeer(gateway, 8080, { lifetimeSeconds: 0, externalPort: 18_080 })).toMatchObject({
      result: 0,
      lifetimeSeconds: 0,
      peer: { externalPort: 0 },
    });
    expect(gateway.table).toEqual([]);
  });

  test('a suggested end that is not to be had is refused, and nothing is made (section 12.3)', async () => {
    const gateway = await gatewayFor({ externalAddress: '203.0.113.7' });
    await addMapping(gateway, 18_080, 9090);
    const refused = { result: PCP_RESULT.CANNOT_PROVIDE_EXTERNAL, lifetimeSeconds: 30 };
    expect(await pcpPeer(gateway, 8080, { externalPort: 18_080 })).toMatchObject(refused);
    expect(await pcpPeer(gateway, 8080, { externalAddress: '203.0.113.8' })).toMatchObject(refused);
    expect(gateway.table).toHaveLength(1);
  });

  test('another nonce is NOT_AUTHORIZED for as long as the mapping holds', async () => {
    const gateway = await gatewayFor();
    await pcpMap(gateway, 8080, 18_080, { lifetimeSeconds: 3600 });
    expect(await pcpPeer(gateway, 8080, { nonce: OTHER_NONCE })).toMatchObject({
      result: PCP_RESULT.NOT_AUTHORIZED,
      lifetimeSeconds: 3600,
    });
  });

  test.each([
    ['no port', { address: '192.0.2.1', port: 0 }],
    ['no address', { address: '0.0.0.0', port: 443 }],
    ['another family', { address: '2001:db8::1', port: 443 }],
    ['a group', { address: '224.0.0.1', port: 443 }],
    ['everybody', { address: '255.255.255.255', port: 443 }],
  ])('a peer that is %s is MALFORMED_REQUEST', async (_, remote) => {
    const gateway = await gatewayFor();
    expect(await pcpPeer(gateway, 8080, { remote })).toMatchObject({
      result: PCP_RESULT.MALFORMED_REQUEST,
      lifetimeSeconds: 1800,
    });
    expect(gateway.table).toEqual([]);
  });

  test('has MAP’s checks of addresses, protocols and options', async () => {
    const gateway = await gatewayFor({ trustedClients: ['127.0.0.5'] });
    const result = async (options: MapOptions, internalPort = 8080) =>
      (await pcpPeer(gateway, internalPort, options))?.result;
    const thirdParty = { options: { thirdParty: '127.0.0.9' } };
    expect(await result({ clientAddress: '10.0.0.1' })).toBe(PCP_RESULT.ADDRESS_MISMATCH);
    expect(await result({ protocol: 132 })).toBe(PCP_RESULT.UNSUPP_PROTOCOL);
    expect(await result({}, 0)).toBe(PCP_RESULT.MALFORMED_REQUEST);
    expect(await result({ options: { preferFailure: true } })).toBe(PCP_RESULT.MALFORMED_OPTION);
    expect(await result(thirdParty)).toBe(PCP_RESULT.NOT_AUTHORIZED);
    expect(gateway.table).toEqual([]);
    expect(await result({ ...thirdParty, from: '127.0.0.5' })).toBe(0);
    expect(gateway.table).toMatchObject([{ internalClient: '127.0.0.9' }]);
  });
});

describe('PEER over IPv6', () => {
  const inner = { address: '::1', outerAddress: '::1' } as const;
  const asked = { to: '::1', from: '::1', remote: { address: '2001:db8::1', port: 443 } } as const;

  test('is a pinhole for the peer, and never shortens it', async () => {
    const gateway = await gatewayFor(inner);
    for (const lifetimeSeconds of [7200, 120, 0]) {
      expect(await pcpPeer(gateway, 8080, { ...asked, lifetimeSeconds })).toMatchObject({
        result: 0,
        lifetimeSeconds: 7200,
        peer: { externalPort: 8080, externalAddress: '::1' },
      });
    }
    expect(gateway.pinholes).toMatchObject([{ remoteHost: '2001:db8::1', remotePort: 443, nonce: NONCE }]);
  });

  test('tells the pinhole that lets everybody in, and opens no second one', async () => {
    const gateway = await gatewayFor(inner);
    await pcpMap(gateway, 8080, 0, { ...asked, lifetimeSeconds: 3600 });
    expect(await pcpPeer(gateway, 8080, asked)).toMatchObject({ result: 0, lifetimeSeconds: 3600 });
    expect(gateway.pinholes).toMatchObject([{ remoteHost: undefined }]);
    expect(await pcpPeer(gateway, 8080, { ...asked, nonce: OTHER_NONCE })).toMatchObject({
      result: PCP_RESULT.NOT_AUTHORIZED,
      lifetimeSeconds: 3600,
    });
  });

  test('refuses another external port, and makes nothing with lifetime 0', async () => {
    const gateway = await gatewayFor(inner);
    expect(await pcpPeer(gateway, 8080, { ...asked, externalPort: 18_080 })).toMatchObject({
      result: PCP_RESULT.CANNOT_PROVIDE_EXTERNAL,
    });
    expect(await pcpPeer(gateway, 8080, { ...asked, lifetimeSeconds: 0 })).toMatchObject({
      result: 0,
      lifetimeSeconds: 0,
    });
    expect(gateway.pinholes).toEqual([]);
  });
});
