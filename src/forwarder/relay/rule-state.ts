/** What a rule has let through and may let through yet: its activity light, its limits. */

import type { Endpoint } from '../../net/endpoint.ts';
import type { Clock } from '../../system/clock.ts';
import { type AccessMatcher, compileAccess } from '../access.ts';
import { type Activity, NO_ACTIVITY, sumOf } from '../engine.ts';
import type { Rule } from '../rule.ts';

/** The bytes of a rate may come in bursts as long as this. */
const BURST_SECONDS = 0.1;
const MIN_BURST_BYTES = 16_384;

export class RuleState {
  readonly rule: Rule;
  /** The peers that are to say, by the PROXY protocol, who the client is. */
  readonly greets: AccessMatcher | undefined;
  /** Another rule, or none, stands in its place: what runs goes on, nothing new begins. */
  isOver = false;
  bytesIn = 0;
  bytesOut = 0;
  packetsIn = 0;
  packetsOut = 0;
  open = 0;
  conversations = 0;
  refused = 0;
  lastAtMs: number | null = null;
  lastRefusal: string | null = null;
  /** What it was before an edit, while conversations of that run. */
  #before: RuleState | undefined;
  readonly #openOf = new Map<string, number>();
  /** Conversations that may begin now. */
  readonly #begin: Bucket | undefined;
  readonly #bytes: Bucket | undefined;
  #quotaLeft: number;

  constructor(rule: Rule, steadyMs: number) {
    this.rule = rule;
    this.greets = rule.acceptProxy === undefined ? undefined : compileAccess(rule.acceptProxy);
    const { newPerSecond, bytesPerSecond, quotaBytes } = rule.limits;
    if (newPerSecond !== undefined) this.#begin = new Bucket(newPerSecond, newPerSecond, steadyMs);
    if (bytesPerSecond !== undefined) {
      const burst = Math.max(bytesPerSecond * BURST_SECONDS, MIN_BURST_BYTES);
      this.#bytes = new Bucket(bytesPerSecond, burst, steadyMs);
    }
    this.#quotaLeft = quotaBytes ?? Number.POSITIVE_INFINITY;
  }

  /** What was counted before an edit is not lost by it, nor what its conversations yet count; the quota begins anew. */
  inherit(before: RuleState): void {
    this.#before = before;
    this.#fold();
  }

  /** Takes over the counts of those before it that nothing runs under any more. */
  #fold(): void {
    const before = this.#before;
    if (before === undefined) return;
    before.#fold();
    if (before.open > 0) return;
    Object.assign(this, sumOf(this, before));
    this.#before = before.#before;
  }

  #openNow(): number {
    return this.open + (this.#before === undefined ? 0 : this.#before.#openNow());
  }

  #openNowOf(client: string): number {
    const own = this.#openOf.get(client) ?? 0;
    return own + (this.#before === undefined ? 0 : this.#before.#openNowOf(client));
  }

  /** Bytes are counted only against limits that there are. */
  get isMetered(): boolean {
    return this.#bytes !== undefined || this.#quotaLeft !== Number.POSITIVE_INFINITY;
  }

  get isUsedUp(): boolean {
    return this.#quotaLeft <= 0;
  }

  /** Takes bytes from the rate and the quota. Returns how long to wait before more may come, 0 for not at all. */
  spend(bytes: number, steadyMs: number): number {
    this.#quotaLeft -= bytes;
    return this.#bytes?.take(bytes, steadyMs) ?? 0;
  }

  /** Why one more conversation of this client may not begin, or undefined: then it has begun. */
  admit(client: string, clock: Clock, defaultPerClient: number): string | undefined {
    const { open, openPerClient = defaultPerClient, newPerSecond } = this.rule.limits;
    const own = this.#openNowOf(client);
    const steadyMs = clock.steady();
    if (this.isUsedUp) return 'its quota is used up';
    if (open !== undefined && this.#openNow() >= open) return `${open} conversations are open, its limit`;
    if (own >= openPerClient) return `${client} has ${own} conversations open, the limit of each client`;
    if (this.#begin !== undefined && !this.#begin.has(1, steadyMs)) {
      return `more than ${newPerSecond} conversations began in a second`;
    }
    this.#begin?.take(1, steadyMs);
    this.#openOf.set(client, (this.#openOf.get(client) ?? 0) + 1);
    this.open++;
    this.conversations++;
    this.lastAtMs = clock.now();
    return undefined;
  }

  /** One of this client's is over. */
  leave(client: string): void {
    this.open--;
    const own = (this.#openOf.get(client) ?? 1) - 1;
    if (own > 0) this.#openOf.set(client, own);
    else this.#openOf.delete(client);
  }

  refuse(reason: string, nowMs: number): void {
    this.refused++;
    this.lastAtMs = nowMs;
    this.lastRefusal = reason;
  }

  get activity(): Activity {
    this.#fold();
    return { ...sumOf(this, this.#before?.activity ?? NO_ACTIVITY), open: this.#openNow() };
  }
}

/** Fills by so much a second, and holds so much. */
class Bucket {
  readonly #perSecond: number;
  readonly #size: number;
  #left: number;
  #atMs: number;

  constructor(perSecond: number, size: number, nowMs: number) {
    this.#perSecond = perSecond;
    this.#size = size;
    this.#left = size;
    this.#atMs = nowMs;
  }

  has(amount: number, nowMs: number): boolean {
    this.#fill(nowMs);
    return this.#left >= amount;
  }

  /** Takes what there is and what there is not. Returns the milliseconds until it is paid back. */
  take(amount: number, nowMs: number): number {
    this.#fill(nowMs);
    this.#left -= amount;
    return this.#left >= 0 ? 0 : (-this.#left / this.#perSecond) * 1000;
  }

  #fill(nowMs: number): void {
    this.#left = Math.min(this.#size, this.#left + ((nowMs - this.#atMs) / 1000) * this.#perSecond);
    this.#atMs = nowMs;
  }
}

/** What the engine shows of a conversation, of either protocol. */
export interface Shown {
  readonly id: number;
  readonly state: RuleState;
  readonly client: Endpoint;
  readonly local: Endpoint;
  readonly target: Endpoint | undefined;
  readonly beganAtMs: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}
