import { describe, expect, test } from 'vitest';
import { allServices, decodeDescription } from '../../src/wire/description.ts';
import { decodePortListing, encodeSoapCall, soapAction } from '../../src/wire/soap.ts';
import { parseXml } from '../../src/wire/xml.ts';
import {
  addMapping,
  codeOf,
  http,
  INNER,
  mappingValues,
  outerValues,
  soap,
  soapHttp,
} from './support/client.ts';
import { StillClock } from './support/clock.ts';
import { gatewayFor } from './support/gateway.ts';

const IGD1 = { version: 1 } as const;

async function leaseLeft(igdVersion: 1 | 2, lease: string): Promise<string | number | undefined> {
  const gateway = await gatewayFor({ igdVersion }, new StillClock());
  const options = { version: igdVersion };
  await addMapping(gateway, 18_080, 8080, { NewLeaseDuration: lease }, options);
  const reply = await soap(gateway, 'GetSpecificPortMappingEntry', outerValues(18_080), options);
  return reply.kind === 'response' ? reply.values['NewLeaseDuration'] : reply.errorCode;
}

async function typed(location: string, type: string): Promise<number> {
  const serviceType = 'urn:schemas-upnp-org:service:WANIPConnection:1';
  const action = 'GetExternalIPAddress';
  const { status } = await http(new URL('/control/WANIPConnection', location).href, {
    method: 'POST',
    headers: { SOAPACTION: soapAction(serviceType, action), 'Content-Type': type },
    body: encodeSoapCall({ serviceType, action, values: {} }),
  });
  return status;
}

describe('the description', () => {
  test('of IGD:2 has the services that the standard asks for', async () => {
    const gateway = await gatewayFor({ friendlyName: 'Flat <3 & co' });
    const { headers, body } = await http(gateway.location);
    expect(headers).toMatchObject({ 'content-type': 'text/xml; charset="utf-8"' });
    const root = decodeDescription(body, gateway.location);
    expect(root).toMatchObject({
      deviceType: 'urn:schemas-upnp-org:device:InternetGatewayDevice:2',
      friendlyName: 'Flat <3 & co',
      devices: [
        {
          deviceType: 'urn:schemas-upnp-org:device:WANDevice:2',
          devices: [{ deviceType: 'urn:schemas-upnp-org:device:WANConnectionDevice:2' }],
        },
      ],
    });
    expect(allServices(root).map(({ service }) => service.serviceType)).toEqual([
      'urn:schemas-upnp-org:service:Layer3Forwarding:1',
      'urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1',
      'urn:schemas-upnp-org:service:WANIPConnection:2',
      'urn:schemas-upnp-org:service:WANIPv6FirewallControl:1',
    ]);
    expect(new Set(allServices(root).map(({ device }) => device.udn)).size).toBe(3);
  });

  test.each([
    ['WANIPConnection', 1, 'urn:schemas-upnp-org:service:WANIPConnection:1'],
    ['WANPPPConnection', 1, 'urn:schemas-upnp-org:service:WANPPPConnection:1'],
    ['WANPPPConnection', 2, 'urn:schemas-upnp-org:service:WANPPPConnection:1'],
  ] as const)('%s of IGD:%i is %s', async (connectionService, igdVersion, type) => {
    const gateway = await gatewayFor({ connectionService, igdVersion });
    const root = decodeDescription((await http(gateway.location)).body, gateway.location);
    const types = allServices(root).map(({ service }) => service.serviceType);
    expect(types).toContain(type);
    const options = { service: connectionService, version: 1 };
    expect(codeOf(await addMapping(gateway, 18_080, 8080, {}, options))).toBe(0);
    // What came with the second version is unknown to the first.
    const any = await soap(gateway, 'AddAnyPortMapping', mappingValues(18_081, 8081), options);
    expect(codeOf(any)).toBe(401);
  });

  test('leads to service descriptions that name every action that is answered', async () => {
    const gateway = await gatewayFor();
    const root = decodeDescription((await http(gateway.location)).body, gateway.location);
    for (const { service } of allServices(root)) {
      const { status, body } = await http(service.scpdUrl);
      expect(status).toBe(200);
      const scpd = parseXml(body);
      const actions = scpd.children.find(({ name }) => name === 'actionList')?.children ?? [];
      expect(actions.length).toBeGreaterThan(1);
      for (const action of actions) {
        const name = action.children.find((part) => part.name === 'name')?.text ?? '';
        const [, type = '', version = ''] = /service:(\w+):(\d)$/.exec(service.serviceType) ?? [];
        const reply = await soap(gateway, name, {}, { service: type, version: Number(version) });
        expect([name, codeOf(reply)]).not.toEqual([name, 401]);
      }
    }
  });
});

describe('SOAP', () => {
  test('AddPortMapping, GetSpecificPortMappingEntry and DeletePortMapping', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    expect(await addMapping(gateway, 18_080, 8080)).toEqual({ kind: 'response', values: {} });
    await clock.advance(1_500);
    expect(await soap(gateway, 'GetSpecificPortMappingEntry', outerValues(18_080))).toEqual({
      kind: 'response',
      values: {
        NewInternalPort: '8080',
        NewInternalClient: INNER,
        NewEnabled: '1',
        NewPortMappingDescription: 'a test',
        NewLeaseDuration: '3599',
      },
    });
    expect(codeOf(await soap(gateway, 'DeletePortMapping', outerValues(18_080)))).toBe(0);
    expect(codeOf(await soap(gateway, 'DeletePortMapping', outerValues(18_080)))).toBe(714);
    expect(codeOf(await soap(gateway, 'GetSpecificPortMappingEntry', outerValues(18_080)))).toBe(714);
    expect(gateway.counters).toEqual({
      'soap AddPortMapping': 1,
      'soap GetSpecificPortMappingEntry': 2,
      'soap DeletePortMapping': 2,
    });
  });

  test('AddAnyPortMapping gives another port where the wanted one is taken', async () => {
    const gateway = await gatewayFor();
    await addMapping(gateway, 18_080, 8080);
    const same = await soap(gateway, 'AddAnyPortMapping', mappingValues(18_080, 8080));
    expect(same).toMatchObject({ values: { NewReservedPort: '18080' } });
    const other = await soap(gateway, 'AddAnyPortMapping', mappingValues(18_080, 8081));
    expect(other).not.toMatchObject({ values: { NewReservedPort: '18080' } });
    expect(gateway.table).toHaveLength(2);
  });

  test("the lists: by index, by range, one's own or all", async () => {
    const gateway = await gatewayFor();
    await addMapping(gateway, 18_080, 8080);
    await addMapping(gateway, 18_081, 8081, { NewPortMappingDescription: 'a <b> & "c"' });
    await addMapping(gateway, 18_082, 8082, { NewInternalClient: '127.0.0.5' }, { from: '127.0.0.5' });
    expect(await soap(gateway, 'GetGenericPortMappingEntry', { NewPortMappingIndex: '1' })).toMatchObject({
      values: { NewExternalPort: '18081', NewProtocol: 'TCP', NewPortMappingDescription: 'a <b> & "c"' },
    });
    expect(codeOf(await soap(gateway, 'GetGenericPortMappingEntry', { NewPortMappingIndex: '3' }))).toBe(713);
    const range = { NewStartPort: '1', NewEndPort: '65535', NewProtocol: 'TCP', NewNumberOfPorts: '0' };
    const ports = async (manage: string, more = {}) => {
      const values = { ...range, NewManage: manage, ...more };
      const reply = await soap(gateway, 'GetListOfPortMappings', values);
      if (reply.kind === 'fault') return reply.errorCode;
      const listing = decodePortListing(reply.values['NewPortListing'] ?? '');
      return listing.map((row) => [row['NewExternalPort'], row['NewDescription']]);
    };
    expect(await ports('0')).toEqual([
      ['18080', 'a test'],
      ['18081', 'a <b> & "c"'],
    ]);
    expect(await ports('1')).toHaveLength(3);
    expect(await ports('1', { NewNumberOfPorts: '2' })).toHaveLength(2);
    expect(await ports('1', { NewStartPort: '20000' })).toBe(730);
    expect(await ports('1', { NewEndPort: '0' })).toBe(733);
  });

  test('DeletePortMappingRange takes what the caller may take', async () => {
    const gateway = await gatewayFor();
    for (const port of [18_080, 18_081, 18_090]) await addMapping(gateway, port, port);
    await addMapping(gateway, 18_082, 8082, { NewInternalClient: '127.0.0.5' }, { from: '127.0.0.5' });
    const range = { NewStartPort: '18080', NewEndPort: '18085', NewProtocol: 'TCP', NewManage: '1' };
    expect(codeOf(await soap(gateway, 'DeletePortMappingRange', range))).toBe(0);
    expect(gateway.table.map((entry) => entry.externalPort)).toEqual([18_090, 18_082]);
    expect(codeOf(await soap(gateway, 'DeletePortMappingRange', range))).toBe(606);
    expect(codeOf(await soap(gateway, 'DeletePortMappingRange', { ...range, NewEndPort: '18081' }))).toBe(
      730,
    );
  });

  test('what it tells of the connection', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({ externalAddress: '203.0.113.7' }, clock);
    await clock.advance(60_000);
    const values = async (action: string) => {
      const reply = await soap(gateway, action);
      return reply.kind === 'response' ? reply.values : reply.errorCode;
    };
    expect(await values('GetExternalIPAddress')).toEqual({ NewExternalIPAddress: '203.0.113.7' });
    expect(await values('GetStatusInfo')).toEqual({
      NewConnectionStatus: 'Connected',
      NewLastConnectionError: 'ERROR_NONE',
      NewUptime: '60',
    });
    expect(await values('GetNATRSIPStatus')).toEqual({ NewRSIPAvailable: '0', NewNATEnabled: '1' });
    expect(await values('GetConnectionTypeInfo')).toMatchObject({ NewConnectionType: 'IP_Routed' });
    expect(await values('ForceTermination')).toBe(606);
  });

  test('leases: 0 is a week in version 2 and no end in version 1', async () => {
    expect(await leaseLeft(2, '0')).toBe('604800');
    expect(await leaseLeft(2, '999999')).toBe('604800');
    expect(await leaseLeft(1, '0')).toBe('0');
    expect(await leaseLeft(1, '999999')).toBe('999999');
  });

  test.each([
    ['no external port', 716, { NewExternalPort: '0' }],
    ['no internal port', 732, { NewInternalPort: '0' }],
    ['a port beyond 65535', 402, { NewExternalPort: '65536' }],
    ['a port that is no number', 402, { NewInternalPort: '0x50' }],
    ['another protocol', 402, { NewProtocol: 'SCTP' }],
    ['a client that is no address', 402, { NewInternalClient: 'http://example.com' }],
    ['a lease that is negative', 402, { NewLeaseDuration: '-1' }],
    ['a switch that is neither on nor off', 402, { NewEnabled: 'maybe' }],
    ['a remote host that is a name', 726, { NewRemoteHost: 'example.com' }],
    ['another client', 606, { NewInternalClient: '127.0.0.5' }],
    ['a denied port', 606, { NewExternalPort: '80' }],
  ])('%s is refused with %i', async (_what, code, values) => {
    const gateway = await gatewayFor({ deniedExternalPorts: [{ first: 1, last: 1023 }] });
    expect(codeOf(await addMapping(gateway, 18_080, 8080, values))).toBe(code);
    expect(gateway.table).toEqual([]);
  });

  test('a missing argument is 402, a taken port 718, a full table 728', async () => {
    const gateway = await gatewayFor({ maxMappings: 32 });
    expect(codeOf(await soap(gateway, 'AddPortMapping', outerValues(18_080)))).toBe(402);
    await addMapping(gateway, 18_080, 8080, { NewInternalClient: '127.0.0.5' }, { from: '127.0.0.5' });
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(718);
    expect(codeOf(await soap(gateway, 'DeletePortMapping', outerValues(18_080)))).toBe(606);
    for (let port = 1; port < 32; port++) await addMapping(gateway, 20_000 + port, port);
    expect(codeOf(await addMapping(gateway, 18_099, 99))).toBe(728);
  });

  test('an unknown action is 401, and so is another service at the same URL', async () => {
    const gateway = await gatewayFor();
    expect(codeOf(await soap(gateway, 'DoTheDishes'))).toBe(401);
    const other = { service: 'WANPPPConnection', version: 1, path: '/control/WANIPConnection' };
    expect(codeOf(await soap(gateway, 'GetExternalIPAddress', {}, other))).toBe(401);
    expect(codeOf(await soap(gateway, 'GetExternalIPAddress', {}, { version: 3 }))).toBe(401);
    expect(codeOf(await soap(gateway, 'GetExternalIPAddress', {}, IGD1))).toBe(0);
    expect(gateway.counters).toEqual({ 'soap other': 1, 'soap GetExternalIPAddress': 3 });
  });

  test('an action that its standard leaves open and that is not here is 602', async () => {
    const gateway = await gatewayFor();
    expect(codeOf(await soap(gateway, 'RequestTermination'))).toBe(602);
    expect(codeOf(await soap(gateway, 'GetUserName'))).toBe(401);
    const firewall = { service: 'WANIPv6FirewallControl', version: 1 };
    expect(codeOf(await soap(gateway, 'GetOutboundPinholeTimeout', {}, firewall))).toBe(602);
  });

  test('no internal client is whoever asks', async () => {
    const gateway = await gatewayFor();
    expect(codeOf(await addMapping(gateway, 18_080, 8080, { NewInternalClient: '' }))).toBe(0);
    expect(gateway.table).toMatchObject([{ internalClient: INNER }]);
  });

  test.each([
    'text/xml; charset="utf-8"',
    'text/xml',
    'application/xml;charset=UTF-8',
    'application/soap+xml',
  ])('a call in %s is read', async (type) => {
    const gateway = await gatewayFor();
    expect(await typed(gateway.location, type)).toBe(200);
  });

  test.each([
    'text/plain',
    'application/x-www-form-urlencoded',
    'text/xml; charset=iso-8859-1',
    'text/xmlish',
  ])('a call in %s is refused with 415', async (type) => {
    const gateway = await gatewayFor();
    expect(await typed(gateway.location, type)).toBe(415);
  });

  test('a fault has status 500', async () => {
    const gateway = await gatewayFor();
    expect((await soapHttp(gateway, 'DeletePortMapping', outerValues(1))).status).toBe(500);
  });
});

describe('pinholes', () => {
  const firewall = { service: 'WANIPv6FirewallControl', version: 1, from: '::1' } as const;
  const spot = {
    RemoteHost: '',
    RemotePort: '0',
    InternalClient: '::1',
    InternalPort: '8080',
    Protocol: '6',
    LeaseTime: '3600',
  };
  const inner = { address: '::1', outerAddress: '::1' } as const;

  test('AddPinhole, UpdatePinhole and DeletePinhole', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor(inner, clock);
    const added = await soap(gateway, 'AddPinhole', spot, firewall);
    expect(added).toEqual({ kind: 'response', values: { UniqueID: '0' } });
    expect(await soap(gateway, 'AddPinhole', spot, firewall)).toEqual(added);
    const update = { UniqueID: '0', NewLeaseTime: '60' };
    expect(codeOf(await soap(gateway, 'UpdatePinhole', update, firewall))).toBe(0);
    await clock.advance(59_000);
    expect(codeOf(await soap(gateway, 'CheckPinholeWorking', { UniqueID: '0' }, firewall))).toBe(709);
    expect(await soap(gateway, 'GetPinholePackets', { UniqueID: '0' }, firewall)).toMatchObject({
      values: { PinholePackets: '0' },
    });
    await clock.advance(1_000);
    expect(codeOf(await soap(gateway, 'DeletePinhole', { UniqueID: '0' }, firewall))).toBe(704);
    expect(await soap(gateway, 'GetFirewallStatus', {}, firewall)).toMatchObject({
      values: { FirewallEnabled: '1', InboundPinholeAllowed: '1' },
    });
  });

  test.each([
    ['another client', 606, { InternalClient: '2001:db8::9' }],
    ['an IPv4 client', 402, { InternalClient: '127.0.0.1' }],
    ['any client', 708, { InternalClient: '' }],
    ['any internal port', 706, { InternalPort: '0' }],
    ['any protocol', 707, { Protocol: '65535' }],
    ['a protocol without ports', 705, { Protocol: '1' }],
    ['a lease beyond a day', 402, { LeaseTime: '86401' }],
    ['a lease of nothing', 402, { LeaseTime: '0' }],
  ])('%s is refused with %i', async (_what, code, values) => {
    const gateway = await gatewayFor(inner);
    expect(codeOf(await soap(gateway, 'AddPinhole', { ...spot, ...values }, firewall))).toBe(code);
  });

  test.each([
    [702, { enabled: false }],
    [703, { inboundPinholeAllowed: false }],
  ])('the firewall itself refuses with %i', async (code, settings) => {
    const gateway = await gatewayFor({ ...inner, firewall: settings });
    expect(codeOf(await soap(gateway, 'AddPinhole', spot, firewall))).toBe(code);
  });

  test('their number is bounded: 701', async () => {
    const gateway = await gatewayFor({ ...inner, maxMappings: 32 });
    for (let port = 1; port <= 32; port++) {
      await soap(gateway, 'AddPinhole', { ...spot, InternalPort: String(port) }, firewall);
    }
    expect(codeOf(await soap(gateway, 'AddPinhole', spot, firewall))).toBe(701);
    expect(gateway.pinholes).toHaveLength(32);
  });
});

describe('HTTP', () => {
  test('a body of more than 64 KiB is refused with 413', async () => {
    const gateway = await gatewayFor();
    const url = new URL('/control/WANIPConnection', gateway.location).href;
    const { status } = await http(url, { method: 'POST', body: 'x'.repeat(65_537) });
    expect(status).toBe(413);
    const chunked = { method: 'POST', body: 'x'.repeat(65_537), headers: { 'Transfer-Encoding': 'chunked' } };
    expect((await http(url, chunked)).status).toBe(413);
  });

  test('headers of more than 16 KiB are refused with 431', async () => {
    const gateway = await gatewayFor();
    const { status } = await http(gateway.location, { headers: { 'X-Long': 'x'.repeat(17_000) } });
    expect(status).toBe(431);
  });

  test('a Host that is a name is refused (DNS rebinding)', async () => {
    const gateway = await gatewayFor();
    expect((await http(gateway.location, { headers: { Host: 'gateway.example' } })).status).toBe(400);
    expect((await http(gateway.location, { headers: { Host: '192.168.1.1:80' } })).status).toBe(200);
    expect((await http(gateway.location, { headers: { Host: '[fe80::1]' } })).status).toBe(200);
  });

  test('other paths, methods and bodies are told so', async () => {
    const gateway = await gatewayFor();
    const at = (path: string) => new URL(path, gateway.location).href;
    expect((await http(at('/etc/passwd'))).status).toBe(404);
    expect((await http(gateway.location, { method: 'PUT' })).status).toBe(405);
    expect((await http(gateway.location, { method: 'HEAD' })).body).toBe('');
    expect((await http(at('/control/WANIPConnection'))).status).toBe(405);
    const headers = { SOAPACTION: '"urn:schemas-upnp-org:service:WANIPConnection:2#GetExternalIPAddress"' };
    const post = { method: 'POST', headers, body: 'not XML' };
    expect((await http(at('/control/WANIPConnection'), post)).status).toBe(400);
    expect((await http(at('/control/WANIPConnection'), { method: 'POST' })).status).toBe(400);
    expect(gateway.counters).toEqual({
      'http other': 2,
      'http other /rootDesc.xml': 2,
      'soap GetExternalIPAddress': 1,
      'soap other': 1,
    });
  });
});
