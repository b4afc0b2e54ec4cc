/** Where a responder may stand: on an interface that has an address, and never on the way to the outer gateway. Pure. */

import { NatwardError } from '../errors.ts';
import { type IpAddress, kindOf, sameNetwork, withoutZone } from '../net/address.ts';
import type { InnerNetwork } from '../responder/responder.ts';
import type { NetworkState } from '../system/routes.ts';
import type { GatewayStatus } from './lease.ts';

/** Why nobody can be answered there just now. */
export function obstacleOf(
  name: string,
  networks: readonly InnerNetwork[],
  { defaultRoutes }: NetworkState,
  gateways: readonly GatewayStatus[],
): NatwardError | undefined {
  if (networks.length === 0) {
    return new NatwardError('FAILED', `${name}, to answer on, is not there or has no address`, {
      advice: 'It is answered on as soon as it has one; ip address shows the interfaces.',
    });
  }
  const routed = defaultRoutes.map((route) => ({ interface: route.interface, address: route.gateway }));
  const outer = [...gateways, ...routed].find(
    (one) => one.interface === name || (one.address !== undefined && isNear(one.address, networks)),
  );
  if (outer === undefined) return undefined;
  const whom = outer.address === undefined ? 'the outer gateway' : `the outer gateway ${outer.address}`;
  return new NatwardError('FAILED', `${name} leads to ${whom}: natward answers nobody there`, {
    advice:
      'Hosts there can ask that gateway themselves. Name the interface of those behind this host: docker0, virbr0.',
  });
}

/** Reports whether it is of one of the networks; link-local addresses are of every interface. */
function isNear(address: IpAddress, networks: readonly InnerNetwork[]): boolean {
  return kindOf(address) !== 'linklocal' && isIn(address, networks);
}

/** Reports whether the host is of one of the networks; a zone is the interface's own. */
export function isIn(host: IpAddress, networks: readonly InnerNetwork[]): boolean {
  const zone = host.slice(withoutZone(host).length);
  return networks.some(
    ({ address, prefixLength }) =>
      (zone === '' || address.endsWith(zone)) && sameNetwork(host, address, prefixLength),
  );
}
