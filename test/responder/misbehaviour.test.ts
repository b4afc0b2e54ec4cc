import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { decodeNatpmpResponse, encodeNatpmpRequest } from '../../src/wire/natpmp.ts';
import { decodePcpResponse } from '../../src/wire/pcp.ts';
import { decodeSsdp } from '../../src/wire/ssdp.ts';
import type { Junk } from '../../src/responder/quirks/misbehaviour.ts';
import {
  addMapping,
  codeOf,
  Ear,
  http,
  INNER,
  natpmp,
  natpmpMap,
  NONCE,
  outerValues,
  pcpMap,
  pcpMapPacket,
  search,
  searchPacket,
  soap,
  soapHttp,
} from './support/client.ts';
import { StillClock } from './support/clock.ts';
import { gatewayFor } from './support/gateway.ts';

describe('late and lost answers', () => {
  test('delayMs: executed at once, answered late, each protocol by itself', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({ quirks: { delayMs: { pcp: 500, ssdp: 500, http: 500 } } }, clock);
    expect(await natpmpMap(gateway, 8080, 18_080)).toMatchObject({ result: 0 });
    expect(await search(gateway, 'upnp:rootdevice', { withinMs: 50 })).toEqual([]);
    const late = pcpMap(gateway, 8081, 18_081);
    const lateHttp = soap(gateway, 'GetExternalIPAddress');
    await expect.poll(() => gateway.table).toHaveLength(2);
    await expect.poll(() => gateway.counters).toHaveProperty('soap GetExternalIPAddress');
    expect(await Promise.race([late, lateHttp, sleep(50, 'nothing yet')])).toBe('nothing yet');
    await clock.advance(500);
    expect(await late).toMatchObject({ result: 0 });
    expect(codeOf(await lateHttp)).toBe(0);
  });

  test('silentOn: neither executed nor answered', async () => {
    const silentOn = ['pcp map', 'natpmp map', 'soap AddPortMapping', 'ssdp search'];
    const gateway = await gatewayFor({ quirks: { silentOn } });
    expect(await pcpMap(gateway, 8080, 18_080, { withinMs: 50 })).toBeUndefined();
    expect(await natpmpMap(gateway, 8080, 18_080, { withinMs: 50 })).toBeUndefined();
    await expect(addMapping(gateway, 18_080, 8080, {}, { withinMs: 50 })).rejects.toThrow(/abort|timeout/i);
    expect(await search(gateway, 'upnp:rootdevice', { withinMs: 50 })).toEqual([]);
    expect(gateway.table).toEqual([]);
    expect(await natpmp(gateway, { opcode: 'address' })).toMatchObject({ result: 0 });
    expect(codeOf(await soap(gateway, 'GetExternalIPAddress'))).toBe(0);
    expect(gateway.counters).toEqual({
      'pcp map': 1,
      'natpmp map': 1,
      'natpmp address': 1,
      'soap AddPortMapping': 1,
      'soap GetExternalIPAddress': 1,
      'ssdp search': 1,
    });
  });

  test('loseAnswers: executed, and the first ones not answered', async () => {
    const gateway = await gatewayFor({ quirks: { loseAnswers: { 'pcp map': 2 } } });
    expect(await pcpMap(gateway, 8080, 18_080, { withinMs: 50 })).toBeUndefined();
    expect(gateway.table).toHaveLength(1);
    expect(await pcpMap(gateway, 8080, 18_080, { withinMs: 50 })).toBeUndefined();
    expect(await pcpMap(gateway, 8080, 18_080)).toMatchObject({ map: { externalPort: 18_080 } });
    gateway.set({ loseAnswers: { 'pcp map': 1 } });
    expect(await pcpMap(gateway, 8080, 18_080, { withinMs: 50 })).toBeUndefined();
    expect(await pcpMap(gateway, 8080, 18_080)).toMatchObject({ result: 0 });
  });

  test('a gateway that closes while answers are due closes all the same', async () => {
    const gateway = await gatewayFor({ quirks: { delayMs: { pcp: 60_000, http: 60_000 } } });
    const pending = pcpMap(gateway, 8080, 18_080, { withinMs: 300 });
    const request = soap(gateway, 'GetExternalIPAddress').catch((error: Error) => error.message);
    await expect.poll(() => gateway.table).toHaveLength(1);
    await gateway.close();
    expect(await pending).toBeUndefined();
    expect(await request).toMatch(/socket hang up|ECONNRESET/);
    expect(gateway.counters).not.toHaveProperty('internal error');
  });
});

describe('junkFirst', () => {
  const junk: readonly Junk[] = [
    'truncated',
    'oversized',
    'wrong-nonce',
    'wrong-source',
    'wrong-opcode',
    'request-echo',
  ];

  async function heardFor(request: Uint8Array, port: 'pcp' | 'ssdp') {
    const gateway = await gatewayFor({ quirks: { junkFirst: junk } });
    await using ear = await Ear.open();
    ear.send(request, { address: INNER, port: gateway.ports[port] });
    await ear.wait(7);
    const packets = ear.heard.map(({ packet }) => packet);
    const sources = ear.heard.map(({ from }) => from.address);
    expect(packets).toHaveLength(7);
    expect(sources.filter((source) => source !== INNER)).toEqual(['127.0.0.129']);
    return packets;
  }

  test('PCP: six forged answers, then the right one', async () => {
    const packets = await heardFor(pcpMapPacket(8080, 18_080), 'pcp');
    const verdicts = packets.map((packet) => {
      try {
        const answer = decodePcpResponse(packet);
        if (answer.opcode !== 'map') return answer.opcode;
        const own = answer.map.nonce.every((byte, at) => byte === NONCE[at]);
        return `${own ? 'own' : 'other'} ${answer.map.externalPort}`;
      } catch {
        return 'no answer';
      }
    });
    expect(verdicts.sort()).toEqual([
      'announce',
      'no answer',
      'no answer',
      'no answer',
      'other 18081',
      'own 18080',
      'own 18081',
    ]);
    expect(verdicts).toContain('own 18080');
  });

  test('NAT-PMP: six forged answers, then the right one', async () => {
    const request = {
      opcode: 'map',
      protocol: 'tcp',
      internalPort: 8080,
      suggestedExternalPort: 18_080,
      lifetimeSeconds: 60,
    } as const;
    const packets = await heardFor(encodeNatpmpRequest(request), 'pcp');
    const verdicts = packets.map((packet) => {
      try {
        const answer = decodeNatpmpResponse(packet);
        return answer.opcode === 'map' ? `${answer.internalPort} ${answer.externalPort}` : answer.opcode;
      } catch {
        return 'no answer';
      }
    });
    expect(verdicts.sort()).toEqual([
      '8080 18080',
      '8080 18081',
      '8081 18081',
      'no answer',
      'no answer',
      'no answer',
      'no answer',
    ]);
  });

  test('SSDP: six forged answers, then the right one', async () => {
    const packets = await heardFor(searchPacket('upnp:rootdevice'), 'ssdp');
    const verdicts = packets.map((packet) => {
      try {
        const message = decodeSsdp(packet);
        const host = 'location' in message ? new URL(message.location).hostname : '';
        return message.kind === 'response' ? `${message.searchTarget} ${host}` : message.kind;
      } catch {
        return 'no answer';
      }
    });
    expect(verdicts.sort()).toEqual([
      'alive',
      'no answer',
      'no answer',
      'search',
      'upnp:none 192.0.2.66',
      `upnp:rootdevice ${INNER}`,
      'upnp:rootdevice 192.0.2.66',
    ]);
  });
});

describe('hostile documents', () => {
  test('location: LOCATION is wherever it says', async () => {
    const location = 'http://192.0.2.66/evil.xml';
    const gateway = await gatewayFor({ quirks: { location } });
    expect((await search(gateway))[0]?.message.location).toBe(location);
  });

  test('redirect: every request is sent elsewhere', async () => {
    const gateway = await gatewayFor({ quirks: { redirect: 'http://192.0.2.66/' } });
    const answer = await http(gateway.location);
    expect([answer.status, answer.headers['location']]).toEqual([302, 'http://192.0.2.66/']);
    expect((await soapHttp(gateway, 'GetExternalIPAddress')).status).toBe(307);
  });

  test('hugeBody: a hundred megabytes, as fast as they are read', async () => {
    const gateway = await gatewayFor({ quirks: { hugeBody: true } });
    const before = process.memoryUsage().rss;
    const socket = connect(gateway.ports.http, INNER);
    socket.write('GET /rootDesc.xml HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
    let received = 0;
    await new Promise<void>((done) => {
      socket.on('data', (chunk) => {
        received += chunk.length;
        if (received > 100 * 1024 * 1024) done();
      });
    });
    socket.destroy();
    expect(process.memoryUsage().rss - before).toBeLessThan(80 * 1024 * 1024);
  });

  test('slowBody: begins, drips, and does not end', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({ quirks: { slowBody: true } }, clock);
    const socket = connect(gateway.ports.http, INNER);
    socket.write('GET /rootDesc.xml HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
    let text = '';
    let ended = false;
    socket.on('data', (chunk) => {
      text += chunk.toString();
    });
    socket.on('end', () => {
      ended = true;
    });
    await expect.poll(() => text).toContain('<?xml');
    for (let drips = 0; drips < 5; drips++) await clock.advance(200);
    await expect.poll(() => text.endsWith('1\r\n \r\n'.repeat(5))).toBe(true);
    expect(ended).toBe(false);
    socket.destroy();
  });

  test('xmlBomb: entities of entities, and elements without end', async () => {
    const gateway = await gatewayFor({ quirks: { xmlBomb: 'entities' } });
    expect((await http(gateway.location)).body).toContain('<!ENTITY e9 "&e8;');
    gateway.set({ xmlBomb: 'nesting' });
    expect((await soapHttp(gateway, 'GetExternalIPAddress')).body).toContain('<a>'.repeat(20_000));
  });
});

test('separateTables: each protocol has mappings and ports of its own', async () => {
  const gateway = await gatewayFor({ quirks: { separateTables: true } });
  await pcpMap(gateway, 8080, 18_080);
  expect(await natpmpMap(gateway, 8081, 18_080)).toMatchObject({ externalPort: 18_080 });
  expect(codeOf(await soap(gateway, 'GetSpecificPortMappingEntry', outerValues(18_080)))).toBe(714);
  expect(codeOf(await addMapping(gateway, 18_080, 8082))).toBe(0);
  expect(gateway.table.map(({ via }) => via).sort()).toEqual(['natpmp', 'pcp', 'upnp']);
  await pcpMap(gateway, 8080, 0, { lifetimeSeconds: 0 });
  expect(gateway.table).toHaveLength(2);
});
