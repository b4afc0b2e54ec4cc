/** Both engines as one: each rule is carried by the one that assignment.ts names, all in one order. */

import type { NatwardError } from '../errors.ts';
import { assign, type Assigned, type Engines, shortcomingOf } from './assignment.ts';
import type { FirstPacket } from './decide.ts';
import {
  type Activity,
  type ApplyOptions,
  type ApplyReport,
  checkCan,
  type Conversation,
  type EngineEvent,
  type EngineName,
  type ForwardEngine,
  NO_ACTIVITY,
  sumOf,
  type Shortcoming,
} from './engine.ts';
import type { KernelEngine } from './nftables/engine.ts';
import { RELAY } from './nftables/shortcoming.ts';
import type { Relay } from './relay/engine.ts';
import type { Rule } from './rule.ts';
import type { Table } from './table.ts';
import { formatRule } from './text.ts';

const LEFT_TO_RELAY: Shortcoming = {
  field: 'rule',
  reason: 'it is left to the relay',
  advice: RELAY,
};

export class SharedEngine implements ForwardEngine {
  readonly name = 'nftables';
  readonly #kernel: KernelEngine;
  readonly #relay: Relay;
  readonly #engines: Engines;
  #assigned: ReadonlyMap<string, Assigned> = new Map();
  #relayed: Table = [];
  #turn: Promise<unknown> = Promise.resolve();

  /** Both end with it. `isRelayed`: rules that the kernel could carry, and is not to. */
  constructor(kernel: KernelEngine, relay: Relay, isRelayed: (rule: Rule) => boolean = () => false) {
    this.#kernel = kernel;
    this.#relay = relay;
    this.#engines = {
      kernel: (rule) => (isRelayed(rule) ? LEFT_TO_RELAY : kernel.shortcoming(rule)),
      relay: (rule) => relay.shortcoming(rule),
    };
  }

  shortcoming(rule: Rule): Shortcoming | undefined {
    return shortcomingOf(rule, this.#engines);
  }

  carriedBy(rule: Rule): readonly EngineName[] {
    const assigned = this.#assigned.get(rule.id);
    if (typeof assigned === 'string') return [assigned];
    return [this.#engines.kernel(rule) === undefined ? 'nftables' : 'relay'];
  }

  apply(table: Table, options: ApplyOptions): Promise<ApplyReport> {
    const turn = this.#turn.then(() => this.#apply(table, options));
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #apply(table: Table, options: ApplyOptions): Promise<ApplyReport> {
    const assigned = assign(table, this.#engines);
    const shortcoming = (rule: Rule) => {
      const found = assigned.get(rule.id);
      return typeof found === 'object' ? found : undefined;
    };
    for (const rule of table) checkCan({ shortcoming }, rule, (one) => `rule ${one.id} (${formatRule(one)})`);
    const relayed = table.filter(({ id }) => assigned.get(id) === 'relay');
    // The relay can be in the way of other programs. It listens first: what the kernel has is not lost then.
    const byRelay = await this.#relay.apply(relayed, options);
    const shared = table.map((rule) => ({ rule, isCarried: assigned.get(rule.id) === 'nftables' }));
    let byKernel: ApplyReport;
    try {
      byKernel = await this.#kernel.applyShared(shared, options);
    } catch (error) {
      await this.#relay.apply(this.#relayed, { conversations: 'drain' });
      throw error;
    }
    this.#relayed = relayed;
    this.#assigned = assigned;
    return {
      affected: byRelay.affected + byKernel.affected,
      waiting: [...byRelay.waiting, ...byKernel.waiting],
    };
  }

  async activity(): Promise<ReadonlyMap<string, Activity>> {
    const [kernel, relay] = await Promise.all([this.#kernel.activity(), this.#relay.activity()]);
    const both = new Map(kernel);
    for (const [id, activity] of relay) both.set(id, sumOf(activity, kernel.get(id) ?? NO_ACTIVITY));
    return both;
  }

  async conversations(): Promise<readonly Conversation[]> {
    const [kernel, relay] = await Promise.all([this.#kernel.conversations(), this.#relay.conversations()]);
    return [...kernel.map(ofKernel), ...relay.map(ofRelay)];
  }

  async affected(table: Table): Promise<readonly Conversation[]> {
    const assigned = assign(table, this.#engines);
    const of = (name: EngineName) => table.filter(({ id }) => assigned.get(id) === name);
    const [kernel, relay] = await Promise.all([
      this.#kernel.affected(of('nftables')),
      this.#relay.affected(of('relay')),
    ]);
    return [...kernel.map(ofKernel), ...relay.map(ofRelay)];
  }

  refusal(rule: Rule, packet: FirstPacket): Promise<string | null> {
    return this.#relay.refusal(rule, packet);
  }

  obstacles(rule: Rule, packet?: FirstPacket): Promise<readonly string[]> {
    const [by] = this.carriedBy(rule);
    return by === 'relay' ? this.#relay.obstacles(rule, packet) : this.#kernel.obstacles(rule, packet);
  }

  listen(listener: (event: EngineEvent) => void): () => void {
    const stops = [
      this.#kernel.listen((event) => listener(told(event, ofKernel))),
      this.#relay.listen((event) => listener(told(event, ofRelay))),
    ];
    return () => {
      for (const stop of stops) stop();
    };
  }

  onTrouble(listener: (key: string, error: NatwardError | undefined) => void): void {
    this.#kernel.onTrouble((key, error) => listener(`nftables ${key}`, error));
    this.#relay.onTrouble((key, error) => listener(`relay ${key}`, error));
  }

  onWaiting(listener: (waiting: ApplyReport['waiting']) => void): void {
    const waiting: Record<EngineName, ApplyReport['waiting']> = { relay: [], nftables: [] };
    const heard = (name: EngineName) => (now: ApplyReport['waiting']) => {
      waiting[name] = now;
      listener([...waiting.relay, ...waiting.nftables]);
    };
    this.#kernel.onWaiting(heard('nftables'));
    this.#relay.onWaiting(heard('relay'));
  }

  async drain(limitMs: number): Promise<void> {
    await Promise.all([this.#kernel.drain(limitMs), this.#relay.drain(limitMs)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await using _kernel = this.#kernel;
    await using _relay = this.#relay;
  }
}

/** Both engines count from 1: each id is one engine's. */
function ofKernel(conversation: Conversation): Conversation {
  return { ...conversation, id: conversation.id * 2 };
}

function ofRelay(conversation: Conversation): Conversation {
  return { ...conversation, id: conversation.id * 2 + 1 };
}

function told(event: EngineEvent, as: (conversation: Conversation) => Conversation): EngineEvent {
  return event.type === 'refused' ? event : { ...event, conversation: as(event.conversation) };
}
