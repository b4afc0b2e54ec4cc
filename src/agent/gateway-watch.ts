/**
 * Keeps an eye on one gateway for as long as leases need it: finds it, talks to it, notices when it starts
 * again, moves, or goes. What it notices is told; what becomes of the leases is the keeper's.
 *
 * A gateway that announces itself is asked at once; for one that says nothing there is a check every ten
 * seconds: one NAT-PMP or PCP request, whose answer carries the epoch. An announcement may be forged: it is
 * never more than a reason to ask, and no more than two a second are.
 */

import { setMaxListeners } from 'node:events';
import type { Gateway, NatpmpOffer, Offer, PcpOffer } from '../discovery/gateway.ts';
import { GRANT_SCHEDULE } from '../discovery/link.ts';
import { probeNatpmp, probePcp } from '../discovery/probe.ts';
import { chooseGateways, type GatewayChoice, noRoute } from '../discovery/route.ts';
import { type Announcement, mayBeOf, watchAnnouncements } from '../discovery/watch.ts';
import { isNatwardError, NatwardError } from '../errors.ts';
import { type Epoch, type EpochRule, keptItsTable } from '../mapping/epoch.ts';
import type { Family, IpAddress } from '../net/address.ts';
import { MAPPING_PROTOCOLS, type MappingProtocol } from '../net/protocol.ts';
import { OVER } from '../system/clock.ts';
import { randomOf } from '../system/random.ts';
import type { NetworkState } from '../system/routes.ts';
import type { System } from '../system/system.ts';
import type { GatewayStatus } from './lease.ts';
import { rememberGateways, Session } from './session.ts';
import type { Store } from './store.ts';

/** Which gateway an intent is for. */
export interface WatchChoice extends GatewayChoice {
  readonly family: Family;
  readonly via: MappingProtocol | undefined;
}

/** One conversation with the gateway, from when it answered until it, or this host's place, changed. */
export interface Line {
  readonly gateway: Gateway;
  readonly session: Session;
  /** Of the gateway's network interface, where the machine tells: the router itself, whatever its address. */
  readonly hardwareAddress: string | undefined;
  /** Fires when the line is over. */
  readonly signal: AbortSignal;
}

export interface WatchListener {
  /** A gateway answers. All that was granted before may be gone. */
  up(line: Line): void;
  /** Nobody answers any more, or there is nobody to ask. */
  down(reason: NatwardError): void;
  /** It has started again from nothing. */
  tableLost(reason: string): void;
  addressChanged(previous: IpAddress): void;
  /** Its external address, as it tells it now; the first time too. */
  addressKnown(address: IpAddress): void;
  /** Part of each check: looks at some of the leases. Throws TIMEOUT or UNREACHABLE where nobody answers. */
  look(line: Line): Promise<void>;
  warn(error: NatwardError): void;
}

/** How often a gateway that says nothing is asked, where nothing else is said: a restart is found within 15 s. */
export const CHECK_MS = 10_000;
/** After a conversation has begun: what was granted is looked at once, before it is trusted. */
const FIRST_CHECK_MS = 2000;
/** While nobody answers, each search is as long after the last as all before together, up to a check's period. */
const FIRST_RETRY_MS = 1000;
/** Whatever happens, the gateway is not asked more often. */
const SHORTEST_GAP_MS = 500;

export class GatewayWatch implements AsyncDisposable {
  readonly choice: WatchChoice;
  readonly #system: System;
  readonly #store: Store;
  readonly #listener: WatchListener;
  readonly #checkMs: number;
  readonly #over = new AbortController();
  readonly #running: Promise<void>;
  #network: NetworkState | undefined;
  #wake = new AbortController();
  #restart = false;
  #line: Line | undefined;
  #lastGateway: Gateway | undefined;
  #ears: { readonly key: string; readonly socket: AsyncDisposable | undefined } | undefined;
  /** Of the gateway with this key. */
  #epochs = new Map<EpochRule, Epoch>();
  #epochsOf: string | undefined;
  #bootIds = new Map<string, number>();
  #externalAddress: IpAddress | undefined;

  constructor(system: System, store: Store, choice: WatchChoice, listener: WatchListener, checkMs: number) {
    this.#system = system;
    this.#store = store;
    this.choice = choice;
    this.#listener = listener;
    this.#checkMs = checkMs;
    setMaxListeners(0, this.#over.signal);
    this.#running = this.#run();
  }

  /** The conversation there is; undefined while nobody answers. */
  get line(): Line | undefined {
    return this.#line;
  }

  /** Undefined where there has never been a gateway. */
  get status(): GatewayStatus | undefined {
    const gateway = this.#line?.gateway ?? this.#lastGateway;
    if (gateway === undefined) return undefined;
    const spoken = new Set(this.#line?.session.offers.map(({ protocol }) => protocol));
    return {
      address: gateway.address,
      family: gateway.family,
      interface: gateway.interface,
      localAddress: gateway.localAddress,
      state: this.#line === undefined ? 'down' : 'up',
      protocols: MAPPING_PROTOCOLS.filter((protocol) => spoken.has(protocol)),
      externalAddress: this.#externalAddress ?? null,
    };
  }

  /** The machine's network as it is now; the first one starts the search. */
  network(network: NetworkState): void {
    const before = this.#network && this.#wantedKey();
    this.#network = network;
    if (before !== this.#wantedKey()) this.wake();
  }

  /** Something speaks for its having changed: it is asked now. */
  wake(): void {
    this.#wake.abort(OVER);
  }

  /** Ends the conversation there is and begins another: the machine has slept, or a request went unanswered. */
  restart(): void {
    this.#restart = true;
    this.wake();
  }

  /** An external address that a grant told. */
  tell(externalAddress: IpAddress): void {
    const previous = this.#externalAddress;
    if (previous === externalAddress) return;
    this.#externalAddress = externalAddress;
    this.#listener.addressKnown(externalAddress);
    if (previous !== undefined) this.#listener.addressChanged(previous);
  }

  async #run(): Promise<void> {
    let retryMs = FIRST_RETRY_MS;
    while (!this.#over.signal.aborted) {
      if (this.#network === undefined) {
        // Nobody was asked yet: what the network is may be acted on at once.
        await this.#pause(this.#checkMs, 0);
        continue;
      }
      const line = await this.#find();
      if (this.#over.signal.aborted) {
        await line?.end();
        return;
      }
      if (line === undefined) {
        await this.#pause(retryMs);
        retryMs = Math.min(2 * retryMs, this.#checkMs);
        continue;
      }
      retryMs = FIRST_RETRY_MS;
      try {
        await this.#attend(line);
      } finally {
        this.#line = undefined;
        await line.end();
      }
    }
  }

  /** The best of the gateways that answers; tells why there is none. */
  async #find(): Promise<(Line & { end(): Promise<void> }) | undefined> {
    let reason: NatwardError | undefined;
    const candidates = this.#candidates();
    if (candidates instanceof NatwardError) reason = candidates;
    else {
      for (const gateway of candidates) {
        await this.#listen(gateway);
        const { line, error } = await this.#open(gateway);
        if (line !== undefined) return line;
        reason ??= error;
      }
    }
    this.#listener.down(reason ?? noRoute(this.choice.family));
    return undefined;
  }

  #candidates(): readonly Gateway[] | NatwardError {
    try {
      const found = chooseGateways(this.#network as NetworkState, this.choice);
      const ofFamily = found.filter(({ family }) => family === this.choice.family);
      return ofFamily.length > 0 ? ofFamily : noRoute(this.choice.family);
    } catch (error) {
      if (isNatwardError(error)) return error;
      throw error;
    }
  }

  /** What the machine's network says should be asked. */
  #wantedKey(): string {
    const candidates = this.#candidates();
    return candidates instanceof NatwardError ? candidates.code : candidates.map(keyOf).join('\n');
  }

  async #open(gateway: Gateway): Promise<{ line?: Line & { end(): Promise<void> }; error?: NatwardError }> {
    const over = new AbortController();
    setMaxListeners(0, over.signal); // As many as there are requests under way.
    if (this.#epochsOf !== keyOf(gateway)) {
      this.#epochs.clear();
      this.#bootIds.clear();
      this.#epochsOf = keyOf(gateway);
    }
    const session = new Session(this.#system, this.#store, gateway, {
      protocols: new Set(this.choice.via === undefined ? MAPPING_PROTOCOLS : [this.choice.via]),
      knownDevice: undefined,
      signal: over.signal,
      onOffer: (offer) => this.#offered(offer),
    });
    const stop = () => over.abort();
    this.#over.signal.addEventListener('abort', stop);
    const end = async () => {
      this.#over.signal.removeEventListener('abort', stop);
      over.abort();
      await session[Symbol.asyncDispose]();
    };
    const first = await session.mapper(() => true);
    if (first === undefined) {
      const error = await session.noOffer();
      await end();
      return { error };
    }
    const hardwareAddress = this.#system.hardwareAddress(gateway.address, gateway.interface);
    void session.discovered.then(() => rememberGateways(this.#store, [session]));
    return { line: { gateway, session, hardwareAddress, signal: over.signal, end } };
  }

  #offered(offer: Offer): void {
    if (offer.protocol === 'upnp') return;
    this.#heard(offer.protocol, offer.epochSeconds);
    if (offer.protocol === 'natpmp' && offer.externalAddress !== undefined) this.tell(offer.externalAddress);
  }

  async #attend(line: Line): Promise<void> {
    this.#line = line;
    this.#lastGateway = line.gateway;
    this.#restart = false;
    const wanted = this.#wantedKey();
    this.#listener.up(line);
    for (let periodMs = FIRST_CHECK_MS; ; periodMs = this.#checkMs) {
      // Those who were set up together do not go on to ask together.
      await this.#pause(periodMs * (0.9 + 0.2 * randomOf(this.#system)));
      if (this.#over.signal.aborted || this.#restart || wanted !== this.#wantedKey()) return;
      if (!(await this.#check(line))) return;
    }
  }

  /** Reports whether the conversation can go on. */
  async #check(line: Line): Promise<boolean> {
    const { offers } = line.session;
    const natpmp = offers.find((offer) => offer.protocol === 'natpmp');
    const pcp = offers.find((offer) => offer.protocol === 'pcp');
    const before = this.#externalAddress;
    try {
      if (natpmp !== undefined) await this.#checkNatpmp(natpmp, line.signal);
      else if (pcp !== undefined) await this.#checkPcp(pcp, line.signal);
      if (natpmp === undefined) await this.#checkUpnpAddress(line);
      // Mappers know the address that they found at first.
      if (before !== undefined && before !== this.#externalAddress) return false;
      await this.#listener.look(line);
      return true;
    } catch (error) {
      if (isNatwardError(error)) return false;
      throw error;
    }
  }

  /** With the schedule of a grant: a check that takes as long as RFC 6887 would have it finds a restart too late. */
  async #checkNatpmp({ gateway, link }: NatpmpOffer, signal: AbortSignal): Promise<void> {
    const answer = await probeNatpmp(gateway, link, signal, GRANT_SCHEDULE);
    this.#heard('natpmp', answer.epochSeconds);
    if (answer.externalAddress !== undefined) this.tell(answer.externalAddress);
  }

  async #checkPcp({ gateway, link }: PcpOffer, signal: AbortSignal): Promise<void> {
    this.#heard('pcp', (await probePcp(gateway, link, signal, GRANT_SCHEDULE)).epochSeconds);
  }

  async #checkUpnpAddress({ session, signal, gateway }: Line): Promise<void> {
    if (gateway.family === 6) return;
    const upnp = session.race.mappers.find(({ protocol }) => protocol === 'upnp');
    const address = await upnp?.externalAddress(signal);
    if (address !== undefined) this.tell(address);
  }

  #heard(rule: EpochRule, epochSeconds: number): void {
    const next = this.#epoch(epochSeconds);
    const last = this.#epochs.get(rule);
    this.#epochs.set(rule, next);
    if (last !== undefined && !keptItsTable(rule, last, next)) {
      const name = rule === 'pcp' ? 'PCP' : 'NAT-PMP';
      this.#epochs = new Map([[rule, next]]); // The other one is of the life before.
      this.#listener.tableLost(`the gateway has started again: its ${name} clock says ${epochSeconds} s`);
    }
  }

  #epoch(epochSeconds: number): Epoch {
    const { clock } = this.#system;
    return { epochSeconds, heardAtMs: clock.now(), heardSteadyMs: clock.steady() };
  }

  async #listen(gateway: Gateway): Promise<void> {
    const key = `${gateway.interface} ${gateway.localAddress}`;
    if (this.#ears?.key === key) return;
    await this.#ears?.socket?.[Symbol.asyncDispose]();
    const socket = await watchAnnouncements(this.#system, gateway, (heard) => this.#announced(heard)).catch(
      (cause: Error) => {
        this.#listener.warn(
          new NatwardError(
            'FAILED',
            `announcements cannot be heard on ${gateway.interface}: ${cause.message}`,
            {
              cause,
              advice: 'A gateway that starts again is then noticed by asking, within 15 s.',
            },
          ),
        );
        return undefined;
      },
    );
    this.#ears = { key, socket };
  }

  #announced(heard: Announcement): void {
    if (this.#isNews(heard)) this.wake();
  }

  /** Gateways repeat themselves: what agrees with what is known is no reason to ask. */
  #isNews(heard: Announcement): boolean {
    const line = this.#line;
    if (line === undefined) return true;
    switch (heard.kind) {
      case 'natpmp':
      case 'pcp': {
        const last = this.#epochs.get(heard.kind);
        const next = this.#epoch(heard.epochSeconds);
        const moved = heard.kind === 'natpmp' && heard.externalAddress !== this.#externalAddress;
        return moved || last === undefined || !keptItsTable(heard.kind, last, next);
      }
      case 'upnp-alive': {
        const devices = line.session.offers.flatMap((offer) =>
          offer.protocol === 'upnp' ? [offer.device] : [],
        );
        const isOurs = mayBeOf(line.gateway, heard);
        if (!isOurs && !devices.some(({ host }) => host === heard.source)) return false;
        if (devices.length > 0 && !devices.some(({ location }) => location === heard.location)) return true;
        // One for the gateway, whichever address it or a forger says it has.
        const from = isOurs ? line.gateway.address : heard.source;
        const known = this.#bootIds.get(from);
        if (heard.bootId !== undefined) this.#bootIds.set(from, heard.bootId);
        return known !== undefined && known !== heard.bootId;
      }
      case 'upnp-byebye':
      case 'upnp-update':
        return mayBeOf(line.gateway, heard);
    }
  }

  /** Resolves after `delayMs`, or sooner when something speaks for looking now, but not at once again and again. */
  async #pause(delayMs: number, gapMs: number = SHORTEST_GAP_MS): Promise<void> {
    const { clock } = this.#system;
    const end = this.#over.signal;
    const cut = new AbortController();
    const stop = () => cut.abort(OVER);
    end.addEventListener('abort', stop);
    try {
      if (gapMs > 0) await clock.sleep(Math.min(delayMs, gapMs), cut.signal);
      this.#wake.signal.addEventListener('abort', stop);
      if (this.#wake.signal.aborted) return;
      await clock.sleep(delayMs - gapMs, cut.signal);
    } catch {
      // Woken.
    } finally {
      end.removeEventListener('abort', stop);
      this.#wake.signal.removeEventListener('abort', stop);
      if (this.#wake.signal.aborted) this.#wake = new AbortController();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    await this.#running;
    await this.#ears?.socket?.[Symbol.asyncDispose]();
  }
}

function keyOf({ address, interface: name, localAddress, ports }: Gateway): string {
  return `${address} ${name} ${localAddress} ${ports.pcp} ${ports.ssdp}`;
}
