import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Gateway } from '../../src/discovery/gateway.ts';
import { chooseGateways, type GatewayChoice } from '../../src/discovery/route.ts';
import { isNatwardError } from '../../src/errors.ts';
import { family, type IpAddress } from '../../src/net/address.ts';
import type { InterfaceAddress, NetworkState } from '../../src/system/routes.ts';
import { ip } from '../wire/arbitraries.ts';

function own(text: string, name: string, internal = false): InterfaceAddress {
  const [address = '', prefix] = text.split('/');
  return { interface: name, address, family: family(address), prefixLength: Number(prefix), internal };
}

const LOOPBACK = own('127.0.0.1/8', 'lo', true);

function route(name: string, gateway: IpAddress | undefined, metric = 0): NetworkState['defaultRoutes'][0] {
  return { interface: name, gateway, metric, family: gateway === undefined ? 4 : family(gateway) };
}

function chosen(
  defaultRoutes: NetworkState['defaultRoutes'],
  addresses: readonly InterfaceAddress[],
  choice: GatewayChoice = {},
): string[] {
  return chooseGateways({ defaultRoutes, addresses: [LOOPBACK, ...addresses] }, choice).map(
    (gateway) => `${gateway.address} from ${gateway.localAddress} on ${gateway.interface}`,
  );
}

const HOME = own('192.168.1.23/24', 'eth0');
const WIFI = own('192.168.2.9/24', 'wlan0');

describe('chooseGateways', () => {
  test('takes the next hop of the default route, and the own address towards it', () => {
    const network = { defaultRoutes: [route('eth0', '192.168.1.1')], addresses: [LOOPBACK, HOME] };
    expect(chooseGateways(network, {})).toEqual([
      {
        address: '192.168.1.1',
        family: 4,
        interface: 'eth0',
        localAddress: '192.168.1.23',
        prefixLength: 24,
        ports: { pcp: 5351, ssdp: 1900 },
        chosenBy: 'route',
      },
    ]);
  });

  test('takes all default routes in their order, and each gateway once', () => {
    const routes = [
      route('wlan0', '192.168.2.1'),
      route('eth0', '192.168.1.1'),
      route('wlan0', '192.168.2.1'),
    ];
    expect(chosen(routes, [HOME, WIFI])).toEqual([
      '192.168.2.1 from 192.168.2.9 on wlan0',
      '192.168.1.1 from 192.168.1.23 on eth0',
    ]);
  });

  test('takes the address that is in the gateway’s own network, where the interface has several', () => {
    const second = own('10.1.1.5/24', 'eth0');
    expect(chosen([route('eth0', '192.168.1.1')], [second, HOME])).toEqual([
      '192.168.1.1 from 192.168.1.23 on eth0',
    ]);
  });

  test.each([
    ['10.8.0.6/24', '10.8.0.1'],
    ['10.2.0.2/32', '10.2.0.1'],
    ['10.9.0.7/31', '10.9.0.1'],
    ['10.64.99.3/16', '10.64.0.1'],
  ])('takes the likely gateway of a VPN link without a next hop (%s: %s)', (address, gateway) => {
    const tunnel = own(address, 'wg0');
    expect(chosen([route('wg0', undefined)], [tunnel])).toEqual([`${gateway} from ${tunnel.address} on wg0`]);
  });

  test('takes no VPN link for its own gateway', () => {
    expect(() => chosen([route('wg0', undefined)], [own('10.8.0.1/24', 'wg0')])).toThrow(
      expect.objectContaining({ code: 'NO_ROUTE' }),
    );
  });

  test('asks only on the interface that is named', () => {
    const routes = [route('eth0', '192.168.1.1'), route('wlan0', '192.168.2.1')];
    expect(chosen(routes, [HOME, WIFI], { interface: 'wlan0' })).toEqual([
      '192.168.2.1 from 192.168.2.9 on wlan0',
    ]);
  });

  test('asks the likely gateway of an interface that is named and has no default route', () => {
    expect(chosen([route('eth0', '192.168.1.1')], [HOME, WIFI], { interface: 'wlan0' })).toEqual([
      '192.168.2.1 from 192.168.2.9 on wlan0',
    ]);
  });

  test('asks the gateway that is named and no other, on the interface of its network', () => {
    expect(chosen([route('eth0', '192.168.1.1')], [HOME, WIFI], { gateway: '192.168.2.254' })).toEqual([
      '192.168.2.254 from 192.168.2.9 on wlan0',
    ]);
  });

  test('asks a named gateway of another network by way of the default route', () => {
    expect(chosen([route('eth0', '192.168.1.1')], [WIFI, HOME], { gateway: '172.16.0.1' })).toEqual([
      '172.16.0.1 from 192.168.1.23 on eth0',
    ]);
  });

  test('asks the named gateway of a VPN by its own link, where the default route is another one', () => {
    const vpn = own('10.2.0.2/32', 'wg0');
    expect(chosen([route('eth0', '192.168.1.1')], [HOME, vpn], { gateway: '10.2.0.1' })).toEqual([
      '10.2.0.1 from 10.2.0.2 on wg0',
    ]);
  });

  test('asks a named gateway on the loopback network from the loopback address', () => {
    expect(chosen([], [], { gateway: '127.0.0.1' })).toEqual(['127.0.0.1 from 127.0.0.1 on lo']);
  });

  test('asks at the ports that are named', () => {
    const ports = { pcp: 15351, ssdp: 11900 };
    const network = { defaultRoutes: [route('eth0', '192.168.1.1')], addresses: [HOME] };
    expect(chooseGateways(network, { ports })[0]?.ports).toEqual(ports);
  });

  test('over IPv6 the gateway is link-local, and the own address one that the internet sees', () => {
    const addresses = [own('fe80::23%eth0/64', 'eth0'), own('2001:db8::23/64', 'eth0')];
    expect(chosen([route('eth0', 'fe80::1%eth0')], addresses)).toEqual([
      'fe80::1%eth0 from 2001:db8::23 on eth0',
    ]);
  });

  test('over IPv6 a host with a link-local address alone asks from that', () => {
    expect(chosen([route('eth0', 'fe80::1%eth0')], [own('fe80::23%eth0/64', 'eth0')])).toEqual([
      'fe80::1%eth0 from fe80::23%eth0 on eth0',
    ]);
  });

  test.each(['eth7', 'wlan0'])(
    'an interface without an address (%s) is USAGE, and names those there are',
    (name) => {
      const choose = () => chosen([route('eth0', '192.168.1.1')], [HOME], { interface: name });
      expect(choose).toThrow(expect.objectContaining({ code: 'USAGE' }));
      expect(choose).toThrow(name);
      expect(choose).toThrow('eth0');
    },
  );

  test('without a default route the likely gateway of a home network is asked', () => {
    expect(chosen([], [HOME])).toEqual(['192.168.1.1 from 192.168.1.23 on eth0']);
  });

  test('without any way out it is NO_ROUTE, with what to do', () => {
    expect(() => chosen([], [])).toThrow(
      expect.objectContaining({ code: 'NO_ROUTE', advice: expect.stringContaining('--gateway') }),
    );
  });

  test('a named gateway in a family that the machine does not have is NO_ROUTE', () => {
    expect(() => chosen([], [HOME], { gateway: '2001:db8::1' })).toThrow(
      expect.objectContaining({ code: 'NO_ROUTE' }),
    );
  });

  test('throws nothing but USAGE and NO_ROUTE, whatever the machine looks like', () => {
    const names = fc.constantFrom('eth0', 'wlan0', 'wg0', 'lo');
    const address = fc
      .record({ interface: names, address: ip, bits: fc.nat(128), internal: fc.boolean() })
      .map(({ bits, ...rest }) => {
        const of = family(rest.address);
        return { ...rest, family: of, prefixLength: of === 4 ? bits % 33 : bits };
      });
    const aRoute = fc
      .record({
        interface: names,
        gateway: fc.option(ip, { nil: undefined }),
        metric: fc.nat(),
        family: fc.constantFrom(4 as const, 6 as const),
      })
      .map((one) => ({ ...one, family: one.gateway === undefined ? one.family : family(one.gateway) }));
    const network = fc.record({
      defaultRoutes: fc.array(aRoute, { maxLength: 4 }),
      addresses: fc.array(address, { maxLength: 6 }),
    });
    const choice = fc.record({ interface: names, gateway: ip }, { requiredKeys: [] });
    const isSound = (machine: NetworkState, gateway: Gateway) =>
      gateway.family === family(gateway.address) &&
      gateway.family === family(gateway.localAddress) &&
      machine.addresses.some((one) => one.address === gateway.localAddress);
    fc.assert(
      fc.property(network, choice, (machine, wish) => {
        try {
          const gateways = chooseGateways(machine, wish);
          return gateways.length > 0 && gateways.every((gateway) => isSound(machine, gateway));
        } catch (error) {
          return isNatwardError(error, 'USAGE', 'NO_ROUTE');
        }
      }),
      { numRuns: 2000 },
    );
  });
});
