/**
 * From the machine's routes to the gateways worth asking: the next hop of each default route, the likely
 * gateway of a VPN link that has none, or the one that the caller names. Asks nobody.
 */

import { NatwardError } from '../errors.ts';
import {
  addressBytes,
  addressFromBytes,
  type Family,
  family,
  type IpAddress,
  kindOf,
  sameNetwork,
} from '../net/address.ts';
import type { InterfaceAddress, NetworkState } from '../system/routes.ts';
import { GATEWAY_PORT } from '../wire/natpmp.ts';
import { SSDP_PORT } from '../wire/ssdp.ts';
import type { Gateway, GatewayPorts } from './gateway.ts';

export interface GatewayChoice {
  /** Ask this one and no other. */
  readonly gateway?: IpAddress;
  /** Ask on this interface only. */
  readonly interface?: string;
  readonly ports?: GatewayPorts;
}

const STANDARD_PORTS: GatewayPorts = { pcp: GATEWAY_PORT, ssdp: SSDP_PORT };

/**
 * The gateways to ask, best route first. Throws USAGE where the interface named does not exist or has no
 * address, NO_ROUTE where the machine has no way out.
 */
export function chooseGateways(network: NetworkState, choice: GatewayChoice): readonly Gateway[] {
  const ports = choice.ports ?? STANDARD_PORTS;
  const addresses = usableAddresses(network, choice.interface);
  if (choice.gateway !== undefined) return [namedGateway(network, addresses, choice.gateway, ports)];
  const routed = network.defaultRoutes
    .filter((route) => choice.interface === undefined || route.interface === choice.interface)
    .flatMap((route) => {
      const own = addressTowards(addresses, route.interface, route.family, route.gateway);
      const address = route.gateway ?? (own === undefined ? undefined : likelyGateway(own));
      return own === undefined || address === undefined ? [] : [gatewayAt(address, own, ports)];
    });
  const found = routed.length > 0 ? routed : addresses.filter(isOnLan).flatMap((own) => likely(own, ports));
  if (found.length === 0) {
    const where = choice.interface === undefined ? '' : ` on ${choice.interface}`;
    throw new NatwardError(
      'NO_ROUTE',
      `this machine has no default route${where}, so there is no gateway to ask`,
      {
        advice: 'Connect to a network, or name the gateway: --gateway ADDR.',
      },
    );
  }
  return unique(found);
}

/** What to say where there is no way out for a family. */
export function noRoute(family: Family): NatwardError {
  return new NatwardError('NO_ROUTE', `this machine has no default route for IPv${family}`, {
    advice: 'Name the gateway: --gateway ADDR.',
  });
}

function usableAddresses(network: NetworkState, name: string | undefined): readonly InterfaceAddress[] {
  if (name === undefined) return network.addresses;
  const own = network.addresses.filter((address) => address.interface === name);
  if (own.length > 0) return own;
  const names = [...new Set(network.addresses.map((address) => address.interface))].join(', ');
  throw new NatwardError(
    'USAGE',
    `interface "${name}" does not exist or has no address (there are: ${names})`,
  );
}

function namedGateway(
  network: NetworkState,
  addresses: readonly InterfaceAddress[],
  address: IpAddress,
  ports: GatewayPorts,
): Gateway {
  const route = network.defaultRoutes.find((candidate) => candidate.family === family(address));
  const own =
    addresses.find((candidate) => sameNetwork(candidate.address, address, candidate.prefixLength)) ??
    // A VPN's link has one address and no network: its gateway is known by habit, whatever the default route is.
    addresses.find((candidate) => likelyGateway(candidate) === address) ??
    (route && addressTowards(addresses, route.interface, route.family, route.gateway)) ??
    addresses.find((candidate) => candidate.family === family(address) && !candidate.internal);
  if (own === undefined) {
    throw new NatwardError('NO_ROUTE', `no interface of this machine leads to ${address}`);
  }
  return { ...gatewayAt(address, own, ports), chosenBy: 'named' };
}

/** This host's address on an interface: in the gateway's own network where there is one. */
function addressTowards(
  addresses: readonly InterfaceAddress[],
  name: string,
  family: Family,
  gateway: IpAddress | undefined,
): InterfaceAddress | undefined {
  const own = addresses.filter((address) => address.interface === name && address.family === family);
  const near = own.find(
    (address) => gateway !== undefined && sameNetwork(address.address, gateway, address.prefixLength),
  );
  // Over IPv6 the next hop is link-local; the address to map is the one that the internet sees.
  if (family === 6) return own.find((address) => kindOf(address.address) !== 'linklocal') ?? near ?? own[0];
  return near ?? own[0];
}

function likely(own: InterfaceAddress, ports: GatewayPorts): Gateway[] {
  const address = likelyGateway(own);
  return address === undefined ? [] : [gatewayAt(address, own, ports)];
}

/**
 * A link without a next hop (wg, tun) or without a default route: by habit its gateway is the first address
 * of the network; VPN providers that hand out single addresses use 10.2.0.1 for 10.2.0.2/32.
 */
function likelyGateway(own: InterfaceAddress): IpAddress | undefined {
  if (own.family === 6) return undefined;
  const bits = own.prefixLength >= 31 ? 24 : own.prefixLength;
  const bytes = addressBytes(own.address);
  const view = new DataView(bytes.buffer);
  const network = bits === 0 ? 0 : view.getUint32(0) & (-1 << (32 - bits));
  view.setUint32(0, (network + 1) >>> 0);
  const address = addressFromBytes(bytes);
  return address === own.address ? undefined : address;
}

function isOnLan(address: InterfaceAddress): boolean {
  return !address.internal && kindOf(address.address) === 'private';
}

function gatewayAt(address: IpAddress, own: InterfaceAddress, ports: GatewayPorts): Gateway {
  return {
    address,
    family: family(address),
    interface: own.interface,
    localAddress: own.address,
    prefixLength: own.prefixLength,
    ports,
    chosenBy: 'route',
  };
}

function unique(gateways: readonly Gateway[]): readonly Gateway[] {
  const byKey = new Map(
    gateways.map((gateway) => [`${gateway.address} ${gateway.interface}`, gateway] as const),
  );
  return [...byKey.values()];
}
