/** An outer gateway as the responder sees it, in memory: it grants, refuses, moves and loses as the test says. */

import type { IpAddress } from '../../src/net/address.ts';
import type { Refusal } from '../../src/responder/grant.ts';
import type {
  Restored,
  Upstream,
  UpstreamGrant,
  UpstreamNews,
  UpstreamOutcome,
  UpstreamWish,
} from '../../src/responder/upstream.ts';

interface HeldWish {
  readonly wish: UpstreamWish;
  grant: UpstreamGrant;
  readonly tell: (news: UpstreamNews) => void;
}

export class TestUpstream implements Upstream {
  readonly held: Set<HeldWish> = new Set();
  readonly asked: UpstreamWish[] = [];
  /** External ports of somebody else. */
  readonly taken: Set<number> = new Set();
  refuses: Refusal | undefined;
  lifetimeSeconds: number | undefined = 7200;
  externalAddress: IpAddress | undefined = '198.51.100.7';
  /** Answers, and what is given back, are late until this resolves. */
  late: Promise<void> = Promise.resolve();
  readonly before: Restored[] = [];
  readonly #listeners = new Set<(address: IpAddress | undefined) => void>();

  async hold(wish: UpstreamWish, tell: (news: UpstreamNews) => void): Promise<UpstreamOutcome> {
    this.asked.push(wish);
    await this.late;
    if (this.refuses !== undefined) return { kind: 'refused', refusal: this.refuses };
    let externalPort = wish.suggestedExternalPort || wish.internalPort;
    if (wish.exact && this.taken.has(externalPort)) return { kind: 'refused', refusal: 'taken' };
    while (this.taken.has(externalPort)) externalPort++;
    const { externalAddress, lifetimeSeconds } = this;
    const one: HeldWish = { wish, grant: { externalPort, externalAddress, lifetimeSeconds }, tell };
    this.held.add(one);
    const release = async () => {
      await this.late;
      this.held.delete(one);
    };
    return { kind: 'granted', grant: one.grant, holding: { release } };
  }

  restore(take: (restored: Restored) => boolean): void {
    for (const one of this.before) take(one);
  }

  onExternalAddress(listener: (address: IpAddress | undefined) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The outer gateway's address is this one now, or nobody knows it. */
  know(address: IpAddress | undefined): void {
    this.externalAddress = address;
    for (const listener of this.#listeners) listener(address);
  }

  /** Tells the only one that is held. */
  tell(news: UpstreamNews): void {
    const [only] = this.held;
    only?.tell(news);
  }

  /** `udp 6881 -> 10.0.0.5:6881`, in the order in which they were granted. */
  get rows(): string[] {
    return [...this.held].map(
      ({ wish, grant }) =>
        `${wish.protocol} ${grant.externalPort} -> ${wish.internalClient}:${wish.internalPort}`,
    );
  }
}
