/** Quirks of the documents: what the description says, and how the XML is written. */

import type { IpAddress } from '../../net/address.ts';
import { bracketed } from '../../net/address.ts';
import type { Device, DeviceService } from '../../wire/description.ts';
import { fault, response } from '../actions/action.ts';
import type { Hooks } from '../hooks.ts';
import type { Inside } from './inside.ts';
import type { MalformedXml } from './quirks.ts';

function eachService(device: Device, change: (service: DeviceService) => DeviceService): Device {
  return {
    ...device,
    services: device.services.map(change),
    devices: device.devices.map((inner) => eachService(inner, change)),
  };
}

export function dslforumServiceTypes(): Hooks {
  return { urn: (urn) => urn.replace('urn:schemas-upnp-org:', 'urn:dslforum-org:') };
}

const DISCONNECTED = '/control/disconnected/';

export function firstWanDeviceDisconnected({ site }: Inside): Hooks {
  const renumbered = (device: Device, number: number): Device => ({
    ...device,
    udn: site.identity.udn(number),
    devices: device.devices.map((inner) => renumbered(inner, number + 1)),
  });
  const unplugged = (device: Device) =>
    eachService(renumbered(device, 3), (service) => ({
      ...service,
      controlUrl: service.controlUrl.replace('/control/', DISCONNECTED),
    }));
  return {
    device: (root) => ({
      ...root,
      devices: root.devices.flatMap((wan) => [unplugged(wan), wan]),
    }),
    route: (path) => path.replace(DISCONNECTED, '/control/'),
    async action(call, next) {
      if (!call.path.startsWith(DISCONNECTED)) return next(call);
      if (call.action === 'GetExternalIPAddress') return response({ NewExternalIPAddress: '0.0.0.0' });
      if (call.action === 'GetStatusInfo') {
        return response({
          NewConnectionStatus: 'Disconnected',
          NewLastConnectionError: 'ERROR_NONE',
          NewUptime: '0',
        });
      }
      return call.action.startsWith('Get') ? next(call) : fault(501);
    },
  };
}

export function controlUrlOnAnotherPort({ site, http }: Inside): Hooks {
  const opened = new Map<IpAddress, { readonly port: number; close(): Promise<void> }>();
  return {
    async start() {
      for (const address of site.settings.addresses) {
        opened.set(address, await http.openAlso({ address, port: 0 }));
      }
    },
    async stop() {
      for (const one of opened.values()) await one.close();
    },
    device(root, address) {
      const port = opened.get(address)?.port;
      if (port === undefined) return root;
      const base = `http://${bracketed(address)}:${port}`;
      return eachService(root, (service) => ({ ...service, controlUrl: base + service.controlUrl }));
    },
  };
}

export function queryInControlUrl(): Hooks {
  const query = '?service=1';
  return {
    device: (root) =>
      eachService(root, (service) => ({ ...service, controlUrl: service.controlUrl + query })),
    route(path) {
      if (!path.startsWith('/control/')) return path;
      return path.endsWith(query) ? path.slice(0, -query.length) : '/nowhere';
    },
  };
}

export function spaceBeforeXml(): Hooks {
  return { document: (xml) => `\r\n \t${xml}` };
}

export function malformedXml(how: MalformedXml): Hooks {
  const note = '<X_Note>3 < 4 & more</X_Note>';
  const change: Readonly<Record<MalformedXml, (xml: string) => string>> = {
    unescaped: (xml) =>
      xml
        .replace(/(<friendlyName>)[^<]*/, '$1Home <3 & more')
        .replace(/(<NewPortMappingDescription>)[^<]*/g, '$1a < b & c')
        .replace(/(?=<\/u:\w+Response>)/, note),
    'unbound-prefix': (xml) =>
      xml
        .replace(/(<u:\w+) xmlns:u="[^"]*"/, '$1')
        .replace('<device>', '<device><pnpx:X_hardwareId>VEN_01</pnpx:X_hardwareId>'),
    'wrong-namespace': (xml) =>
      xml
        .replace(/(<u:\w+ xmlns:u=")[^"]*/, '$1urn:schemas-upnp-org:service:Layer3Forwarding:1')
        .replace('urn:schemas-upnp-org:device-1-0', 'urn:schemas-upnp-org:device:1-0'),
  };
  return { document: (xml) => change[how](xml) };
}
