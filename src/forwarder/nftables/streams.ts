/**
 * Streams of datagrams that run already when a rule for them comes. The kernel has decided for such a flow that it is
 * not translated, and a stream that never rests would never be asked again: the flow is forgotten, and its next
 * datagram is a first packet. Pure.
 */

import { type IpAddress, isLoopback } from '../../net/address.ts';
import { type FirstPacket, mismatch, type Surroundings } from '../decide.ts';
import type { Rule } from '../rule.ts';
import type { Flow } from './flow.ts';

/** Of one change of the table: what is beyond waits until it rests. */
const MAX_STREAMS = 256;
const MAX_RULES = 500;
const MAX_FLOWS = 2000;

/** Those that one of the rules is for. What another program translates is left alone. */
export function streamsFor(
  rules: readonly Rule[],
  flows: readonly Flow[],
  around: Pick<Surroundings, 'addressesOf'> & { readonly ownAddresses: ReadonlySet<IpAddress> },
  now: Date,
): readonly Flow[] {
  const surroundings: Surroundings = {
    addressesOf: around.addressesOf,
    ownAddresses: [...around.ownAddresses],
    weekday: now.getDay(),
    minuteOfDay: now.getHours() * 60 + now.getMinutes(),
  };
  const concerned = rules.filter(({ protocols }) => protocols.includes('udp')).slice(0, MAX_RULES);
  return flows
    .filter((flow) => flow.protocol === 'udp' && isUntranslated(flow))
    .slice(0, MAX_FLOWS)
    .filter((flow) => {
      const packet = packetOf(flow, around.ownAddresses);
      return concerned.some((rule) => mismatch(withoutNeighbour(rule), packet, surroundings) === undefined);
    })
    .slice(0, MAX_STREAMS);
}

function isUntranslated({ client, local, replySource, replyDestination }: Flow): boolean {
  return (
    client.address === replyDestination.address &&
    client.port === replyDestination.port &&
    local.address === replySource.address &&
    local.port === replySource.port
  );
}

function packetOf({ protocol, client, local }: Flow, own: ReadonlySet<IpAddress>): FirstPacket {
  const isOwn = (address: IpAddress) => own.has(address) || isLoopback(address);
  const direction = isOwn(client.address) && !isOwn(local.address) ? 'out' : 'in';
  return { direction, protocol, source: client, destination: local };
}

/** A flow does not tell by which interface it came, nor from whose: the next datagram does. */
function withoutNeighbour(rule: Rule): Rule {
  return rule.adapters.length + rule.macs.length === 0 ? rule : { ...rule, adapters: [], macs: [] };
}

export function forgetCommand({ client, local }: Flow): readonly [string, ...string[]] {
  const ends = ['-s', client.address, '-d', local.address];
  return ['conntrack', '-D', '-p', 'udp', ...ends, '--sport', `${client.port}`, '--dport', `${local.port}`];
}
