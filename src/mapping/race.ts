/**
 * Which protocol is asked for a mapping, and in what order.
 *
 * The probes race, the grants do not. Most gateways keep one table behind PCP, NAT-PMP and UPnP: a second
 * grant of the same port is the first one again, and taking it back would close the port. So one protocol is
 * asked, the first that answered its probe. On a refusal the next one is asked; on a silence too, but the
 * silent one is still listened to, for its grant may come late. A late grant with another external port is a
 * mapping too many and is given back; one with the same port is the mapping itself and is left alone.
 */

import type { Offer } from '../discovery/gateway.ts';
import { type ErrorCode, isNatwardError, NatwardError } from '../errors.ts';
import type { MappingProtocol } from '../net/protocol.ts';
import { aborted, fired, OVER } from '../system/clock.ts';
import type { System } from '../system/system.ts';
import { OTHER_PORT_ADVICE } from './advice.ts';
import type { Mapping, MappingRequest, PortMapper } from './mapping.ts';
import { NatpmpMapper } from './natpmp.ts';
import { PcpMapper } from './pcp.ts';

/**
 * How long the protocol asked may be silent before the next one is asked beside it: two retransmissions have
 * then gone unanswered. UPnP gateways are slow.
 */
const HEDGE_MS: Readonly<Record<MappingProtocol, number>> = { pcp: 1000, natpmp: 1000, upnp: 2000 };
/** The same where nobody waits: all that the slower schedules of the RFCs need (link.ts). */
const BACKGROUND_HEDGE_MS: Readonly<Record<MappingProtocol, number>> = {
  pcp: 50_000,
  natpmp: 130_000,
  upnp: 10_000,
};
/** How long a late grant is waited for: the last retransmission and its answer; all the time that an HTTP request has. */
const LATE_MS: Readonly<Record<MappingProtocol, number>> = { pcp: 2000, natpmp: 2000, upnp: 5000 };

/** UPnP's is loaded when it is wanted: XML and HTTP are most of natward's code. */
export async function createMapper(offer: Offer, system: System): Promise<PortMapper> {
  switch (offer.protocol) {
    case 'pcp':
      return new PcpMapper(offer, system);
    case 'natpmp':
      return new NatpmpMapper(offer, system.clock);
    case 'upnp':
      return new (await import('./upnp.ts')).UpnpMapper(offer, system);
  }
}

/** Loads what UPnP takes, while the network is waited for anyway. */
export async function preloadUpnp(): Promise<void> {
  const [xml] = await Promise.all([
    import('../wire/xml.ts'),
    import('./upnp.ts'),
    import('../discovery/describe.ts'),
    import('../system/http.ts'),
  ]);
  xml.parseXml('<first>&amp;</first>'); // The parser makes its tables at its first use.
}

interface Attempt {
  readonly mapper: PortMapper;
  /** Stops its sending. */
  readonly enough: AbortController;
  /** Ends it. */
  readonly over: AbortController;
  /** Never rejects. */
  readonly outcome: Promise<Mapping | NatwardError>;
}

/** The protocols that have answered so far, in that order, and the mappings asked of them. */
export class Race {
  readonly #system: System;
  readonly #mappers: PortMapper[] = [];
  readonly #late = new Set<Promise<void>>();
  /** How long each protocol took for its last grant. */
  readonly #lastMs = new Map<PortMapper, number>();
  /** Wakes those who wait for another mapper. */
  #wake = new AbortController();
  #closed = false;

  constructor(system: System) {
    this.#system = system;
  }

  /** A protocol has answered. */
  add(mapper: PortMapper): void {
    this.#mappers.push(mapper);
    this.#notify();
  }

  /** No more protocols will answer. */
  close(): void {
    this.#closed = true;
    this.#notify();
  }

  get mappers(): readonly PortMapper[] {
    return this.#mappers;
  }

  #notify(): void {
    this.#wake.abort(OVER);
    this.#wake = new AbortController();
  }

  /**
   * Asks for one mapping and looks whether the gateway did what it said. `first` is asked before the others
   * where it has answered: the one that holds the mapping already. Throws the most telling of the refusals,
   * or NO_GATEWAY where nobody could be asked.
   */
  async map(request: MappingRequest, signal: AbortSignal, first?: MappingProtocol): Promise<Mapping> {
    const attempts: Attempt[] = [];
    const refusals: NatwardError[] = [];
    const running = new Set<Attempt>();
    for (;;) {
      const mapper = await this.#next(attempts, first, running.size > 0, signal);
      if (mapper !== undefined) {
        const [enough, over] = [new AbortController(), new AbortController()];
        const ends = AbortSignal.any([signal, over.signal]);
        const asked: MappingRequest = running.size > 0 ? { ...request, askedBefore: true } : request;
        const attempt = { mapper, enough, over, outcome: this.#ask(mapper, asked, ends, enough.signal) };
        attempts.push(attempt);
        running.add(attempt);
      } else if (running.size === 0) {
        throw mostTelling(refusals);
      }
      const patienceMs = mapper === undefined ? undefined : this.#patienceMs(mapper, request);
      const settled = await this.#firstSettled(running, patienceMs, signal);
      if (settled === undefined) continue;
      running.delete(settled.attempt);
      if (!(settled.value instanceof NatwardError)) {
        const granted = settled.value;
        this.#giveBackLate(running, granted, () => renew(settled.attempt.mapper, request, granted));
        return granted;
      }
      if (signal.aborted) throw aborted(signal);
      refusals.push(settled.value);
    }
  }

  /** Resolves when every late grant has been dealt with: afterwards nothing is mapped twice. */
  async settled(): Promise<void> {
    while (this.#late.size > 0) await Promise.all(this.#late);
  }

  /**
   * The next mapper that was not asked yet. Where others are being asked it is only looked for, not waited
   * for, since their answers may come first.
   */
  async #next(
    attempts: readonly Attempt[],
    first: MappingProtocol | undefined,
    busy: boolean,
    signal: AbortSignal,
  ): Promise<PortMapper | undefined> {
    for (;;) {
      const free = this.#mappers.filter((mapper) => !attempts.some((attempt) => attempt.mapper === mapper));
      const next = free.find((mapper) => mapper.protocol === first) ?? free[0];
      if (next !== undefined || this.#closed || busy) return next;
      if (signal.aborted) throw aborted(signal);
      await fired(AbortSignal.any([this.#wake.signal, signal]));
    }
  }

  /** The first attempt to settle; undefined when patience ends, or when another mapper can be asked. */
  async #firstSettled(
    running: ReadonlySet<Attempt>,
    patienceMs: number | undefined,
    signal: AbortSignal,
  ): Promise<{ attempt: Attempt; value: Mapping | NatwardError } | undefined> {
    const cut = new AbortController();
    const patience =
      patienceMs === undefined
        ? this.#closed
          ? []
          : [fired(AbortSignal.any([this.#wake.signal, cut.signal])).then(() => undefined)]
        : [
            this.#system.clock
              .sleep(patienceMs, AbortSignal.any([cut.signal, signal]))
              .catch(() => undefined),
          ];
    const outcomes = [...running].map((attempt) => attempt.outcome.then((value) => ({ attempt, value })));
    try {
      return (await Promise.race([...outcomes, ...patience])) ?? undefined;
    } finally {
      cut.abort(OVER);
    }
  }

  #patienceMs(mapper: PortMapper, { pace }: MappingRequest): number {
    if (pace === 'background') return BACKGROUND_HEDGE_MS[mapper.protocol];
    return Math.max(HEDGE_MS[mapper.protocol], 4 * (this.#lastMs.get(mapper) ?? 0));
  }

  async #ask(
    mapper: PortMapper,
    request: MappingRequest,
    signal: AbortSignal,
    enough: AbortSignal,
  ): Promise<Mapping | NatwardError> {
    try {
      const { clock } = this.#system;
      const startMs = clock.now();
      const mapping = await mapper.map(request, signal, enough);
      this.#lastMs.set(mapper, clock.now() - startMs);
      return (
        (await this.#wrongPort(mapper, request, mapping)) ??
        (await this.#verified(mapper, request, mapping, signal, enough))
      );
    } catch (error) {
      if (isNatwardError(error)) return error;
      const reason = error instanceof Error ? error.message : String(error);
      return new NatwardError('FAILED', `asking ${mapper.gateway} failed: ${reason}`, { cause: error });
    }
  }

  /** A grant that comes too late is not looked at for long: that it is one is enough to give it back. */
  async #verified(
    mapper: PortMapper,
    request: MappingRequest,
    mapping: Mapping,
    signal: AbortSignal,
    enough: AbortSignal,
  ): Promise<Mapping> {
    try {
      return await mapper.verify(request, mapping, AbortSignal.any([signal, enough]));
    } catch (error) {
      if (enough.aborted && isNatwardError(error, 'ABORTED')) return mapping;
      throw error;
    }
  }

  /** NAT-PMP has no "this port or none", and some gateways do not heed PCP's: what was not asked for goes back. */
  async #wrongPort(
    mapper: PortMapper,
    request: MappingRequest,
    mapping: Mapping,
  ): Promise<NatwardError | undefined> {
    const { suggestedExternalPort: wanted, protocol, held } = request;
    if (request.choice !== 'exact' || mapping.externalPort === wanted) return undefined;
    const what = `${protocol.toUpperCase()} ${wanted}`;
    const was = held?.externalPort === mapping.externalPort;
    // One that was there before stays: the gateway answers with it because the internal port is the same.
    if (!was) await mapper.unmap(mapping);
    return new NatwardError(
      'CONFLICT',
      `${mapper.gateway} has no free ${what}: it ${was ? 'keeps' : 'offered'} ${mapping.externalPort} for this host instead`,
      { advice: OTHER_PORT_ADVICE },
    );
  }

  #giveBackLate(running: ReadonlySet<Attempt>, granted: Mapping, renew: () => Promise<unknown>): void {
    for (const { mapper, enough, over, outcome } of running) {
      enough.abort(OVER);
      const cut = new AbortController();
      const work = Promise.race([
        outcome,
        this.#system.clock.sleep(LATE_MS[mapper.protocol], cut.signal).catch(() => undefined),
      ])
        .then(async (late) => {
          cut.abort(OVER);
          over.abort(OVER);
          if (late === undefined || late instanceof NatwardError) return;
          if (late.externalPort === granted.externalPort) return;
          await mapper.unmap(late);
          await renew();
        })
        .catch(() => undefined) // It ends by its own lifetime then.
        .finally(() => this.#late.delete(work));
      this.#late.add(work);
    }
  }
}

/**
 * PCP and NAT-PMP release by the inner end of a mapping, which the one that stays has as well: a gateway with
 * one table may have ended both. Asking again for what was granted changes nothing where it is still there.
 */
function renew(mapper: PortMapper, request: MappingRequest, granted: Mapping): Promise<Mapping> {
  return mapper.map({ ...request, suggestedExternalPort: granted.externalPort, choice: 'exact' });
}

/** From the one that tells a person most to the one that tells least. */
const TELLING: readonly ErrorCode[] = [
  'NOT_AUTHORIZED',
  'CONFLICT',
  'NO_RESOURCES',
  'NOT_MAPPED',
  'ONLY_PERMANENT',
  'NETWORK_DOWN',
  'REFUSED',
  'UNSUPPORTED',
  'HOSTILE',
  'MALFORMED',
  'TIMEOUT',
  'UNREACHABLE',
];

function mostTelling(refusals: readonly NatwardError[]): NatwardError {
  const rank = (error: NatwardError) => {
    const at = TELLING.indexOf(error.code);
    return at < 0 ? TELLING.length : at;
  };
  const best = [...refusals].sort((a, b) => rank(a) - rank(b))[0];
  return best ?? new NatwardError('NO_GATEWAY', 'no gateway answered over PCP, NAT-PMP or UPnP');
}
