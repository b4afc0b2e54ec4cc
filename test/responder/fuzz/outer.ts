/**
 * An outer gateway as the responder knows it, in the hands of the harness: what it is asked waits until the harness
 * has it answered, in any order, granted as asked, granted elsewhere or refused; and it has news of what it holds.
 */

import { family, type IpAddress } from '../../../src/net/address.ts';
import type { Refusal } from '../../../src/responder/grant.ts';
import type {
  Upstream,
  UpstreamGrant,
  UpstreamHolding,
  UpstreamNews,
  UpstreamOutcome,
  UpstreamWish,
} from '../../../src/responder/upstream.ts';
import type { Random } from './random.ts';

/** What is held for somebody just now. */
export interface OuterHolding {
  readonly wish: UpstreamWish;
  externalPort: number;
  /** By the outer gateway, wherever it liked. */
  wasMoved: boolean;
  readonly tell: (news: UpstreamNews) => void;
}

const REFUSALS: readonly Refusal[] = ['taken', 'not-authorized', 'no-free-port', 'network-down'];
const LIFETIMES = [120, 600, 7200, 86_400, undefined];

export class Outer implements Upstream {
  readonly holdings: Set<OuterHolding> = new Set();
  externalAddress: IpAddress | undefined = '198.51.100.7';
  readonly #random: Random;
  readonly #waiting: (() => void)[] = [];
  readonly #listeners = new Set<(address: IpAddress | undefined) => void>();
  /** In so many of a hundred cases it is not as asked. */
  unkindPercent = 15;

  constructor(random: Random) {
    this.#random = random;
  }

  get isIdle(): boolean {
    return this.#waiting.length === 0;
  }

  hold(wish: UpstreamWish, tell: (news: UpstreamNews) => void): Promise<UpstreamOutcome> {
    return new Promise((resolve) => this.#waiting.push(() => resolve(this.#answer(wish, tell))));
  }

  /** Nothing is left from before. */
  restore(): void {}

  onExternalAddress(listener: (address: IpAddress | undefined) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Answers one of those that wait. */
  answerOne(): void {
    const [answer] = this.#waiting.splice(this.#random.below(Math.max(1, this.#waiting.length)), 1);
    answer?.();
  }

  /** Has news of one holding; undefined: there is none. */
  tellNews(): OuterHolding | undefined {
    const holdings = [...this.holdings];
    if (holdings.length === 0) return undefined;
    const holding = this.#random.pick(holdings);
    const kind = this.#random.pick(['moved', 'held', 'lost', 'held', 'refused'] as const);
    if (kind === 'refused') holding.tell({ kind, refusal: this.#random.pick(REFUSALS) });
    else if (kind === 'lost') holding.tell({ kind });
    else {
      if (kind === 'moved' && !isPinhole(holding.wish)) {
        holding.externalPort = this.#freePort(holding.wish);
        holding.wasMoved = true;
      }
      holding.tell({ kind, grant: this.#grantOf(holding) });
    }
    return holding;
  }

  #answer(wish: UpstreamWish, tell: (news: UpstreamNews) => void): UpstreamOutcome {
    const isUnkind = this.#random.percent(this.unkindPercent);
    if (isUnkind && this.#random.percent(60))
      return { kind: 'refused', refusal: this.#random.pick(REFUSALS) };
    const asAsked = wish.exact || (!isUnkind && wish.suggestedExternalPort !== 0);
    const isFree = isPinhole(wish) || !this.#has(wish.protocol, wish.suggestedExternalPort);
    if (wish.exact && !isFree) return { kind: 'refused', refusal: 'taken' };
    const externalPort = asAsked && isFree ? wish.suggestedExternalPort : this.#freePort(wish);
    const own: OuterHolding = { wish, externalPort, wasMoved: false, tell };
    this.holdings.add(own);
    const holding: UpstreamHolding = {
      release: () => {
        this.holdings.delete(own);
        return new Promise((resolve) => this.#waiting.push(resolve));
      },
    };
    return { kind: 'granted', grant: this.#grantOf(own), holding };
  }

  #grantOf({ externalPort }: OuterHolding): UpstreamGrant {
    const lifetimeSeconds = this.#random.pick(LIFETIMES);
    return { externalPort, externalAddress: this.externalAddress, lifetimeSeconds };
  }

  /** To a gateway all of the host's clients are the host: it gives no port of a protocol twice. */
  #freePort({ protocol }: UpstreamWish): number {
    for (;;) {
      const port = 20_000 + this.#random.below(400);
      if (!this.#has(protocol, port)) return port;
    }
  }

  #has(protocol: string, port: number): boolean {
    for (const { wish, externalPort } of this.holdings) {
      if (!isPinhole(wish) && wish.protocol === protocol && externalPort === port) return true;
    }
    return false;
  }
}

export function isPinhole({ internalClient }: UpstreamWish): boolean {
  return family(internalClient) === 6;
}
