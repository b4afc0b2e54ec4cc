/**
 * The kernel's engine: rules carried out by Linux itself. Knows which rule has which mark, what the kernel has of the
 * table, and what was changed on this machine for it; ruleset.ts says what the kernel is to have, nft is told the
 * difference, in one batch.
 *
 * A rule that changes has a new mark. Its conversations keep the old one, which is retired: what each of their packets
 * needs stays until the last of them has ended. The kernel goes on where the agent crashes; the next one finds the
 * marks, the counts and the records in the kernel's own sets, and puts its table in the place of the old one.
 */

import { NatwardError } from '../../errors.ts';
import type { IpAddress } from '../../net/address.ts';
import { type Clock, OVER } from '../../system/clock.ts';
import type { FollowProgram } from '../../system/follow-program.ts';
import type { Names } from '../../system/names.ts';
import type { RunProgram } from '../../system/program.ts';
import type { Sysctls } from '../../system/sysctl.ts';
import { denialOf, REFUSES, refuses } from '../denial.ts';
import type { FirstPacket } from '../decide.ts';
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
import type { Rule } from '../rule.ts';
import { isWithin } from '../schedule.ts';
import { isSame, type Table } from '../table.ts';
import { formatRule } from '../text.ts';
import { change, replacement, type Ruleset } from './change.ts';
import { countsOf, elementsOf, forgotten, recordsOf, restored } from './counters.ts';
import { type Feature, featureShortcoming } from './features.ts';
import { readIds } from './id-record.ts';
import { KernelFlows } from './kernel-flows.ts';
import { KernelRule } from './kernel-rule.ts';
import { KnownNames } from './known-names.ts';
import { MarkBook, type MarkedRule } from './mark-book.ts';
import { type Lack, lackOf, type Machine, needsOf } from './needs.ts';
import { obstaclesOf } from './obstacles.ts';
import { Plumber } from './plumber.ts';
import type { Plumbing } from './plumbing.ts';
import { namesOf } from './rewrite.ts';
import { MAIN_TABLE, rulesetOf, TABLES } from './ruleset.ts';
import { kernelShortcoming } from './shortcoming.ts';
import { Tally } from './tally.ts';
import { Nft, type Others } from './tools.ts';
import { guardsOf, Ways } from './ways.ts';

export interface KernelOptions {
  readonly clock: Clock;
  readonly names: Names;
  readonly runProgram: RunProgram;
  readonly followProgram: FollowProgram;
  readonly sysctls: Sysctls;
  /** Addresses of this host, and names of its interfaces, now. */
  readonly ownAddresses: () => readonly IpAddress[];
  readonly adapters: () => readonly string[];
  /** What this kernel does not have. */
  readonly missing: ReadonlySet<Feature>;
  /** That no other process has the tables: let go of at the end. */
  readonly owned: Disposable;
}

/** A rule, and whether the kernel carries it: what the relay carries has its place in the order all the same. */
export interface SharedRule {
  readonly rule: Rule;
  readonly isCarried: boolean;
}

const LOOK_MS = 1000;
/** Counts are looked at so often, which tells when something last came for a rule. */
const SAMPLE_LOOKS = 10;
const TROUBLE_MS = 10_000;
const DRAIN_LOOK_MS = 200;
const OTHERS_MS = 5000;

export class KernelEngine implements ForwardEngine {
  readonly name = 'nftables';
  readonly #options: KernelOptions;
  readonly #nft: Nft;
  readonly #plumber: Plumber;
  readonly #names: KnownNames;
  readonly #flows: KernelFlows;
  readonly #tally = new Tally();
  readonly #marks = new MarkBook();
  readonly #ways = new Ways();
  #table: readonly SharedRule[] = [];
  /** What the kernel has; undefined: nobody knows. */
  #ruleset: Ruleset | undefined;
  /** What the machine was last set to beside it. */
  #plumbing: Plumbing | undefined;
  #lacks: ReadonlyMap<string, Lack> = new Map();
  /** Looks at the counts that have begun, and the last of them that was seen. */
  #samples = 0;
  #sampled = 0;
  #isAdopted = false;
  #keepsMarks = false;
  /** What the ruleset was made from, beside the rules. */
  #seen = '';
  /** An agent before this one may have left something. */
  #isDirty = true;
  #known: { readonly key: string; readonly machine: Machine } | undefined;
  #namesChanged = 0;
  #isEnding = false;
  readonly #over = new AbortController();
  #trouble: (key: string, error: NatwardError | undefined) => void = () => undefined;
  #waits: (waiting: ApplyReport['waiting']) => void = () => undefined;
  readonly #troubleUntil = new Map<string, number>();
  #turn: Promise<unknown> = Promise.resolve();
  readonly #watching: Promise<void>;
  #others: { readonly untilMs: number; readonly listing: Promise<Others> } | undefined;

  constructor(options: KernelOptions) {
    this.#options = options;
    this.#nft = new Nft(options.runProgram);
    this.#plumber = new Plumber({ runProgram: options.runProgram, sysctls: options.sysctls });
    this.#names = new KnownNames(options.names, options.clock, () => this.#renew());
    this.#flows = new KernelFlows({
      ...options,
      marks: this.#marks,
      say: (key, error) => this.#say(key, error),
    });
    this.#watching = this.#watch();
  }

  shortcoming(rule: Rule): Shortcoming | undefined {
    return kernelShortcoming(rule) ?? featureShortcoming(rule, this.#options.missing);
  }

  carriedBy(): readonly EngineName[] {
    return ['nftables'];
  }

  apply(table: Table, options: ApplyOptions): Promise<ApplyReport> {
    return this.applyShared(
      table.map((rule) => ({ rule, isCarried: true })),
      options,
    );
  }

  /** As `apply`, of a table that another engine carries parts of. */
  applyShared(table: readonly SharedRule[], options: ApplyOptions): Promise<ApplyReport> {
    return this.#inTurn(() => this.#apply(table, options));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #apply(table: readonly SharedRule[], { conversations }: ApplyOptions): Promise<ApplyReport> {
    if (this.#isEnding)
      throw new NatwardError('ABORTED', 'the kernel’s engine takes no table any more: it ends');
    const called = (rule: Rule) => `rule ${rule.id} (${formatRule(rule)})`;
    const carried: Rule[] = [];
    for (const { rule, isCarried } of table) if (isCarried && rule.enabled) carried.push(rule);
    await this.#adopt();
    const plan = await this.#marks.plan(
      carried,
      (rule) => checkCan(this, rule, called),
      (going) => this.#idle(going),
    );
    await this.#names.want(namesIn(plan.marked));
    const before = { table: this.#table, marked: this.#marks.marked, retired: this.#marks.retired };
    const open = plan.left.length === 0 ? new Map<number, number>() : await this.#flows.openByMark();
    if (plan.spared.length > 0) await this.#sample();
    try {
      this.#table = table;
      this.#marks.hold(plan.marked, [...before.retired, ...plan.left]);
      await this.#emit(plan.spared.map(({ mark }) => mark));
    } catch (error) {
      this.#table = before.table;
      this.#marks.hold(before.marked, before.retired);
      this.#marks.undo(plan);
      throw error;
    }
    this.#marks.settle(plan);
    for (const { rule, mark } of plan.spared) this.#tally.fold(rule.id, [mark]);
    const ids = new Set(table.map(({ rule }) => rule.id));
    this.#tally.keepOnly((id) => ids.has(id));
    this.#takeStreams(plan.fresh);
    const retired = new Set(this.#marks.retired.map(({ mark }) => mark));
    const affected = [...retired].reduce((sum, mark) => sum + (open.get(mark) ?? 0), 0);
    if (conversations === 'cut') await this.#flows.cut(retired, 'its rule is gone or changed');
    // Otherwise those that nothing runs under are looked for now and then.
    if (conversations === 'cut' || carried.length === 0) await this.#endRetired();
    return { affected, waiting: this.#waiting() };
  }

  /** Nobody waits for it. */
  #takeStreams(fresh: readonly MarkedRule[]): void {
    const rules = fresh.map(({ rule }) => rule);
    this.#inTurn(() => this.#flows.takeStreams(rules, this.#machine())).catch((error: unknown) =>
      this.#say('streams', error),
    );
  }

  /** Those that no conversation runs under. */
  async #idle(marked: readonly MarkedRule[]): Promise<readonly MarkedRule[]> {
    await this.#flows.list();
    const open = await this.#flows.openByMark();
    return marked.filter(({ mark }) => !open.has(mark));
  }

  /** Finds what an agent before this one has left. */
  async #adopt(): Promise<void> {
    if (this.#isAdopted) return;
    const ids = readIds(elementsOf((await this.#nft.list(MAIN_TABLE, 'ids')) ?? ''));
    for (const [mark, id] of ids) this.#marks.adopt(mark, id);
    this.#plumber.adopt(recordsOf((await this.#nft.list(MAIN_TABLE, 'records')) ?? ''));
    await this.#sample();
    for (const mark of this.#tally.counts.keys()) this.#marks.adopt(mark);
    await this.#lookAtMarks();
    this.#isAdopted = true;
  }

  /** Has the kernel come to what is wanted now. `idle`: marks whose counts are no longer needed there. */
  async #emit(idle: readonly number[] = []): Promise<void> {
    const machine = this.#machine();
    const { rules, lacks } = this.#ready(machine);
    const carried = rules.filter(({ mark }) => mark !== undefined);
    const { retired } = this.#marks;
    if (carried.length + retired.length === 0) await this.#clear();
    else {
      const needs = needsOf([...carried, ...retired], machine);
      this.#ways.keep(needs);
      const plumbing = this.#ways.plumbing(needs, machine, this.#plumber.read);
      const load = (records: ReadonlyMap<string, string>) =>
        this.#load(
          rulesetOf({
            around: machine,
            rules,
            retired,
            ways: this.#ways.all,
            used: this.#usedBytes(),
            ...guardsOf(records),
            keepsMarks: this.#keepsMarks,
            missing: this.#options.missing,
            records: [...records].map(([name, value]) => `${name}=${value}`),
          }),
          idle,
        );
      const planned = this.#plumber.planned(plumbing);
      await load(planned);
      this.#plumbing = plumbing;
      const { waiting } = await this.#plumber.apply(plumbing);
      // Some settings are there only now that the kernel has what they are of.
      if (this.#plumber.originals().size !== planned.size) await load(this.#plumber.originals());
      for (const { rule, way } of waiting.size === 0 ? [] : carried) {
        const reason = way === undefined ? undefined : waiting.get(this.#ways.numberOf(way) ?? 0);
        if (reason !== undefined) lacks.set(rule.id, { reason, isPartial: true });
      }
    }
    this.#lacks = lacks;
    this.#seen = this.#look(machine);
  }

  /** Something beside the rules is otherwise: what waits may now be others. */
  async #emitAgain(): Promise<void> {
    const before = JSON.stringify(this.#waiting());
    await this.#emit();
    if (JSON.stringify(this.#waiting()) !== before) this.#waits(this.#waiting());
  }

  #waiting(): ApplyReport['waiting'] {
    return [...this.#lacks].map(([ruleId, { reason }]) => ({ ruleId, reason }));
  }

  /** The same value as long as nothing in it changes. */
  #machine(): Machine {
    const [ownAddresses, adapters] = [this.#options.ownAddresses(), this.#options.adapters()];
    const key = JSON.stringify([ownAddresses, adapters, this.#namesChanged]);
    if (this.#known?.key === key) return this.#known.machine;
    const machine = {
      addressesOf: (name: string) => this.#names.addressesOf(name),
      ownAddresses: new Set(ownAddresses),
      adapters: new Set(adapters),
    };
    this.#known = { key, machine };
    return machine;
  }

  /** The rules that can be carried now, and what the others lack. */
  #ready(machine: Machine): { rules: readonly KernelRule[]; lacks: Map<string, Lack> } {
    const lacks = new Map<string, Lack>();
    const rules: KernelRule[] = [];
    let at = 0;
    for (const { rule, isCarried } of this.#table) {
      if (!rule.enabled) continue;
      // Those that are marked stand in the same order.
      const marked = isCarried ? this.#marks.marked[at++] : undefined;
      if (marked?.isSteady) rules.push(marked);
      else if (!this.#isInTime(rule)) continue;
      else if (marked === undefined) rules.push(new KernelRule(rule, undefined));
      else {
        const lack = lackOf(rule, machine);
        if (lack !== undefined) lacks.set(rule.id, lack);
        if (lack?.isPartial !== false) rules.push(marked);
      }
    }
    return { rules, lacks };
  }

  #isInTime({ schedule }: Rule): boolean {
    if (schedule === undefined) return true;
    const now = new Date(this.#options.clock.now());
    return isWithin(schedule, now.getDay(), now.getHours() * 60 + now.getMinutes());
  }

  #usedBytes(): ReadonlyMap<number, number> {
    return new Map(
      [...this.#tally.counts].map(([mark, { bytesIn, bytesOut }]) => [mark, bytesIn + bytesOut]),
    );
  }

  async #load(ruleset: Ruleset, idle: readonly number[]): Promise<void> {
    const from = this.#ruleset;
    const known = from === undefined ? undefined : change(from, ruleset) + forgotten(MAIN_TABLE, idle);
    try {
      await this.#nft.load(known ?? (await this.#anew(ruleset)));
    } catch (error) {
      if (known === undefined) throw error;
      // Somebody may have changed what the difference was taken from: an interface that is gone takes its chains along.
      await this.#nft.load(await this.#anew(ruleset)).catch(() => {
        throw error;
      });
    }
    this.#ruleset = ruleset;
  }

  /** Counting goes on where it was. */
  async #anew(ruleset: Ruleset): Promise<string> {
    // Two programs are started for it: not where there is nothing to count.
    if (this.#ruleset !== undefined || this.#isDirty) await this.#sample();
    const marks = this.#marks.all();
    const counts = new Map([...this.#tally.counts].filter(([mark]) => marks.has(mark)));
    return replacement(ruleset, TABLES) + restored(MAIN_TABLE, counts);
  }

  /** Takes everything out of the kernel. */
  async #clear(): Promise<void> {
    const isThere = this.#ruleset !== undefined || this.#isDirty;
    this.#ruleset = undefined;
    if (!isThere) return;
    await this.#nft.load(replacement(new Map(), TABLES));
    this.#plumbing = undefined;
    await this.#plumber.remove();
    this.#isDirty = false;
  }

  /** Whether other programs mark connections, too: then their half of a mark has to be kept. */
  async #lookAtMarks(): Promise<void> {
    const { plain } = await this.#listOthers();
    this.#keepsMarks = /ct mark set|connmark/i.test(plain);
  }

  /** Asks the kernel for its counts. */
  async #sample(): Promise<void> {
    const number = ++this.#samples;
    const [counts, tallies] = await Promise.all(
      ['counts', 'tallies'].map((set) => this.#nft.list(MAIN_TABLE, set)),
    );
    // Another program took the tables away: what was seen last is what they begin with again.
    if (counts === undefined || tallies === undefined) return;
    // One that began later knows more, and may have been quicker.
    if (number < this.#sampled) return;
    this.#sampled = number;
    this.#tally.see(
      countsOf(elementsOf(counts), elementsOf(tallies)),
      (mark) => this.#marks.idOf(mark),
      this.#options.clock.now(),
    );
  }

  async activity(): Promise<ReadonlyMap<string, Activity>> {
    if (this.#ruleset !== undefined) await Promise.all([this.#sample(), this.#flows.list()]);
    const open = await this.#openNow();
    const marks = this.#marks.byRule();
    return new Map(
      this.#table.map(({ rule: { id } }) => {
        const own = marks.get(id) ?? [];
        const now = own.reduce((sum, mark) => sum + (open.get(mark) ?? 0), 0);
        return [id, this.#tally.of(id, own, now)] as const;
      }),
    );
  }

  async #openNow(): Promise<ReadonlyMap<number, number>> {
    return this.#ruleset === undefined ? new Map() : await this.#flows.openByMark();
  }

  async conversations(): Promise<readonly Conversation[]> {
    if (this.#ruleset !== undefined) await this.#flows.list();
    return this.#flows.conversations();
  }

  async affected(table: Table): Promise<readonly Conversation[]> {
    if (this.#marks.marked.length + this.#marks.retired.length === 0) return [];
    const after = new Map(table.map((rule) => [rule.id, rule] as const));
    const going = new Set(
      this.#marks.marked.flatMap(({ rule }) => {
        const now = after.get(rule.id);
        return now !== undefined && isSame(now, rule) ? [] : [rule.id];
      }),
    );
    if (going.size === 0 && this.#marks.retired.length === 0) return [];
    const retired = new Set(this.#marks.retired.map(({ rule }) => rule.id));
    return (await this.conversations()).filter(({ ruleId }) => going.has(ruleId) || retired.has(ruleId));
  }

  refusal(rule: Rule, { source }: FirstPacket): Promise<string | null> {
    return Promise.resolve(refuses(rule) ? REFUSES : (denialOf(rule, { address: source.address }) ?? null));
  }

  async obstacles(rule: Rule, packet?: FirstPacket): Promise<readonly string[]> {
    // Of one packet a person asks, who may have changed them just now.
    if (packet !== undefined) this.#others = undefined;
    // Many rules may be asked about in a row; it is looked at each second anyway.
    return obstaclesOf(rule, packet, this.#known?.machine ?? this.#machine(), await this.#listOthers());
  }

  /** Other programs' tables, asked for once for many rules. */
  #listOthers(): Promise<Others> {
    const nowMs = this.#options.clock.steady();
    if (this.#others === undefined || nowMs >= this.#others.untilMs) {
      const listing = this.#nft.others((table) => TABLES.includes(table));
      this.#others = { untilMs: nowMs + OTHERS_MS, listing };
    }
    return this.#others.listing;
  }

  listen(listener: (event: EngineEvent) => void): () => void {
    return this.#flows.listen(listener);
  }

  /** For a while; what lasts is said again. */
  #say(key: string, error: unknown): void {
    if (!(error instanceof NatwardError)) throw error;
    this.#troubleUntil.set(key, this.#options.clock.steady() + TROUBLE_MS);
    this.#trouble(key, error);
  }

  onTrouble(listener: (key: string, error: NatwardError | undefined) => void): void {
    this.#trouble = listener;
  }

  onWaiting(listener: (waiting: ApplyReport['waiting']) => void): void {
    this.#waits = listener;
  }

  /** Looks after what changes by itself: interfaces, addresses, names, hours, and what others do to the tables. */
  async #watch(): Promise<void> {
    for (let looks = 0; ; looks++) {
      const isOver = await this.#options.clock.sleep(LOOK_MS, this.#over.signal).then(
        () => false,
        () => true,
      );
      if (isOver) return;
      const nowMs = this.#options.clock.steady();
      for (const [key, untilMs] of this.#troubleUntil) {
        if (nowMs < untilMs) continue;
        this.#troubleUntil.delete(key);
        this.#trouble(key, undefined);
      }
      if (this.#table.length === 0 && this.#marks.retired.length === 0) continue;
      this.#names.refresh();
      await this.#inTurn(() => this.#attend(looks % SAMPLE_LOOKS === 0)).catch((error: unknown) =>
        this.#say('rules', error),
      );
    }
  }

  async #attend(isLong: boolean): Promise<void> {
    if (this.#isEnding || !this.#isAdopted) return;
    if (this.#ruleset !== undefined && (await this.#nft.list(MAIN_TABLE, 'records')) === undefined) {
      this.#ruleset = undefined;
      await this.#emit();
      const advice = 'A firewall that starts anew does this: /etc/nftables.conf begins with "flush ruleset".';
      this.#say(
        'tables',
        new NatwardError('FAILED', 'another program took natward’s tables away: they are back', { advice }),
      );
      return;
    }
    // A conversation of TCP that has ended stays in the kernel's table for long: a listing tells.
    if (this.#flows.isHeard && this.#ruleset !== undefined) await this.#flows.list();
    if (isLong && this.#ruleset !== undefined) {
      await this.#sample();
      await this.#endRetired();
      await this.#lookAtMarks();
    }
    if (this.#seen !== this.#look(this.#machine())) await this.#emitAgain();
    // A gateway may come after its interface, and change.
    else if (this.#ways.all.size > 0 && this.#plumbing !== undefined)
      await this.#plumber.apply(this.#plumbing);
  }

  /** Those whose last conversation has ended. */
  async #endRetired(): Promise<void> {
    if (this.#marks.retired.length === 0) return;
    const idle = new Set(await this.#idle(this.#marks.retired));
    if (idle.size === 0) return;
    // Its last packets are counted before it is forgotten.
    await this.#sample();
    this.#marks.hold(
      this.#marks.marked,
      this.#marks.retired.filter((one) => !idle.has(one)),
    );
    await this.#emit([...idle].map(({ mark }) => mark));
    for (const { rule, mark } of idle) {
      this.#tally.fold(rule.id, [mark]);
      this.#marks.free(mark);
    }
  }

  /** What of the machine the ruleset depends on, to be compared. */
  #look({ ownAddresses, adapters }: Machine): string {
    const inTime: boolean[] = [];
    for (const { rule } of this.#table) if (rule.schedule !== undefined) inTime.push(this.#isInTime(rule));
    return JSON.stringify([[...ownAddresses], [...adapters], inTime, this.#keepsMarks]);
  }

  /** A name stands for other addresses. */
  #renew(): void {
    this.#namesChanged++;
    this.#inTurn(() => (this.#isEnding || !this.#isAdopted ? Promise.resolve() : this.#emitAgain())).catch(
      (error: unknown) => this.#say('rules', error),
    );
  }

  async drain(limitMs: number): Promise<void> {
    this.#isEnding = true;
    await this.#inTurn(async () => {
      if (this.#ruleset === undefined) return;
      this.#table = [];
      this.#marks.hold([], [...this.#marks.retired, ...this.#marks.marked]);
      await this.#emit();
    });
    const endMs = this.#options.clock.steady() + limitMs;
    while (this.#ruleset !== undefined && this.#options.clock.steady() < endMs) {
      // A conversation of UDP has no end of its own.
      if (!(await this.conversations()).some(({ protocol }) => protocol === 'tcp')) return;
      await this.#options.clock.sleep(DRAIN_LOOK_MS);
    }
  }

  async #end(): Promise<void> {
    const marks = this.#marks.all();
    await this.#clear();
    await this.#flows.cut(marks, 'natward has ended');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isEnding = true;
    this.#over.abort(OVER);
    this.#flows.close();
    using _owned = this.#options.owned;
    await this.#watching;
    // Who has never had a table has nothing to take away.
    if (this.#isAdopted) await this.#inTurn(() => this.#end());
  }
}

function namesIn(marked: Iterable<MarkedRule>): ReadonlySet<string> {
  const names = new Set<string>();
  for (const { isSteady, rule } of marked) if (!isSteady) for (const name of namesOf(rule)) names.add(name);
  return names;
}
