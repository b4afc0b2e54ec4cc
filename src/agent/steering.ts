/**
 * Steers what arrives: holds the table of rules (the configuration's, then people's, then those that leases need),
 * checks each change whole, has the engine carry it out, and remembers it.
 *
 * A person's change is taken or refused as one. What cannot be carried out for a while, such as a rule whose port
 * another program holds when the agent starts, waits alone and is tried again; the others run.
 */

import { isNatwardError, NatwardError } from '../errors.ts';
import { explain, type FirstPacket, type Surroundings } from '../forwarder/decide.ts';
import {
  type Activity,
  type ApplyOptions,
  type ApplyReport,
  checkCan,
  type EngineEvent,
  type ForwardEngine,
  NO_ACTIVITY,
} from '../forwarder/engine.ts';
import { followEngine } from '../forwarder/engine-events.ts';
import type { Rule } from '../forwarder/rule.ts';
import {
  difference,
  exchanged,
  identified,
  isSame,
  type Table,
  type WantedRule,
} from '../forwarder/table.ts';
import { formatRule } from '../forwarder/text.ts';
import type { OwnPort } from '../forwarder/validate.ts';
import type { IpAddress } from '../net/address.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import { type Clock, OVER } from '../system/clock.ts';
import type { Carriage, Carrier } from './carrier.ts';
import { type LeaseGround, LeaseRules } from './lease-rules.ts';
import { refusal, RuleCheck } from './rule-check.ts';
import { checkIds, editedRules, OWNERS, tableOf, type Tables } from './rule-edits.ts';
import type { RuleMemory } from './rule-memory.ts';
import { RuleNames } from './rule-names.ts';
import { PAUSED, PAUSED_ADVICE, type PauseReport, type RulePause } from './rule-pause.ts';
import type {
  CarrierName,
  EditedRule,
  EditOptions,
  EditReport,
  ExplainReport,
  RuleEdit,
  RuleKeeping,
  RuleOwner,
  RuleStatus,
} from './rule-keeping.ts';

export interface SteeringOptions {
  readonly engine: ForwardEngine;
  readonly memory: RuleMemory;
  readonly clock: Clock;
  readonly fillRandom: (bytes: Uint8Array<ArrayBuffer>) => void;
  readonly ownAddresses: () => readonly IpAddress[];
  readonly addressesOf: (name: string) => Promise<readonly IpAddress[]>;
  /** That natward itself uses. */
  readonly ownPorts: readonly OwnPort[];
  /** Another program waits for others at this port. The kernel would take its traffic; the relay cannot listen there. */
  readonly isTaken: (protocol: TransportProtocol, port: number) => boolean;
  /** Called after changes of thousands of rules, or in tables of thousands, which leave much behind. */
  readonly tidy: () => void;
  /** Says what does not go well, until it is called without an error for the same key. */
  readonly warn: (key: string, error: NatwardError | undefined) => void;
}

type Reasons = ReadonlyMap<string, string>;

/** A change of so many rules leaves much behind, and so do changes of single rules among so many in all. */
const MANY = 5000;
const MANY_SEEN = 50_000;
const TIDY_MS = 2000;
/** What waits is tried again. */
const RETRY_MS = 5000;
/** Times as long as a retry took is rested after it: hundreds of rules may wait. */
const RETRY_REST = 20;
/** To find the rules that stand in the way of a large table. */
const MAX_TRIES = 500;
const ID_BYTES = 3;
const MAX_IDS_AT_ONCE = 1024;

export class Steering implements RuleKeeping, RulePause, Carrier, AsyncDisposable {
  readonly #options: SteeringOptions;
  readonly #over = new AbortController();
  readonly #names: RuleNames;
  readonly #check: RuleCheck;
  readonly #leases: LeaseRules;
  #tables: Tables;
  /** All of them. */
  #table: Table;
  /** All is as ever, but the engine has no rule. */
  #isPaused: boolean;
  /** Why the engine does not have single rules, by id. */
  #withheld: Reasons = new Map();
  /** What it has, and what of that waits for something. */
  #running: Table = [];
  #delayed: Reasons = new Map();
  /** What `warn` was last told of the rules. */
  #told: string | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  /** Those that were ever put into the queue. */
  #turns = 0;
  #retrying = false;
  /** Rules that were looked at since it was last tidied. */
  #seen = 0;
  #tidying = false;

  /** Throws what `memory.load` does. Nothing is carried out before `configure`. */
  constructor(options: SteeringOptions) {
    this.#options = options;
    const { rules, leases, isPaused } = options.memory.load();
    this.#names = new RuleNames(options.clock, options.addressesOf);
    this.#check = new RuleCheck(options, this.#names);
    this.#tables = { config: [], user: rules, lease: leases };
    this.#table = tableOf(this.#tables);
    this.#isPaused = isPaused;
    const isWaiting = (id: string) => this.#withheld.has(id);
    const ground: LeaseGround = {
      inTurn: (work) => this.#inTurn(work),
      turns: () => this.#turns,
      check: (rule, leases) =>
        this.#check.checkLease(rule, { tables: this.#tables, table: this.#table, isWaiting }, leases),
      isWaiting,
      serve: (lease, ids) => this.#serve(lease, ids),
      reduce: (lease) => this.#reduce(lease),
      save: () => this.#save(),
    };
    this.#leases = new LeaseRules(options, ground, leases, this.#over.signal);
    options.engine.onTrouble((key, error) => options.warn(`rules ${key}`, error));
    options.engine.onWaiting((waiting) => this.#tell(this.#withheld, reasonsOf(waiting)));
  }

  #have(tables: Tables, table: Table = tableOf(tables)): void {
    this.#tables = tables;
    this.#table = table;
  }

  /** The configuration wants these of what it wanted before. What cannot be is told by `warn`. */
  configure(wanted: readonly WantedRule[]): Promise<void> {
    return this.#inTurn(async () => {
      const config = identified(this.#withoutTaken(wanted), this.#tables.config, this.#newIds());
      this.#have({ ...this.#tables, config });
      await this.#carry();
    });
  }

  /** Those whose ids are nobody else's. */
  #withoutTaken(wanted: readonly WantedRule[]): readonly WantedRule[] {
    const taken = new Set([...this.#tables.user, ...this.#tables.lease].map(({ id }) => id));
    const left: string[] = [];
    const kept = wanted.filter(({ id }) => {
      if (id === undefined) return true;
      if (taken.has(id)) left.push(id);
      else return taken.add(id);
      return false;
    });
    const message = `the configuration's rule ${left.join(', ')} is left out: another rule has this id`;
    const advice = 'Give it another id, or remove the other one: natward rule list shows it.';
    this.#options.warn(
      'rule ids',
      left.length === 0 ? undefined : new NatwardError('CONFLICT', message, { advice }),
    );
    return kept;
  }

  carry(key: string, carriage: Carriage): Promise<number> {
    return this.#leases.carry(key, carriage);
  }

  release(key: string): void {
    this.#leases.release(key);
  }

  settle(keys: Iterable<string>): void {
    this.#leases.settle(keys);
  }

  /** Has the table with these rules of leases carried out. Those that waited, and are of these ids, do not any more. */
  async #serve(lease: Table, ids: ReadonlySet<string>): Promise<void> {
    const tables = { ...this.#tables, lease };
    const table = tableOf(tables);
    const left = new Set(this.#withheld.size === 0 ? [] : idsOf(table));
    const withheld = new Map([...this.#withheld].filter(([id]) => left.has(id) && !ids.has(id)));
    const delayed = await this.#apply(without(table, withheld), 'drain');
    this.#have(tables, table);
    this.#tell(withheld, delayed);
  }

  /** Has the table with these rules of leases, which are fewer, carried out as far as can be. */
  async #reduce(lease: Table): Promise<void> {
    try {
      // Where all runs, nothing can go wrong with less: each lease has its port for itself.
      if (hasSameRules(this.#table, this.#running)) return await this.#serve(lease, new Set());
    } catch (error) {
      if (!isNatwardError(error)) throw error;
    }
    this.#have({ ...this.#tables, lease });
    await this.#carry();
  }

  /** What the answer takes is left then, too. */
  #tidySoon(): void {
    if (this.#tidying) return;
    this.#tidying = true;
    const tidy = () => {
      this.#tidying = false;
      this.#seen = 0;
      this.#options.tidy();
    };
    this.#options.clock.sleep(TIDY_MS, this.#over.signal).then(tidy, unlessOver);
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    this.#turns++;
    const turn = this.#queue.then(() => {
      if (this.#over.signal.aborted) throw new NatwardError('ABORTED', 'the agent stops');
      return work();
    });
    this.#queue = turn.catch(() => undefined);
    return await turn;
  }

  /** Carries out as much of the table as can be; what cannot waits. */
  async #carry(isRetry = false): Promise<void> {
    const table = this.#table;
    const withheld = new Map<string, string>();
    for (const { ruleId, message, severity } of await this.#check.findings(table)) {
      if (severity === 'error') withheld.set(ruleId, message);
    }
    for (const rule of table) {
      const shortcoming = rule.enabled ? this.#options.engine.shortcoming(rule) : undefined;
      if (shortcoming !== undefined) withheld.set(rule.id, `${shortcoming.field}: ${shortcoming.reason}`);
    }
    const wanted = without(table, withheld);
    if (isRetry && this.#delayed.size === 0 && hasSameRules(wanted, this.#running)) {
      this.#tell(withheld, this.#delayed);
      return;
    }
    let delayed: Reasons;
    try {
      delayed = await this.#apply(wanted, 'drain');
    } catch (error) {
      if (!isNatwardError(error)) throw error;
      delayed = await this.#carryMost(wanted, withheld, error);
    }
    this.#tell(withheld, delayed);
  }

  /** What runs goes on. What is new is halved until the rules that stand in the way are found. */
  async #carryMost(wanted: Table, withheld: Map<string, string>, why: NatwardError): Promise<Reasons> {
    const running = new Map(this.#running.map((rule) => [rule.id, rule] as const));
    const carried = new Set(
      wanted.filter((rule) => {
        const before = running.get(rule.id);
        return before !== undefined && isSame(before, rule);
      }),
    );
    const added = wanted.filter((rule) => !carried.has(rule));
    const isKept = hasSameRules([...carried], this.#running);
    // Where all that runs stays, it is that one rule that was refused: nothing else is to be tried.
    if (isKept && added.length < 2) {
      for (const { id } of added) withheld.set(id, why.message);
      return this.#delayed;
    }
    const parts: Table[] = isKept ? [...halvesOf(added)] : [[], added];
    let delayed = this.#delayed;
    let tries = 0;
    for (let part = parts.shift(); part !== undefined; part = parts.shift()) {
      const more = new Set(part);
      try {
        delayed = await this.#apply(
          wanted.filter((rule) => carried.has(rule) || more.has(rule)),
          'drain',
        );
        for (const rule of part) carried.add(rule);
      } catch (error) {
        if (!isNatwardError(error)) throw error;
        tries++;
        if (part.length > 1 && tries < MAX_TRIES) {
          parts.unshift(...halvesOf(part));
        } else for (const { id } of part) withheld.set(id, error.message);
      }
    }
    return delayed;
  }

  /** Resolves with what the engine waits with, and why. */
  async #apply(table: Table, conversations: ApplyOptions['conversations']): Promise<Reasons> {
    const carried = this.#isPaused ? [] : table;
    const { waiting } = await this.#options.engine.apply(carried, { conversations });
    const { gone, come } = exchanged(this.#running, carried);
    this.#seen += carried.length;
    if (gone.length + come.length >= MANY || this.#seen >= MANY_SEEN) this.#tidySoon();
    this.#running = carried;
    return reasonsOf(waiting);
  }

  #tell(withheld: Reasons, delayed: Reasons): void {
    this.#withheld = withheld;
    this.#delayed = delayed;
    const [first, ...others] = [...withheld, ...delayed];
    const more = others.length === 0 ? '' : `; ${others.length} more of the rules wait`;
    const waits = first === undefined ? undefined : `rule ${first[0]} is not carried out: ${first[1]}${more}`;
    const told = this.#isPaused ? PAUSED : waits;
    if (told !== this.#told) {
      const retried = 'natward rule list shows which rules wait; they are tried again.';
      const advice = this.#isPaused ? PAUSED_ADVICE : retried;
      this.#options.warn(
        'rules',
        told === undefined ? undefined : new NatwardError('FAILED', told, { advice }),
      );
    }
    this.#told = told;
    if (first !== undefined && !this.#isPaused) void this.#retry();
  }

  async #retry(): Promise<void> {
    if (this.#retrying) return;
    this.#retrying = true;
    const { clock } = this.#options;
    try {
      let tookMs = 0;
      while (this.#withheld.size + this.#delayed.size > 0 && !this.#isPaused) {
        await clock.sleep(Math.max(RETRY_MS, tookMs * RETRY_REST), this.#over.signal);
        const beganMs = clock.steady();
        await this.#inTurn(() => this.#carry(true));
        tookMs = clock.steady() - beganMs;
      }
    } catch (error) {
      unlessOver(error);
    } finally {
      this.#retrying = false;
    }
  }

  edit(edit: RuleEdit, options: EditOptions): Promise<EditReport> {
    return this.#inTurn(async () => {
      const before = this.#table;
      const tables = { ...this.#tables, user: editedRules(edit, this.#tables, this.#newIds()) };
      const after = tableOf(tables);
      if (edit.kind === 'add' || edit.kind === 'replace') checkIds(after);
      const changes = difference(before, after);
      const touched = new Set([...changes.added, ...changes.changed.map(({ to }) => to)].map(({ id }) => id));
      const isOld = (id: string) => this.#withheld.has(id) && !touched.has(id);
      const findings = await this.#check.findings(after);
      // What was waiting before this change is not this change's fault.
      const refused = findings.find(({ severity, ruleId }) => severity === 'error' && !isOld(ruleId));
      if (refused !== undefined) throw refusal(refused);
      const affected = await this.#options.engine.affected(after);
      const carried = this.#withheld.size === 0 ? after : after.filter(({ id }) => !isOld(id));
      if (options.dryRun || this.#isPaused) {
        for (const rule of carried) checkCan(this.#options.engine, rule, formatRule);
      }
      if (!options.dryRun) {
        // While the engine waits for other programs.
        const [delayed] = await Promise.all([
          this.#apply(carried, options.conversations),
          this.#options.memory.prepare(tables.user),
        ]);
        this.#have(tables, after);
        const left = new Set(this.#withheld.size === 0 ? [] : idsOf(after));
        this.#tell(new Map([...this.#withheld].filter(([id]) => left.has(id) && isOld(id))), delayed);
        await this.#save();
      }
      return {
        added: idsOf(changes.added),
        removed: idsOf(changes.removed),
        changed: changes.changed.map(({ to }) => to.id),
        moved: idsOf(changes.moved),
        unchanged: changes.unchanged.length,
        affected,
        notes: findings
          .filter(({ severity }) => severity === 'warning')
          .map(({ ruleId, position, message, advice = null }) => ({ ruleId, position, message, advice })),
        rules: this.#edited(after, new Set([...touched, ...idsOf(changes.moved)])),
      };
    });
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  pause(): Promise<PauseReport> {
    return this.#inTurn(async () => {
      const isNew = !this.#isPaused;
      // Also where the engine fails: nothing is carried out any more.
      this.#isPaused = true;
      try {
        const { affected: ended } = await this.#options.engine.apply([], { conversations: 'cut' });
        this.#running = [];
        return this.#pauseReport(isNew, ended);
      } finally {
        this.#tell(this.#withheld, new Map());
        await this.#save();
      }
    });
  }

  resume(): Promise<PauseReport> {
    return this.#inTurn(async () => {
      const isNew = this.#isPaused;
      this.#isPaused = false;
      if (isNew) {
        await this.#save();
        await this.#carry();
      }
      return this.#pauseReport(isNew, 0);
    });
  }

  #pauseReport(isNew: boolean, ended: number): PauseReport {
    const rules = this.#table.filter(({ id, enabled }) => enabled && !this.#withheld.has(id)).length;
    return { isPaused: this.#isPaused, isNew, rules, ended };
  }

  async #save(): Promise<void> {
    try {
      const { user, lease } = this.#tables;
      await this.#options.memory.save({ rules: user, leases: lease, isPaused: this.#isPaused });
      this.#options.warn('rules file', undefined);
    } catch (error) {
      if (!isNatwardError(error)) throw error;
      this.#options.warn('rules file', error);
    }
  }

  #newIds(): () => string {
    let taken: Set<string> | undefined;
    let [random, count, at] = ['', 1, 0];
    return () => {
      taken ??= new Set(idsOf(this.#table));
      for (;;) {
        if (at === random.length) {
          // One call for each of thousands would take longer than all the rest.
          const bytes = new Uint8Array(ID_BYTES * count);
          this.#options.fillRandom(bytes);
          [random, count, at] = [Buffer.from(bytes).toString('hex'), Math.min(2 * count, MAX_IDS_AT_ONCE), 0];
        }
        const id = `r${random.slice(at, at + 2 * ID_BYTES)}`;
        at += 2 * ID_BYTES;
        if (taken.has(id)) continue;
        taken.add(id);
        return id;
      }
    };
  }

  rules(): Promise<readonly RuleStatus[]> {
    return this.#statuses(this.#tables);
  }

  async #statuses(tables: Tables): Promise<readonly RuleStatus[]> {
    const activity = await this.#options.engine.activity();
    let position = 0;
    return OWNERS.flatMap((owner) =>
      tables[owner].map((rule) => this.#statusOf(rule, ++position, owner, activity.get(rule.id))),
    );
  }

  #statusOf(rule: Rule, position: number, owner: RuleOwner, activity: Activity = NO_ACTIVITY): RuleStatus {
    const { id, enabled, description } = rule;
    const text = formatRule(rule);
    const engine = this.#options.engine.carriedBy(rule).join('+') as CarrierName;
    const waiting = this.#whyWaiting(rule);
    return { id, position, owner, enabled, text, description, engine, waiting, activity };
  }

  #edited(table: Table, ids: ReadonlySet<string>): readonly EditedRule[] {
    return table.flatMap((rule, at) => {
      const { id } = rule;
      if (!ids.has(id)) return [];
      return [{ id, position: at + 1, text: formatRule(rule), waiting: this.#whyWaiting(rule) }];
    });
  }

  #whyWaiting({ id, enabled }: Rule): string | null {
    if (!enabled) return null;
    return this.#isPaused ? PAUSED : (this.#withheld.get(id) ?? this.#delayed.get(id) ?? null);
  }

  async explain(packet: FirstPacket): Promise<ExplainReport> {
    const table = this.#table;
    const now = new Date(this.#options.clock.now());
    const around: Surroundings = {
      addressesOf: await this.#names.resolved(table),
      ownAddresses: this.#options.ownAddresses(),
      weekday: now.getDay(),
      minuteOfDay: now.getHours() * 60 + now.getMinutes(),
    };
    const { rule, passed } = explain(table, packet, around);
    const status = (await this.#statuses(this.#tables)).find(({ id }) => id === rule?.id) ?? null;
    return {
      rule: status,
      refusal: rule === undefined ? null : await this.#options.engine.refusal(rule, packet),
      obstacles: rule === undefined ? [] : await this.#options.engine.obstacles(rule, packet),
      passed: passed.map(({ position, rule: { id }, reason }) => ({ position, id, reason })),
    };
  }

  conversations(): ReturnType<ForwardEngine['conversations']> {
    return this.#options.engine.conversations();
  }

  follow(signal: AbortSignal, ruleId?: string): AsyncIterable<EngineEvent> {
    return followEngine(this.#options.engine, signal, ruleId);
  }

  /** What runs may go on for so long; then everything ends. */
  async close(limitMs: number): Promise<void> {
    this.#over.abort(OVER);
    await this.#queue;
    await this.#options.engine.drain(limitMs);
    await this[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort(OVER);
    await this.#queue;
    await this.#options.engine[Symbol.asyncDispose]();
  }
}

function without(table: Table, withheld: Reasons): Table {
  return withheld.size === 0 ? table : table.filter(({ id }) => !withheld.has(id));
}

function hasSameRules(a: Table, b: Table): boolean {
  return a === b || (a.length === b.length && a.every((rule, at) => rule === b[at]));
}

function halvesOf(table: Table): readonly [Table, Table] {
  const half = table.length >>> 1;
  return [table.slice(0, half), table.slice(half)];
}

function unlessOver(error: unknown): void {
  if (!isNatwardError(error, 'ABORTED')) throw error;
}

function idsOf(rules: readonly Rule[]): readonly string[] {
  return rules.map(({ id }) => id);
}

function reasonsOf(waiting: ApplyReport['waiting']): Reasons {
  return new Map(waiting.map(({ ruleId, reason }) => [ruleId, reason]));
}
