/**
 * The relay: rules carried out by listening, on any platform and without privileges. Knows where it listens, and which
 * rules each place has; gate.ts says who may pass, tcp.ts and udp.ts carry what passes, conversations.ts has what runs.
 *
 * A table is taken whole: what is new is opened first, then all places switch to the new rules in one turn, then what
 * nobody wants is closed. A conversation keeps the rule that it began under; a rule that says the same in both tables
 * keeps its state, and its conversations do not notice.
 */

import { NatwardError } from '../../errors.ts';
import { type Clock, OVER } from '../../system/clock.ts';
import type { Names } from '../../system/names.ts';
import type { InterfaceAddress } from '../../system/routes.ts';
import {
  type Activity,
  type ApplyOptions,
  type ApplyReport,
  checkCan,
  type Conversation,
  type EngineEvent,
  type EngineName,
  type ForwardEngine,
  type Shortcoming,
} from '../engine.ts';
import type { FirstPacket } from '../decide.ts';
import type { Rule } from '../rule.ts';
import { type Exchange, exchanged, isSame, type Table } from '../table.ts';
import { targetNames } from '../target.ts';
import { formatRule } from '../text.ts';
import { Conversations, shown } from './conversations.ts';
import type { Datagrams } from './datagram.ts';
import { Gate, type HostsTexts } from './gate.ts';
import { Layout } from './layout.ts';
import { listenFailure, type Open, Openings } from './openings.ts';
import { PlaceContext } from './place-context.ts';
import { type Place, placeKey } from './places.ts';
import { RuleState } from './rule-state.ts';
import { relayShortcoming } from './shortcoming.ts';
import { ListenError, type Stream, type Streams } from './stream.ts';
import { TargetNames } from './target-names.ts';
import { TcpConversation } from './tcp.ts';
import { listenUdp } from './udp.ts';

export interface RelayOptions {
  readonly clock: Clock;
  readonly names: Names;
  readonly streams: Streams;
  readonly datagrams: Datagrams;
  /** Addresses of this host, now. */
  readonly ownAddresses: () => readonly InterfaceAddress[];
  readonly readHosts: () => HostsTexts;
  /** Files and sockets that this process may have open. */
  readonly fileLimit: number;
  /** Who could carry what the relay cannot, and what that takes on this machine, for the words of a refusal. */
  readonly kernelCan: string;
}

/** Files that the rest of natward needs. */
const RESERVED_FILES = 256;
const MAX_CONVERSATIONS = 65_536;
/** Of all conversations, what one client may have where its rule says nothing. */
const CLIENT_SHARE = 0.75;
const ADDRESSES_MS = 2000;

interface OpenPlace extends Open {
  readonly context: PlaceContext;
}

export class Relay implements ForwardEngine {
  readonly name = 'relay';
  readonly #options: RelayOptions;
  readonly clock: Clock;
  readonly names: TargetNames;
  readonly gate: Gate;
  readonly running: Conversations;
  #table: Table = [];
  readonly #states = new Map<string, RuleState>();
  /** Of the table. */
  #layout: Layout = new Layout([]);
  readonly #openings: Openings<OpenPlace>;
  #trouble: (key: string, error: NatwardError | undefined) => void = () => undefined;
  #waits: (waiting: ApplyReport['waiting']) => void = () => undefined;
  readonly #over = new AbortController();
  #applying: Promise<unknown> = Promise.resolve();
  #addresses = '';
  /** All places of the table are open. */
  #isWhole = true;
  /** Nothing new begins any more. */
  #isEnding = false;
  readonly #watching: Promise<void>;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.clock = options.clock;
    this.#openings = new Openings(
      (place) => this.#openPlace(place),
      (error) => {
        this.#isWhole = false;
        this.#trouble('listen', error);
      },
    );
    this.names = new TargetNames(options.names, options.clock);
    this.gate = new Gate({
      clock: options.clock,
      names: this.names,
      readHosts: options.readHosts,
      openPerClient: Math.floor(this.#maxConversations * CLIENT_SHARE),
    });
    this.running = new Conversations(
      options.clock,
      { most: () => this.#maxConversations, fileLimit: options.fileLimit },
      this.#over.signal,
    );
    this.running.onTrouble = (error) => this.#trouble('accept', error);
    this.#watching = this.#watch();
  }

  get streams(): Streams {
    return this.#options.streams;
  }

  get datagrams(): Datagrams {
    return this.#options.datagrams;
  }

  /** Each takes two sockets, and what listens takes one. */
  get #maxConversations(): number {
    const left = (this.#options.fileLimit - RESERVED_FILES - this.#openings.size) / 2;
    return Math.max(Math.min(Math.floor(left), MAX_CONVERSATIONS), 1);
  }

  shortcoming(rule: Rule): Shortcoming | undefined {
    return relayShortcoming(rule, this.#options.kernelCan);
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
    const own = this.#options.ownAddresses();
    const addresses = JSON.stringify(own);
    // One rule more, beside tens of thousands, is to cost no more than that one.
    const isPart = this.#isWhole && addresses === this.#addresses;
    const exchange = isPart ? exchanged(this.#table, table) : { gone: this.#table, come: table };
    const called = (rule: Rule) => `rule ${rule.id} (${formatRule(rule)})`;
    for (const rule of exchange.come) checkCan(this, rule, called);
    const layout = isPart ? this.#layout : new Layout(own);
    const change = layout.changeTo(table, isPart ? exchange : { gone: [], come: table });
    this.#checkRoom(change.size);
    const wanted = [...change.ports.values()].flat();
    const states = this.#statesFor(exchange.come);
    await this.#move(
      wanted,
      isPart ? [...change.ports.keys()].flatMap((key) => layout.placesAt(key)) : this.#openings.places(),
      states,
    );
    layout.commit(change);
    this.#layout = layout;
    this.#table = table;
    this.#replaceStates(exchange, states);
    this.#addresses = addresses;
    this.gate.know(own);
    if (exchange.gone.some((rule) => targetNames(rule).length > 0)) {
      this.names.keepOnly(new Set(table.flatMap(targetNames)));
    }
    if (!this.#isWhole) this.#trouble('listen', undefined);
    this.#isWhole = true;
    const affected = this.running.begun.filter(({ state }) => state.isOver);
    if (conversations === 'cut') for (const one of affected) one.cut('its rule is gone or changed');
    return { affected: affected.length, waiting: layout.waiting(table) };
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

  /** Of rules that come, those that they have already or new ones. */
  #statesFor(rules: readonly Rule[]): ReadonlyMap<string, RuleState> {
    return new Map(
      rules.map((rule) => {
        const before = this.#states.get(rule.id);
        if (before !== undefined && isSame(before.rule, rule)) return [rule.id, before] as const;
        const state = new RuleState(rule, this.clock.steady());
        if (before !== undefined) state.inherit(before);
        return [rule.id, state] as const;
      }),
    );
  }

  #replaceStates({ gone }: Exchange, states: ReadonlyMap<string, RuleState>): void {
    for (const { id } of gone) {
      const state = this.#states.get(id);
      if (state === undefined || states.get(id) === state) continue;
      state.isOver = true;
      this.#states.delete(id);
    }
    for (const [id, state] of states) this.#states.set(id, state);
  }

  /** Throws with all as it was, but for what could not be opened again. */
  async #move(
    wanted: readonly Place[],
    before: readonly Place[],
    states: ReadonlyMap<string, RuleState>,
  ): Promise<void> {
    const kept = new Set(wanted.map(placeKey));
    try {
      await this.#openings.move(
        wanted,
        before.filter((place) => !kept.has(placeKey(place))),
      );
    } catch (error) {
      this.#letIn(this.#layout.places(), this.#states);
      throw error;
    }
    this.#letIn(wanted, states);
  }

  /** All in one turn: what begins from now on begins under these rules. Of one that stays as it is, the state does. */
  #letIn(places: Iterable<Place>, states: ReadonlyMap<string, RuleState>): void {
    for (const place of places) {
      const context = this.#openings.at(place)?.context;
      if (context === undefined) continue;
      context.states = place.rules.map(({ id }) => (states.get(id) ?? this.#states.get(id)) as RuleState);
    }
  }

  /** It lets nobody in until it is given its rules. */
  async #openPlace(place: Place): Promise<OpenPlace> {
    const context = new PlaceContext(this, place);
    try {
      if (place.protocol === 'udp') {
        const listener = await listenUdp(place, context);
        return {
          place,
          context,
          retire: () => {
            context.states = [];
            listener.retire();
          },
          revive: () => listener.revive(),
          close: () => listener.close(),
          isClosed: () => listener.isClosed,
        };
      }
      const listener = await this.streams.listen(
        place,
        (stream) => this.#accepted(stream, context),
        (code) => this.running.notAccepted(code, place),
      );
      const close = () => {
        context.states = [];
        listener.close();
      };
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
    if (this.running.isFull) {
      stream.reset();
      this.running.notAccepted('EMFILE', context.place);
      return;
    }
    const conversation = new TcpConversation(stream, { client, local }, context);
    this.running.add(conversation);
    if (context.isGreeted(client)) conversation.greet();
    else conversation.begin();
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
        const report = await this.#inTurn(() => this.#apply(this.#table, { conversations: 'drain' }));
        this.#waits(report.waiting);
      } catch (error) {
        if (this.#isEnding) return;
        this.#isWhole = false;
        this.#trouble('listen', error as NatwardError);
      }
    }
  }

  async affected(table: Table): Promise<readonly Conversation[]> {
    const after = new Map(table.map((rule) => [rule.id, rule] as const));
    return this.running.begun
      .filter(({ state }) => {
        const rule = after.get(state.rule.id);
        return state.isOver || rule === undefined || !isSame(rule, state.rule);
      })
      .map(shown);
  }

  refusal(rule: Rule, packet: FirstPacket): Promise<string | null> {
    return this.gate.refusal(rule, packet.source.address);
  }

  carriedBy(_rule: Rule): readonly EngineName[] {
    return CARRIED_BY;
  }

  /** Whoever can connect to it gets through: it listens as any program does. */
  async obstacles(_rule: Rule, _packet?: FirstPacket): Promise<readonly string[]> {
    return [];
  }

  async activity(): Promise<ReadonlyMap<string, Activity>> {
    return new Map([...this.#states].map(([id, state]) => [id, state.activity] as const));
  }

  async conversations(): Promise<readonly Conversation[]> {
    return this.running.begun.map(shown);
  }

  listen(listener: (event: EngineEvent) => void): () => void {
    return this.running.listen(listener);
  }

  onTrouble(listener: (key: string, error: NatwardError | undefined) => void): void {
    this.#trouble = listener;
  }

  onWaiting(listener: (waiting: ApplyReport['waiting']) => void): void {
    this.#waits = listener;
  }

  async drain(limitMs: number): Promise<void> {
    this.#isEnding = true;
    await this.#applying;
    this.#openings.retire();
    await this.running.drain(limitMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isEnding = true;
    this.#over.abort(OVER);
    await this.#applying;
    this.#openings.close();
    this.running.cut('natward ends');
    await this.#watching;
  }
}

const CARRIED_BY: readonly EngineName[] = ['relay'];
