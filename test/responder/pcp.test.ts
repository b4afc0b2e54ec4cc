import { describe, expect, test } from 'vitest';
import { decodePcpResponse, encodePcpRequest, PCP_RESULT } from '../../src/wire/pcp.ts';
import {
  addMapping,
  ask,
  INNER,
  type MapOptions,
  NONCE,
  natpmpMap,
  pcpMap,
  pcpMapPacket,
} from './support/client.ts';
import { StillClock } from './support/clock.ts';
import { gatewayFor } from './support/gateway.ts';

const OTHER_NONCE = new Uint8Array(12).fill(0xee);

function at(index: number, value: number): (packet: Uint8Array) => Uint8Array {
  return (packet) => packet.with(index, value);
}

describe('PCP', () => {
  test('answers ANNOUNCE with its epoch', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    await clock.advance(30_000);
    const packet = encodePcpRequest({ opcode: 'announce', lifetimeSeconds: 0, clientAddress: INNER });
    const answer = await ask(packet, { address: INNER, port: gateway.ports.pcp });
    expect(decodePcpResponse(answer ?? packet)).toEqual({
      opcode: 'announce',
      result: 0,
      lifetimeSeconds: 0,
      epochSeconds: 30,
    });
    expect(gateway.counters).toEqual({ 'pcp announce': 1 });
  });

  test('maps, with the nonce and the description given back', async () => {
    const gateway = await gatewayFor({ externalAddress: '203.0.113.7' });
    expect(await pcpMap(gateway, 8080, 18_080, { options: { description: 'a test' } })).toEqual({
      opcode: 'map',
      result: 0,
      lifetimeSeconds: 7200,
      epochSeconds: 0,
      map: {
        nonce: NONCE,
        protocol: 6,
        internalPort: 8080,
        externalPort: 18_080,
        externalAddress: '203.0.113.7',
        options: { description: expect.stringMatching(/^a test *$/) },
      },
    });
    expect(gateway.table).toMatchObject([{ via: 'pcp', nonce: NONCE, description: 'a test' }]);
  });

  test('a nonce mismatch is refused on refresh and on delete, and nothing changes', async () => {
    const gateway = await gatewayFor();
    await pcpMap(gateway, 8080, 18_080);
    const before = gateway.table;
    for (const lifetimeSeconds of [60, 0]) {
      expect(await pcpMap(gateway, 8080, 18_080, { nonce: OTHER_NONCE, lifetimeSeconds })).toMatchObject({
        result: PCP_RESULT.NOT_AUTHORIZED,
        // Section 11.3: for as long as the other's mapping holds.
        lifetimeSeconds: 7200,
        map: { nonce: OTHER_NONCE, internalPort: 8080 },
      });
    }
    expect(gateway.table).toEqual(before);
    expect(await pcpMap(gateway, 8080, 18_080, { lifetimeSeconds: 0 })).toMatchObject({ result: 0 });
    expect(gateway.table).toEqual([]);
  });

  test('internal port 0 with lifetime 0 ends all mappings of one nonce', async () => {
    const gateway = await gatewayFor();
    await pcpMap(gateway, 8080, 18_080);
    await pcpMap(gateway, 8081, 18_081, { protocol: 17 });
    await pcpMap(gateway, 8082, 18_082, { nonce: OTHER_NONCE });
    expect(await pcpMap(gateway, 0, 0, { protocol: 0, lifetimeSeconds: 0 })).toMatchObject({ result: 0 });
    expect(gateway.table).toMatchObject([{ externalPort: 18_082 }]);
  });

  test('PREFER_FAILURE refuses rather than grant another port or address', async () => {
    const gateway = await gatewayFor({ externalAddress: '203.0.113.7' });
    await pcpMap(gateway, 8080, 18_080);
    const exact = { options: { preferFailure: true } } as const;
    const refused = { result: PCP_RESULT.CANNOT_PROVIDE_EXTERNAL, lifetimeSeconds: 30 };
    expect(await pcpMap(gateway, 8081, 18_080, exact)).toMatchObject(refused);
    expect(await pcpMap(gateway, 8080, 18_090, exact)).toMatchObject(refused);
    expect(await pcpMap(gateway, 8081, 18_081, { ...exact, externalAddress: '203.0.113.8' })).toMatchObject(
      refused,
    );
    expect(await pcpMap(gateway, 8081, 18_081, { ...exact, externalAddress: '203.0.113.7' })).toMatchObject({
      result: 0,
      map: { externalPort: 18_081 },
    });
    expect(await pcpMap(gateway, 8082, 18_080)).toMatchObject({ result: 0 });
  });

  test('a denied port is NOT_AUTHORIZED with PREFER_FAILURE, and another one without', async () => {
    const gateway = await gatewayFor({ deniedExternalPorts: [{ first: 1, last: 18_080 }] });
    expect(await pcpMap(gateway, 8080, 18_080, { options: { preferFailure: true } })).toMatchObject({
      result: PCP_RESULT.NOT_AUTHORIZED,
    });
    const granted = await pcpMap(gateway, 8080, 18_080);
    expect(granted?.result).toBe(0);
    expect(granted?.map.externalPort).toBeGreaterThan(18_080);
  });

  test('THIRD_PARTY is for trusted clients', async () => {
    const thirdParty = { options: { thirdParty: '127.0.0.9' } } as const;
    const secure = await gatewayFor();
    expect(await pcpMap(secure, 8080, 0, thirdParty)).toMatchObject({ result: PCP_RESULT.UNSUPP_OPTION });
    const gateway = await gatewayFor({ trustedClients: ['127.0.0.5'] });
    expect(await pcpMap(gateway, 8080, 0, thirdParty)).toMatchObject({ result: PCP_RESULT.NOT_AUTHORIZED });
    expect(await pcpMap(gateway, 8080, 0, { ...thirdParty, from: '127.0.0.5' })).toMatchObject({
      result: 0,
      map: { options: { thirdParty: '127.0.0.9' } },
    });
    expect(gateway.table).toMatchObject([{ internalClient: '127.0.0.9' }]);
    const itself = { from: '127.0.0.9', options: { thirdParty: '127.0.0.9' } };
    expect(await pcpMap(gateway, 8080, 0, itself)).toMatchObject({ result: PCP_RESULT.MALFORMED_REQUEST });
  });

  test('lifetimes are held between the shortest and the longest (section 15)', async () => {
    const gateway = await gatewayFor();
    expect(await pcpMap(gateway, 8080, 0, { lifetimeSeconds: 1 })).toMatchObject({ lifetimeSeconds: 120 });
    expect(await pcpMap(gateway, 8080, 0, { lifetimeSeconds: 2 ** 32 - 1 })).toMatchObject({
      lifetimeSeconds: 86_400,
    });
  });

  test('refuses what it cannot do by the code that says so', async () => {
    const gateway = await gatewayFor();
    expect(await pcpMap(gateway, 8080, 0, { clientAddress: '10.0.0.1' })).toMatchObject({
      result: PCP_RESULT.ADDRESS_MISMATCH,
    });
    expect(await pcpMap(gateway, 8080, 0, { protocol: 132 })).toMatchObject({
      result: PCP_RESULT.UNSUPP_PROTOCOL,
    });
    expect(await pcpMap(gateway, 0, 0)).toMatchObject({ result: PCP_RESULT.UNSUPP_PROTOCOL });
    const filter = { prefixLength: 128, remotePort: 0, remoteAddress: '192.0.2.1' };
    const filters = Array.from({ length: 9 }, (_, at) => ({ ...filter, remoteAddress: `192.0.2.${at}` }));
    expect(await pcpMap(gateway, 8080, 0, { options: { filters } })).toMatchObject({
      result: PCP_RESULT.EXCESSIVE_REMOTE_PEERS,
    });
    const malformed = { result: PCP_RESULT.MALFORMED_OPTION, lifetimeSeconds: 1800 };
    const wrong: MapOptions[] = [
      { options: { filters: [{ ...filter, prefixLength: 24 }] } },
      { options: { filters: [{ ...filter, prefixLength: 129 }] } },
      { options: { filters: [{ ...filter, remoteAddress: '2001:db8::1' }] } },
      { options: { filters: [filter] }, lifetimeSeconds: 0 },
      { options: { preferFailure: true } },
    ];
    for (const one of wrong) expect(await pcpMap(gateway, 8080, 0, one)).toMatchObject(malformed);
    expect(gateway.table).toEqual([]);
  });

  test('gives a request that it cannot read back with the result in its header (section 7.2)', async () => {
    const gateway = await gatewayFor();
    const to = { address: INNER, port: gateway.ports.pcp };
    const answers = async (change: (packet: Uint8Array) => Uint8Array) => {
      const answer = await ask(change(pcpMapPacket(8080, 0)), to);
      return answer === undefined ? undefined : [...answer.subarray(0, 4), answer.length];
    };
    expect(await answers(at(0, 1))).toEqual([2, 0x81, 0, PCP_RESULT.UNSUPP_VERSION, 24]);
    expect(await answers(at(1, 3))).toEqual([2, 0x83, 0, PCP_RESULT.UNSUPP_OPCODE, 60]);
    expect(await answers((packet) => packet.subarray(0, 40))).toEqual([2, 0x81, 0, 3, 40]);
    expect(await answers((packet) => packet.subarray(0, 59))).toEqual([2, 0x81, 0, 3, 60]);
    const option = Uint8Array.of(99, 0, 0, 0);
    expect(await answers((packet) => Uint8Array.of(...packet, ...option))).toEqual([
      2,
      0x81,
      0,
      PCP_RESULT.UNSUPP_OPTION,
      64,
    ]);
    expect(gateway.counters).toEqual({ 'pcp malformed': 5 });
  });

  test('filters add up, the same one once, until a prefix of 0 takes them back (section 13.3)', async () => {
    const gateway = await gatewayFor();
    const one = { prefixLength: 128, remotePort: 443, remoteAddress: '192.0.2.1' };
    const network = { prefixLength: 120, remotePort: 0, remoteAddress: '198.51.100.0' };
    const none = { prefixLength: 0, remotePort: 0, remoteAddress: '0.0.0.0' };
    const peers = async (...filters: (typeof one)[]) => {
      const options = filters.length === 0 ? {} : { options: { filters } };
      expect(await pcpMap(gateway, 8080, 0, options)).toMatchObject({ result: 0, map: options });
      return gateway.table[0]?.remotePeers.map(({ address, prefixLength, port }) =>
        [address, prefixLength, port].join(' '),
      );
    };
    expect(await peers(one)).toEqual(['192.0.2.1 32 443']);
    expect(await peers(one)).toEqual(['192.0.2.1 32 443']);
    expect(await peers(network)).toEqual(['192.0.2.1 32 443', '198.51.100.0 24 0']);
    expect(await peers()).toEqual(['192.0.2.1 32 443', '198.51.100.0 24 0']);
    expect(await peers(none, network)).toEqual(['198.51.100.0 24 0']);
    expect(await peers(none)).toEqual([]);
  });

  test('protocol 0 with lifetime 0 ends all mappings, whatever port it names (section 11.1)', async () => {
    const gateway = await gatewayFor();
    await pcpMap(gateway, 8080, 18_080);
    await pcpMap(gateway, 8081, 18_081, { protocol: 17 });
    expect(await pcpMap(gateway, 8080, 0, { protocol: 0, lifetimeSeconds: 0 })).toMatchObject({ result: 0 });
    expect(gateway.table).toEqual([]);
  });

  test('an answer has the options that were understood, and no others (section 7.3)', async () => {
    const gateway = await gatewayFor();
    const packet = Uint8Array.of(...pcpMapPacket(8080, 0, { options: { description: 'x' } }), 0xff, 0, 0, 0);
    const answer = await ask(packet, { address: INNER, port: gateway.ports.pcp });
    expect(answer).toHaveLength(packet.length - 4);
    expect(decodePcpResponse(answer ?? packet)).toMatchObject({ map: { options: { description: 'x' } } });
  });

  test('nobody maps for an address that nobody has', async () => {
    const gateway = await gatewayFor({ secureMode: false });
    expect(await pcpMap(gateway, 8080, 0, { options: { thirdParty: '0.0.0.0' } })).toMatchObject({
      result: PCP_RESULT.MALFORMED_OPTION,
    });
    expect(gateway.table).toEqual([]);
  });

  test('drops answers and what is too short, without a word (section 8.2)', async () => {
    const gateway = await gatewayFor();
    const to = { address: INNER, port: gateway.ports.pcp };
    expect(await ask(pcpMapPacket(8080, 0).with(1, 0x81), to, { withinMs: 100 })).toBeUndefined();
    expect(await ask(Uint8Array.of(2), to, { withinMs: 100 })).toBeUndefined();
    expect(gateway.counters).toEqual({});
  });

  test('refuses NAT-PMP by its own version where that is not spoken (section 9)', async () => {
    const gateway = await gatewayFor({ protocols: ['pcp'] });
    const answer = await ask(Uint8Array.of(0, 0), { address: INNER, port: gateway.ports.pcp });
    expect([...(answer ?? [])].slice(0, 4)).toEqual([2, 0x80, 0, PCP_RESULT.UNSUPP_VERSION]);
  });

  test('refreshes what another protocol mapped, and another protocol what it mapped', async () => {
    const gateway = await gatewayFor();
    await natpmpMap(gateway, 8080, 18_080);
    expect(await pcpMap(gateway, 8080, 0)).toMatchObject({ map: { externalPort: 18_080 } });
    await addMapping(gateway, 18_080, 8080);
    expect(gateway.table).toMatchObject([{ externalPort: 18_080, via: 'natpmp', nonce: NONCE }]);
  });
});

describe('PCP over IPv6', () => {
  const inner = { address: '::1', outerAddress: '::1' } as const;
  const asked = { to: '::1', from: '::1' } as const;

  test('a MAP is a pinhole: the external end is the internal one', async () => {
    const gateway = await gatewayFor(inner);
    expect(await pcpMap(gateway, 8080, 18_080, asked)).toMatchObject({
      result: 0,
      lifetimeSeconds: 7200,
      map: { externalPort: 8080, externalAddress: '::1' },
    });
    expect(gateway.table).toEqual([]);
    expect(gateway.pinholes).toMatchObject([
      { protocol: 6, internalClient: '::1', internalPort: 8080, via: 'pcp', nonce: NONCE },
    ]);
    const exact = { ...asked, options: { preferFailure: true } } as const;
    expect(await pcpMap(gateway, 8081, 18_081, exact)).toMatchObject({
      result: PCP_RESULT.CANNOT_PROVIDE_EXTERNAL,
    });
  });

  test('its nonce guards a pinhole, and lifetime 0 closes it', async () => {
    const gateway = await gatewayFor(inner);
    await pcpMap(gateway, 8080, 0, asked);
    for (const lifetimeSeconds of [600, 0]) {
      const answer = await pcpMap(gateway, 8080, 0, { ...asked, lifetimeSeconds, nonce: OTHER_NONCE });
      expect(answer).toMatchObject({ result: PCP_RESULT.NOT_AUTHORIZED });
    }
    expect(await pcpMap(gateway, 8080, 0, { ...asked, lifetimeSeconds: 0 })).toMatchObject({ result: 0 });
    expect(gateway.pinholes).toEqual([]);
  });

  test('each filter is a pinhole of its own, and a network is too much for one', async () => {
    const gateway = await gatewayFor(inner);
    const filter = (remoteAddress: string, prefixLength = 128) => ({
      prefixLength,
      remotePort: 443,
      remoteAddress,
    });
    const filtered = (...filters: ReturnType<typeof filter>[]) =>
      pcpMap(gateway, 8080, 0, { ...asked, options: filters.length === 0 ? {} : { filters } });
    const hosts = () => gateway.pinholes.map(({ remoteHost }) => remoteHost);
    expect(await filtered(filter('2001:db8::', 64))).toMatchObject({
      result: PCP_RESULT.EXCESSIVE_REMOTE_PEERS,
    });
    expect(hosts()).toEqual([]);
    await filtered();
    expect(hosts()).toEqual([undefined]);
    await filtered(filter('2001:db8::1'), filter('2001:db8::2'));
    expect(hosts()).toEqual(['2001:db8::1', '2001:db8::2']);
    await filtered();
    expect(hosts()).toEqual(['2001:db8::1', '2001:db8::2']);
    await filtered(filter('::', 0), filter('2001:db8::3'));
    expect(hosts()).toEqual(['2001:db8::3']);
    await pcpMap(gateway, 8080, 0, { ...asked, lifetimeSeconds: 0 });
    expect(hosts()).toEqual([]);
  });

  test('what cannot be opened whole leaves nothing open', async () => {
    const gateway = await gatewayFor({ ...inner, maxMappings: 32 });
    for (let port = 1; port <= 31; port++) await pcpMap(gateway, port, 0, asked);
    const filters = ['2001:db8::1', '2001:db8::2'].map((remoteAddress) => ({
      prefixLength: 128,
      remotePort: 0,
      remoteAddress,
    }));
    expect(await pcpMap(gateway, 99, 0, { ...asked, options: { filters } })).toMatchObject({
      result: PCP_RESULT.NO_RESOURCES,
      lifetimeSeconds: 30,
    });
    expect(gateway.pinholes).toHaveLength(31);
  });

  test('a pinhole ends with its lifetime', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor(inner, clock);
    await pcpMap(gateway, 8080, 0, { ...asked, lifetimeSeconds: 600 });
    await clock.advance(599_000);
    expect(gateway.pinholes).toHaveLength(1);
    await clock.advance(1_000);
    expect(gateway.pinholes).toEqual([]);
  });

  test('NAT-PMP is not spoken there', async () => {
    const gateway = await gatewayFor(inner);
    const answer = await ask(Uint8Array.of(0, 0), { address: '::1', port: gateway.ports.pcp });
    expect([...(answer ?? [])].slice(0, 4)).toEqual([2, 0x80, 0, PCP_RESULT.UNSUPP_VERSION]);
  });
});
