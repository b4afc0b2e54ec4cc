/**
 * What runs in the relay: its conversations, whatever their place, from when they were accepted until they end. They are
 * looked at together, twice a second; their events are told from here; and so is that there is no room for another.
 */

import { NatwardError } from '../../errors.ts';
import { formatEndpoint, type Endpoint } from '../../net/endpoint.ts';
import type { Clock } from '../../system/clock.ts';
import type { Conversation, EngineEvent } from '../engine.ts';
import type { Place } from './places.ts';
import type { Tap } from './tap.ts';
import { type Admission, TcpConversation } from './tcp.ts';
import type { UdpConversation } from './udp.ts';

export type Running = TcpConversation | UdpConversation;

/** What the conversations are looked at by: how late an idle one may end. */
const TICK_MS = 500;
/** For so long a place that could not accept is spoken of. */
const TROUBLE_MS = 10_000;
const DRAIN_LOOK_MS = 20;

export interface ConversationLimits {
  /** How many there may be now. */
  readonly most: () => number;
  readonly fileLimit: number;
}

export class Conversations {
  readonly #clock: Clock;
  readonly #limits: ConversationLimits;
  readonly #over: AbortSignal;
  readonly #running = new Set<Running>();
  readonly #taps = new Set<Tap>();
  readonly #listeners = new Set<(event: EngineEvent) => void>();
  /** That conversations cannot be accepted; undefined: they can again. */
  onTrouble: (error: NatwardError | undefined) => void = () => undefined;
  /** undefined: there is none. */
  #troubleUntilMs: number | undefined;
  #isTicking = false;
  #ids = 0;
  /** Goes up with each look, while there is anything to look at. */
  tick = 0;

  constructor(clock: Clock, limits: ConversationLimits, over: AbortSignal) {
    this.#clock = clock;
    this.#limits = limits;
    this.#over = over;
  }

  nextId(): number {
    this.#ids++;
    return this.#ids;
  }

  get isFull(): boolean {
    return this.#running.size >= this.#limits.most();
  }

  /** Those that a rule was found for. */
  get begun(): readonly Running[] {
    return [...this.#running].filter((one) => one.hasBegun);
  }

  add(conversation: Running): void {
    this.#running.add(conversation);
    this.#beginTicking();
  }

  tapped(tap: Tap): void {
    this.#taps.add(tap);
  }

  opened(conversation: Running): void {
    if (this.#listeners.size > 0) this.#emit({ type: 'opened', conversation: shown(conversation) });
  }

  closed(conversation: Running, reason: string): void {
    this.#running.delete(conversation);
    if (this.#listeners.size > 0) this.#emit({ type: 'closed', conversation: shown(conversation), reason });
  }

  refused(conversation: Running, { state, reason = '' }: Admission, client: Endpoint): void {
    this.#running.delete(conversation);
    state?.refuse(`${formatEndpoint(client)}: ${reason}`, this.#clock.now());
    if (this.#listeners.size > 0) {
      this.#emit({ type: 'refused', ruleId: state?.rule.id ?? null, client, reason });
    }
  }

  /** One could not be accepted at this place. */
  notAccepted(code: string, { protocol, port }: Place): void {
    this.#troubleUntilMs = this.#clock.steady() + TROUBLE_MS;
    const isFull = code === 'EMFILE' || code === 'ENFILE';
    const message = isFull
      ? `no conversation more: ${this.#running.size} run, and this process may have ${this.#limits.fileLimit} files open`
      : `${protocol.toUpperCase()} ${port}: cannot accept: ${code}`;
    const advice = 'Raise the limit: LimitNOFILE= in the systemd unit, or limit what the rules let in.';
    this.onTrouble(new NatwardError('NO_RESOURCES', message, isFull ? { advice } : {}));
    this.#beginTicking();
  }

  listen(listener: (event: EngineEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when those of TCP have ended, or after `limitMs`: one of UDP has no end of its own. */
  async drain(limitMs: number): Promise<void> {
    const endMs = this.#clock.steady() + limitMs;
    const isBusy = () => [...this.#running].some((one) => one instanceof TcpConversation);
    while (isBusy() && this.#clock.steady() < endMs) await this.#clock.sleep(DRAIN_LOOK_MS);
  }

  cut(reason: string): void {
    for (const one of this.#running) one.cut(reason);
    for (const tap of this.#taps) tap.close();
  }

  #emit(event: EngineEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  #beginTicking(): void {
    if (this.#isTicking) return;
    this.#isTicking = true;
    void this.#ticks();
  }

  /** Goes on as long as there is anything to look at. */
  async #ticks(): Promise<void> {
    while (this.#running.size > 0 || this.#taps.size > 0 || this.#troubleUntilMs !== undefined) {
      const isOver = await this.#clock.sleep(TICK_MS, this.#over).then(
        () => false,
        () => true,
      );
      if (isOver) return;
      this.tick++;
      const nowMs = this.#clock.steady();
      for (const one of this.#running) one.look(nowMs);
      for (const tap of this.#taps) if (tap.look(nowMs)) this.#taps.delete(tap);
      if (this.#troubleUntilMs !== undefined && nowMs >= this.#troubleUntilMs) {
        this.#troubleUntilMs = undefined;
        this.onTrouble(undefined);
      }
    }
    this.#isTicking = false;
  }
}

export function shown(one: Running): Conversation {
  const { id, protocol, client, local, target, beganAtMs, bytesIn, bytesOut } = one;
  return {
    id,
    ruleId: one.state.rule.id,
    protocol,
    client,
    local,
    target: target ?? null,
    beganAtMs,
    bytesIn,
    bytesOut,
  };
}
