/**
 * Reaches the first target that answers. The addresses of one target are tried a quarter of a second apart, both
 * families by turns (RFC 8305, section 5), and the next target is turned to when all of the one before have failed.
 */

import { family, type IpAddress, parseAddress } from '../../net/address.ts';
import type { Endpoint } from '../../net/endpoint.ts';
import type { PortRange } from '../../net/port-range.ts';
import { type Clock, OVER } from '../../system/clock.ts';
import type { RuleSpec, Target } from '../rule.ts';
import { targetPortOf } from '../target.ts';
import type { Dial, Stream, Streams } from './stream.ts';
import type { TargetNames } from './target-names.ts';

/** Connection Attempt Delay: RFC 8305, section 8. */
const NEXT_ADDRESS_MS = 250;

export interface DialRequest {
  readonly targets: readonly Target[];
  /** Where the client sent to, and the ports of the rule's selector. */
  readonly local: Endpoint;
  readonly ports: readonly PortRange[];
  readonly from: Dial['from'];
  /** For each target. */
  readonly limitMs: number;
  /** Called once: with the stream, or with what the last one that was tried came to. */
  readonly done: (stream: Stream | undefined, endpoint: Endpoint | undefined, reason: string) => void;
}

export interface Dialing {
  readonly streams: Streams;
  readonly names: TargetNames;
  readonly clock: Clock;
}

/** What is only watched goes to the same port of this host. */
const SAME_PORT: readonly Target[] = [{ host: undefined, port: { kind: 'same' } }];

/** Where the rule sends its traffic: the first, and those to turn to. */
export function targetsOf(rule: Pick<RuleSpec, 'verdict' | 'targets'>): readonly Target[] {
  return rule.verdict === 'monitor' ? SAME_PORT : rule.targets;
}

/** Where the target is, of the addresses known now; undefined where its name must be asked for. */
export function endpointsOf(
  target: Target,
  { local, ports }: Pick<DialRequest, 'local' | 'ports'>,
  names: TargetNames,
): readonly Endpoint[] | undefined {
  const port = targetPortOf(target.port, ports, local.port);
  const addresses = addressesOf(target, local, names);
  return addresses?.map((address) => ({ address, port }));
}

function addressesOf(target: Target, local: Endpoint, names: TargetNames): readonly IpAddress[] | undefined {
  if (target.host === undefined) return [family(local.address) === 6 ? '::1' : '127.0.0.1'];
  return ownAddressOf(target) ?? byTurns(names.peek(target.host));
}

/** Of targets that are addresses: they are asked for at each conversation, and never change. */
const ADDRESSES = new WeakMap<Target, readonly [IpAddress] | undefined>();

function ownAddressOf(target: Target): readonly [IpAddress] | undefined {
  if (!ADDRESSES.has(target)) {
    const address = parseAddress(target.host as string);
    ADDRESSES.set(target, address === undefined ? undefined : [address]);
  }
  return ADDRESSES.get(target);
}

/** The families by turns, beginning with that of the first. */
function byTurns(addresses: readonly IpAddress[] | undefined): readonly IpAddress[] | undefined {
  const [first] = addresses ?? [];
  if (addresses === undefined || first === undefined) return addresses;
  const [same, other] = [true, false].map((isSame) =>
    addresses.filter((one) => (family(one) === family(first)) === isSame),
  ) as [IpAddress[], IpAddress[]];
  return same.flatMap((one, at) => [one, ...other.slice(at, at + 1)]).concat(other.slice(same.length));
}

/** Under way from `begin` on, until it is done or given up. Has no timer of its own for its limit: whoever owns it looks. */
export class Attempt {
  readonly #request: DialRequest;
  readonly #dialing: Dialing;
  readonly #under: Set<() => void> = new Set();
  #target = -1;
  #waiting: readonly Endpoint[] = [];
  #next = 0;
  /** Counts the targets, so that what belongs to one before is known to be late. */
  #round = 0;
  #lateAtMs = 0;
  #reason = '';
  #staggering: AbortController | undefined;

  constructor(request: DialRequest, dialing: Dialing) {
    this.#request = request;
    this.#dialing = dialing;
  }

  begin(): void {
    this.#nextTarget();
  }

  /** `done` is not called any more. */
  giveUp(): void {
    this.#round++;
    this.#staggering?.abort(OVER);
    for (const stop of this.#under) stop();
    this.#under.clear();
  }

  /** Turns to the next target where this one has taken too long. */
  look(nowMs: number): void {
    if (nowMs < this.#lateAtMs) return;
    this.#reason = `no answer within ${this.#request.limitMs / 1000} s`;
    this.#nextTarget();
  }

  #nextTarget(): void {
    this.giveUp();
    this.#target++;
    const target = this.#request.targets[this.#target];
    if (target === undefined) {
      this.#request.done(undefined, undefined, this.#reason);
      return;
    }
    this.#lateAtMs = this.#dialing.clock.steady() + this.#request.limitMs;
    const endpoints = endpointsOf(target, this.#request, this.#dialing.names);
    if (endpoints === undefined) void this.#resolve(target);
    else this.#try(target, endpoints);
  }

  async #resolve(target: Target): Promise<void> {
    const round = this.#round;
    await this.#dialing.names.addressesOf(target.host as string);
    if (round === this.#round)
      this.#try(target, endpointsOf(target, this.#request, this.#dialing.names) ?? []);
  }

  #try(target: Target, endpoints: readonly Endpoint[]): void {
    if (endpoints.length === 0) this.#reason = `${target.host} has no address`;
    this.#waiting = endpoints;
    this.#next = 0;
    this.#nextAddress();
  }

  #nextAddress(): void {
    const to = this.#waiting[this.#next];
    this.#next++;
    if (to === undefined) {
      if (this.#under.size === 0) this.#nextTarget();
      return;
    }
    const stop = this.#dialing.streams.connect({
      to,
      from: this.#request.from,
      done: (stream, code) => {
        this.#under.delete(stop);
        if (stream === undefined) {
          this.#reason = code ?? 'it failed';
          this.#nextAddress();
          return;
        }
        this.giveUp();
        this.#request.done(stream, to, '');
      },
    });
    this.#under.add(stop);
    if (this.#next < this.#waiting.length) void this.#stagger();
  }

  async #stagger(): Promise<void> {
    this.#staggering?.abort(OVER);
    const staggering = new AbortController();
    this.#staggering = staggering;
    const round = this.#round;
    const isTime = await this.#dialing.clock.sleep(NEXT_ADDRESS_MS, staggering.signal).then(
      () => true,
      () => false,
    );
    if (isTime && round === this.#round) this.#nextAddress();
  }
}
