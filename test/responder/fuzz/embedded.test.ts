import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { encodeNatpmpRequest } from '../../../src/wire/natpmp.ts';
import { encodePcpRequest } from '../../../src/wire/pcp.ts';
import { encodeSoapCall } from '../../../src/wire/soap.ts';
import {
  addMapping,
  codeOf,
  INNER,
  natpmp,
  natpmpMap,
  outerValues,
  pcpMap,
  pcpMapPacket,
  pcpPeerPacket,
  search,
  searchPacket,
  soap,
} from '../support/client.ts';
import { gatewayFor } from '../support/gateway.ts';

/** Park and Miller's generator: the same packets in every run. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % below;
  };
}

/** Some bytes changed, cut, doubled or put in. */
function mutated(packet: Uint8Array, random: (below: number) => number): Uint8Array {
  const bytes = [...packet];
  for (let changes = random(6) + 1; changes > 0; changes--) {
    const at = random(bytes.length + 1);
    switch (random(5)) {
      case 0:
        bytes[at] = random(256);
        break;
      case 1:
        bytes.length = Math.min(bytes.length, at);
        break;
      case 2:
        bytes.splice(at, 0, ...Array.from({ length: random(40) }, () => random(256)));
        break;
      case 3:
        bytes.push(...bytes.slice(0, at));
        break;
      default:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
    }
  }
  return Uint8Array.from(bytes.slice(0, 2_000));
}

/** Gives the gateway, which lives in the same process, its turn: unread packets are lost beyond a few hundred. */
async function sendAndYield(socket: Socket, packet: Uint8Array, port: number): Promise<void> {
  await new Promise((done) => socket.send(packet, port, INNER, done));
  await setImmediate();
}

describe('20,000 mutated packets leave the gateway alive and its table unchanged', () => {
  // From another address than the one that owns the mappings: by luck a mutation is a valid request.
  const STRANGER = '127.0.0.66';

  test('on the port of PCP and NAT-PMP', async () => {
    const gateway = await gatewayFor({ deniedExternalPorts: [{ first: 18_100, last: 65_535 }] });
    await pcpMap(gateway, 8080, 18_080);
    await natpmpMap(gateway, 8081, 18_081, { protocol: 'udp' });
    gateway.set({ forbiddenByUser: true });
    const before = gateway.table;
    const seeds = [
      pcpMapPacket(8080, 18_080, { from: STRANGER }),
      pcpMapPacket(8080, 0, { from: STRANGER, lifetimeSeconds: 0 }),
      pcpMapPacket(9000, 0, { from: STRANGER, options: { description: 'x', thirdParty: INNER } }),
      pcpPeerPacket(8080, { address: '192.0.2.1', port: 443 }, { from: STRANGER }),
      encodePcpRequest({ opcode: 'announce', lifetimeSeconds: 0, clientAddress: STRANGER }),
      encodeNatpmpRequest({ opcode: 'address' }),
      encodeNatpmpRequest({
        opcode: 'map',
        protocol: 'udp',
        internalPort: 8081,
        suggestedExternalPort: 0,
        lifetimeSeconds: 0,
      }),
    ];
    const random = generator(7);
    const socket = createSocket('udp4');
    socket.bind(0, STRANGER);
    await once(socket, 'listening');
    for (let sent = 0; sent < 15_000; sent++) {
      const packet = mutated(seeds[sent % seeds.length] ?? new Uint8Array(), random);
      await sendAndYield(socket, packet, gateway.ports.pcp);
    }
    socket.close();
    expect(await natpmp(gateway, { opcode: 'address' })).toMatchObject({ result: 0 });
    expect(gateway.table).toEqual(before);
    expect(gateway.counters).not.toHaveProperty('internal error');
    const { counters } = gateway;
    expect(counters).toHaveProperty('pcp unmap');
    const counted = Object.values(counters).reduce((sum, count) => sum + count, 0);
    expect(counted).toBeGreaterThan(10_000);
  });

  test('on the port of SSDP', async () => {
    const gateway = await gatewayFor();
    await addMapping(gateway, 18_080, 8080);
    const before = gateway.table;
    const random = generator(11);
    const socket = createSocket('udp4');
    socket.bind(0, STRANGER);
    await once(socket, 'listening');
    const seeds = [searchPacket('ssdp:all'), searchPacket('upnp:rootdevice', 0)];
    for (let sent = 0; sent < 4_000; sent++) {
      const packet = mutated(seeds[sent % seeds.length] ?? new Uint8Array(), random);
      await sendAndYield(socket, packet, gateway.ports.ssdp);
    }
    socket.close();
    expect(await search(gateway)).toHaveLength(1);
    expect(gateway.table).toEqual(before);
    expect(gateway.counters).not.toHaveProperty('internal error');
  });

  test('on the port of HTTP', async () => {
    const gateway = await gatewayFor();
    await addMapping(gateway, 18_080, 8080);
    gateway.set({ forbiddenByUser: true });
    const before = gateway.table;
    const random = generator(13);
    const serviceType = 'urn:schemas-upnp-org:service:WANIPConnection:2';
    const body = encodeSoapCall({ serviceType, action: 'DeletePortMapping', values: outerValues(18_080) });
    const request = Buffer.from(
      `POST /control/WANIPConnection HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n` +
        `SOAPACTION: "${serviceType}#DeletePortMapping"\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    for (let sent = 0; sent < 1_000; sent += 20) {
      const batch = Array.from({ length: 20 }, () => mutated(request, random));
      await Promise.all(
        batch.map(
          (bytes) =>
            new Promise<void>((done) => {
              const socket = connect({ host: INNER, port: gateway.ports.http, localAddress: STRANGER });
              socket.on('error', () => done());
              socket.on('close', () => done());
              socket.resume();
              socket.end(bytes);
            }),
        ),
      );
    }
    expect(codeOf(await soap(gateway, 'GetSpecificPortMappingEntry', outerValues(18_080)))).toBe(0);
    expect(gateway.table).toEqual(before);
    expect(gateway.counters).not.toHaveProperty('internal error');
  });
});
