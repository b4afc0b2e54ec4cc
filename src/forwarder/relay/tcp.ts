/**
 * One TCP conversation: the client's stream and the target's, each written from the buffer of the other. What the
 * relay owes both: bytes in order and none lost, FIN and RST passed on for what they are, nothing read while the other
 * side is full.
 *
 * States: `greeting` (a trusted peer is to say who the client is), `dialing`, `open`, `over`. What the client has sent
 * with its greeting waits for the target.
 */

import { isNatwardError } from '../../errors.ts';
import type { Endpoint } from '../../net/endpoint.ts';
import { OVER } from '../../system/clock.ts';
import { encodeProxyHeader, readProxyHeader } from '../../wire/proxy-protocol.ts';
import { portsOf } from '../decide.ts';
import { Attempt, type Dialing, targetsOf } from './dial.ts';
import type { RuleState, Shown } from './rule-state.ts';
import { ignore, type Stream, type StreamOwner } from './stream.ts';
import { Tap } from './tap.ts';

/** What a conversation needs of the engine. */
export interface TcpContext extends Dialing {
  /** Counts up with each look at the conversations: a glance at it is cheaper than one at the clock. */
  readonly tick: number;
  /** Who decides: answers the rule's state where this client may talk, or a reason why not. */
  admit(arrival: Arrival): Promise<Admission> | Admission;
  opened(conversation: TcpConversation): void;
  /** It lives on by itself, and is to be looked at. */
  tapped(tap: Tap): void;
  closed(conversation: TcpConversation, reason: string): void;
  refused(conversation: TcpConversation, admission: Admission, client: Endpoint): void;
  nextId(): number;
}

export interface Arrival {
  readonly client: Endpoint;
  readonly local: Endpoint;
}

export type Admission =
  | { readonly state: RuleState; readonly reason: undefined }
  | { readonly state: RuleState | undefined; readonly reason: string };

/** RFC 5382, REQ-5: no established connection is given up before this time without a byte. */
const DEFAULT_IDLE_MS = 7_440_000;
/** One of the two has finished, and the other says nothing. */
const HALF_CLOSED_IDLE_MS = 600_000;
const DEFAULT_CONNECT_MS = 10_000;
/** For the whole header of the PROXY protocol. */
const GREETING_MS = 5000;
/** Quiet for so many looks, a stream may have a small buffer again. */
const REST_TICKS = 10;

/** Why a side does not read. */
const HELD_BY_PEER = 1;
const HELD_BY_RATE = 2;

/** One way of a conversation: from `stream` to the other one. */
interface Way {
  readonly stream: Stream;
  held: number;
  hasEnded: boolean;
}

export class TcpConversation implements StreamOwner, Shown {
  readonly id: number;
  readonly beganAtMs: number;
  readonly #context: TcpContext;
  readonly #near: Way;
  #far: Way | undefined;
  #attempt: Attempt | undefined;
  #tap: Tap | undefined;
  #state: RuleState | undefined;
  /** Where it came; a header of the PROXY protocol speaks of where its client had sent to. */
  readonly #arrivedAt: Endpoint;
  #client: Endpoint;
  #local: Endpoint;
  /** What was read before the target was there. */
  #early: Uint8Array | undefined;
  /** Ends the waits for the rule's rate. */
  #waits: AbortController | undefined;
  #isGreeting = false;
  #isOver = false;
  #idleMs = DEFAULT_IDLE_MS;
  #lastTick: number;
  #lastMs: number;
  target: Endpoint | undefined;
  bytesIn = 0;
  bytesOut = 0;

  constructor(stream: Stream, arrival: Arrival, context: TcpContext) {
    this.id = context.nextId();
    this.#context = context;
    this.#near = { stream, held: 0, hasEnded: false };
    this.#client = arrival.client;
    this.#arrivedAt = arrival.local;
    this.#local = arrival.local;
    this.#lastTick = context.tick;
    this.beganAtMs = context.clock.now();
    this.#lastMs = context.clock.steady();
    stream.owner = this;
  }

  readonly protocol = 'tcp';

  /** It has a rule. */
  get hasBegun(): boolean {
    return this.#state !== undefined;
  }

  get state(): RuleState {
    return this.#state as RuleState;
  }

  get client(): Endpoint {
    return this.#client;
  }

  get local(): Endpoint {
    return this.#local;
  }

  /** Asks who decides, and dials. */
  begin(): void {
    const admission = this.#context.admit({ client: this.#client, local: this.#arrivedAt });
    if (admission instanceof Promise) void admission.then((answer) => this.#admitted(answer));
    else this.#admitted(admission);
  }

  /** Waits for a header of the PROXY protocol first. */
  greet(): void {
    this.#isGreeting = true;
    this.#near.stream.start();
  }

  #admitted(admission: Admission): void {
    if (this.#isOver) {
      // It has gone while it was looked up.
      if (admission.reason === undefined) admission.state.leave(this.#client.address);
      return;
    }
    if (admission.reason !== undefined) {
      this.#isOver = true;
      this.#near.stream.reset();
      this.#context.refused(this, admission, this.#client);
      return;
    }
    const { state } = admission;
    const { rule } = state;
    this.#state = state;
    if (rule.idleSeconds !== undefined) this.#idleMs = rule.idleSeconds * 1000;
    this.#lastMs = this.#context.clock.steady();
    this.#context.opened(this);
    const ports = portsOf(rule);
    if (rule.clone !== undefined) {
      this.#tap = new Tap(rule.clone, { local: this.#arrivedAt, ports }, this.#context);
      this.#context.tapped(this.#tap);
    }
    this.#attempt = new Attempt(
      {
        targets: targetsOf(rule),
        local: this.#arrivedAt,
        ports,
        from: this.#source(),
        limitMs: rule.connectSeconds === undefined ? DEFAULT_CONNECT_MS : rule.connectSeconds * 1000,
        done: (stream, endpoint, reason) => this.#dialed(stream, endpoint, reason),
      },
      this.#context,
    );
    this.#attempt.begin();
  }

  #source(): { readonly address: string | undefined; readonly port: number | undefined } | undefined {
    const { source } = this.state.rule;
    if (source === undefined) return undefined;
    // The address of the client itself is the kernel engine's.
    return { address: source.address, port: source.port === 'same' ? this.#client.port : source.port };
  }

  #dialed(stream: Stream | undefined, endpoint: Endpoint | undefined, reason: string): void {
    this.#attempt = undefined;
    if (stream === undefined) {
      this.state.refuse(`the target cannot be reached: ${reason}`, this.beganAtMs);
      this.#finish(`the target cannot be reached: ${reason}`, 'reset');
      return;
    }
    this.target = endpoint;
    this.#lastMs = this.#context.clock.steady();
    stream.owner = this;
    this.#far = { stream, held: 0, hasEnded: false };
    const early = this.#early;
    this.#early = undefined;
    if (this.#announce(stream, early) === 'pending') this.#near.held |= HELD_BY_PEER;
    if (early !== undefined && this.state.isMetered) this.#meter(this.#near, early.length);
    stream.start();
    if (this.#near.held === 0) this.#near.stream.start();
  }

  /** The header, where the rule wants one, and what came early. */
  #announce(stream: Stream, early: Uint8Array | undefined): 'sent' | 'pending' {
    const { proxy } = this.state.rule;
    const chunks = early === undefined ? [] : [early];
    if (proxy !== undefined) {
      const header = { protocol: 'tcp', source: this.#client, destination: this.#local } as const;
      chunks.unshift(encodeProxyHeader(proxy, header));
    }
    if (early !== undefined) {
      this.#tap?.write(early);
      this.#count(this.#near, early.length);
    }
    return chunks.length === 0 ? 'sent' : stream.write(Buffer.concat(chunks));
  }

  received(stream: Stream, chunk: Uint8Array): void {
    if (this.#isOver) return;
    if (this.#isGreeting) return this.#heard(chunk);
    const from = stream === this.#near.stream ? this.#near : (this.#far as Way);
    const to = from === this.#near ? this.#far : this.#near;
    this.#lastTick = this.#context.tick;
    if (from === this.#near) this.#tap?.write(chunk);
    if (to !== undefined && to.stream.write(chunk) === 'pending') this.#hold(from, HELD_BY_PEER);
    this.#count(from, chunk.length);
    if (this.#state?.isMetered) this.#meter(from, chunk.length);
  }

  #count(from: Way, bytes: number): void {
    const { state } = this;
    if (from === this.#near) {
      this.bytesIn += bytes;
      state.bytesIn += bytes;
      state.packetsIn++;
    } else {
      this.bytesOut += bytes;
      state.bytesOut += bytes;
      state.packetsOut++;
    }
  }

  #meter(from: Way, bytes: number): void {
    const waitMs = this.state.spend(bytes, this.#context.clock.steady());
    if (this.state.isUsedUp) {
      this.#finish('the quota of its rule is used up', 'reset');
      return;
    }
    if (waitMs <= 0) return;
    this.#hold(from, HELD_BY_RATE);
    this.#waits ??= new AbortController();
    void this.#context.clock
      .sleep(waitMs, this.#waits.signal)
      .then(() => this.#letGo(from, HELD_BY_RATE), ignore);
  }

  #hold(way: Way, why: number): void {
    if (way.held === 0) way.stream.stop();
    way.held |= why;
  }

  #letGo(way: Way, why: number): void {
    if (this.#isOver || (way.held & why) === 0) return;
    way.held &= ~why;
    if (way.held === 0 && !way.hasEnded) way.stream.start();
  }

  /** Reads on what a trusted peer says about the client. */
  #heard(chunk: Uint8Array): void {
    const soFar = this.#early === undefined ? Buffer.from(chunk) : Buffer.concat([this.#early, chunk]);
    this.#early = soFar;
    try {
      const read = readProxyHeader(soFar);
      if (read.state === 'more') return;
      const { header, length } = read;
      // Both or none: a header that names nobody is about this very connection.
      if (header.source !== undefined && header.destination !== undefined) {
        this.#client = header.source;
        this.#local = { ...header.destination, port: this.#local.port };
      }
      this.#early = length < soFar.length ? soFar.subarray(length) : undefined;
    } catch (error) {
      if (!isNatwardError(error)) throw error;
      this.#turnAway(`no header of the PROXY protocol: ${error.message}`);
      return;
    }
    this.#isGreeting = false;
    this.#near.stream.stop();
    this.begin();
  }

  #turnAway(reason: string): void {
    this.#isOver = true;
    this.#near.stream.reset();
    this.#context.refused(this, { state: undefined, reason }, this.#client);
  }

  ended(stream: Stream): void {
    if (this.#isOver) return;
    if (this.#isGreeting) return this.#turnAway('it ended before it had said who the client is');
    const from = stream === this.#near.stream ? this.#near : (this.#far as Way);
    const to = from === this.#near ? this.#far : this.#near;
    from.hasEnded = true;
    this.#lastTick = this.#context.tick;
    if (from === this.#near) this.#tap?.end();
    // Where the other has finished too, closing says it.
    if (to?.hasEnded) this.#finishWhenSent();
    else to?.stream.end();
  }

  /** Both have said all: what is pending still goes. */
  #finishWhenSent(): void {
    const isPending = ((this.#near.held | (this.#far?.held ?? 0)) & HELD_BY_PEER) !== 0;
    if (!isPending) this.#finish('finished', 'close');
  }

  drained(stream: Stream): void {
    if (this.#isOver) return;
    // What waited for this one was the other.
    const waiting = stream === this.#near.stream ? this.#far : this.#near;
    if (waiting === undefined) return;
    this.#lastTick = this.#context.tick;
    this.#letGo(waiting, HELD_BY_PEER);
    if (this.#near.hasEnded && this.#far?.hasEnded) this.#finishWhenSent();
  }

  failed(stream: Stream, code: string): void {
    if (this.#isOver) return;
    const who = stream === this.#near.stream ? 'client' : 'target';
    if (this.#isGreeting || this.#state === undefined) return this.#turnAway(`the client is gone: ${code}`);
    this.#finish(`the ${who} is gone: ${code}`, 'reset');
  }

  /** Looks whether it has been silent for too long, or takes too long to begin. Called once a tick. */
  look(nowMs: number): void {
    if (this.#isOver) return;
    const { tick } = this.#context;
    if (this.#isGreeting) {
      if (nowMs - this.#lastMs > GREETING_MS) this.#turnAway('it did not say in time who the client is');
      return;
    }
    if (this.#attempt !== undefined) {
      this.#attempt.look(nowMs);
      return;
    }
    // While the names of its client are asked for it has no rule, and what its rate holds up is not silent.
    if (this.#state === undefined) return;
    const isHeldByRate = ((this.#near.held | (this.#far?.held ?? 0)) & HELD_BY_RATE) !== 0;
    if (this.#lastTick >= tick - 1 || isHeldByRate) {
      this.#lastMs = nowMs;
      return;
    }
    if (this.#lastTick === tick - REST_TICKS) {
      this.#near.stream.rest();
      this.#far?.stream.rest();
    }
    const isHalf = this.#near.hasEnded || this.#far?.hasEnded;
    const limitMs = isHalf ? Math.min(this.#idleMs, HALF_CLOSED_IDLE_MS) : this.#idleMs;
    if (nowMs - this.#lastMs >= limitMs) this.#finish(`silent for ${limitMs / 1000} s`, 'close');
  }

  /** Ends it at once: both sides are reset. */
  cut(reason: string): void {
    if (this.#isOver) return;
    if (this.#state === undefined) this.#turnAway(reason);
    else this.#finish(reason, 'reset');
  }

  #finish(reason: string, how: 'close' | 'reset'): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#attempt?.giveUp();
    this.#waits?.abort(OVER);
    this.#tap?.end();
    this.#near.stream[how]();
    this.#far?.stream[how]();
    this.state.leave(this.#client.address);
    this.#context.closed(this, reason);
  }
}
