/**
 * UPnP device descriptions (UDA 2.0, section 2.3), both directions: the tree of devices that a gateway
 * publishes, and the services on it whose control URLs take our requests. URLs are resolved here; whether
 * their host may be called at all is for discovery.
 */

import { NatwardError } from '../errors.ts';
import { CONFIG_ID } from './ssdp.ts';
import { child, childText, descendant, elements, parseXml, type XmlElement } from './xml.ts';

export interface DeviceService {
  readonly serviceType: string;
  readonly serviceId: string;
  /** Absolute after decoding; as given before encoding. */
  readonly controlUrl: string;
  readonly eventUrl: string;
  readonly scpdUrl: string;
}

export interface Device {
  readonly deviceType: string;
  readonly friendlyName: string;
  readonly manufacturer: string;
  readonly modelName: string;
  readonly modelNumber: string;
  /** `uuid:...` */
  readonly udn: string;
  readonly services: readonly DeviceService[];
  readonly devices: readonly Device[];
}

/** Most seen: 31 services (FRITZ!Box), 120 characters. Without an end, every URL repeats a base of any length. */
const MAX_SERVICES = 256;
const MAX_URL_CHARS = 2048;

/**
 * Decodes the description that was fetched from `location`. A service whose control URL is no URL, or one
 * of more than 2048 characters, is left out. Throws MALFORMED where there is no device, HOSTILE for more
 * than 256 services or from the XML limits.
 */
export function decodeDescription(document: string, location: string): Device {
  const root = parseXml(document);
  const device = descendant(root, 'device');
  if (device === undefined) throw new NatwardError('MALFORMED', 'not a device description: no device in it');
  if (countOf(root, 'service') > MAX_SERVICES) {
    throw new NatwardError('HOSTILE', `a device description with more than ${MAX_SERVICES} services`);
  }
  const base = childText(root, 'URLBase') || location;
  return deviceOf(device, base.length <= MAX_URL_CHARS && URL.canParse(base) ? base : location);
}

function countOf(element: XmlElement, name: string): number {
  return element.children.reduce((sum, inner) => sum + countOf(inner, name), element.name === name ? 1 : 0);
}

function deviceOf(element: XmlElement, base: string): Device {
  return {
    deviceType: childText(element, 'deviceType') ?? '',
    friendlyName: childText(element, 'friendlyName') ?? '',
    manufacturer: childText(element, 'manufacturer') ?? '',
    modelName: childText(element, 'modelName') ?? '',
    modelNumber: childText(element, 'modelNumber') ?? '',
    udn: childText(element, 'UDN') ?? '',
    services: listOf(element, 'serviceList', 'service').flatMap((service) => serviceOf(service, base)),
    devices: listOf(element, 'deviceList', 'device').map((inner) => deviceOf(inner, base)),
  };
}

function listOf(element: XmlElement, list: string, item: string): readonly XmlElement[] {
  return child(element, list)?.children.filter((entry) => entry.name === item) ?? [];
}

function serviceOf(element: XmlElement, base: string): DeviceService[] {
  const resolved = (name: string) => resolve(childText(element, name) ?? '', base);
  const controlUrl = resolved('controlURL');
  if (controlUrl === '') return [];
  return [
    {
      serviceType: childText(element, 'serviceType') ?? '',
      serviceId: childText(element, 'serviceId') ?? '',
      controlUrl,
      eventUrl: resolved('eventSubURL'),
      scpdUrl: resolved('SCPDURL'),
    },
  ];
}

function resolve(url: string, base: string): string {
  if (url === '' || url.length > MAX_URL_CHARS || !URL.canParse(url, base)) return '';
  return new URL(url, base).href;
}

/** All services of a device and of those inside it, each with the device that it stands in. */
export function allServices(device: Device): readonly { service: DeviceService; device: Device }[] {
  return [
    ...device.services.map((service) => ({ service, device })),
    ...device.devices.flatMap((inner) => allServices(inner)),
  ];
}

/** As an attribute, what the announcements carry; UPnP 1.0 has none (UDA 2.0, section 2.3). */
export function configIdAttribute(minor: 0 | 1): string {
  return minor === 0 ? '' : ` configId="${CONFIG_ID}"`;
}

/** Writes a description of UPnP version `1.minor`. */
export function encodeDescription(device: Device, minor: 0 | 1): string {
  return (
    `<?xml version="1.0"?>\r\n<root xmlns="urn:schemas-upnp-org:device-1-0"${configIdAttribute(minor)}>` +
    `<specVersion><major>1</major><minor>${minor}</minor></specVersion>${encodeDevice(device)}</root>\r\n`
  );
}

function encodeDevice(device: Device): string {
  const services = device.services.map(
    (service) =>
      `<service>${elements({
        serviceType: service.serviceType,
        serviceId: service.serviceId,
        SCPDURL: service.scpdUrl,
        controlURL: service.controlUrl,
        eventSubURL: service.eventUrl,
      })}</service>`,
  );
  const { deviceType, friendlyName, manufacturer, modelName, modelNumber } = device;
  return (
    `<device>${elements({ deviceType, friendlyName, manufacturer, modelName, modelNumber, UDN: device.udn })}` +
    (services.length > 0 ? `<serviceList>${services.join('')}</serviceList>` : '') +
    (device.devices.length > 0
      ? `<deviceList>${device.devices.map(encodeDevice).join('')}</deviceList>`
      : '') +
    '</device>'
  );
}
