/**
 * The relay: rules carried out by listening, on any platform and without privileges. Knows where it listens, which
 * rules each place has and what runs; gate.ts says who may pass, tcp.ts and udp.ts carry what passes.
 *
 * A table is taken whole: what is new is opened first, then all places switch to the new rules in one turn, then what
 * nobody wants is closed. A conversation keeps the rule that it began under; a rule that says the same in both tables
 * keeps its state, and its conversations do not notice.
 */

import { NatwardError } from '../../errors.ts';
import { ANY_IPV4, ANY_IPV6, family } from '../../net/address.ts';
import { formatEndpoint, type Endpoint } from '../../net/endpoint.ts';
import type { TransportProtocol } from '../../net/protocol.ts';
import { type Clock, OVER } from '../../system/clock.ts';
import type { Names } from '../../system/names.ts';
import type { InterfaceAddress } from '../../system/routes.ts';
import type {
  Activity,
  ApplyOptions,
  ApplyReport,
  Conversation,
  EngineEvent,
  ForwardEngine,
  Shortcoming,
} from '../engine.ts';
import type { FirstPacket } from '../decide.ts';
import type { Rule } from '../rule.ts';
import { isSame, type Table } from '../table.ts';
import { formatRule } from '../text.ts';
import type { Datagrams } from './datagram.ts';
import { nodeDatagramHandles } from './datagram-handles.ts';
import { nodeDatagramSockets } from './datagram-sockets.ts';
import { Gate, type HostsTexts } from './gate.ts';
import { type Place, planPlaces } from './places.ts';
import { RuleState, type Shown } from './rule-state.ts';
import { relayShortcoming } from './shortcoming.ts';
import { ListenError, type Stream, type Streams } from './stream.ts';
import type { Tap } from './tap.ts';
import { TargetNames } from './target-names.ts';
import { type Admission, type Arrival, TcpConversation, type TcpContext } from './tcp.ts';
import { listenUdp, UdpConversation, type UdpContext } from './udp.ts';

export interface RelayOptions {
  readonly clock: Clock;
  readonly names: Names;
  readonly streams: Streams;
  /** Undefined: the fastest that this Node has. */
  readonly datagrams?: Datagrams;
  /** Addresses of this host, now. */
  readonly ownAddresses: () => readonly InterfaceAddress[];
  readonly readHosts: () => HostsTexts;
  /** Files and sockets that this process may have open. */
  readonly fileLimit: number;
}

/** What the conversations are looked at by: how late an idle one may end. */
const TICK_MS = 500;
/** Files that the rest of natward needs. */
const RESERVED_FILES = 256;
const MAX_CONVERSATIONS = 65_536;
/** Of all conversations, what one client may have where its rule says nothing. */
const CLIENT_SHARE = 0.75;
/** Places opened without a look at what else waits. */
const BATCH = 500;
/** For so long a place that could not accept is spoken of. */
const TROUBLE_MS = 10_000;
const ADDRESSES_MS = 2000;

/** A place that is open. */
interface Open {
  readonly place: Place;
  readonly context: PlaceContext;
  /** No new conversations. Reports nothing; what runs goes on. */
  readonly retire: () => void;
  /** Reports whether it takes new ones again. */
  readonly revive: () => boolean;
  readonly close: () => void;
  readonly isClosed: () => boolean;
}

type Running = TcpConversation | UdpConversation;

export class Relay implements ForwardEngine {
  readonly name = 'relay';
  readonly #options: RelayOptions;
  readonly clock: Clock;
  readonly datagrams: Datagrams;
  readonly names: TargetNames;
  readonly gate: Gate;
  #table: Table = [];
  #states = new Map<string, RuleState>();
  #open = new Map<string, Open>();
  /** UDP sockets that live as long as their last conversations. */
  readonly #retired = new Map<string, Open>();
  readonly #running = new Set<Running>();
  readonly #taps = new Set<Tap>();
  readonly #listeners = new Set<(event: EngineEvent) => void>();
  #trouble: (key: string, error: NatwardError | undefined) => void = () => undefined;
  /** Of accepting; undefined: there is none. */
  #troubleUntilMs: number | undefined;
  readonly #over = new AbortController();
  #ticking = false;
  #applying: Promise<unknown> = Promise.resolve();
  #addresses = '';
  /** All places of the table are open. */
  #isWhole = true;
  /** Nothing new begins any more. */
  #isEnding = false;
  readonly #watching: Promise<void>;
  #ids = 0;
  tick = 0;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.clock = options.clock;
    this.datagrams = options.datagrams ?? nodeDatagramHandles() ?? nodeDatagramSockets;
    this.names = new TargetNames(options.names, options.clock);
    this.gate = new Gate({
      clock: options.clock,
      names: this.names,
      readHosts: options.readHosts,
      openPerClient: Math.floor(this.#maxConversations * CLIENT_SHARE),
    });
    this.#watching = this.#watch();
  }

  get streams(): Streams {
    return this.#options.streams;
  }

  /** Each takes two sockets, and what listens takes one. */
  get #maxConversations(): number {
    const left = (this.#options.fileLimit - RESERVED_FILES - this.#open.size) / 2;
    return Math.max(Math.min(Math.floor(left), MAX_CONVERSATIONS), 1);
  }

  shortcoming(rule: Rule): Shortcoming | undefined {
    return relayShortcoming(rule);
  }

  apply(table: Table, options: ApplyOptions): Promise<ApplyReport> {
    return this.#inTurn(() => this.#apply(table, options));
  }

  #inTurn<T>(apply: () => Promise<T>): Promise<T> {
    const applying = this.#applying.then(apply);
    this.#applying = applying.catch(() => undefined);
    return applying;
  }

  async #apply(table: Table, { conversations }: ApplyOptions): Promise<ApplyReport> {
    if (this.#isEnding) throw new NatwardError('ABORTED', 'the relay takes no table any more: it ends');
    for (const rule of table) this.#checkCan(rule);
    const own = this.#options.ownAddresses();
    const plan = planPlaces(table, own);
    this.#checkRoom(plan.places.size);
    const states = this.#statesFor(table);
    await this.#move(plan.places, states);
    for (const [id, state] of this.#states) if (states.get(id) !== state) state.isOver = true;
    this.#table = table;
    this.#states = states;
    this.#addresses = JSON.stringify(own);
    this.gate.ownAddresses = own.map(({ address }) => address);
    this.names.keepOnly(namesIn(table));
    if (!this.#isWhole) this.#trouble('listen', undefined);
    this.#isWhole = true;
    const affected = [...this.#running].filter((one) => one.hasBegun && one.state.isOver);
    if (conversations === 'cut') for (const one of affected) one.cut('its rule is gone or changed');
    return { affected: affected.length, waiting: plan.waiting };
  }

  #checkCan(rule: Rule): void {
    const shortcoming = rule.enabled ? this.shortcoming(rule) : undefined;
    if (shortcoming === undefined) return;
    const { field, reason, advice } = shortcoming;
    throw new NatwardError('UNSUPPORTED', `rule ${rule.id} (${formatRule(rule)}): ${field}: ${reason}`, {
      advice,
    });
  }

  #checkRoom(places: number): void {
    const { fileLimit } = this.#options;
    if (places <= fileLimit - RESERVED_FILES) return;
    throw new NatwardError(
      'NO_RESOURCES',
      `the table listens in ${places} places, and this process may have ${fileLimit} files open, ${RESERVED_FILES} of them for other things`,
      { advice: 'Raise the limit: LimitNOFILE= in the systemd unit, or ulimit -Hn.' },
    );
  }

  #statesFor(table: Table): Map<string, RuleState> {
    return new Map(
      table.map((rule) => {
        const before = this.#states.get(rule.id);
        if (before !== undefined && isSame(before.rule, rule)) return [rule.id, before] as const;
        const state = new RuleState(rule, this.clock.steady());
        if (before !== undefined) state.inherit(before);
        return [rule.id, state] as const;
      }),
    );
  }

  /** Opens, switches and closes; throws with all as it was. */
  async #move(places: ReadonlyMap<string, Place>, states: ReadonlyMap<string, RuleState>): Promise<void> {
    const going = [...this.#open].filter(([key]) => !places.has(key));
    const leaving = new Map<string, Open[]>();
    for (const open of [...going.map(([, open]) => open), ...this.#retired.values()]) {
      const key = portKey(open.place);
      leaving.set(key, [...(leaving.get(key) ?? []), open]);
    }
    const opened = new Map<string, Open>();
    const swapped = new Set<Open>();
    try {
      for (const [key, place] of places) {
        if (this.#open.has(key)) continue;
        const retired = this.#retired.get(key);
        if (retired?.revive()) {
          opened.set(key, retired);
          continue;
        }
        for (const inTheWay of leaving.get(portKey(place)) ?? []) {
          if (!overlap(inTheWay.place, place)) continue;
          swapped.add(inTheWay);
          inTheWay.close();
        }
        opened.set(key, await this.#openPlace(place));
        if (opened.size % BATCH === 0) await new Promise((resolve) => setImmediate(resolve));
      }
    } catch (error) {
      for (const [key, open] of opened) {
        if (this.#retired.get(key) === open) open.retire();
        else open.close();
      }
      for (const [key, open] of going) if (swapped.has(open)) await this.#reopen(key, open);
      throw error;
    }
    for (const [key, open] of this.#retired) {
      if (swapped.has(open) || opened.has(key) || open.isClosed()) this.#retired.delete(key);
    }
    for (const [key, open] of going) {
      this.#open.delete(key);
      if (swapped.has(open)) open.context.states = [];
      else this.#retire(key, open);
    }
    for (const [key, place] of places) {
      const open = opened.get(key) ?? this.#open.get(key);
      if (open === undefined) continue;
      open.context.states = statesOf(place, states);
      this.#open.set(key, open);
    }
  }

  /** Nothing begins there any more, not even what was about to. */
  #retire(key: string, open: Open): void {
    open.context.states = [];
    open.retire();
    if (open.place.protocol === 'udp') this.#retired.set(key, open);
  }

  async #reopen(key: string, { place, context }: Open): Promise<void> {
    try {
      const open = await this.#openPlace(place);
      open.context.states = context.states;
      this.#open.set(key, open);
    } catch (error) {
      this.#open.delete(key);
      this.#isWhole = false;
      this.#trouble('listen', error as NatwardError);
    }
  }

  /** It lets nobody in until it is given its rules. */
  async #openPlace(place: Place): Promise<Open> {
    const context = new PlaceContext(this, place);
    try {
      if (place.protocol === 'udp') {
        const listener = await listenUdp(place, context);
        return {
          place,
          context,
          retire: () => listener.retire(),
          revive: () => listener.revive(),
          close: () => listener.close(),
          isClosed: () => listener.isClosed,
        };
      }
      const listener = await this.streams.listen(
        place,
        (stream) => this.#accepted(stream, context),
        (code) => this.#notAccepted(code, place),
      );
      const close = () => listener.close();
      return { place, context, retire: close, revive: () => false, close, isClosed: () => true };
    } catch (error) {
      if (error instanceof ListenError) throw listenFailure(place, error.code);
      throw error;
    }
  }

  #accepted(stream: Stream, context: PlaceContext): void {
    const client = stream.remote;
    const local = context.isWild ? stream.local : context.endpoint;
    if (client === undefined || local === undefined) {
      stream.close();
      return;
    }
    if (this.#isEnding) {
      stream.reset();
      return;
    }
    if (this.#running.size >= this.#maxConversations) {
      stream.reset();
      this.#notAccepted('EMFILE', context.place);
      return;
    }
    const conversation = new TcpConversation(stream, { client, local }, context);
    this.#running.add(conversation);
    if (context.isGreeted(client)) conversation.greet();
    else conversation.begin();
    this.#beginTicking();
  }

  #notAccepted(code: string, { protocol, port }: Place): void {
    this.#troubleUntilMs = this.clock.steady() + TROUBLE_MS;
    const isFull = code === 'EMFILE' || code === 'ENFILE';
    const message = isFull
      ? `no conversation more: ${this.#running.size} run, and this process may have ${this.#options.fileLimit} files open`
      : `${protocol.toUpperCase()} ${port}: cannot accept: ${code}`;
    const advice = 'Raise the limit: LimitNOFILE= in the systemd unit, or limit what the rules let in.';
    this.#trouble('accept', new NatwardError('NO_RESOURCES', message, isFull ? { advice } : {}));
    this.#beginTicking();
  }

  /** Another conversation of this client at a place begins. Only for those of UDP: TCP's are known already. */
  add(conversation: Running): void {
    this.#running.add(conversation);
    this.#beginTicking();
  }

  get isFull(): boolean {
    return this.#running.size >= this.#maxConversations;
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

  refused(conversation: Running | undefined, { state, reason = '' }: Admission, client: Endpoint): void {
    if (conversation !== undefined) this.#running.delete(conversation);
    state?.refuse(`${formatEndpoint(client)}: ${reason}`, this.clock.now());
    if (this.#listeners.size > 0) {
      this.#emit({ type: 'refused', ruleId: state?.rule.id ?? null, client, reason });
    }
  }

  nextId(): number {
    this.#ids++;
    return this.#ids;
  }

  #emit(event: EngineEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  #beginTicking(): void {
    if (this.#ticking) return;
    this.#ticking = true;
    void this.#ticks();
  }

  /** Goes on as long as there is anything to look at. */
  async #ticks(): Promise<void> {
    while (this.#running.size > 0 || this.#taps.size > 0 || this.#troubleUntilMs !== undefined) {
      const isOver = await this.clock.sleep(TICK_MS, this.#over.signal).then(
        () => false,
        () => true,
      );
      if (isOver) return;
      this.tick++;
      const nowMs = this.clock.steady();
      for (const one of this.#running) one.look(nowMs);
      for (const tap of this.#taps) if (tap.look(nowMs)) this.#taps.delete(tap);
      if (this.#troubleUntilMs !== undefined && nowMs >= this.#troubleUntilMs) {
        this.#troubleUntilMs = undefined;
        this.#trouble('accept', undefined);
      }
    }
    this.#ticking = false;
  }

  /** Where this host's addresses change, places come and go; what could not be opened is tried again. */
  async #watch(): Promise<void> {
    for (;;) {
      const isOver = await this.clock.sleep(ADDRESSES_MS, this.#over.signal).then(
        () => false,
        () => true,
      );
      if (isOver || this.#isEnding) return;
      if (this.#table.length === 0) continue;
      if (this.#isWhole && JSON.stringify(this.#options.ownAddresses()) === this.#addresses) continue;
      try {
        // Another table may be on its way: the one to take again is the one that is there then.
        await this.#inTurn(() => this.#apply(this.#table, { conversations: 'drain' }));
      } catch (error) {
        if (this.#isEnding) return;
        this.#isWhole = false;
        this.#trouble('listen', error as NatwardError);
      }
    }
  }

  affected(table: Table): readonly Conversation[] {
    const after = new Map(table.map((rule) => [rule.id, rule] as const));
    return [...this.#running]
      .filter((one) => {
        if (!one.hasBegun) return false;
        const rule = after.get(one.state.rule.id);
        return one.state.isOver || rule === undefined || !isSame(rule, one.state.rule);
      })
      .map(shown);
  }

  refusal(rule: Rule, packet: FirstPacket): Promise<string | null> {
    return this.gate.refusal(rule, packet.source.address);
  }

  activity(): ReadonlyMap<string, Activity> {
    return new Map([...this.#states].map(([id, state]) => [id, state.activity] as const));
  }

  conversations(): readonly Conversation[] {
    return [...this.#running].filter((one) => one.hasBegun).map(shown);
  }

  listen(listener: (event: EngineEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  onTrouble(listener: (key: string, error: NatwardError | undefined) => void): void {
    this.#trouble = listener;
  }

  async drain(limitMs: number): Promise<void> {
    this.#isEnding = true;
    await this.#applying;
    for (const [key, open] of this.#open) this.#retire(key, open);
    this.#open.clear();
    const endMs = this.clock.steady() + limitMs;
    // A conversation of UDP has no end of its own.
    const isBusy = () => [...this.#running].some((one) => one instanceof TcpConversation);
    while (isBusy() && this.clock.steady() < endMs) await this.clock.sleep(DRAIN_LOOK_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isEnding = true;
    this.#over.abort(OVER);
    await this.#applying;
    for (const open of [...this.#open.values(), ...this.#retired.values()]) open.close();
    this.#open.clear();
    for (const one of this.#running) one.cut('natward ends');
    for (const tap of this.#taps) tap.close();
    await this.#watching;
  }
}

const DRAIN_LOOK_MS = 20;

/** A place as its conversations see it: the engine, and the rules that it has just now. */
class PlaceContext implements TcpContext, UdpContext {
  readonly relay: Relay;
  readonly place: Place;
  readonly endpoint: Endpoint;
  readonly isWild: boolean;
  states: readonly RuleState[] = [];

  constructor(relay: Relay, place: Place) {
    this.relay = relay;
    this.place = place;
    this.endpoint = { address: place.address, port: place.port };
    this.isWild = isWild(place);
  }

  get clock(): Clock {
    return this.relay.clock;
  }

  get names(): TargetNames {
    return this.relay.names;
  }

  get streams(): Streams {
    return this.relay.streams;
  }

  get datagrams(): Datagrams {
    return this.relay.datagrams;
  }

  get tick(): number {
    return this.relay.tick;
  }

  /** Reports whether this peer is to say who the client is. */
  isGreeted({ address }: Endpoint): boolean {
    return this.states.some(({ greets }) => greets?.({ address }));
  }

  admit(arrival: Arrival): Promise<Admission> | Admission {
    if (this.protocol === 'udp' && this.relay.isFull) {
      return { state: undefined, reason: 'too many conversations run' };
    }
    return this.relay.gate.admit(this.protocol, arrival, this);
  }

  get protocol(): TransportProtocol {
    return this.place.protocol;
  }

  begun(conversation: UdpConversation): void {
    this.relay.add(conversation);
  }

  tapped(tap: Tap): void {
    this.relay.tapped(tap);
  }

  opened(conversation: Running): void {
    this.relay.opened(conversation);
  }

  closed(conversation: Running, reason: string): void {
    this.relay.closed(conversation, reason);
  }

  refused(conversation: Running, admission: Admission, client: Endpoint): void {
    this.relay.refused(conversation, admission, client);
  }

  nextId(): number {
    return this.relay.nextId();
  }
}

function statesOf({ rules }: Place, states: ReadonlyMap<string, RuleState>): readonly RuleState[] {
  return rules.map(({ id }) => states.get(id) as RuleState);
}

function portKey({ protocol, port }: Place): string {
  return `${protocol} ${port}`;
}

function shown(one: Shown & { readonly protocol: TransportProtocol }): Conversation {
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

function isWild({ address }: Place): boolean {
  return address === ANY_IPV6 || address === ANY_IPV4;
}

/** Reports whether one socket cannot listen at both, which have one port. */
function overlap(a: Place, b: Place): boolean {
  if (a.address === b.address || a.address === ANY_IPV6 || b.address === ANY_IPV6) return true;
  return (isWild(a) || isWild(b)) && family(a.address) === family(b.address);
}

/** The names that the rules send to. */
function namesIn(table: Table): ReadonlySet<string> {
  return new Set(
    table.flatMap(({ targets, clone }) =>
      [...targets, ...(clone === undefined ? [] : [clone])].flatMap(({ host }) => host ?? []),
    ),
  );
}

function listenFailure({ protocol, address, port, rules: [rule] }: Place, code: string): NatwardError {
  const what = `${protocol.toUpperCase()} ${formatEndpoint({ address, port })}, for rule ${rule?.id}`;
  const flag = protocol === 'tcp' ? 't' : 'u';
  switch (code) {
    case 'EADDRINUSE':
      return new NatwardError('CONFLICT', `another program listens on ${what}`, {
        advice: `ss -l${flag}np 'sport = :${port}' shows which; let it listen on 127.0.0.1 alone, or choose another port.`,
      });
    case 'EACCES':
      return new NatwardError(
        'NOT_AUTHORIZED',
        `this user may not listen on ${what}: ports below 1024 are privileged`,
        {
          advice: `Run the agent as a service (natward service install), or: sysctl net.ipv4.ip_unprivileged_port_start=${port}`,
        },
      );
    case 'EADDRNOTAVAIL':
      return new NatwardError('FAILED', `this host does not have the address of ${what}`, {
        advice: 'ip address shows those it has.',
      });
    case 'EMFILE':
    case 'ENFILE':
      return new NatwardError('NO_RESOURCES', `no file handle is left to listen on ${what}`, {
        advice: 'Raise the limit: LimitNOFILE= in the systemd unit, or ulimit -Hn.',
      });
    default:
      return new NatwardError('FAILED', `cannot listen on ${what}: ${code}`);
  }
}
