/**
 * What the responder's clients ask for, as leases of this agent: each is a mapping of the outer gateway to this host,
 * and a rule that carries it on to the client. An IPv6 pinhole leads to the client itself. What the agent remembers of
 * them is theirs again after a restart.
 */

import { setMaxListeners } from 'node:events';
import { isNatwardError, type NatwardError } from '../errors.ts';
import { MAX_LIFETIME_SECONDS } from '../mapping/mapping.ts';
import { family, type IpAddress } from '../net/address.ts';
import { formatEndpoint } from '../net/endpoint.ts';
import type { Refusal } from '../responder/grant.ts';
import type {
  Restored,
  Upstream,
  UpstreamGrant,
  UpstreamHolding,
  UpstreamNews,
  UpstreamOutcome,
  UpstreamWish,
} from '../responder/upstream.ts';
import type { Clock } from '../system/clock.ts';
import type { AgentEvent } from './events.ts';
import type { Keeper } from './keeper.ts';
import { type Intent, type KeepRequest, type LeaseStatus, RESPONDER_OWNER } from './lease.ts';

/** A client over SOAP waits not much longer, and one over PCP asks again. */
const ANSWER_MS = 6000;

/** A client's network may come up later than this agent: what was held for it is not given back before. */
const PATIENCE_MS = 600_000;

type Tell = (news: UpstreamNews, lease: LeaseStatus) => void;

export class LeaseUpstream implements Upstream {
  readonly #keeper: Keeper;
  readonly #over: AbortSignal;
  readonly #clock: Clock;
  readonly #patientUntilMs: number;
  /** Who is told of an intent's lease, by its id. */
  readonly #told = new Map<string, Tell>();
  /** Remembered from before, and not held yet in this agent's life; by the inner end. */
  readonly #remembered = new Map<string, Intent>();
  readonly #listeners = new Set<(address: IpAddress | undefined) => void>();
  #externalAddress: IpAddress | undefined;

  /** `over` fires when the agent ends: nothing is waited for any more. */
  constructor(keeper: Keeper, clock: Clock, over: AbortSignal) {
    this.#keeper = keeper;
    this.#clock = clock;
    this.#patientUntilMs = clock.steady() + PATIENCE_MS;
    this.#over = over;
    setMaxListeners(0, over); // As many as there are wishes under way.
    keeper.log.listen((event) => this.#happened(event));
    keeper.attend(4, (address) => this.#know(address));
  }

  get externalAddress(): IpAddress | undefined {
    return this.#externalAddress;
  }

  onExternalAddress(listener: (address: IpAddress | undefined) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  restore(take: (restored: Restored) => boolean): void {
    for (const intent of this.#keeper.intents) {
      if (intent.owner !== RESPONDER_OWNER) continue;
      const wish = wishOf(intent);
      if (wish === undefined) {
        void this.#drop(intent.id);
        continue;
      }
      this.#remembered.set(innerKey(wish), intent);
      const tell: Tell = (news, lease) => {
        if (news.kind === 'lost') return;
        const holding = this.#holding(intent.id);
        const listen = (next: Tell) => this.#told.set(intent.id, next);
        const isTaken = news.kind !== 'refused' && take({ wish, grant: grantOf(lease), holding, listen });
        const isOver = news.kind === 'refused' || this.#clock.steady() > this.#patientUntilMs;
        if (isTaken || isOver) this.#remembered.delete(innerKey(wish));
        if (!isTaken && isOver) void holding.release();
      };
      this.#told.set(intent.id, tell);
    }
  }

  async hold(wish: UpstreamWish, tell: (news: UpstreamNews) => void): Promise<UpstreamOutcome> {
    const request = await this.#request(wish);
    const options = { owner: RESPONDER_OWNER, timeoutMs: ANSWER_MS, signal: this.#over };
    let status: LeaseStatus | undefined;
    try {
      [status] = await this.#keeper.keep([request], options);
    } catch (error) {
      if (!isNatwardError(error)) throw error;
      return { kind: 'refused', refusal: refusalOf(error.code) };
    }
    if (status === undefined) return { kind: 'refused', refusal: 'network-down' };
    const { intentId, state, error } = status;
    if (state !== 'held') {
      await this.#drop(intentId);
      return { kind: 'refused', refusal: refusalOf(error?.code) };
    }
    this.#told.set(intentId, tell);
    return { kind: 'granted', grant: grantOf(status), holding: this.#holding(intentId) };
  }

  /** What is remembered for the same port of the same client is that; another external port is another request. */
  async #request(wish: UpstreamWish): Promise<KeepRequest> {
    const request = requestOf(wish);
    const known = this.#remembered.get(innerKey(wish));
    if (known === undefined) return request;
    this.#remembered.delete(innerKey(wish));
    this.#told.delete(known.id);
    if (!wish.exact) return { ...request, external: known.external, spec: known.spec };
    await this.#drop(known.id);
    return request;
  }

  #holding(intentId: string): UpstreamHolding {
    return {
      release: () => {
        this.#told.delete(intentId);
        return this.#drop(intentId);
      },
    };
  }

  async #drop(id: string): Promise<void> {
    await this.#keeper.drop([{ kind: 'id', text: id, id }], { signal: this.#over });
  }

  #happened(event: AgentEvent): void {
    // The keeper gives all back by itself then.
    if (this.#over.aborted) return;
    switch (event.type) {
      case 'granted':
      case 'renewed':
        this.#tell(event.lease, { kind: 'held', grant: grantOf(event.lease) });
        return;
      case 'changed':
        this.#tell(event.lease, { kind: 'moved', grant: grantOf(event.lease) });
        return;
      case 'lost':
        this.#tell(event.lease, { kind: 'lost' });
        return;
      case 'refused':
        this.#tell(event.lease, refusedNews(event.lease));
        return;
      case 'released':
        // Somebody has dropped it.
        this.#tell(event.lease, { kind: 'refused', refusal: 'not-authorized' });
    }
  }

  #tell(lease: LeaseStatus, news: UpstreamNews): void {
    if (lease.owner === RESPONDER_OWNER) this.#told.get(lease.intentId)?.(news, lease);
  }

  #know(address: IpAddress | undefined): void {
    if (address === this.#externalAddress) return;
    this.#externalAddress = address;
    for (const listener of this.#listeners) listener(address);
  }
}

/** Other refusals may be of a gateway that is just starting: it is asked again. */
function refusedNews({ error }: LeaseStatus): UpstreamNews {
  const refusal = refusalOf(error?.code);
  return refusal === 'taken' || refusal === 'not-authorized'
    ? { kind: 'refused', refusal }
    : { kind: 'lost' };
}

function innerKey({
  protocol,
  internalClient,
  internalPort,
}: Pick<UpstreamWish, 'protocol' | 'internalClient' | 'internalPort'>): string {
  return `${protocol} ${internalClient} ${internalPort}`;
}

function requestOf(wish: UpstreamWish): KeepRequest {
  const { protocol, internalClient, internalPort, suggestedExternalPort, description, remotePeer } = wish;
  const { via, nonce, isEndless } = wish;
  const of = family(internalClient);
  const external = suggestedExternalPort === 0 ? '*' : String(suggestedExternalPort);
  return {
    spec: `${external}:${formatEndpoint({ address: internalClient, port: internalPort })}/${protocol}`,
    protocols: [protocol],
    external:
      suggestedExternalPort === 0 ? 'any' : { first: suggestedExternalPort, last: suggestedExternalPort },
    internal: { first: internalPort, last: internalPort },
    host: internalClient,
    lifetimeSeconds: Math.min(wish.lifetimeSeconds, MAX_LIFETIME_SECONDS),
    choice: wish.exact ? 'exact' : 'any',
    ...(description === '' ? {} : { description }),
    ...(remotePeer === undefined ? {} : { remotePeer }),
    family: of,
    carry: of === 4 ? 'always' : 'never',
    client: { via, nonce: nonce === undefined ? null : Buffer.from(nonce).toString('hex'), isEndless },
    hooks: [],
  };
}

/** undefined: a pinhole, or nothing that the responder has written. */
function wishOf(intent: Intent): UpstreamWish | undefined {
  const { host, client, carry, external, internal, protocols, description = '', remotePeer } = intent;
  const [protocol] = protocols;
  if (host === undefined || client === undefined || carry !== 'always' || protocol === undefined) {
    return undefined;
  }
  return {
    protocol,
    internalClient: host,
    internalPort: internal.first,
    suggestedExternalPort: external === 'any' ? 0 : external.first,
    exact: intent.choice === 'exact',
    lifetimeSeconds: intent.lifetimeSeconds,
    description,
    remotePeer,
    via: client.via,
    nonce: client.nonce === null ? undefined : Uint8Array.from(Buffer.from(client.nonce, 'hex')),
    isEndless: client.isEndless,
  };
}

function grantOf({ externalPort, externalAddress, lifetimeSeconds }: LeaseStatus): UpstreamGrant {
  return {
    externalPort: externalPort ?? 0,
    externalAddress: externalAddress ?? undefined,
    lifetimeSeconds: lifetimeSeconds || undefined,
  };
}

/** What a client is told. Nobody has answered yet: that is no connection to the outside, either. */
function refusalOf(code: NatwardError['code'] | undefined): Refusal {
  switch (code) {
    case 'CONFLICT':
      return 'taken';
    case 'NOT_AUTHORIZED':
      return 'not-authorized';
    case 'NO_RESOURCES':
      return 'no-free-port';
    case 'UNSUPPORTED':
      return 'too-many-peers';
    default:
      return 'network-down';
  }
}
