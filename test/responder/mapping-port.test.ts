import { describe, expect, onTestFinished, test } from 'vitest';
import type { IpAddress } from '../../src/net/address.ts';
import { bindDatagram } from '../../src/responder/datagram.ts';
import type { Guard } from '../../src/responder/guard.ts';
import { MappingPort } from '../../src/responder/mapping-port.ts';
import { mappingUpdate } from '../../src/responder/pcp-update.ts';
import type { Site } from '../../src/responder/site.ts';
import { decodeNatpmpResponse, encodeNatpmpRequest, NATPMP_RESULT } from '../../src/wire/natpmp.ts';
import { decodePcpResponse } from '../../src/wire/pcp.ts';
import { siteFor } from './support/bare-site.ts';
import { ask, Ear, INNER, NONCE, pcpMapPacket } from './support/client.ts';
import { StillClock } from './support/clock.ts';

interface Served {
  readonly site: Site;
  readonly clock: StillClock;
  readonly port: MappingPort;
  readonly at: { readonly address: IpAddress; readonly port: number };
}

/** The port alone, with what a gateway has behind it, until the test is over. */
async function served(around: Parameters<typeof siteFor>[1] = {}): Promise<Served> {
  const clock = new StillClock();
  const site = siteFor(clock, around);
  const port = new MappingPort(site, [await bindDatagram({ address: INNER, port: 0 })]);
  onTestFinished(() => port.close());
  return { site, clock, port, at: { address: INNER, port: port.port } };
}

const ADDRESS_REQUEST = encodeNatpmpRequest({ opcode: 'address' });

describe('the port of PCP and NAT-PMP', () => {
  test('says nothing to whom the guard does not admit, and counts nothing', async () => {
    const asked: IpAddress[] = [];
    const guard: Guard = {
      admits(source) {
        asked.push(source);
        return source !== '127.0.0.9';
      },
    };
    const { site, at } = await served({ guard, externalAddress: '203.0.113.7' });
    await using refused = await Ear.open('127.0.0.9');
    for (const packet of [
      ADDRESS_REQUEST,
      pcpMapPacket(8080, 0, { from: '127.0.0.9' }),
      Uint8Array.of(9, 9),
    ]) {
      refused.send(packet, at);
    }
    await expect.poll(() => asked).toHaveLength(3);
    // Answered after the others would have been.
    expect(await ask(ADDRESS_REQUEST, at)).toBeDefined();
    expect(refused.heard).toEqual([]);
    expect(site.counters.snapshot()).toEqual({ 'natpmp address': 1 });
  });

  test('while nobody knows the external address, NAT-PMP says NETWORK_FAILURE, and PCP grants without it', async () => {
    const { at } = await served();
    expect(decodeNatpmpResponse((await ask(ADDRESS_REQUEST, at)) ?? ADDRESS_REQUEST)).toMatchObject({
      result: NATPMP_RESULT.NETWORK_FAILURE,
    });
    const packet = pcpMapPacket(8080, 18_080);
    expect(decodePcpResponse((await ask(packet, at)) ?? packet)).toMatchObject({
      result: 0,
      map: { externalPort: 18_080, externalAddress: '0.0.0.0' },
    });
  });

  test('sends from its own port', async () => {
    const { port, at } = await served();
    await using ear = await Ear.open();
    await port.send(Uint8Array.of(1), { address: INNER, port: ear.port });
    expect((await ear.wait())?.from).toMatchObject(at);
  });
});

describe('a mapping update (RFC 6887, section 14.2)', () => {
  test('tells the client of a moved mapping at its announcement port, with its nonce and the time left', async () => {
    const { site, clock, at } = await served({ externalAddress: '203.0.113.7' });
    await ask(pcpMapPacket(8080, 18_080, { lifetimeSeconds: 3600 }), at);
    await clock.advance(600_000);
    const [entry] = site.grants.list();
    if (entry === undefined) throw new Error('nothing was mapped');
    const moved = { ...entry, externalPort: 19_090, externalAddress: '198.51.100.1' };
    const update = mappingUpdate(moved, 'moved', site);
    expect(update?.to).toEqual({ address: INNER, port: 5350 });
    expect(decodePcpResponse(update?.packet ?? new Uint8Array())).toEqual({
      opcode: 'map',
      result: 0,
      lifetimeSeconds: 3000,
      epochSeconds: 600,
      map: {
        nonce: NONCE,
        protocol: 6,
        internalPort: 8080,
        externalPort: 19_090,
        externalAddress: '198.51.100.1',
        options: {},
      },
    });
  });

  test('is not for clients of other protocols', async () => {
    const { site, at } = await served({ externalAddress: '203.0.113.7' });
    const request = {
      opcode: 'map',
      protocol: 'tcp',
      internalPort: 8080,
      suggestedExternalPort: 0,
      lifetimeSeconds: 60,
    } as const;
    await ask(encodeNatpmpRequest(request), at);
    const [entry] = site.grants.list();
    if (entry === undefined) throw new Error('nothing was mapped');
    expect(mappingUpdate(entry, 'moved', site)).toBeUndefined();
  });
});
