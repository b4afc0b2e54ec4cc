/** A place as its conversations see it: the engine, and the rules that the place has just now. */

import type { Endpoint } from '../../net/endpoint.ts';
import type { TransportProtocol } from '../../net/protocol.ts';
import type { Clock } from '../../system/clock.ts';
import type { Running } from './conversations.ts';
import type { Datagrams } from './datagram.ts';
import type { Relay } from './engine.ts';
import { isWild } from './openings.ts';
import type { Place } from './places.ts';
import type { RuleState } from './rule-state.ts';
import type { Streams } from './stream.ts';
import type { Tap } from './tap.ts';
import type { TargetNames } from './target-names.ts';
import type { Admission, Arrival, TcpContext } from './tcp.ts';
import type { UdpContext, UdpConversation } from './udp.ts';

export class PlaceContext implements TcpContext, UdpContext {
  readonly relay: Relay;
  readonly place: Place;
  readonly endpoint: Endpoint;
  readonly isWild: boolean;
  states: readonly RuleState[] = [];

  constructor(relay: Relay, place: Place) {
    this.relay = relay;
    this.place = place;
    this.endpoint = { address: place.address, port: place.port };
    this.isWild = isWild(place);
  }

  get clock(): Clock {
    return this.relay.clock;
  }

  get names(): TargetNames {
    return this.relay.names;
  }

  get streams(): Streams {
    return this.relay.streams;
  }

  get datagrams(): Datagrams {
    return this.relay.datagrams;
  }

  get tick(): number {
    return this.relay.running.tick;
  }

  /** Reports whether this peer is to say who the client is. */
  isGreeted({ address }: Endpoint): boolean {
    return this.states.some(({ greets }) => greets?.({ address }));
  }

  admit(arrival: Arrival): Promise<Admission> | Admission {
    if (this.protocol === 'udp' && this.relay.running.isFull) {
      return { state: undefined, reason: 'too many conversations run' };
    }
    return this.relay.gate.admit(this.protocol, arrival, this);
  }

  get protocol(): TransportProtocol {
    return this.place.protocol;
  }

  begun(conversation: UdpConversation): void {
    this.relay.running.add(conversation);
  }

  tapped(tap: Tap): void {
    this.relay.running.tapped(tap);
  }

  opened(conversation: Running): void {
    this.relay.running.opened(conversation);
  }

  closed(conversation: Running, reason: string): void {
    this.relay.running.closed(conversation, reason);
  }

  refused(conversation: Running, admission: Admission, client: Endpoint): void {
    this.relay.running.refused(conversation, admission, client);
  }

  nextId(): number {
    return this.relay.running.nextId();
  }
}
