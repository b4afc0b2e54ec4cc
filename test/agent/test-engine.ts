/** A ForwardEngine without a network: carries out what a test lets it, and writes down what it was asked. */

import type { FirstPacket } from '../../src/forwarder/decide.ts';
import type {
  Activity,
  ApplyOptions,
  ApplyReport,
  Conversation,
  EngineEvent,
  EngineName,
  ForwardEngine,
  Shortcoming,
} from '../../src/forwarder/engine.ts';
import type { Rule } from '../../src/forwarder/rule.ts';
import { difference, type Table } from '../../src/forwarder/table.ts';
import { NatwardError } from '../../src/errors.ts';
import { hasPort, portRanges } from '../../src/net/port-set.ts';

export interface Applied {
  readonly ids: readonly string[];
  readonly conversations: ApplyOptions['conversations'];
}

export class TestEngine implements ForwardEngine {
  readonly name = 'relay';
  table: Table = [];
  /** What was carried out, from the first on. */
  readonly applied: Applied[] = [];
  /** Whether it succeeded or not. */
  tries = 0;
  /** That another program has, and that are privileged. */
  readonly taken: Set<number> = new Set();
  readonly privileged: Set<number> = new Set();
  /** What it takes and then waits with, by id. */
  readonly delayed: Map<string, string> = new Map();
  /** What it throws at the next try. */
  failure: Error | undefined;
  refusals: string | null = null;
  drained: number[] = [];
  ends = 0;
  readonly running: Conversation[] = [];
  readonly activities: Map<string, Activity> = new Map();
  readonly #listeners = new Set<(event: EngineEvent) => void>();
  trouble: (key: string, error: NatwardError | undefined) => void = () => undefined;
  /** Rules are carried out when this is. */
  held: Promise<void> = Promise.resolve();

  get listeners(): number {
    return this.#listeners.size;
  }

  get ids(): readonly string[] {
    return this.table.map(({ id }) => id);
  }

  shortcoming(rule: Rule): Shortcoming | undefined {
    if (rule.direction === 'in') return undefined;
    return { field: 'out', reason: 'it sees nothing that goes out', advice: 'Use another engine.' };
  }

  async apply(table: Table, { conversations }: ApplyOptions): Promise<ApplyReport> {
    this.tries++;
    await this.held;
    if (this.ends > 0) throw new NatwardError('ABORTED', 'it ends');
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
    for (const rule of table.filter(({ enabled }) => enabled)) this.#check(rule);
    this.table = table;
    this.applied.push({ ids: this.ids, conversations });
    const waiting = table.flatMap(({ id }) => {
      const reason = this.delayed.get(id);
      return reason === undefined ? [] : [{ ruleId: id, reason }];
    });
    return { affected: 0, waiting };
  }

  #check(rule: Rule): void {
    const shortcoming = this.shortcoming(rule);
    if (shortcoming !== undefined) throw new NatwardError('UNSUPPORTED', shortcoming.reason);
    const ports = portRanges(rule.to.ports);
    const isAmong = (some: ReadonlySet<number>) => [...some].find((port) => hasPort(ports, port));
    const taken = isAmong(this.taken);
    if (taken !== undefined) throw new NatwardError('CONFLICT', `another program listens on TCP ${taken}`);
    const privileged = isAmong(this.privileged);
    if (privileged !== undefined) throw new NatwardError('NOT_AUTHORIZED', `TCP ${privileged} is privileged`);
  }

  /** Says that these wait, as an engine does between two tables. */
  waits: (waiting: ApplyReport['waiting']) => void = () => undefined;

  onWaiting(listener: (waiting: ApplyReport['waiting']) => void): void {
    this.waits = listener;
  }

  async activity(): Promise<ReadonlyMap<string, Activity>> {
    return this.activities;
  }

  async conversations(): Promise<readonly Conversation[]> {
    return this.running;
  }

  async refusal(_rule: Rule, _packet: FirstPacket): Promise<string | null> {
    return this.refusals;
  }

  async affected(table: Table): Promise<readonly Conversation[]> {
    const { removed, changed } = difference(this.table, table);
    const ids = new Set([...removed, ...changed.map(({ to }) => to)].map(({ id }) => id));
    return this.running.filter(({ ruleId }) => ids.has(ruleId));
  }

  /** What carries the rules, and what stands in their way. */
  carriers: readonly EngineName[] = ['relay'];
  hindrances: readonly string[] = [];

  carriedBy(_rule: Rule): readonly EngineName[] {
    return this.carriers;
  }

  async obstacles(_rule: Rule, _packet?: FirstPacket): Promise<readonly string[]> {
    return this.hindrances;
  }

  listen(listener: (event: EngineEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  emit(...events: readonly EngineEvent[]): void {
    for (const event of events) for (const listener of this.#listeners) listener(event);
  }

  onTrouble(listener: (key: string, error: NatwardError | undefined) => void): void {
    this.trouble = listener;
  }

  async drain(limitMs: number): Promise<void> {
    this.drained.push(limitMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.ends++;
  }
}
