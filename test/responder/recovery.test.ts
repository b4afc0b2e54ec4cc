/** What a gateway does to whoever keeps leases on it: it goes, comes back, forgets, and gives ports away. */

import { describe, expect, test } from 'vitest';
import { decodeSsdp } from '../../src/wire/ssdp.ts';
import {
  addMapping,
  codeOf,
  Ear,
  exchangeTcp,
  INNER,
  natpmp,
  natpmpMap,
  pcpMap,
  search,
  soap,
} from './support/client.ts';
import { StillClock } from './support/clock.ts';
import { gatewayFor } from './support/gateway.ts';

describe('silent', () => {
  test('nothing is executed, nothing answered, until it is back', async () => {
    const gateway = await gatewayFor();
    gateway.set({ silent: true });
    expect(await natpmpMap(gateway, 8080, 18_080, { withinMs: 50 })).toBeUndefined();
    expect(await pcpMap(gateway, 8080, 18_080, { withinMs: 50 })).toBeUndefined();
    expect(await search(gateway, 'upnp:rootdevice', { withinMs: 50 })).toEqual([]);
    await expect(addMapping(gateway, 18_080, 8080, {}, { withinMs: 50 })).rejects.toThrow(/abort|timeout/i);
    expect(gateway.table).toEqual([]);
    await gateway.wipe();
    gateway.set({ silent: false });
    expect(await natpmpMap(gateway, 8080, 18_080)).toMatchObject({ result: 0, epochSeconds: 0 });
  });
});

describe('remove() and give()', () => {
  test('a mapping goes behind its client’s back, whichever protocol made it, and its port closes', async () => {
    const gateway = await gatewayFor();
    await pcpMap(gateway, 8080, 18_080);
    expect(await gateway.remove('tcp', 18_080)).toBe(true);
    expect(await gateway.remove('tcp', 18_080)).toBe(false);
    expect(gateway.table).toEqual([]);
    const to = { address: gateway.outer, port: 18_080 };
    await expect(exchangeTcp(to, 'x')).rejects.toThrow('ECONNREFUSED');
    expect(await pcpMap(gateway, 8080, 18_080)).toMatchObject({ map: { externalPort: 18_080 } });
  });

  test('another client has the port, and keeps it', async () => {
    const gateway = await gatewayFor();
    await natpmpMap(gateway, 8080, 18_080);
    await gateway.give('tcp', 18_080, { address: '127.0.0.5', port: 80 });
    expect(gateway.table).toMatchObject([{ internalClient: '127.0.0.5', internalPort: 80 }]);
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(718);
    expect(await natpmpMap(gateway, 8080, 18_080)).not.toMatchObject({ externalPort: 18_080 });
    expect(codeOf(await soap(gateway, 'DeletePortMapping', { ...PORT }))).toBe(606);
  });
});

const PORT = { NewRemoteHost: '', NewExternalPort: '18080', NewProtocol: 'TCP' };

describe('announceRestart()', () => {
  test('SSDP says byebye and alive once, with the BOOTID of the new life', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    const [before] = await search(gateway);
    await gateway.wipe();
    await using ear = await Ear.open();
    const ssdp = { address: INNER, port: ear.port };
    const announcing = gateway.announceRestart({ ssdp, natpmp: NOWHERE, pcp: NOWHERE });
    await ear.wait(26);
    for (let pause = 0; pause < 10; pause++) await clock.advance(128_000);
    await announcing;
    const messages = ear.heard.map(({ packet }) => decodeSsdp(packet));
    const kinds = [...Array(15).fill('byebye'), ...Array(11).fill('alive')];
    expect(messages.map(({ kind }) => kind)).toEqual(kinds);
    const bootId = (before?.message.bootId ?? 0) + 1;
    expect(messages[0]).toMatchObject({ bootId });
    expect(messages[25]).toMatchObject({ bootId, location: gateway.location });
  });

  test('NAT-PMP and PCP ten times, after 250 ms and doubling, each with its own epoch', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    await gateway.wipe();
    await using natpmpEar = await Ear.open();
    await using pcpEar = await Ear.open();
    const announcing = gateway.announceRestart({
      ssdp: NOWHERE,
      natpmp: { address: INNER, port: natpmpEar.port },
      pcp: { address: INNER, port: pcpEar.port },
    });
    for (let count = 1, pauseMs = 250; count <= 10; count++, pauseMs *= 2) {
      await natpmpEar.wait(count);
      await pcpEar.wait(count);
      expect([natpmpEar.heard.length, pcpEar.heard.length]).toEqual([count, count]);
      await clock.advance(pauseMs - 1);
      expect(natpmpEar.heard).toHaveLength(count);
      await clock.advance(1);
    }
    await announcing;
    const epochs = natpmpEar.heard.map(({ packet }) => Buffer.from(packet).readUInt32BE(4));
    expect(epochs).toEqual([0, 0, 0, 1, 3, 7, 15, 31, 63, 127]);
    expect(pcpEar.heard.map(({ packet }) => Buffer.from(packet).readUInt32BE(8))).toEqual(epochs);
  });

  test('a gateway announces the protocols that it speaks, and closes meanwhile', async () => {
    const gateway = await gatewayFor({ protocols: ['natpmp'] });
    await using ear = await Ear.open();
    const to = { address: INNER, port: ear.port };
    const announcing = gateway.announceRestart({ ssdp: to, natpmp: to, pcp: to });
    await ear.wait(2);
    await gateway.close();
    await announcing;
    expect(new Set(ear.heard.map(({ packet }) => packet[0]))).toEqual(new Set([0]));
  });
});

/** Port 9, discard: a datagram to it is lost. */
const NOWHERE = { address: INNER, port: 9 };

describe('a table of thousands', () => {
  test('ten thousand mappings are made and refreshed, none of them at the cost of all others', async () => {
    const gateway = await gatewayFor({ carriesTraffic: false, maxMappings: 20_000, protocols: ['natpmp'] });
    const startedMs = performance.now();
    await using ear = await Ear.open();
    const to = { address: INNER, port: gateway.ports.pcp };
    const request = Buffer.from([0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 28, 32]);
    for (let answered = 0; answered < 20_000; ) {
      const batch = 100;
      for (let at = 0; at < batch; at++) {
        request.writeUInt16BE(1024 + ((answered + at) % 10_000), 4);
        ear.send(Uint8Array.from(request), to);
      }
      answered += batch;
      expect(await ear.wait(answered)).toBeDefined();
    }
    expect(gateway.table).toHaveLength(10_000);
    // A walk over the table at each request took minutes.
    expect(performance.now() - startedMs).toBeLessThan(20_000);
    expect(await natpmp(gateway, { opcode: 'address' })).toMatchObject({ result: 0 });
  }, 30_000);

  test('without traffic nothing listens, and the outer address need not be ours', async () => {
    const settings = { carriesTraffic: false, maxMappings: 65_535, outerAddress: '203.0.113.1' };
    const gateway = await gatewayFor(settings);
    expect(await pcpMap(gateway, 8080, 80)).toMatchObject({ map: { externalPort: 80 } });
    expect(await natpmp(gateway, { opcode: 'address' })).toMatchObject({ externalAddress: '203.0.113.1' });
    const local = await gatewayFor({ carriesTraffic: false });
    await pcpMap(local, 8080, 18_080);
    const to = { address: local.outer, port: 18_080 };
    await expect(exchangeTcp(to, 'x')).rejects.toThrow('ECONNREFUSED');
  });

  test('they end when their time comes, all at once', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({ carriesTraffic: false, maxMappings: 20_000 }, clock);
    for (let port = 2000; port < 2300; port++) await natpmpMap(gateway, port, port, { lifetimeSeconds: 60 });
    await natpmpMap(gateway, 3000, 3000, { lifetimeSeconds: 61 });
    await clock.advance(60_000);
    expect(gateway.table).toMatchObject([{ externalPort: 3000 }]);
    await clock.advance(1000);
    expect(gateway.table).toEqual([]);
  });
});
