import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  allServices,
  type Device,
  type DeviceService,
  decodeDescription,
  encodeDescription,
} from '../../src/wire/description.ts';
import { failsInItsOwnWords, markup, mutatedText, value } from './arbitraries.ts';

const LOCATION = 'http://192.168.1.1:5000/rootDesc.xml';

const url = fc.webUrl({ validSchemes: ['http'] }).map((text) => new URL(text).href);
const service: fc.Arbitrary<DeviceService> = fc.record({
  serviceType: value,
  serviceId: value,
  controlUrl: url,
  eventUrl: fc.oneof(url, fc.constant('')),
  scpdUrl: fc.oneof(url, fc.constant('')),
});
const devices = (depth: number): fc.Arbitrary<Device> =>
  fc.record({
    deviceType: value,
    friendlyName: value,
    manufacturer: value,
    modelName: value,
    modelNumber: value,
    udn: value,
    services: fc.array(service, { maxLength: 3 }),
    devices: depth === 0 ? fc.constant([]) : fc.array(devices(depth - 1), { maxLength: 2 }),
  });
/** As deep as gateways are: root, WANDevice, WANConnectionDevice. */
const device = devices(2);

const described = (services: string, base = '') =>
  `<root>${base}<device><serviceList>${services}</serviceList></device></root>`;
const controlUrl = (url: string, base = '') =>
  decodeDescription(described(`<service><controlURL>${url}</controlURL></service>`, base), LOCATION)
    .services[0]?.controlUrl;

describe('a description', () => {
  test('comes back as it was', () => {
    fc.assert(
      fc.property(device, fc.constantFrom(0, 1), (value, minor) => {
        expect(decodeDescription(encodeDescription(value, minor), LOCATION)).toEqual(value);
      }),
    );
  });

  test('is written as UDA 2.0, section 2.3, has it', () => {
    const text = encodeDescription(
      {
        deviceType: 'urn:schemas-upnp-org:device:InternetGatewayDevice:2',
        friendlyName: 'A & B',
        manufacturer: '',
        modelName: 'm',
        modelNumber: '1',
        udn: 'uuid:1',
        services: [
          { serviceType: 't', serviceId: 'i', controlUrl: '/c?a&b', eventUrl: '/e', scpdUrl: '/s.xml' },
        ],
        devices: [],
      },
      1,
    );
    expect(text).toBe(
      '<?xml version="1.0"?>\r\n<root xmlns="urn:schemas-upnp-org:device-1-0" configId="1">' +
        '<specVersion><major>1</major><minor>1</minor></specVersion>' +
        '<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:2</deviceType>' +
        '<friendlyName>A &amp; B</friendlyName><manufacturer></manufacturer><modelName>m</modelName>' +
        '<modelNumber>1</modelNumber><UDN>uuid:1</UDN><serviceList><service><serviceType>t</serviceType>' +
        '<serviceId>i</serviceId><SCPDURL>/s.xml</SCPDURL><controlURL>/c?a&amp;b</controlURL>' +
        '<eventSubURL>/e</eventSubURL></service></serviceList></device></root>\r\n',
    );
  });

  test('has services at every depth, each with its device', () => {
    fc.assert(
      fc.property(device, (value) => {
        const count = (inner: Device): number =>
          inner.devices.reduce((sum, next) => sum + count(next), inner.services.length);
        const all = allServices(value);
        expect(all).toHaveLength(count(value));
        for (const { service, device } of all) expect(device.services).toContain(service);
      }),
    );
  });

  test.each(['<root/>', '<scpd><actionList/></scpd>', '<html><body>Login</body></html>', 'ok', ''])(
    'without a device is MALFORMED: %s',
    (document) => {
      expect(() => decodeDescription(document, LOCATION)).toThrow(
        expect.objectContaining({ code: 'MALFORMED' }),
      );
    },
  );

  test('of any text fails in its own words, wherever it came from', () => {
    const valid = device.map((value) => encodeDescription(value, 1));
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), markup, mutatedText(valid)),
        fc.oneof(fc.string(), fc.constant(LOCATION)),
        (document, location) => {
          expect(failsInItsOwnWords(() => decodeDescription(document, location))).toBe(true);
        },
      ),
    );
  });
});

describe('a control URL', () => {
  test.each([
    ['/ctl/IPConn', 'http://192.168.1.1:5000/ctl/IPConn'],
    ['ctl/IPConn', 'http://192.168.1.1:5000/ctl/IPConn'],
    ['?service=ip', 'http://192.168.1.1:5000/rootDesc.xml?service=ip'],
    ['/upnp/control.cgi?a=1&amp;b=2', 'http://192.168.1.1:5000/upnp/control.cgi?a=1&b=2'],
    ['http://192.168.1.1:65530/control', 'http://192.168.1.1:65530/control'],
    ['//192.0.2.1/x', 'http://192.0.2.1/x'],
    ['file:///etc/passwd', 'file:///etc/passwd'],
  ])('%s stands for %s', (given, resolved) => {
    expect(controlUrl(given)).toBe(resolved);
  });

  test.each(['', 'http://[', 'http://', 'http://192.168.1.1:99999/', `/${'x'.repeat(2048)}`])(
    'that is none drops its service: %s',
    (given) => {
      expect(controlUrl(given)).toBeUndefined();
    },
  );

  test('is resolved against URLBase, where that is a URL', () => {
    expect(controlUrl('/c', '<URLBase>http://192.168.1.1:80</URLBase>')).toBe('http://192.168.1.1/c');
    expect(controlUrl('c', '<URLBase>http://192.168.1.1/a/b</URLBase>')).toBe('http://192.168.1.1/a/c');
    expect(controlUrl('/c', '<URLBase></URLBase>')).toBe('http://192.168.1.1:5000/c');
    expect(controlUrl('/c', '<URLBase>192.168.1.1</URLBase>')).toBe('http://192.168.1.1:5000/c');
  });

  test('is found as `controlUrl` too', () => {
    const document = described('<service><controlUrl>/c</controlUrl></service>');
    expect(decodeDescription(document, LOCATION).services).toHaveLength(1);
  });
});

describe('a hostile description', () => {
  test('of more than 256 services is refused', () => {
    const service = '<service><controlURL>/</controlURL></service>';
    expect(decodeDescription(described(service.repeat(256)), LOCATION).services).toHaveLength(256);
    expect(() => decodeDescription(described(service.repeat(257)), LOCATION)).toThrow(
      expect.objectContaining({ code: 'HOSTILE' }),
    );
  });

  test('cannot have a long URLBase repeated in every URL', () => {
    const base = `<URLBase>http://192.168.1.1/${'x'.repeat(200_000)}/</URLBase>`;
    expect(controlUrl('c', base)).toBe('http://192.168.1.1:5000/c');
  });

  test('cannot nest devices without end', () => {
    const open = '<device><deviceList>'.repeat(50_000);
    expect(() => decodeDescription(`<root>${open}`, LOCATION)).toThrow(
      expect.objectContaining({ code: 'HOSTILE' }),
    );
  });

  test('cannot reach a prototype through its names', () => {
    const { services, devices, ...texts } = decodeDescription(
      '<root><device><__proto__><x>1</x></__proto__><constructor>evil</constructor></device></root>',
      LOCATION,
    );
    expect([services, devices]).toEqual([[], []]);
    expect(Object.values(texts)).toEqual(['', '', '', '', '', '']);
    expect(Object.keys(Object.prototype)).toEqual([]);
  });
});
