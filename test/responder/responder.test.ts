import { randomInt } from 'node:crypto';
import { describe, expect, onTestFinished, test } from 'vitest';
import { LeaseGrants } from '../../src/responder/lease-grants.ts';
import { LeasePinholes } from '../../src/responder/lease-pinholes.ts';
import { startResponder } from '../../src/responder/responder.ts';
import type { ClientRights } from '../../src/responder/rights.ts';
import { decodePcpResponse, type PcpResponse } from '../../src/wire/pcp.ts';
import { ask, Ear, NONCE, pcpMapPacket } from './support/client.ts';
import { StillClock } from './support/clock.ts';
import { TestUpstream } from './test-upstream.ts';

/** RFC 6887, section 19.1: where clients hear of what nobody asked for. */
const CLIENT_PORT = 5350;
const RIGHTS: ClientRights = {
  externalPorts: [{ first: 1024, last: 65_535 }],
  maxMappings: 8,
  requestsPerSecond: 1000,
  mayMapForOthers: false,
};

/** On a network of its own, and a client there. */
async function sceneFor() {
  const network = `127.${randomInt(64, 250)}.${randomInt(250)}`;
  const [address, client] = [`${network}.1`, `${network}.5`];
  const clock = new StillClock();
  const upstream = new TestUpstream();
  const rightsOf = () => RIGHTS;
  const grants = new LeaseGrants(upstream, { clock, maxMappings: () => 8, rightsOf, isInside: () => true });
  const options = {
    interface: 'lo',
    networks: [{ address, prefixLength: 24 }],
    protocols: ['pcp', 'natpmp'],
    igdVersion: 2,
    friendlyName: 'test',
    uuid: '6e617477-6172-4000-8000-000000000001',
    rightsOf,
    isOwn: (one: string) => one === address,
    grants,
    pinholes: new LeasePinholes(upstream, { clock, maxPinholes: 8, rightsOf, quota: grants.quota }),
    upstream,
    clock,
    ports: { pcp: randomInt(10_000, 30_000), ssdp: 0, http: 0 },
  } as const;
  const responder = await startResponder(options);
  onTestFinished(() => responder.close());
  const map = async (from = client): Promise<PcpResponse | undefined> => {
    const to = { address, port: options.ports.pcp };
    const answer = await ask(pcpMapPacket(6881, 0, { from }), to, { from, withinMs: 500 });
    return answer === undefined ? undefined : decodePcpResponse(answer);
  };
  return { clock, upstream, grants, options, network, client, map };
}

describe('a responder', () => {
  test('answers hosts of its network alone, with what the outer gateway grants', async () => {
    const { map, network, upstream } = await sceneFor();
    expect(await map()).toMatchObject({
      result: 0,
      map: { externalAddress: '198.51.100.7', externalPort: 6881 },
    });
    expect(await map(`${network}.1`)).toBeUndefined();
    expect(await map('127.0.0.1')).toBeUndefined();
    expect(upstream.rows).toEqual([`tcp 6881 -> ${network}.5:6881`]);
  });

  test('tells a PCP client, several times, that its mapping has moved, and that it is gone', async () => {
    const { map, client, clock, upstream } = await sceneFor();
    await map();
    await using ear = await Ear.open(client, CLIENT_PORT);
    const grant = { externalPort: 7000, externalAddress: '198.51.100.7', lifetimeSeconds: 7200 };
    upstream.tell({ kind: 'moved', grant });
    const moved = { opcode: 'map', result: 0, map: { nonce: NONCE, externalPort: 7000, internalPort: 6881 } };
    for (let count = 1; count <= 3; count++) {
      const heard = await ear.wait(count);
      expect(heard && decodePcpResponse(heard.packet)).toMatchObject(moved);
      await expect.poll(() => count === 3 || clock.isDueWithin(count * 500)).toBe(true);
      await clock.advance(count * 500);
    }
    upstream.tell({ kind: 'refused', refusal: 'taken' });
    const gone = await ear.wait(4);
    expect(gone && decodePcpResponse(gone.packet)).toMatchObject({ opcode: 'map', lifetimeSeconds: 0 });
  });

  test('begins a new epoch where the external address is another, and not where it comes back', async () => {
    const { map, clock, upstream } = await sceneFor();
    await clock.advance(600_000);
    const epochAfter = async (address: string | undefined) => {
      upstream.know(address);
      return (await map())?.epochSeconds;
    };
    expect(await epochAfter(undefined)).toBe(600);
    expect(await epochAfter('198.51.100.7')).toBe(600);
    expect(await epochAfter('198.51.100.8')).toBe(0);
  });

  test('says which port is taken, and what to do', async () => {
    const { options } = await sceneFor();
    await expect(startResponder(options)).rejects.toMatchObject({
      code: 'FAILED',
      message: expect.stringMatching(/^nobody is answered on lo \(127\.[\d.]+\): .*EADDRINUSE/),
      advice: expect.stringContaining('stop one of the two'),
    });
  });
});
