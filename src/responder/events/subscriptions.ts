/**
 * Who has subscribed, to what, and until when: so many in all, and fewer of one client. One that has ended goes when
 * somebody looks.
 */

import { randomUUID } from 'node:crypto';
import type { IpAddress } from '../../net/address.ts';
import type { Clock } from '../../system/clock.ts';
import type { Callback } from '../../wire/gena.ts';
import type { Service } from '../services.ts';
import type { EventedValues } from './values.ts';

const MAX_SUBSCRIPTIONS = 256;
const MAX_OF_ONE_CLIENT = 16;
const MIN_SECONDS = 60;
/** UDA 2.0, section 4.1.2, recommends no less for those that ask for nothing shorter. */
const MAX_SECONDS = 1800;

export interface Subscription {
  readonly sid: string;
  readonly service: Service;
  readonly source: IpAddress;
  /** The gateway's own address, which the client asked and which its NOTIFY comes from. */
  readonly ownAddress: IpAddress;
  /** To be tried in this order. */
  readonly callbacks: readonly Callback[];
  expiresAtMs: number;
  /** Of the next message. */
  seq: number;
  /** What the client has. */
  told: EventedValues;
  /** Messages in a row that did not arrive. */
  failures: number;
}

export type SubscriptionWish = Pick<Subscription, 'service' | 'source' | 'ownAddress' | 'callbacks'>;

export class Subscriptions {
  readonly #clock: Clock;
  readonly #bySid = new Map<string, Subscription>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** undefined: there is no room. */
  add(wish: SubscriptionWish, timeoutSeconds: number | undefined): Subscription | undefined {
    const live = this.live();
    const own = live.filter(({ source }) => source === wish.source);
    if (live.length >= MAX_SUBSCRIPTIONS || own.length >= MAX_OF_ONE_CLIENT) return undefined;
    const subscription: Subscription = {
      ...wish,
      sid: `uuid:${randomUUID()}`,
      expiresAtMs: this.#endOf(timeoutSeconds),
      seq: 0,
      told: {},
      failures: 0,
    };
    this.#bySid.set(subscription.sid, subscription);
    return subscription;
  }

  /** That of a client to a service; undefined where there is none, and where it is another's. */
  find(sid: string, service: Service, source: IpAddress): Subscription | undefined {
    const found = this.#bySid.get(sid);
    if (found === undefined || !this.has(found)) return undefined;
    return found.service.name === service.name && found.source === source ? found : undefined;
  }

  has(subscription: Subscription): boolean {
    if (this.#bySid.get(subscription.sid) !== subscription) return false;
    if (subscription.expiresAtMs > this.#clock.steady()) return true;
    this.delete(subscription);
    return false;
  }

  renew(subscription: Subscription, timeoutSeconds: number | undefined): void {
    subscription.expiresAtMs = this.#endOf(timeoutSeconds);
  }

  delete({ sid }: Subscription): void {
    this.#bySid.delete(sid);
  }

  live(): Subscription[] {
    return [...this.#bySid.values()].filter((subscription) => this.has(subscription));
  }

  /** What its client is told. */
  secondsLeft({ expiresAtMs }: Subscription): number {
    return Math.round((expiresAtMs - this.#clock.steady()) / 1000);
  }

  #endOf(timeoutSeconds: number = MAX_SECONDS): number {
    return this.#clock.steady() + Math.min(Math.max(timeoutSeconds, MIN_SECONDS), MAX_SECONDS) * 1000;
  }
}
