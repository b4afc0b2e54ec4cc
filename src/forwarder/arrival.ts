/**
 * What this host sends to itself by a rule, and whether another rule takes it there. What only the moment tells is
 * taken as possible: the hours of a rule, the names of a client, the client of a transparent source, the interface
 * of one of the host's addresses.
 */

import { family, type IpAddress, isLoopback } from '../net/address.ts';
import { hasPort, isAnyPort, portRanges } from '../net/port-set.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import { matchesAccess, needsNames } from './access.ts';
import { LOOPBACK, type OwnHost, type OwnTarget } from './own-target.ts';
import { matchesPattern } from './pattern.ts';
import type { Rule } from './rule.ts';

export type Match = 'no' | 'maybe' | 'sure';

/** What reaches an address of this host, from where: all that it takes to tell which rules it finds, but the port. */
export interface Arrival {
  readonly key: string;
  readonly protocol: TransportProtocol;
  readonly address: IpAddress;
  /** Undefined where it may be any. */
  readonly source: IpAddress | undefined;
  readonly sourcePort: number | undefined;
}

/** By which the rule's traffic can come. */
export function familiesOf({ to }: Rule, { addressesOf }: OwnHost): readonly (4 | 6)[] {
  const families = new Set(
    to.addresses.flatMap((one) =>
      (one.kind === 'network' ? [one.address] : addressesOf(one.name)).map((address) => family(address)),
    ),
  );
  return families.size === 0 ? [4, 6] : [...families];
}

/** What of the traffic that came by these families the target gets. */
export function arrivalsOf(rule: Rule, target: OwnTarget, families: readonly (4 | 6)[]): readonly Arrival[] {
  const addresses = target.addresses ?? families.map((one) => LOOPBACK[one]);
  const port = rule.source?.port;
  const sourcePort = port === 'same' ? undefined : port;
  return addresses.flatMap((address) => {
    // A host that sends to itself does so from the address that it sends to.
    const from = rule.source?.address ?? address;
    const source = from === 'client' ? undefined : from;
    return rule.protocols.map((protocol) => ({
      key: `${protocol} ${address} ${source} ${sourcePort}`,
      protocol,
      address,
      source,
      sourcePort,
    }));
  });
}

/** Whether the rule takes what arrives at one of its ports. */
export function matchOf(rule: Rule, arrival: Arrival, { addressesOf }: OwnHost): Match {
  const { address, source, sourcePort } = arrival;
  const { addresses } = rule.to;
  if (addresses.length > 0 && !addresses.some((one) => matchesPattern(one, address, addressesOf)))
    return 'no';
  // What the host sends to itself comes from no neighbour.
  if (rule.macs.length > 0) return 'no';
  const matches = new Set<Match>([
    matchOfPort(rule, sourcePort),
    matchOfClient(rule, source),
    matchOfAdapter(rule, address),
    rule.schedule === undefined ? 'sure' : 'maybe',
  ]);
  return matches.has('no') ? 'no' : matches.has('maybe') ? 'maybe' : 'sure';
}

function matchOfPort({ from }: Rule, sourcePort: number | undefined): Match {
  if (isAnyPort(from.ports)) return 'sure';
  if (sourcePort === undefined) return 'maybe';
  return hasPort(portRanges(from.ports), sourcePort) ? 'sure' : 'no';
}

function matchOfClient({ from: { clients } }: Rule, source: IpAddress | undefined): Match {
  if (clients === undefined) return 'sure';
  if (source === undefined || (needsNames(clients) && !isLoopback(source))) return 'maybe';
  return matchesAccess(clients, { address: source }) ? 'sure' : 'no';
}

function matchOfAdapter({ adapters }: Rule, address: IpAddress): Match {
  if (adapters.length === 0) return 'sure';
  return !isLoopback(address) || adapters.some((name) => /^lo\d*$/.test(name)) ? 'maybe' : 'no';
}
