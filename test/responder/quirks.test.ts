import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, expect, test } from 'vitest';
import { allServices, decodeDescription } from '../../src/wire/description.ts';
import {
  addMapping,
  ask,
  codeOf,
  Ear,
  http,
  INNER,
  mappingValues,
  natpmp,
  natpmpMap,
  outerValues,
  pcpMap,
  search,
  searchPacket,
  soap,
  soapHttp,
} from './support/client.ts';
import { StillClock } from './support/clock.ts';
import { gatewayFor, type TestGateway } from './support/gateway.ts';

const PERMANENT = { NewLeaseDuration: '0' };

async function describedBy(gateway: TestGateway): ReturnType<typeof describedAt> {
  return describedAt(gateway.location);
}

async function describedAt(location: string): Promise<ReturnType<typeof decodeDescription>> {
  return decodeDescription((await http(location)).body, location);
}

function declaredLength(head: string): number {
  return Number(/content-length: (\d+)/i.exec(head)?.[1]);
}

async function leaseLeft(gateway: TestGateway, externalPort: number): Promise<string | number | undefined> {
  const reply = await soap(gateway, 'GetSpecificPortMappingEntry', outerValues(externalPort));
  return reply.kind === 'fault' ? reply.errorCode : reply.values['NewLeaseDuration'];
}

describe('quirks of leases', () => {
  test('onlyPermanentLeases: a lease is refused with 725, none is granted without an end', async () => {
    const gateway = await gatewayFor({ quirks: { onlyPermanentLeases: true } });
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(725);
    expect(codeOf(await soap(gateway, 'AddAnyPortMapping', mappingValues(18_080, 8080)))).toBe(725);
    expect(codeOf(await addMapping(gateway, 18_080, 8080, PERMANENT))).toBe(0);
    expect(gateway.table).toMatchObject([{ expiresAtMs: undefined }]);
    expect(await leaseLeft(gateway, 18_080)).toBe('0');
    expect(await natpmpMap(gateway, 8081, 0)).toMatchObject({ result: 0, lifetimeSeconds: 7200 });
  });

  test('onlyPermanentLeasesAs402: the same, said by 402', async () => {
    const gateway = await gatewayFor({ quirks: { onlyPermanentLeasesAs402: true } });
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(402);
    expect(codeOf(await addMapping(gateway, 18_080, 8080, PERMANENT))).toBe(0);
  });

  test('permanentLeaseRefusedAs402: lease 0 is refused, a lease is granted', async () => {
    const gateway = await gatewayFor({ quirks: { permanentLeaseRefusedAs402: true } });
    expect(codeOf(await addMapping(gateway, 18_080, 8080, PERMANENT))).toBe(402);
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(0);
  });

  test('leasesExpireInstantly: granted and gone, unless it has no end', async () => {
    const gateway = await gatewayFor({ igdVersion: 1, quirks: { leasesExpireInstantly: true } });
    const options = { version: 1 };
    expect(codeOf(await addMapping(gateway, 18_080, 8080, {}, options))).toBe(0);
    expect(gateway.table).toEqual([]);
    expect(codeOf(await addMapping(gateway, 18_080, 8080, PERMANENT, options))).toBe(0);
    expect(gateway.table).toHaveLength(1);
  });

  test('leaseClampedTo: the lease that is kept is shorter', async () => {
    const gateway = await gatewayFor({ quirks: { leaseClampedTo: 600 } }, new StillClock());
    await addMapping(gateway, 18_080, 8080);
    expect(await leaseLeft(gateway, 18_080)).toBe('600');
    expect(await natpmpMap(gateway, 8081, 0)).toMatchObject({ lifetimeSeconds: 600 });
    expect(await pcpMap(gateway, 8082, 0)).toMatchObject({ lifetimeSeconds: 600 });
  });

  test('leaseIgnored: the mapping has no end', async () => {
    const gateway = await gatewayFor({ quirks: { leaseIgnored: true } });
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(0);
    expect(await leaseLeft(gateway, 18_080)).toBe('0');
  });

  test('refreshDoesNotExtend: the mapping ends when it first would have', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({ quirks: { refreshDoesNotExtend: true } }, clock);
    await addMapping(gateway, 18_080, 8080);
    await pcpMap(gateway, 8081, 18_081, { lifetimeSeconds: 3600 });
    await clock.advance(1_800_000);
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(0);
    expect(await pcpMap(gateway, 8081, 18_081, { lifetimeSeconds: 3600 })).toMatchObject({
      result: 0,
      lifetimeSeconds: 3600,
    });
    expect(await leaseLeft(gateway, 18_080)).toBe('1800');
    await clock.advance(1_800_000);
    expect(gateway.table).toEqual([]);
  });

  test('prunesIdleMappings: a mapping without traffic is gone, one with traffic stays', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({ quirks: { prunesIdleMappings: 300 } }, clock);
    await using inside = await Ear.open();
    await natpmpMap(gateway, inside.port, 18_080, { protocol: 'udp' });
    await natpmpMap(gateway, 8081, 18_081);
    await clock.advance(200_000);
    await using peer = await Ear.open();
    peer.send(Buffer.from('x'), { address: gateway.outer, port: 18_080 });
    await inside.wait();
    await clock.advance(200_000);
    expect(gateway.table).toMatchObject([{ externalPort: 18_080 }]);
    await clock.advance(100_000);
    expect(gateway.table).toEqual([]);
  });
});

describe('quirks of refusals', () => {
  test('conflictAs501: 501 where 716 or 718 is meant', async () => {
    const gateway = await gatewayFor({ quirks: { conflictAs501: true } });
    await addMapping(gateway, 18_080, 8080, { NewInternalClient: '127.0.0.5' }, { from: '127.0.0.5' });
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(501);
    expect(codeOf(await addMapping(gateway, 0, 8080))).toBe(501);
    expect(codeOf(await addMapping(gateway, 18_081, 8080))).toBe(0);
  });

  test('conflictWithOwnStaleAddress: the address of yesterday holds the port until it is deleted', async () => {
    const gateway = await gatewayFor({ quirks: { conflictWithOwnStaleAddress: '127.0.0.44' } });
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(718);
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(718);
    expect(await soap(gateway, 'GetSpecificPortMappingEntry', outerValues(18_080))).toMatchObject({
      values: { NewInternalClient: '127.0.0.44', NewPortMappingDescription: 'a test' },
    });
    expect(codeOf(await soap(gateway, 'DeletePortMapping', outerValues(18_080)))).toBe(0);
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(0);
  });

  test('forbiddenByUser: 606, and not by the other protocols either', async () => {
    const gateway = await gatewayFor({ quirks: { forbiddenByUser: true } });
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(606);
    expect(await pcpMap(gateway, 8080, 0)).toMatchObject({ result: 2 });
    expect(await natpmpMap(gateway, 8080, 0)).toMatchObject({ result: 2 });
    const firewall = { service: 'WANIPv6FirewallControl', version: 1 };
    expect(codeOf(await soap(gateway, 'AddPinhole', {}, firewall))).toBe(606);
    gateway.set({ forbiddenByUser: false });
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(0);
  });

  test('conflictWithManualRule: 729 for that port, another one where any will do', async () => {
    const gateway = await gatewayFor({ quirks: { conflictWithManualRule: [18_080] } });
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(729);
    expect(codeOf(await addMapping(gateway, 18_081, 8080))).toBe(0);
    const any = await soap(gateway, 'AddAnyPortMapping', mappingValues(18_080, 8081));
    expect(any).toMatchObject({ kind: 'response' });
    expect(await pcpMap(gateway, 8082, 18_080, { options: { preferFailure: true } })).toMatchObject({
      result: 11,
    });
  });

  test('saysYesMapsNothing: every protocol grants, and there is nothing', async () => {
    const gateway = await gatewayFor({ quirks: { saysYesMapsNothing: true } });
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(0);
    expect(await pcpMap(gateway, 8080, 18_080)).toMatchObject({ result: 0, map: { externalPort: 18_080 } });
    expect(await natpmpMap(gateway, 8080, 18_080)).toMatchObject({ result: 0, externalPort: 18_080 });
    expect(gateway.table).toEqual([]);
    expect(await leaseLeft(gateway, 18_080)).toBe(714);
  });

  test('pinholeOnlyFromClient: 606 from anybody else, secure mode or not', async () => {
    const firewall = { service: 'WANIPv6FirewallControl', version: 1, from: '::1' };
    const spot = { RemoteHost: '', RemotePort: '0', InternalPort: '8080', Protocol: '6', LeaseTime: '600' };
    const gateway = await gatewayFor({ address: '::1', outerAddress: '::1', secureMode: false });
    const add = (InternalClient: string) =>
      soap(gateway, 'AddPinhole', { ...spot, InternalClient }, firewall);
    expect(codeOf(await add('2001:db8::9'))).toBe(0);
    gateway.set({ pinholeOnlyFromClient: true });
    expect(codeOf(await add('2001:db8::9'))).toBe(606);
    expect(codeOf(await add('::1'))).toBe(0);
  });

  test('samePortsRequired: 724 unless both ports are the same', async () => {
    const gateway = await gatewayFor({ quirks: { samePortsRequired: true } });
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(724);
    expect(codeOf(await addMapping(gateway, 18_080, 18_080))).toBe(0);
  });
});

describe('quirks of the search', () => {
  test('answersAllWithWfaDeviceOnly: ssdp:all finds the wireless setup alone', async () => {
    const gateway = await gatewayFor({ quirks: { answersAllWithWfaDeviceOnly: true } });
    const all = await search(gateway, 'ssdp:all');
    expect(all.map(({ message }) => message.searchTarget)).toEqual([
      'urn:schemas-wifialliance-org:device:WFADevice:1',
    ]);
    expect(await search(gateway)).toMatchObject([{ message: { location: gateway.location } }]);
  });

  test('answersMulticastOnly: a unicast search gets no answer', async () => {
    const gateway = await gatewayFor({ quirks: { answersMulticastOnly: true } });
    expect(await search(gateway)).toEqual([]);
    await using ear = await Ear.open();
    ear.socket.setMulticastInterface(INNER);
    const group = { address: '239.255.255.250', port: gateway.ports.ssdp };
    ear.send(searchPacket('upnp:rootdevice'), group);
    expect(await ear.wait()).toBeDefined();
    expect(gateway.counters).toEqual({ 'ssdp search': 2 });
  });

  test('repliesFromAnotherPort: the answer comes from the address, not from the port', async () => {
    const gateway = await gatewayFor({ quirks: { repliesFromAnotherPort: true } });
    const [answer] = await search(gateway);
    expect(answer?.from.address).toBe(INNER);
    expect(answer?.from.port).not.toBe(gateway.ports.ssdp);
  });

  test('floatingAddress: LOCATION is on the shared address, and works', async () => {
    const gateway = await gatewayFor({ quirks: { floatingAddress: '127.0.0.77' } });
    const [answer] = await search(gateway);
    expect(answer?.message.location).toBe(`http://127.0.0.77:${gateway.ports.http}/rootDesc.xml`);
    const root = await describedAt(answer?.message.location ?? '');
    expect(allServices(root)[0]?.service.controlUrl).toContain('http://127.0.0.77:');
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(0);
    gateway.set({ floatingAddress: undefined });
    expect((await search(gateway))[0]?.message.location).toContain(`http://${INNER}:`);
    await expect(http(answer?.message.location ?? '')).rejects.toThrow('ECONNREFUSED');
  });

  test('breaksOnBothFamilies: searches in both families within a second deafen it', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({ otherAddress: '::1', quirks: { breaksOnBothFamilies: true } }, clock);
    const both = async () => [
      (await search(gateway)).length,
      (await search(gateway, 'upnp:rootdevice', { to: '::1' })).length,
    ];
    expect(await both()).toEqual([1, 0]);
    expect(await both()).toEqual([0, 0]);
    await clock.advance(10_000);
    expect(await search(gateway)).toHaveLength(1);
    await clock.advance(1_000);
    expect(await search(gateway, 'upnp:rootdevice', { to: '::1' })).toHaveLength(1);
  });

  test('ssdpHeaders: without the last line, in odd case, with LF alone', async () => {
    const gateway = await gatewayFor();
    const textWith = async (ssdpHeaders: 'no-last-line' | 'mixed-case' | 'lf-only') => {
      gateway.set({ ssdpHeaders });
      const [answer] = await search(gateway);
      expect(answer?.message.location).toBe(gateway.location);
      return answer?.text ?? '';
    };
    const noLastLine = await textWith('no-last-line');
    expect(noLastLine.endsWith('\r\n')).toBe(true);
    expect(noLastLine.endsWith('\r\n\r\n')).toBe(false);
    expect(await textWith('mixed-case')).toMatch(/^lOCAtiOn: /m);
    expect(await textWith('lf-only')).not.toContain('\r');
  });
});

describe('quirks of the description', () => {
  test('controlPortMoves: a reboot moves the HTTP port', async () => {
    const gateway = await gatewayFor({ quirks: { controlPortMoves: true } });
    const before = gateway.location;
    await gateway.wipe();
    expect(gateway.location).not.toBe(before);
    await expect(http(before)).rejects.toThrow('ECONNREFUSED');
    expect((await search(gateway))[0]?.message.location).toBe(gateway.location);
    expect((await http(gateway.location)).status).toBe(200);
    const moved = gateway.location;
    await gateway.moveControlPort();
    expect(gateway.location).not.toBe(moved);
  });

  test('dslforumServiceTypes: types are of dslforum-org, and called so', async () => {
    const gateway = await gatewayFor({ quirks: { dslforumServiceTypes: true } });
    const root = await describedBy(gateway);
    expect(root.deviceType).toBe('urn:dslforum-org:device:InternetGatewayDevice:2');
    const types = allServices(root).map(({ service }) => service.serviceType);
    expect(types).toContain('urn:dslforum-org:service:WANIPConnection:2');
    expect(await search(gateway, 'urn:dslforum-org:service:WANIPConnection:1')).toHaveLength(1);
    expect(await search(gateway, 'urn:schemas-upnp-org:service:WANIPConnection:1')).toEqual([]);
    expect(codeOf(await addMapping(gateway, 18_080, 8080, {}, { urn: 'urn:dslforum-org' }))).toBe(0);
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(401);
  });

  test('firstWanDeviceDisconnected: of two WAN devices the second one works', async () => {
    const gateway = await gatewayFor({ quirks: { firstWanDeviceDisconnected: true } });
    const root = await describedBy(gateway);
    const connections = allServices(root).filter(({ service }) => service.serviceType.includes('WANIPConn'));
    const paths = connections.map(({ service }) => new URL(service.controlUrl).pathname);
    expect(new Set(connections.map(({ device }) => device.udn)).size).toBe(2);
    const told = async (path: string) => [
      await soap(gateway, 'GetStatusInfo', {}, { path }),
      codeOf(await addMapping(gateway, 18_080, 8080, {}, { path })),
    ];
    expect(await told(paths[0] ?? '')).toMatchObject([
      { values: { NewConnectionStatus: 'Disconnected' } },
      501,
    ]);
    expect(await told(paths[1] ?? '')).toMatchObject([{ values: { NewConnectionStatus: 'Connected' } }, 0]);
  });

  test('controlUrlOnAnotherPort: control URLs are absolute, on a port that answers', async () => {
    const gateway = await gatewayFor({ quirks: { controlUrlOnAnotherPort: true } });
    const { body } = await http(gateway.location);
    const url = /<controlURL>(http:[^<]*WANIPConnection)</.exec(body)?.[1] ?? '';
    expect(new URL(url).port).not.toBe(String(gateway.ports.http));
    expect(codeOf(await addMapping(gateway, 18_080, 8080, {}, { path: url }))).toBe(0);
    gateway.set({ controlUrlOnAnotherPort: false });
    expect((await http(gateway.location)).body).not.toContain('<controlURL>http:');
    await expect(http(url)).rejects.toThrow('ECONNREFUSED');
  });

  test('queryInControlUrl: it does not work without', async () => {
    const gateway = await gatewayFor({ quirks: { queryInControlUrl: true } });
    const root = await describedBy(gateway);
    const url = allServices(root).find(({ service }) => service.serviceType.includes('WANIPConn'))?.service;
    expect(url?.controlUrl).toMatch(/\?service=1$/);
    expect((await soapHttp(gateway, 'GetExternalIPAddress')).status).toBe(404);
    expect(codeOf(await soap(gateway, 'GetExternalIPAddress', {}, { path: url?.controlUrl ?? '' }))).toBe(0);
  });

  test('spaceBeforeXml: every document begins with white space', async () => {
    const gateway = await gatewayFor({ quirks: { spaceBeforeXml: true } });
    expect((await http(gateway.location)).body).toMatch(/^\s+<\?xml/);
    expect((await soapHttp(gateway, 'GetExternalIPAddress')).body).toMatch(/^\s+<\?xml/);
  });

  test('malformedXml: unescaped, unbound prefixes, wrong namespaces', async () => {
    const gateway = await gatewayFor();
    const documents = async (malformedXml: 'unescaped' | 'unbound-prefix' | 'wrong-namespace') => {
      gateway.set({ malformedXml });
      return [(await http(gateway.location)).body, (await soapHttp(gateway, 'GetExternalIPAddress')).body];
    };
    const [description, answer] = await documents('unescaped');
    expect(description).toContain('<friendlyName>Home <3 & more</friendlyName>');
    expect(answer).toContain('<X_Note>3 < 4 & more</X_Note>');
    const [unboundDescription, unboundAnswer] = await documents('unbound-prefix');
    expect(unboundDescription).toContain('<pnpx:X_hardwareId>');
    expect(unboundDescription).not.toContain('xmlns:pnpx');
    expect(unboundAnswer).toContain('<u:GetExternalIPAddressResponse>');
    const [wrongDescription, wrongAnswer] = await documents('wrong-namespace');
    expect(wrongDescription).toContain('"urn:schemas-upnp-org:device:1-0"');
    expect(wrongAnswer).toContain('xmlns:u="urn:schemas-upnp-org:service:Layer3Forwarding:1"');
  });
});

describe('quirks of answers', () => {
  test('unknownActionResets: the connection is reset', async () => {
    const gateway = await gatewayFor({ igdVersion: 1, quirks: { unknownActionResets: true } });
    const add = soap(gateway, 'AddAnyPortMapping', mappingValues(18_080, 8080), { version: 1 });
    await expect(add).rejects.toThrow('ECONNRESET');
    expect(codeOf(await addMapping(gateway, 18_080, 8080, {}, { version: 1 }))).toBe(0);
  });

  test.each(['0.0.0.0', '127.0.0.1', '7.113.0.203', ''])(
    'externalAddressReported: "%s"',
    async (externalAddressReported) => {
      const gateway = await gatewayFor({
        externalAddress: '203.0.113.7',
        quirks: { externalAddressReported },
      });
      expect(await soap(gateway, 'GetExternalIPAddress')).toMatchObject({
        values: { NewExternalIPAddress: externalAddressReported },
      });
      expect(await natpmp(gateway, { opcode: 'address' })).toMatchObject(
        externalAddressReported === '' ? { result: 3 } : { externalAddress: externalAddressReported },
      );
    },
  );

  test('disconnectedYetWorking: says Disconnected, and maps', async () => {
    const gateway = await gatewayFor({ quirks: { disconnectedYetWorking: true } });
    expect(await soap(gateway, 'GetStatusInfo')).toMatchObject({
      values: { NewConnectionStatus: 'Disconnected', NewUptime: '0' },
    });
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(0);
  });

  test('natpmpTruncatesPorts: ports come in 8 bits', async () => {
    const gateway = await gatewayFor({ quirks: { natpmpTruncatesPorts: true } });
    expect(await natpmpMap(gateway, 0x1234, 0x5678)).toMatchObject({
      internalPort: 0x34,
      externalPort: 0x78,
    });
    expect(gateway.table).toMatchObject([{ internalPort: 0x1234, externalPort: 0x5678 }]);
  });

  test('natpmpNetworkFailure: NAT-PMP says 3 while PCP works', async () => {
    const gateway = await gatewayFor({ quirks: { natpmpNetworkFailure: true } });
    expect(await natpmp(gateway, { opcode: 'address' })).toMatchObject({ result: 3 });
    expect(await natpmpMap(gateway, 8080, 18_080)).toMatchObject({ opcode: 'map', result: 3 });
    expect(gateway.table).toEqual([]);
    expect(await pcpMap(gateway, 8080, 18_080)).toMatchObject({ result: 0 });
  });

  test('epochNotReset: the epoch runs on', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({ quirks: { epochNotReset: true } }, clock);
    await clock.advance(100_000);
    await gateway.wipe();
    gateway.changeExternalAddress('203.0.113.9');
    expect(await natpmp(gateway, { opcode: 'address' })).toMatchObject({
      epochSeconds: 100,
      externalAddress: '203.0.113.9',
    });
  });

  test('http: HTTP/1.0, a wrong Content-Length, chunks, no Content-Type', async () => {
    const gateway = await gatewayFor();
    const plain = (await http(gateway.location)).body;
    const raw = async (style: Parameters<typeof gateway.set>[0]['http']) => {
      gateway.set({ http: style });
      const socket = connect(gateway.ports.http, INNER);
      socket.write('GET /rootDesc.xml HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
      let text = '';
      socket.on('data', (chunk) => {
        text += chunk.toString();
      });
      await once(socket, 'end');
      const [head = '', ...rest] = text.split('\r\n\r\n');
      return { head, body: rest.join('\r\n\r\n') };
    };
    const old = await raw('http-1.0');
    expect(old.head).toMatch(/^HTTP\/1\.0 200 /);
    expect(old.head).not.toMatch(/content-length/i);
    expect(old.body).toBe(plain);
    expect(declaredLength((await raw('long-content-length')).head)).toBeGreaterThan(plain.length);
    expect(declaredLength((await raw('short-content-length')).head)).toBeLessThan(plain.length);
    expect((await raw('no-content-type')).head).not.toMatch(/content-type/i);
    expect((await raw('chunked')).head).toMatch(/transfer-encoding: chunked/i);
    expect((await http(gateway.location)).body).toBe(plain);
    expect((await soapHttp(gateway, 'GetExternalIPAddress')).body).toContain('GetExternalIPAddressResponse');
  });
});

describe('set()', () => {
  test('a quirk that has a port to open is awaited by the next request', async () => {
    const gateway = await gatewayFor();
    gateway.set({ floatingAddress: '127.0.0.78', controlUrlOnAnotherPort: true });
    const [answer] = await search(gateway);
    expect((await http(answer?.message.location ?? '')).status).toBe(200);
  });

  test('leaves the other quirks as they are', async () => {
    const gateway = await gatewayFor({ quirks: { natpmpNetworkFailure: true } });
    gateway.set({ conflictAs501: true });
    expect(await natpmp(gateway, { opcode: 'address' })).toMatchObject({ result: 3 });
    gateway.set({ natpmpNetworkFailure: false });
    expect(await natpmp(gateway, { opcode: 'address' })).toMatchObject({ result: 0 });
    const to = { address: INNER, port: gateway.ports.pcp };
    expect(await ask(Uint8Array.of(0, 0), to)).toHaveLength(12);
  });
});
