/**
 * From the URL of a description to the services that map ports. The URL came in a datagram that anyone on
 * the network can send, so it is followed only to the host that sent it, to the gateway, or, for gateways
 * that share a floating address (VRRP, CARP), to a private address of the same network. Control URLs are
 * called only on the host that the description came from; another port is allowed (D-Link DIR-655).
 */

import { isNatwardError, NatwardError } from '../errors.ts';
import { family, type IpAddress, kindOf, parseAddress, sameNetwork } from '../net/address.ts';
import type { System } from '../system/system.ts';
import { allServices, type Device, decodeDescription } from '../wire/description.ts';
import type { Gateway, UpnpDevice, UpnpService } from './gateway.ts';
import { callAction, soapValue } from './soap-call.ts';

/** Routers of Huawei publish the same services under the DSL Forum's name. */
const CONNECTION =
  /^urn:(?:schemas-upnp-org|dslforum-org):service:(WANIPConnection|WANPPPConnection):(\d+)$/i;
const FIREWALL = /^urn:(?:schemas-upnp-org|dslforum-org):service:WANIPv6FirewallControl:\d+$/i;

/**
 * Fetches and reads the description at `location`, which `source` sent.
 * Throws HOSTILE for a URL that leads elsewhere, UNSUPPORTED where the device maps no ports, and whatever
 * the HTTP client and the decoder throw.
 */
export async function describe(
  system: System,
  gateway: Gateway,
  location: string,
  source: IpAddress,
  signal?: AbortSignal,
): Promise<UpnpDevice> {
  const host = hostOf(location);
  if (host === undefined || !mayFetch(host, source, gateway)) {
    throw new NatwardError(
      'HOSTILE',
      `${source} sends its description to ${location.slice(0, 100)}: not followed`,
    );
  }
  const response = await system.http({
    method: 'GET',
    url: location,
    localAddress: gateway.localAddress,
    ...(signal === undefined ? {} : { signal }),
  });
  if (response.status !== 200) {
    throw new NatwardError('MALFORMED', `${location} answered HTTP ${response.status}`);
  }
  const device = decodeDescription(response.body, location);
  const services = allServices(device).filter(({ service }) => hostOf(service.controlUrl) === host);
  const connections = services.filter(({ service }) => CONNECTION.test(service.serviceType));
  const connection = await working(
    system,
    gateway,
    connections.map(({ service }) => service),
    signal,
  );
  if (connection === undefined) {
    throw new NatwardError(
      'UNSUPPORTED',
      `${device.friendlyName || location} has no service that maps ports`,
    );
  }
  return {
    location,
    host,
    model: modelOf(device),
    connection,
    connectionVersion: Number(CONNECTION.exec(connection.serviceType)?.[2]),
    firewall: services.find(({ service }) => FIREWALL.test(service.serviceType))?.service,
  };
}

/** The address in a URL's host; undefined where it is a name, or no plain http URL. */
function hostOf(url: string): IpAddress | undefined {
  if (!URL.canParse(url)) return undefined;
  const { protocol, hostname, username } = new URL(url);
  if (protocol !== 'http:' || username !== '') return undefined;
  return parseAddress(hostname.replace(/^\[|\]$/g, ''));
}

function mayFetch(host: IpAddress, source: IpAddress, gateway: Gateway): boolean {
  if (host === source || host === gateway.address) return true;
  // A router's IPv6 address on the home network is one of the internet.
  const local = kindOf(host) === 'private' || (family(host) === 6 && kindOf(host) !== 'loopback');
  return local && sameNetwork(host, gateway.localAddress, gateway.prefixLength);
}

/**
 * MikroTik and ADSL routers publish several connections, the first one often unplugged: the first that says
 * it is connected and has an address of the internet, then any connected one, then simply the first, since
 * some say "Disconnected" while they work.
 */
async function working(
  system: System,
  gateway: Gateway,
  services: readonly UpnpService[],
  signal?: AbortSignal,
): Promise<UpnpService | undefined> {
  if (services.length < 2) return services[0];
  const ranked = await Promise.all(
    services.map(async (service) => ({ service, rank: await rankOf(system, gateway, service, signal) })),
  );
  return ranked.reduce((best, next) => (next.rank > best.rank ? next : best)).service;
}

async function rankOf(
  system: System,
  gateway: Gateway,
  service: UpnpService,
  signal?: AbortSignal,
): Promise<number> {
  const target = { service, localAddress: gateway.localAddress };
  try {
    const status = await callAction(system, target, 'GetStatusInfo', {}, signal);
    if (soapValue(status, 'NewConnectionStatus') !== 'Connected') return 0;
    const answer = await callAction(system, target, 'GetExternalIPAddress', {}, signal);
    const external = parseAddress(soapValue(answer, 'NewExternalIPAddress'));
    return external !== undefined && kindOf(external) === 'public' ? 2 : 1;
  } catch (error) {
    if (isNatwardError(error, 'ABORTED')) throw error;
    return 0;
  }
}

function modelOf(device: Device): string {
  const name = [device.manufacturer, device.modelName, device.modelNumber]
    .filter((part) => part !== '')
    .join(' ');
  return name === '' ? device.friendlyName : name;
}
