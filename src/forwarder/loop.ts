/**
 * Rules that send traffic in a circle through this host. What such a rule sends here is followed on, port by port,
 * but only the ports at which another rule waits that sends to this host as well; each is followed once.
 */

import { family, type IpAddress, isLoopback } from '../net/address.ts';
import type { PortRange } from '../net/port-range.ts';
import { coversPorts, portRanges } from '../net/port-set.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import { type Arrival, arrivalsOf, familiesOf, matchOf } from './arrival.ts';
import { portsOf } from './decide.ts';
import { type OwnHost, type OwnTarget, ownTargets, portMoves } from './own-target.ts';
import type { Rule } from './rule.ts';
import { type Placed, PortIndex, RuleIndex } from './rule-index.ts';
import { portsLeft } from './shadow.ts';
import { targetPortOf } from './target.ts';

/** A rule that takes what comes to a port of this host, and what it makes of it. */
export interface Step {
  readonly placed: Placed;
  readonly protocol: TransportProtocol;
  readonly port: number;
  readonly clause: OwnTarget['clause'];
  readonly nextPort: number;
}

interface Taker {
  readonly placed: Placed;
  /** Whether what comes is surely its, and so nobody's below. */
  readonly isSure: boolean;
}

/** The node of the graph that is walked: a rule has taken what came to this port. */
interface Place {
  readonly placed: Placed;
  readonly arrival: Arrival;
  readonly port: number;
}

interface Frame {
  readonly place: Place;
  readonly onward: Iterator<{ readonly next: Place; readonly step: Step }>;
  step: Step | undefined;
}

/** Takes all the enabled rules for what comes in, and then follows what they send. */
export class Loops {
  readonly #host: OwnHost;
  readonly #rules: Placed[] = [];
  readonly #index: RuleIndex<Placed>;
  /** The rules for what comes in that send to this host. */
  readonly #senders: Map<Placed, readonly OwnTarget[]> = new Map();
  readonly #takers: Map<string, PortIndex<Taker>> = new Map();
  readonly #found: Map<Placed, readonly Step[]> = new Map();
  /** Places under way have their depth, those done have none. */
  readonly #seen: Map<string, number | undefined> = new Map();

  constructor(host: OwnHost) {
    this.#host = host;
    this.#index = new RuleIndex(host.addressesOf);
  }

  add(placed: Placed): void {
    this.#rules.push(placed);
    const targets = ownTargets(placed.rule, this.#host);
    if (targets.length > 0) this.#senders.set(placed, targets);
  }

  /** The circles, one for each rule that is the first of one; its steps begin with that rule. */
  found(): readonly (readonly Step[])[] {
    if (this.#senders.size === 0) return [];
    for (const placed of this.#rules) this.#index.add(placed);
    for (const { arrival, ranges } of this.#arrivals()) {
      for (const { first, last } of ranges) {
        for (let port = first; port <= last; port++) {
          for (const place of this.#placesAt(arrival, port)) this.#follow(place);
        }
      }
    }
    return [...this.#found.values()];
  }

  /** What the senders send here, with those ports at which a sender waits. */
  #arrivals(): readonly { readonly arrival: Arrival; readonly ranges: readonly PortRange[] }[] {
    const waiting = { tcp: this.#waiting('tcp'), udp: this.#waiting('udp') };
    const sent = new Map<string, { readonly arrival: Arrival; readonly ports: PortRange[] }>();
    for (const [{ rule }, targets] of this.#senders) {
      for (const target of targets) {
        const ports = portMoves(target.port, portsOf(rule)).map(({ to }) => to);
        for (const arrival of arrivalsOf(rule, target, familiesOf(rule, this.#host))) {
          const before = sent.get(arrival.key);
          if (before === undefined) sent.set(arrival.key, { arrival, ports: [...ports] });
          else for (const range of ports) before.ports.push(range);
        }
      }
    }
    return [...sent.values()].map(({ arrival, ports }) => ({
      arrival,
      ranges: common(portRanges({ included: ports, excluded: [] }), waiting[arrival.protocol]),
    }));
  }

  #waiting(protocol: TransportProtocol): readonly PortRange[] {
    const ranges = [...this.#senders.keys()].flatMap(({ rule }) =>
      rule.protocols.includes(protocol) ? portsOf(rule) : [],
    );
    return ranges.length === 0 ? [] : portRanges({ included: ranges, excluded: [] });
  }

  /** The rules that may take it, as far as they send on to this host. */
  #placesAt(arrival: Arrival, port: number): readonly Place[] {
    const takers = [...this.#takersOf(arrival).at(port)].sort(
      (a, b) => a.placed.position - b.placed.position,
    );
    const sure = takers.findIndex(({ isSure }) => isSure);
    return takers
      .slice(0, sure < 0 ? takers.length : sure + 1)
      .filter(({ placed }) => this.#senders.has(placed))
      .map(({ placed }) => ({ placed, arrival, port }));
  }

  #takersOf(arrival: Arrival): PortIndex<Taker> {
    const known = this.#takers.get(arrival.key);
    if (known !== undefined) return known;
    const takers = new PortIndex<Taker>();
    this.#takers.set(arrival.key, takers);
    const { address, protocol } = arrival;
    const pattern = { kind: 'network', address, prefixLength: family(address) === 4 ? 32 : 128 } as const;
    for (const placed of new Set(this.#index.withAddress('in', protocol, pattern).flat())) {
      const match = matchOf(placed.rule, arrival, this.#host);
      if (match === 'no') continue;
      for (const range of this.#portsTaken(placed.rule, address)) {
        takers.add(range, { placed, isSure: match === 'sure' });
      }
    }
    return takers;
  }

  /** Without those that it leaves to servers on the loopback address. */
  #portsTaken(rule: Rule, address: IpAddress): readonly PortRange[] {
    const ranges = portsOf(rule);
    if (rule.to.addresses.length > 0 || !isLoopback(address)) return ranges;
    const left = portsLeft(rule, this.#host);
    if (left.length === 0) return ranges;
    return coversPorts(left, ranges) ? [] : portRanges({ included: ranges, excluded: left });
  }

  *#onward({ placed, arrival, port }: Place): Generator<{ readonly next: Place; readonly step: Step }> {
    const { rule } = placed;
    const { protocol } = arrival;
    for (const target of this.#senders.get(placed) ?? []) {
      const nextPort = targetPortOf(target.port, portsOf(rule), port);
      const step = { placed, protocol, port, clause: target.clause, nextPort };
      for (const next of arrivalsOf(rule, target, [family(arrival.address)])) {
        if (next.protocol !== protocol) continue;
        for (const place of this.#placesAt(next, nextPort)) yield { next: place, step };
      }
    }
  }

  /** In depth, without recursion: a chain may be as long as there are ports. */
  #follow(start: Place): void {
    const path: Frame[] = [];
    const enter = (place: Place) => {
      this.#seen.set(keyOf(place), path.length);
      path.push({ place, onward: this.#onward(place), step: undefined });
    };
    if (!this.#seen.has(keyOf(start))) enter(start);
    for (let frame = path.at(-1); frame !== undefined; frame = path.at(-1)) {
      const { done, value } = frame.onward.next();
      if (done === true) {
        this.#seen.set(keyOf(frame.place), undefined);
        path.pop();
        continue;
      }
      frame.step = value.step;
      const key = keyOf(value.next);
      const depth = this.#seen.get(key);
      if (depth !== undefined) this.#keep(path.slice(depth).map(({ step }) => step as Step));
      else if (!this.#seen.has(key)) enter(value.next);
    }
  }

  #keep(circle: readonly Step[]): void {
    const first = circle.reduce(
      (least, { placed }, at) => (placed.position < (circle[least] as Step).placed.position ? at : least),
      0,
    );
    const steps = [...circle.slice(first), ...circle.slice(0, first)];
    const { placed } = steps[0] as Step;
    if (!this.#found.has(placed)) this.#found.set(placed, steps);
  }
}

function keyOf({ placed, arrival, port }: Place): string {
  return `${placed.position} ${port} ${arrival.key}`;
}

/** The ports that are in both. */
function common(a: readonly PortRange[], b: readonly PortRange[]): readonly PortRange[] {
  if (a.length === 0 || b.length === 0) return [];
  const found: PortRange[] = [];
  for (let [i, j] = [0, 0]; i < a.length && j < b.length; ) {
    const [left, right] = [a[i] as PortRange, b[j] as PortRange];
    const [first, last] = [Math.max(left.first, right.first), Math.min(left.last, right.last)];
    if (first <= last) found.push({ first, last });
    if (left.last < right.last) i++;
    else j++;
  }
  return found;
}
