/** What of a rule's traffic is sent to this host again: by which clause, to which addresses and ports. */

import { ANY_IPV4, ANY_IPV6, family, type IpAddress, isLoopback, withoutZone } from '../net/address.ts';
import { type PortRange, portCount } from '../net/port-range.ts';
import type { Rule, Target, TargetPort } from './rule.ts';
import { isHostName } from './target.ts';

/** What is known of this host. */
export interface OwnHost {
  readonly ownAddresses: readonly IpAddress[];
  /** The addresses that a name stands for just now. */
  readonly addressesOf: (name: string) => readonly IpAddress[];
}

export interface OwnTarget {
  readonly clause: 'target' | 'else' | 'clone' | 'monitor';
  /** Of this host; undefined: the loopback address of the family that the traffic came by. */
  readonly addresses: readonly IpAddress[] | undefined;
  readonly port: TargetPort;
}

/** What goes to these ports goes to those: one each where both are as long, else all to the one. */
export interface PortMove {
  readonly from: PortRange;
  readonly to: PortRange;
}

export const LOOPBACK: Readonly<Record<4 | 6, IpAddress>> = { 4: '127.0.0.1', 6: '::1' };

const NOWHERE: readonly OwnTarget[] = [];
const NO_ADDRESS: readonly IpAddress[] = [];
/** What is watched goes on to the server that it was meant for. */
const MONITORED: readonly OwnTarget[] = [{ clause: 'monitor', addresses: undefined, port: { kind: 'same' } }];

/** Of a rule for what comes in. */
export function ownTargets(rule: Rule, host: OwnHost): readonly OwnTarget[] {
  let found = rule.verdict === 'monitor' ? MONITORED : NOWHERE;
  let clause: OwnTarget['clause'] = 'target';
  for (const target of rule.targets) {
    found = withTarget(found, clause, target, host);
    clause = 'else';
  }
  return rule.clone === undefined ? found : withTarget(found, 'clone', rule.clone, host);
}

function withTarget(
  found: readonly OwnTarget[],
  clause: OwnTarget['clause'],
  target: Target,
  host: OwnHost,
): readonly OwnTarget[] {
  const addresses = ownAddressesOf(target, host);
  return addresses?.length === 0 ? found : [...found, { clause, addresses, port: target.port }];
}

function ownAddressesOf(
  target: Target,
  { ownAddresses, addressesOf }: OwnHost,
): readonly IpAddress[] | undefined {
  if (target.host === undefined) return undefined;
  if (target.host === 'localhost') return [LOOPBACK[4], LOOPBACK[6]];
  if (isHostName(target.host)) {
    return addressesOf(target.host).filter((one) => isLoopback(one) || ownAddresses.includes(one));
  }
  // Who connects to 0.0.0.0 or :: comes to the loopback address.
  const bare = withoutZone(target.host);
  if (bare === ANY_IPV4 || bare === ANY_IPV6) return [LOOPBACK[family(bare)]];
  return isLoopback(bare) || ownAddresses.includes(target.host) ? [target.host] : NO_ADDRESS;
}

export function portMoves(port: TargetPort, ranges: readonly PortRange[]): readonly PortMove[] {
  let place = port.kind === 'range' ? port.range.first : 0;
  return ranges.map((from) => {
    switch (port.kind) {
      case 'one':
        return { from, to: { first: port.port, last: port.port } };
      case 'range': {
        const to = { first: place, last: place + portCount(from) - 1 };
        place = to.last + 1;
        return { from, to };
      }
      default: {
        const by = port.kind === 'same' ? 0 : port.by;
        return { from, to: { first: from.first + by, last: from.last + by } };
      }
    }
  });
}
