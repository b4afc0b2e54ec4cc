/**
 * What comes out of every file in fixtures/routers/: those written for a quirk, and those recorded from a
 * real daemon. A file that is not named here fails the last test.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { allServices, decodeDescription } from '../../src/wire/description.ts';
import { decodePortListing, decodeSoapReply } from '../../src/wire/soap.ts';
import { decodeSsdp } from '../../src/wire/ssdp.ts';

const ROOT = new URL('../../fixtures/routers/', import.meta.url);
const IGD = 'urn:schemas-upnp-org:device:InternetGatewayDevice:1';
const WAN_IP = 'urn:schemas-upnp-org:service:WANIPConnection:1';

const seen = new Set<string>();

function bytesOf(file: string): Uint8Array {
  seen.add(file);
  return readFileSync(new URL(file, ROOT));
}
const textOf = (file: string) => new TextDecoder().decode(bytesOf(file));
const ssdp = (file: string) => decodeSsdp(bytesOf(file));
const reply = (file: string) => decodeSoapReply(textOf(file));
const device = (file: string, location: string) => decodeDescription(textOf(file), location);
/** Service type and control URL of all services of a description, in its order. */
const services = (file: string, location: string) =>
  allServices(device(file, location)).map(({ service }) => [service.serviceType, service.controlUrl]);
const response = (values: Record<string, string>) => ({ kind: 'response', values });
const recorded = (name: string) => `miniupnpd-2.3.1/${name}`;

test('quirk 13: Sagemcom shows its Wi-Fi setup to ssdp:all, and its gateway when asked by name', () => {
  expect(ssdp('sagemcom-fast/ssdp-all.txt')).toMatchObject({
    kind: 'response',
    searchTarget: 'urn:schemas-wifialliance-org:device:WFADevice:1',
    location: 'http://192.168.0.1:1990/setup/WFADevice.xml',
    maxAgeSeconds: 900,
  });
  expect(ssdp('sagemcom-fast/ssdp-igd.txt')).toMatchObject({
    searchTarget: IGD,
    location: 'http://192.168.0.1:49000/gateway.xml',
  });
});

test("quirk 16: a CARP pair answers with the address of one of the two, not with the gateway's", () => {
  const found = ssdp('pfsense-carp/ssdp-igd.txt');
  expect(found).toMatchObject({
    searchTarget: IGD,
    location: 'http://192.168.20.2:2189/rootDesc.xml',
    bootId: 1700000016,
  });
  expect(services('pfsense-carp/description.xml', 'http://192.168.20.2:2189/rootDesc.xml')).toEqual([
    [WAN_IP, 'http://192.168.20.2:2189/ctl/IPConn'],
  ]);
});

test("quirk 18: Huawei names its services after the DSL Forum, and they come out under the DSL Forum's name", () => {
  expect(ssdp('huawei-hg/ssdp-igd.txt')).toMatchObject({
    searchTarget: 'urn:dslforum-org:device:InternetGatewayDevice:1',
  });
  expect(services('huawei-hg/description.xml', 'http://192.168.3.1:37215/description.xml')).toEqual([
    ['urn:dslforum-org:service:WANIPConnection:1', 'http://192.168.3.1:37215/ctrlu/WANIPConn_1'],
    ['urn:dslforum-org:service:WANPPPConnection:1', 'http://192.168.3.1:37215/ctrlu/WANPPPConn_1'],
  ]);
});

test('quirk 19: MikroTik has several WANDevices, and all their connections come out, in order', () => {
  const location = 'http://192.168.88.1:2828/gateway.xml';
  const connections = allServices(device('mikrotik-routeros/description.xml', location))
    .filter(({ service }) => service.serviceType === WAN_IP)
    .map(({ service, device }) => [device.friendlyName, service.controlUrl]);
  expect(connections).toEqual([
    ['WAN 1 connection', 'http://192.168.88.1:2828/wan1/ip'],
    ['WAN 2 connection', 'http://192.168.88.1:2828/wan2/ip'],
  ]);
  expect(reply('mikrotik-routeros/status-wan1.xml')).toEqual(
    response({
      NewConnectionStatus: 'Disconnected',
      NewLastConnectionError: 'ERROR_NONE',
      NewUptime: '0',
    }),
  );
  expect(reply('mikrotik-routeros/status-wan2.xml')).toMatchObject(
    response({ NewConnectionStatus: 'Connected' }),
  );
});

test('quirk 20: D-Link DIR-655 has its control URL on another port', () => {
  expect(services('dlink-dir-655/description.xml', 'http://192.168.0.1:8080/desc.xml')).toEqual([
    [WAN_IP, 'http://192.168.0.1:65530/control/ipconn'],
  ]);
});

describe('quirk 21', () => {
  const entry = {
    NewRemoteHost: '',
    NewExternalPort: '6881',
    NewProtocol: 'TCP',
    NewInternalPort: '6881',
    NewInternalClient: '192.168.1.20',
    NewEnabled: '1',
    NewLeaseDuration: '0',
  };

  test('unescaped text and unbound prefixes in a description', () => {
    const file = 'generic-loose-xml/description-unbound-prefix.xml';
    expect(device(file, 'http://192.168.1.1/d.xml')).toMatchObject({
      friendlyName: 'Acme & Sons Router <3',
      manufacturer: 'Acme & Sons',
      modelName: 'Router <3',
    });
    expect(services(file, 'http://192.168.1.1/d.xml')).toEqual([[WAN_IP, 'http://192.168.1.1/ctl/IPConn']]);
  });

  test.each([
    ['less-than', 'a<b, 1 < 2, <3'],
    ['ampersand', 'Q&A & co &copy; R&D;'],
    ['tag', 'from'],
  ])('an unescaped %s in a mapping leaves the values after it whole', (what, description) => {
    expect(reply(`generic-loose-xml/entry-unescaped-${what}.xml`)).toEqual(
      response({ ...entry, NewPortMappingDescription: description }),
    );
  });

  test('an answer in a namespace that is none', () => {
    expect(reply('generic-loose-xml/response-wrong-namespace.xml')).toEqual(response({}));
  });

  test('an answer with unbound prefixes', () => {
    expect(reply('generic-loose-xml/response-unbound-prefix.xml')).toEqual(
      response({ NewExternalIPAddress: '198.51.100.21' }),
    );
  });

  test('a fault with unbound prefixes', () => {
    expect(reply('generic-loose-xml/fault-unbound-prefix.xml')).toEqual({
      kind: 'fault',
      errorCode: 718,
      errorDescription: 'ConflictInMappingEntry',
    });
  });
});

describe('quirk 22', () => {
  test.each(['no-blank-line', 'lf-only', 'mixed-case'])('an SSDP answer: %s', (what) => {
    expect(ssdp(`generic-loose-ssdp/ssdp-${what}.txt`)).toEqual({
      kind: 'response',
      searchTarget: IGD,
      usn: `uuid:6c6f6f73-0000-4000-8000-002200000001::${IGD}`,
      bootId: what === 'mixed-case' ? 22 : undefined,
      location: 'http://192.168.2.1:5431/igd.xml',
      server: 'Router UPnP/1.0',
      maxAgeSeconds: 120,
    });
  });

  test('an SSDP notification', () => {
    expect(ssdp('generic-loose-ssdp/notify-loose.txt')).toMatchObject({
      kind: 'alive',
      notificationType: IGD,
      location: 'http://192.168.2.1:5431/igd.xml',
      maxAgeSeconds: 120,
    });
  });
});

test('quirk 29: DD-WRT puts white space before `<?xml`, and a query string in its control URL', () => {
  const file = 'ddwrt-v24/description.xml';
  expect(textOf(file)).toMatch(/^\s+<\?xml/);
  expect(services(file, 'http://192.168.1.1:5000/rootDesc.xml')).toEqual([
    [WAN_IP, 'http://192.168.1.1:5000/upnp/control.cgi?service=WANIPConn1&wan=0'],
  ]);
  expect(reply('ddwrt-v24/response-address.xml')).toEqual(
    response({ NewExternalIPAddress: '198.51.100.29' }),
  );
});

describe('miniupnpd 2.3.1, recorded', () => {
  const identity = {
    usn: `uuid:6e617477-6172-6400-0000-000000000001::${IGD}`,
    server: 'Debian/6.18.44-fc-v595 UPnP/1.1 MiniUPnPd/2.3.1',
  };

  test('answers each search with its target', () => {
    expect(ssdp(recorded('ssdp-igd1.txt'))).toEqual({
      kind: 'response',
      searchTarget: IGD,
      ...identity,
      bootId: 1795226534,
      location: 'http://192.168.77.1:41305/rootDesc.xml',
      maxAgeSeconds: 120,
    });
    expect(ssdp(recorded('ssdp-igd2.txt'))).toMatchObject({ searchTarget: IGD.replace(/1$/, '2') });
    expect(ssdp(recorded('ssdp-rootdevice.txt'))).toMatchObject({ searchTarget: 'upnp:rootdevice' });
  });

  test('says when it comes and when it goes', () => {
    const igd2 = IGD.replace(/1$/, '2');
    expect(ssdp(recorded('notify-alive.txt'))).toMatchObject({
      kind: 'alive',
      notificationType: igd2,
      bootId: 1795226599,
      location: 'http://192.168.77.1:46797/rootDesc.xml',
      maxAgeSeconds: 60,
    });
    expect(ssdp(recorded('notify-byebye.txt'))).toEqual({
      kind: 'byebye',
      notificationType: igd2,
      usn: `uuid:6e617477-6172-6400-0000-000000000001::${igd2}`,
      bootId: 1795226599,
    });
  });

  test('describes an IGD 2', () => {
    const location = 'http://192.168.77.1:41305/rootDesc.xml';
    expect(device(recorded('description.xml'), location)).toMatchObject({
      deviceType: IGD.replace(/1$/, '2'),
      friendlyName: 'Debian router',
      udn: 'uuid:6e617477-6172-6400-0000-000000000001',
    });
    expect(services(recorded('description.xml'), location)).toEqual(
      [
        ['Layer3Forwarding:1', 'L3F'],
        ['DeviceProtection:1', 'DP'],
        ['WANCommonInterfaceConfig:1', 'CmnIfCfg'],
        ['WANIPConnection:2', 'IPConn'],
        ['WANIPv6FirewallControl:1', 'IP6FCtl'],
      ].map(([type, path]) => [
        `urn:schemas-upnp-org:service:${type}`,
        `http://192.168.77.1:41305/ctl/${path}`,
      ]),
    );
  });

  const udp = {
    NewInternalPort: '5000',
    NewInternalClient: '192.168.77.10',
    NewEnabled: '1',
    NewPortMappingDescription: 'a & b <c>',
    NewLeaseDuration: '600',
  };
  const tcp = {
    NewInternalPort: '8080',
    NewInternalClient: '192.168.77.10',
    NewEnabled: '1',
    NewPortMappingDescription: 'natward',
    NewLeaseDuration: '3600',
  };

  test.each([
    ['GetExternalIPAddress', { NewExternalIPAddress: '11.22.33.44' }],
    [
      'GetStatusInfo',
      { NewConnectionStatus: 'Connected', NewLastConnectionError: 'ERROR_NONE', NewUptime: '17' },
    ],
    ['AddPortMapping', {}],
    ['AddAnyPortMapping', { NewReservedPort: '45001' }],
    ['DeletePortMapping', {}],
    // It says yes to the deletion of a mapping that is not there.
    ['DeletePortMapping-of-nothing', {}],
    ['GetSpecificPortMappingEntry', tcp],
    ['GetSpecificPortMappingEntry-escaped', udp],
    [
      'GetGenericPortMappingEntry',
      { NewRemoteHost: '', NewExternalPort: '45002', NewProtocol: 'UDP', ...udp },
    ],
    ['GetFirewallStatus', { FirewallEnabled: '1', InboundPinholeAllowed: '1' }],
  ])('says yes: %s', (name, values) => {
    expect(reply(recorded(`${name}.xml`))).toEqual(response(values));
  });

  test.each([
    ['ActionNotAuthorized', 606, 'Action not authorized'],
    ['ConflictInMappingEntry', 718, 'ConflictInMappingEntry'],
    ['InvalidAction', 401, 'Invalid Action'],
    ['SpecifiedArrayIndexInvalid', 713, 'SpecifiedArrayIndexInvalid'],
  ])('says no: %s', (name, errorCode, errorDescription) => {
    expect(reply(recorded(`fault-${name}.xml`))).toEqual({ kind: 'fault', errorCode, errorDescription });
  });

  test('lists its mappings in a document inside a value', () => {
    const answer = reply(recorded('GetListOfPortMappings.xml'));
    const listing = answer.kind === 'response' ? answer.values['NewPortListing'] : undefined;
    expect(decodePortListing(listing ?? '')).toEqual([
      {
        NewRemoteHost: '',
        NewExternalPort: '45001',
        NewProtocol: 'TCP',
        NewInternalPort: '8080',
        NewInternalClient: '192.168.77.10',
        NewEnabled: '1',
        NewDescription: 'natward',
        NewLeaseTime: '3600',
      },
    ]);
  });
});

describe('fixtures/routers/', () => {
  const vendors = readdirSync(ROOT);

  test.each(vendors)('%s says where it is from', (vendor) => {
    expect(readFileSync(new URL(`${vendor}/ORIGIN.md`, ROOT), 'utf8')).toMatch(
      /^(Written by hand|Recorded) /,
    );
  });

  test('holds no file that the tests above do not read', () => {
    const files = vendors.flatMap((vendor) =>
      readdirSync(new URL(`${vendor}/`, ROOT)).map((file) => `${vendor}/${file}`),
    );
    expect(files.filter((file) => !file.endsWith('/ORIGIN.md') && !seen.has(file))).toEqual([]);
  });
});
