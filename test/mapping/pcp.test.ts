import { describe, expect, test } from 'vitest';
import { heldOf, mapperAt, mapperOf, occupy, requestFor, tableOf } from './support.ts';

const OTHER_NONCE = new Uint8Array(12).fill(9);

describe('PCP', () => {
  test('tells the external address with the mapping', async () => {
    const at = await mapperAt('pcp', { externalAddress: '203.0.113.5' });
    expect(await at.map()).toMatchObject({ externalAddress: '203.0.113.5', nonce: requestFor().nonce });
  });

  test('--exact is PREFER_FAILURE: a port that is taken is CONFLICT, and nothing is mapped', async () => {
    const at = await mapperAt('pcp');
    await occupy(at, 8080);
    await expect(at.map({ choice: 'exact' })).rejects.toMatchObject({
      code: 'CONFLICT',
      protocolCode: 'PCP 11 CANNOT_PROVIDE_EXTERNAL',
      advice: expect.stringContaining('--exact'),
    });
    expect(at.embedded.table.length).toBe(1);
  });

  test('a port below 1024 that is denied is NOT_AUTHORIZED, with a higher one as advice', async () => {
    const at = await mapperAt('pcp', { deniedExternalPorts: [{ first: 1, last: 1023 }] });
    await expect(at.map({ suggestedExternalPort: 443, choice: 'exact' })).rejects.toMatchObject({
      code: 'NOT_AUTHORIZED',
      protocolCode: 'PCP 2 NOT_AUTHORIZED',
      advice: expect.stringContaining('8443:443'),
    });
  });

  test('a mapping is refreshed and released with its nonce alone', async () => {
    const at = await mapperAt('pcp');
    const mapping = await at.map();
    await expect(at.map({ nonce: OTHER_NONCE })).rejects.toMatchObject({ code: 'NOT_AUTHORIZED' });
    const stranger = { ...mapping, nonce: OTHER_NONCE };
    await expect(at.clock.settle(at.mapper.unmap(stranger))).rejects.toMatchObject({
      code: 'NOT_AUTHORIZED',
    });
    expect((await at.map({ held: heldOf(mapping) })).externalPort).toBe(mapping.externalPort);
    await at.clock.settle(at.mapper.unmap(mapping));
    expect(at.embedded.table).toEqual([]);
  });

  test('without its nonce a mapping is NOT_OWN, and nothing is sent', async () => {
    const at = await mapperAt('pcp');
    const mapping = { ...(await at.map()), nonce: undefined };
    await expect(at.mapper.unmap(mapping)).rejects.toMatchObject({ code: 'NOT_OWN' });
    expect(at.embedded.counters['pcp unmap']).toBeUndefined();
  });

  test('another process releases it with the nonce', async () => {
    const at = await mapperAt('pcp');
    const mapping = await at.map();
    const later = await mapperOf(at, 'pcp');
    await at.clock.settle(later.unmap(mapping));
    expect(at.embedded.table).toEqual([]);
  });

  test('another host is mapped for with THIRD_PARTY, where the gateway lets this one', async () => {
    const at = await mapperAt('pcp', { trustedClients: ['127.0.0.1'] });
    const mapping = await at.map({ internalClient: '127.0.0.9' });
    expect(tableOf(at)).toEqual(['tcp 8080 -> 127.0.0.9:8080']);
    await at.clock.settle(at.mapper.unmap(mapping));
    expect(at.embedded.table).toEqual([]);
  });

  test('another host is UNSUPPORTED where the gateway has no THIRD_PARTY', async () => {
    const at = await mapperAt('pcp');
    await expect(at.map({ internalClient: '127.0.0.9' })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  test('lifetimes below the gateway’s least one are granted as that', async () => {
    const at = await mapperAt('pcp');
    expect((await at.map({ lifetimeSeconds: 1 })).lifetimeSeconds).toBe(120);
  });

  test('a lifetime of more than a day is granted as a day', async () => {
    const at = await mapperAt('pcp');
    expect((await at.map({ lifetimeSeconds: 604_800 })).lifetimeSeconds).toBe(86_400);
  });
});

describe('PCP over IPv6', () => {
  test('opens a pinhole for this host’s own address and port, and closes it', async () => {
    const at = await mapperAt('pcp', { address: '::1' });
    const mapping = await at.map();
    expect(mapping).toMatchObject({ externalAddress: '::1', externalPort: 8080, internalClient: '::1' });
    expect(at.embedded.pinholes).toMatchObject([{ internalClient: '::1', internalPort: 8080, protocol: 6 }]);
    await at.clock.settle(at.mapper.unmap(mapping));
    expect(at.embedded.pinholes).toEqual([]);
  });

  test('is NOT_AUTHORIZED where the firewall takes no pinholes', async () => {
    const at = await mapperAt('pcp', { address: '::1', firewall: { inboundPinholeAllowed: false } });
    await expect(at.map()).rejects.toMatchObject({ code: 'NOT_AUTHORIZED' });
  });
});
