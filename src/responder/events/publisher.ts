/**
 * Tells subscribers what has changed: each only what it has not been told yet, one message at a time, and several
 * changes at once where they come fast. Whoever cannot be reached a few times in a row has unsubscribed.
 */

import { encodeNotify, nextSeq } from '../../wire/gena.ts';
import { Budget } from '../budget.ts';
import type { Site } from '../site.ts';
import { deliver } from './deliver.ts';
import { type Subscription, Subscriptions } from './subscriptions.ts';
import { type EventedValues, eventedValues } from './values.ts';

/** Changes within this go out together (UDA 2.0, section 2.5, calls it moderation). */
const GATHER_MS = 200;
const RETRY_MS = 3_000;
const MAX_FAILURES = 3;
/** Sockets at once, over all subscribers. */
const MAX_DELIVERIES = 64;
/** UDA 2.0, table 4-12: the subscriber knows no such SID. */
const UNKNOWN_SID = 412;

export class Publisher {
  readonly subscriptions: Subscriptions;
  readonly #site: Site;
  readonly #deliveries = new Budget(MAX_DELIVERIES);
  readonly #telling = new Set<Subscription>();
  #gathering = false;
  #lastMs = Number.NEGATIVE_INFINITY;

  constructor(site: Site) {
    this.#site = site;
    this.subscriptions = new Subscriptions(site.clock);
    site.events.onChange(() => this.#changed());
  }

  /** Tells one of them what it does not know: all of it, where it is new. */
  tell(subscription: Subscription): void {
    this.#tell(subscription).catch(() => this.#site.counters.count('internal error'));
  }

  #changed(): void {
    if (this.#gathering || this.subscriptions.live().length === 0) return;
    this.#tellAllAfter(Math.max(0, this.#lastMs + GATHER_MS - this.#site.clock.steady()));
  }

  #tellAllAfter(waitMs: number): void {
    this.#gathering = true;
    // The first change waits for the rest of what changes with it.
    const wait = waitMs === 0 ? Promise.resolve() : this.#site.clock.sleep(waitMs, this.#site.closing);
    wait.then(
      () => {
        this.#gathering = false;
        this.#lastMs = this.#site.clock.steady();
        for (const subscription of this.subscriptions.live()) this.tell(subscription);
      },
      () => undefined, // It closes.
    );
  }

  async #tell(subscription: Subscription): Promise<void> {
    // One at a time: what changes meanwhile is seen when that one is done.
    if (this.#telling.has(subscription)) return;
    const values = this.#untold(subscription);
    if (Object.keys(values).length === 0) return;
    if (!this.#deliveries.take()) {
      if (!this.#gathering) this.#tellAllAfter(GATHER_MS);
      return;
    }
    this.#telling.add(subscription);
    const delivered = await this.#send(subscription, values);
    this.#deliveries.give();
    if (!delivered && subscription.failures < MAX_FAILURES) {
      await this.#site.clock.sleep(RETRY_MS, this.#site.closing).catch(() => undefined);
    }
    this.#telling.delete(subscription);
    if (!this.#site.closing.aborted && this.subscriptions.has(subscription)) this.#changed();
  }

  #untold({ service, told }: Subscription): EventedValues {
    const values = Object.entries(eventedValues(service, this.#site));
    return Object.fromEntries(values.filter(([name, value]) => told[name] !== value));
  }

  async #send(subscription: Subscription, values: EventedValues): Promise<boolean> {
    const { sid, seq, ownAddress, callbacks } = subscription;
    let status: number | undefined;
    for (const callback of callbacks) {
      const to = { address: callback.address, port: callback.port };
      status = await deliver(encodeNotify({ callback, sid, seq, values }), to, ownAddress, this.#site);
      this.#site.counters.count('gena notify');
      if (status !== undefined || !this.subscriptions.has(subscription)) break;
    }
    const delivered = status !== undefined && status >= 200 && status < 300;
    // The first message is number 0 until it has arrived; of the later ones a gap says that one is missing.
    if (delivered || seq > 0) subscription.seq = nextSeq(seq);
    subscription.failures = delivered ? 0 : subscription.failures + 1;
    if (delivered) subscription.told = { ...subscription.told, ...values };
    if (status === UNKNOWN_SID || subscription.failures >= MAX_FAILURES) {
      this.subscriptions.delete(subscription);
    }
    return delivered;
  }
}
