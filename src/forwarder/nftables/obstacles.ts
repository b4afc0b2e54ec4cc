/** What other programs' tables would do with the traffic of one rule, in sentences: by which hooks it passes, as what. */

import { type Family, family, type IpAddress } from '../../net/address.ts';
import type { TransportProtocol } from '../../net/protocol.ts';
import { type FirstPacket, portsOf } from '../decide.ts';
import type { Rule } from '../rule.ts';
import { targetPortOf } from '../target.ts';
import { obstacles, type Passage } from './foreign.ts';
import { type Around, rewriteOf } from './rewrite.ts';
import type { Others } from './tools.ts';

/** Of the one packet, or of what the rule is for. */
export function obstaclesOf(
  rule: Rule,
  packet: FirstPacket | undefined,
  around: Around,
  { listing, plain }: Others,
): readonly string[] {
  const found = obstacles(listing, passagesOf(rule, packet, around), plain);
  return found.map(({ table, chain, what, certainty, advice }) => {
    const does = certainty === 'sure' ? 'drops it' : 'may drop it';
    return `Another program's table ${table}, chain ${chain}, ${does}: ${what}. ${advice}`;
  });
}

function passagesOf(rule: Rule, packet: FirstPacket | undefined, around: Around): readonly Passage[] {
  const protocols = packet === undefined ? rule.protocols : [packet.protocol];
  return familiesOf(rule, packet, around).flatMap((of) =>
    protocols.flatMap((protocol) => passagesAs(rule, packet, around, of, protocol)),
  );
}

function familiesOf(rule: Rule, packet: FirstPacket | undefined, around: Around): readonly Family[] {
  if (packet !== undefined) return [family(packet.destination.address)];
  const asked = rule.to.addresses.flatMap((one) => (one.kind === 'network' ? [family(one.address)] : []));
  return rewriteOf(rule, around).families.filter((one) => asked.length === 0 || asked.includes(one));
}

function passagesAs(
  rule: Rule,
  packet: FirstPacket | undefined,
  around: Around,
  of: Family,
  protocol: TransportProtocol,
): readonly Passage[] {
  const { destination, port, staysHere, way } = rewriteOf(rule, around);
  const ports = portsOf(rule);
  const sentTo = packet?.destination.port ?? ports[0]?.first ?? 1;
  const [adapter] = rule.adapters;
  const inAdapter = rule.direction === 'in' && rule.adapters.length === 1 ? adapter : undefined;
  const source = packet?.source;
  const from = {
    ...(source === undefined ? {} : { source: source.address, sourcePort: source.port }),
    ...(inAdapter === undefined ? {} : { inAdapter }),
  };
  const common = { family: of, protocol, mark: 0 } as const;
  const before = { ...common, ...from, ...addressed(packet?.destination.address), destinationPort: sentTo };
  const aim = destination.kind === 'address' ? destination.addresses[of] : packet?.destination.address;
  const goesTo = rule.verdict === 'forward' ? targetPortOf(port, ports, sentTo) : sentTo;
  const after = {
    ...common,
    ...from,
    ...addressed(aim),
    destinationPort: goesTo,
    ...(way === undefined ? {} : { outAdapter: way.adapter }),
    isTranslated: destination.kind !== 'kept' || goesTo !== sentTo,
  };
  if (rule.direction === 'out') return [{ ...after, hook: 'output' }];
  const arrives: Passage = { ...before, isTranslated: false, hook: 'prerouting' };
  const isOwn = aim === undefined || around.ownAddresses.has(aim);
  const ends = staysHere || rule.verdict !== 'forward' ? isOwn || staysHere : false;
  return [arrives, { ...after, hook: ends ? 'input' : 'forward' }];
}

function addressed(address: IpAddress | undefined): { readonly destination?: IpAddress } {
  return address === undefined ? {} : { destination: address };
}
