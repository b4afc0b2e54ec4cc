import { describe, expect, test } from 'vitest';
import { ask, INNER, natpmp, natpmpMap, pcpMapPacket } from './support/client.ts';
import { StillClock } from './support/clock.ts';
import { gatewayFor } from './support/gateway.ts';

describe('NAT-PMP', () => {
  test('tells the external address and the seconds since its table began', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({ externalAddress: '203.0.113.7' }, clock);
    await clock.advance(12_000);
    expect(await natpmp(gateway, { opcode: 'address' })).toEqual({
      opcode: 'address',
      result: 0,
      epochSeconds: 12,
      externalAddress: '203.0.113.7',
    });
    expect(gateway.counters).toEqual({ 'natpmp address': 1 });
  });

  test('maps the suggested port, and tells the same port to whoever asks again', async () => {
    const gateway = await gatewayFor();
    const granted = { opcode: 'map', protocol: 'tcp', result: 0, internalPort: 8080, externalPort: 18080 };
    expect(await natpmpMap(gateway, 8080, 18080)).toMatchObject({ ...granted, lifetimeSeconds: 7200 });
    expect(await natpmpMap(gateway, 8080, 29999, { lifetimeSeconds: 60 })).toMatchObject({
      ...granted,
      lifetimeSeconds: 60,
    });
    expect(gateway.table).toMatchObject([
      { protocol: 'tcp', externalPort: 18080, internalClient: INNER, internalPort: 8080, via: 'natpmp' },
    ]);
    expect(gateway.counters).toEqual({ 'natpmp map': 2 });
  });

  test('gives another port where the suggested one belongs to another client', async () => {
    const gateway = await gatewayFor();
    await natpmpMap(gateway, 8080, 18080);
    const other = await natpmpMap(gateway, 8080, 18080, { from: '127.0.0.5' });
    expect(other).toMatchObject({ result: 0 });
    expect(other).not.toMatchObject({ externalPort: 18080 });
  });

  test('keeps the companion port of the other protocol for the same client (RFC 6886, section 3.3)', async () => {
    const gateway = await gatewayFor();
    await natpmpMap(gateway, 8080, 18080);
    const other = await natpmpMap(gateway, 8080, 18080, { from: '127.0.0.5', protocol: 'udp' });
    expect(other).not.toMatchObject({ externalPort: 18080 });
    expect(await natpmpMap(gateway, 9090, 18080, { protocol: 'udp' })).toMatchObject({ externalPort: 18080 });
  });

  test('lifetime 0 ends one mapping, and internal port 0 all of that protocol (section 3.4)', async () => {
    const gateway = await gatewayFor();
    for (const port of [8081, 8082, 8083]) await natpmpMap(gateway, port, port + 10_000);
    await natpmpMap(gateway, 8081, 18_091, { protocol: 'udp' });
    await natpmpMap(gateway, 8084, 18_094, { from: '127.0.0.5' });
    expect(await natpmpMap(gateway, 8081, 0, { lifetimeSeconds: 0 })).toMatchObject({
      result: 0,
      internalPort: 8081,
      externalPort: 0,
      lifetimeSeconds: 0,
    });
    expect(gateway.table).toHaveLength(4);
    expect(await natpmpMap(gateway, 0, 0, { lifetimeSeconds: 0 })).toMatchObject({ result: 0 });
    expect(gateway.table).toMatchObject([{ protocol: 'udp' }, { internalClient: '127.0.0.5' }]);
    expect(gateway.counters).toEqual({ 'natpmp map': 5, 'natpmp unmap': 2 });
  });

  test('ending a mapping that is not there succeeds', async () => {
    const gateway = await gatewayFor();
    expect(await natpmpMap(gateway, 8081, 0, { lifetimeSeconds: 0 })).toMatchObject({ result: 0 });
  });

  test('says OUT_OF_RESOURCES when the table is full, and NOT_AUTHORIZED when all ports are denied', async () => {
    const full = await gatewayFor({ maxMappings: 32 });
    for (let port = 1; port <= 32; port++) await natpmpMap(full, port, 20_000 + port);
    expect(await natpmpMap(full, 99, 0)).toMatchObject({ result: 4 });
    expect(full.table).toHaveLength(32);
    const denying = await gatewayFor({ deniedExternalPorts: [{ first: 1, last: 65_535 }] });
    expect(await natpmpMap(denying, 99, 0)).toMatchObject({ result: 2 });
  });

  test('grants no longer than the longest lifetime', async () => {
    const gateway = await gatewayFor({ maxLifetimeSeconds: 600 });
    expect(await natpmpMap(gateway, 8080, 0, { lifetimeSeconds: 7200 })).toMatchObject({
      lifetimeSeconds: 600,
    });
    const standard = await gatewayFor();
    expect(await natpmpMap(standard, 8080, 0, { lifetimeSeconds: 2 ** 32 - 1 })).toMatchObject({
      lifetimeSeconds: 86_400,
    });
  });

  test('refuses an unknown opcode with 5 and another version with 1', async () => {
    const gateway = await gatewayFor({ protocols: ['natpmp'] });
    const to = { address: INNER, port: gateway.ports.pcp };
    expect(await ask(Uint8Array.of(0, 77), to)).toEqual(Uint8Array.of(0, 205, 0, 5, 0, 0, 0, 0));
    // RFC 6887, appendix A: what a PCP client hears from a NAT-PMP gateway.
    expect(await ask(pcpMapPacket(1, 1), to)).toEqual(Uint8Array.of(0, 129, 0, 1, 0, 0, 0, 0));
    expect(gateway.counters).toEqual({ 'natpmp malformed': 2 });
  });

  test('says NETWORK_FAILURE while there is no external address of IPv4', async () => {
    const gateway = await gatewayFor({ externalAddress: '2001:db8::1' });
    expect(await natpmp(gateway, { opcode: 'address' })).toMatchObject({ result: 3 });
  });
});
