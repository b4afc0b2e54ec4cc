/**
 * The device that the gateway publishes: a gateway, in it a WAN device, in that a connection, each with its
 * services (InternetGatewayDevice:1 and :2), and the search targets by which they are found.
 */

import type { IpAddress } from '../net/address.ts';
import { allServices, type Device, type DeviceService } from '../wire/description.ts';
import { controlPath, eventPath, scpdPath, type Service, serviceType, servicesOf } from './services.ts';
import type { Site } from './site.ts';

/** By site and address: nothing in it changes but by a quirk. */
const TREES = new WeakMap<Site, Map<IpAddress, Device>>();

/** The tree as it is reached at `address`. */
export function deviceTree(site: Site, address: IpAddress): Device {
  if (site.hooks.has('device') || site.hooks.has('urn')) return treeOf(site, address);
  const trees = TREES.get(site) ?? new Map<IpAddress, Device>();
  TREES.set(site, trees);
  const tree = trees.get(address) ?? treeOf(site, address);
  trees.set(address, tree);
  return tree;
}

function treeOf(site: Site, address: IpAddress): Device {
  const services = servicesOf(site.settings);
  const placed = (place: Service['place']) =>
    services.filter((service) => service.place === place).map((service) => published(service));
  const { igdVersion, friendlyName } = site.settings;
  const device = (type: string, number: number, inside: Pick<Device, 'services' | 'devices'>): Device => ({
    deviceType: `urn:schemas-upnp-org:device:${type}:${igdVersion}`,
    friendlyName,
    manufacturer: 'natward',
    modelName: 'natward gateway',
    modelNumber: '1',
    udn: site.identity.udn(number),
    ...inside,
  });
  const connection = device('WANConnectionDevice', 2, { services: placed('connection'), devices: [] });
  const wan = device('WANDevice', 1, { services: placed('wan'), devices: [connection] });
  const root = device('InternetGatewayDevice', 0, { services: placed('root'), devices: [wan] });
  const changed = site.hooks.all('device').reduce((tree, change) => change(tree, address), root);
  return renamed(changed, (urn) => site.hooks.all('urn').reduce((type, change) => change(type), urn));
}

function published(service: Service): DeviceService {
  return {
    serviceType: serviceType(service),
    serviceId: `urn:upnp-org:serviceId:${service.id}`,
    controlUrl: controlPath(service),
    eventUrl: eventPath(service),
    scpdUrl: scpdPath(service),
  };
}

function renamed(device: Device, rename: (urn: string) => string): Device {
  return {
    ...device,
    deviceType: rename(device.deviceType),
    services: device.services.map((service) => ({ ...service, serviceType: rename(service.serviceType) })),
    devices: device.devices.map((inner) => renamed(inner, rename)),
  };
}

/** One thing that a search may be for, and its USN. */
export interface SearchTarget {
  readonly target: string;
  readonly usn: string;
}

/** Everything that is announced, and that `ssdp:all` finds (UDA 2.0, table 1-1). */
export function searchTargets(root: Device): readonly SearchTarget[] {
  const targets = new Map<string, SearchTarget>();
  const add = (target: string, udn: string) => {
    const usn = target === udn ? udn : `${udn}::${target}`;
    targets.set(usn, { target, usn });
  };
  add('upnp:rootdevice', root.udn);
  for (const device of devicesOf(root)) {
    add(device.udn, device.udn);
    add(device.deviceType, device.udn);
  }
  for (const { service, device } of allServices(root)) add(service.serviceType, device.udn);
  return [...targets.values()];
}

function devicesOf(device: Device): Device[] {
  return [device, ...device.devices.flatMap((inner) => devicesOf(inner))];
}

/**
 * The targets that a search finds. A type of a lower version finds the higher one, which then answers by
 * the version that was asked for (UDA 2.0, section 1.3.3).
 */
export function foundTargets(root: Device, searched: string): readonly SearchTarget[] {
  const all = searchTargets(root);
  if (searched === 'ssdp:all') return all;
  const asked = versioned(searched);
  return all.flatMap(({ target, usn }) => {
    if (target === searched) return [{ target, usn }];
    const own = versioned(target);
    if (asked === undefined || own?.type !== asked.type || own.version < asked.version) return [];
    return [{ target: searched, usn: usn.replace(target, searched) }];
  });
}

/** All that a control point may have found: by lower versions as well, by which it then knows the device. */
export function everFoundTargets(root: Device): readonly SearchTarget[] {
  return searchTargets(root).flatMap(({ target, usn }) => {
    const lower: SearchTarget[] = [];
    const { type, version = 0 } = versioned(target) ?? {};
    for (let older = version - 1; older > 0; older--) {
      const searched = `${type}:${older}`;
      lower.push({ target: searched, usn: usn.replace(target, searched) });
    }
    return [{ target, usn }, ...lower];
  });
}

function versioned(target: string): { readonly type: string; readonly version: number } | undefined {
  const [, type, version] = /^(urn:[^:]+:(?:device|service):[^:]+):(\d{1,3})$/.exec(target) ?? [];
  return type === undefined ? undefined : { type, version: Number(version) };
}
