import { createSocket } from 'node:dgram';
import { describe, expect, test } from 'vitest';
import { startGateway } from '../../src/responder/gateway.ts';
import { systemClock } from '../../src/system/clock.ts';
import {
  addMapping,
  codeOf,
  exchangeTcp,
  INNER,
  NONCE,
  natpmp,
  natpmpMap,
  outerValues,
  pcpMap,
  soap,
} from './support/client.ts';
import { StillClock } from './support/clock.ts';
import { gatewayFor } from './support/gateway.ts';

describe('one table', () => {
  test('all three protocols see one mapping, whoever made it', async () => {
    const gateway = await gatewayFor();
    await natpmpMap(gateway, 8080, 18_080);
    expect(await pcpMap(gateway, 8080, 0)).toMatchObject({ map: { externalPort: 18_080 } });
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(0);
    expect(gateway.table).toHaveLength(1);
    expect(await natpmpMap(gateway, 8080, 0, { lifetimeSeconds: 0 })).toMatchObject({ result: 0 });
    expect(codeOf(await soap(gateway, 'GetSpecificPortMappingEntry', outerValues(18_080)))).toBe(714);
  });

  test('a port that one protocol gave away is taken for the others', async () => {
    const gateway = await gatewayFor();
    await pcpMap(gateway, 8080, 18_080, { from: '127.0.0.5' });
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(718);
    expect(await natpmpMap(gateway, 8080, 18_080)).not.toMatchObject({ externalPort: 18_080 });
  });

  test('fifty clients at once ask for one port: one of them gets it', async () => {
    const gateway = await gatewayFor();
    const clients = Array.from({ length: 50 }, (_, at) => `127.0.1.${at + 1}`);
    const codes = await Promise.all(
      clients.map(async (client) =>
        codeOf(await addMapping(gateway, 18_080, 8080, { NewInternalClient: client }, { from: client })),
      ),
    );
    expect(codes.sort((a, b) => a - b)).toEqual([0, ...Array.from({ length: 49 }, () => 718)]);
    expect(gateway.table).toHaveLength(1);
  });
});

describe('time', () => {
  test('a mapping ends with its lifetime, and its port closes', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    await natpmpMap(gateway, 8080, 18_080, { lifetimeSeconds: 60 });
    await natpmpMap(gateway, 8081, 18_081, { lifetimeSeconds: 120 });
    await clock.advance(59_999);
    expect(gateway.table).toHaveLength(2);
    await clock.advance(1);
    expect(gateway.table).toMatchObject([{ externalPort: 18_081 }]);
    const to = { address: gateway.outer, port: 18_080 };
    await expect(exchangeTcp(to, 'x')).rejects.toThrow('ECONNREFUSED');
    await clock.advance(60_000);
    expect(gateway.table).toEqual([]);
  });

  test('a refresh counts from when it came', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    for (let refresh = 0; refresh < 5; refresh++) {
      await natpmpMap(gateway, 8080, 18_080, { lifetimeSeconds: 60 });
      await clock.advance(59_000);
    }
    expect(gateway.table).toHaveLength(1);
    await clock.advance(1_000);
    expect(gateway.table).toEqual([]);
  });

  test('a wipe is a reboot: no mapping, no pinhole, no port, an epoch from zero', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    await clock.advance(500_000);
    await natpmpMap(gateway, 8080, 18_080);
    await gateway.wipe();
    await clock.advance(3_000);
    expect(gateway.table).toEqual([]);
    const to = { address: gateway.outer, port: 18_080 };
    await expect(exchangeTcp(to, 'x')).rejects.toThrow('ECONNREFUSED');
    expect(await natpmp(gateway, { opcode: 'address' })).toMatchObject({ epochSeconds: 3 });
  });

  test('a new external address resets the epoch and keeps the mappings', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    await clock.advance(500_000);
    await natpmpMap(gateway, 8080, 18_080);
    gateway.changeExternalAddress('203.0.113.9');
    expect(await natpmp(gateway, { opcode: 'address' })).toMatchObject({
      epochSeconds: 0,
      externalAddress: '203.0.113.9',
    });
    expect(gateway.table).toHaveLength(1);
  });
});

describe('secure mode', () => {
  test('a client maps to its own address alone', async () => {
    const gateway = await gatewayFor();
    expect(codeOf(await addMapping(gateway, 18_080, 8080, { NewInternalClient: '127.0.0.5' }))).toBe(606);
    const own = await addMapping(
      gateway,
      18_080,
      8080,
      { NewInternalClient: '127.0.0.5' },
      { from: '127.0.0.5' },
    );
    expect(codeOf(own)).toBe(0);
  });

  test('a trusted client maps for others, and so does everybody without it', async () => {
    const trusting = await gatewayFor({ trustedClients: [INNER] });
    expect(codeOf(await addMapping(trusting, 18_080, 8080, { NewInternalClient: '127.0.0.5' }))).toBe(0);
    const open = await gatewayFor({ secureMode: false });
    expect(codeOf(await addMapping(open, 18_080, 8080, { NewInternalClient: '127.0.0.5' }))).toBe(0);
    const thirdParty = { options: { thirdParty: '127.0.0.6' } };
    expect(await pcpMap(open, 8080, 0, thirdParty)).toMatchObject({ result: 0 });
  });
});

describe('startGateway()', () => {
  test('closes everything that it opened', async () => {
    const gateway = await startGateway({ address: INNER, outerAddress: '127.0.0.2' }, systemClock);
    const { ports } = gateway;
    await pcpMap(gateway, 8080, 0, { nonce: NONCE });
    await gateway[Symbol.asyncDispose]();
    await using again = await startGateway({ address: INNER, outerAddress: '127.0.0.2', ports }, systemClock);
    expect(again.ports).toEqual(ports);
    expect(again.table).toEqual([]);
  });

  test.each([
    ['an address that is none', { address: 'localhost' }],
    ['two addresses of one family', { otherAddress: '127.0.0.3' }],
    ['a table too small', { maxMappings: 31 }],
    ['a table too large', { maxMappings: 1001 }],
    ['one that is too large even without traffic', { maxMappings: 65_536, carriesTraffic: false }],
  ])('refuses %s', async (_what, settings) => {
    await expect(gatewayFor(settings)).rejects.toMatchObject({ code: 'USAGE' });
  });

  test('says FAILED where an address is not of this host or a port is taken, and leaves nothing open', async () => {
    await expect(gatewayFor({ address: '192.0.2.1' })).rejects.toMatchObject({ code: 'FAILED' });
    await expect(gatewayFor({ outerAddress: '192.0.2.1' })).rejects.toMatchObject({ code: 'FAILED' });
    const socket = createSocket('udp4');
    await new Promise<void>((bound) => socket.bind(0, INNER, bound));
    const ssdp = socket.address().port;
    const http = (await gatewayFor()).ports.http + 1;
    await expect(gatewayFor({ ports: { ssdp, http } })).rejects.toMatchObject({ code: 'FAILED' });
    await new Promise<void>((closed) => socket.close(closed));
    expect((await gatewayFor({ ports: { ssdp, http } })).ports).toMatchObject({ ssdp, http });
  });

  test('speaks the protocols that it is told to speak', async () => {
    const gateway = await gatewayFor({ protocols: ['upnp'] });
    expect(gateway.ports).toMatchObject({ pcp: 0 });
    const mapping = await gatewayFor({ protocols: ['pcp', 'natpmp'] });
    expect(mapping.ports).toMatchObject({ ssdp: 0, http: 0 });
    expect(mapping.location).toBe('');
  });
});
