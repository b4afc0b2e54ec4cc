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
  type ApplyOptions,
  checkCan,
  type EngineEvent,
  type ForwardEngine,
  NO_ACTIVITY,
} from '../forwarder/engine.ts';
import { followEngine } from '../forwarder/engine-events.ts';
import type { Rule } from '../forwarder/rule.ts';
import { difference, identified, isSame, type Table, type WantedRule } from '../forwarder/table.ts';
import { targetNames } from '../forwarder/target.ts';
import { formatRule, parseRule } from '../forwarder/text.ts';
import { checkDescription } from '../forwarder/words.ts';
import { type Finding, type OwnPort, validate } from '../forwarder/validate.ts';
import type { IpAddress } from '../net/address.ts';
import { formatEndpoint } from '../net/endpoint.ts';
import { portRanges } from '../net/port-set.ts';
import { type Clock, OVER } from '../system/clock.ts';
import type { Carriage, Carrier } from './carrier.ts';
import { checkIds, editedRules, OWNERS, tableOf, type Tables } from './rule-edits.ts';
import type { RuleMemory } from './rule-memory.ts';
import type {
  EditOptions,
  EditReport,
  ExplainReport,
  RuleEdit,
  RuleKeeping,
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
  /** Says what does not go well, until it is called without an error for the same key. */
  readonly warn: (key: string, error: NatwardError | undefined) => void;
}

type Reasons = ReadonlyMap<string, string>;

/** What waits is tried again. */
const RETRY_MS = 5000;
/** To find the rules that stand in the way of a large table. */
const MAX_TRIES = 500;
const RESOLVE_MS = 3000;
/** Ports tried where the one that a lease would like is taken; below those that the system hands out by itself. */
const CARRY_PORTS = { first: 20_000, last: 32_000 } as const;
const CARRY_TRIES = 16;

export class Steering implements RuleKeeping, Carrier, AsyncDisposable {
  readonly #options: SteeringOptions;
  readonly #over = new AbortController();
  #tables: Tables;
  /** Why the engine does not have single rules, by id. */
  #withheld: Reasons = new Map();
  /** What it has, and what of that waits for something. */
  #running: Table = [];
  #delayed: Reasons = new Map();
  /** What `warn` was last told of the rules. */
  #told: string | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  #retrying = false;

  /** Throws what `memory.load` does. Nothing is carried out before `configure`. */
  constructor(options: SteeringOptions) {
    this.#options = options;
    this.#tables = { config: [], user: options.memory.load(), lease: [] };
    options.engine.onTrouble((key, error) => options.warn(`relay ${key}`, error));
  }

  get #table(): Table {
    return tableOf(this.#tables);
  }

  /** The configuration wants these of what it wanted before. What cannot be is told by `warn`. */
  configure(wanted: readonly WantedRule[]): Promise<void> {
    return this.#inTurn(async () => {
      const config = identified(this.#withoutTaken(wanted), this.#tables.config, this.#newIds());
      this.#tables = { ...this.#tables, config };
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
    return this.#inTurn(async () => {
      const id = leaseRuleId(key);
      const old = this.#tables.lease.find((rule) => rule.id === id);
      const oldPort = old === undefined ? undefined : portRanges(old.to.ports)[0]?.first;
      const ports = [...(oldPort === undefined ? [] : [oldPort]), carriage.port, ...this.#freePorts()];
      let why: NatwardError | undefined;
      for (const port of carriage.isFixed ? [carriage.port] : ports) {
        const rule = leaseRule(id, port, carriage);
        if (old !== undefined && isSame(old, rule) && !this.#withheld.has(id)) return port;
        const lease = [...this.#tables.lease.filter((one) => one.id !== id), rule];
        try {
          await this.#serve(lease, id);
          return port;
        } catch (error) {
          if (!isNatwardError(error, 'CONFLICT', 'NOT_AUTHORIZED')) throw error;
          why = error;
        }
      }
      throw why as NatwardError;
    });
  }

  /** Has the table with these rules of leases carried out. Throws where the one with this id cannot be. */
  async #serve(lease: Table, id: string): Promise<void> {
    const tables = { ...this.#tables, lease };
    const table = tableOf(tables);
    checkIds(table);
    const withheld = new Map(this.#withheld);
    withheld.delete(id);
    // A circle is said of its first rule, which need not be this one.
    const refused = (await this.#findings(table)).find(
      ({ ruleId, severity }) => severity === 'error' && !withheld.has(ruleId),
    );
    if (refused !== undefined) throw refusal(refused);
    const carried = table.filter((rule) => !withheld.has(rule.id));
    const delayed = await this.#apply(carried, 'drain');
    this.#tables = tables;
    this.#tell(withheld, delayed);
  }

  release(key: string): void {
    const id = leaseRuleId(key);
    this.#inTurn(async () => {
      if (!this.#tables.lease.some((rule) => rule.id === id)) return;
      this.#tables = { ...this.#tables, lease: this.#tables.lease.filter((rule) => rule.id !== id) };
      await this.#carry();
    }).catch(unlessOver);
  }

  #freePorts(): readonly number[] {
    const bytes = new Uint16Array(CARRY_TRIES);
    this.#options.fillRandom(new Uint8Array(bytes.buffer));
    return [...bytes].map((one) => CARRY_PORTS.first + (one % (CARRY_PORTS.last - CARRY_PORTS.first + 1)));
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(() => {
      if (this.#over.signal.aborted) throw new NatwardError('ABORTED', 'the agent stops');
      return work();
    });
    this.#queue = turn.catch(() => undefined);
    return await turn;
  }

  /** Carries out as much of the table as can be; what cannot waits. */
  async #carry(): Promise<void> {
    const table = this.#table;
    const withheld = new Map<string, string>();
    for (const { ruleId, message, severity } of await this.#findings(table)) {
      if (severity === 'error') withheld.set(ruleId, message);
    }
    for (const rule of table) {
      const shortcoming = rule.enabled ? this.#options.engine.shortcoming(rule) : undefined;
      if (shortcoming !== undefined) withheld.set(rule.id, `${shortcoming.field}: ${shortcoming.reason}`);
    }
    const wanted = table.filter(({ id }) => !withheld.has(id));
    let delayed: Reasons;
    try {
      delayed = await this.#apply(wanted, 'drain');
    } catch (error) {
      if (!isNatwardError(error)) throw error;
      delayed = await this.#carryMost(wanted, withheld);
    }
    this.#tell(withheld, delayed);
  }

  /** What runs goes on. What is new is halved until the rules that stand in the way are found. */
  async #carryMost(wanted: Table, withheld: Map<string, string>): Promise<Reasons> {
    const running = new Map(this.#running.map((rule) => [rule.id, rule] as const));
    const carried = new Set(
      wanted.filter((rule) => {
        const before = running.get(rule.id);
        return before !== undefined && isSame(before, rule);
      }),
    );
    const parts: Table[] = [[], wanted.filter((rule) => !carried.has(rule))];
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
          const half = part.length >>> 1;
          parts.unshift(part.slice(0, half), part.slice(half));
        } else for (const { id } of part) withheld.set(id, error.message);
      }
    }
    return delayed;
  }

  /** Resolves with what the engine waits with, and why. */
  async #apply(table: Table, conversations: ApplyOptions['conversations']): Promise<Reasons> {
    const { waiting } = await this.#options.engine.apply(table, { conversations });
    this.#running = table;
    return new Map(waiting.map(({ ruleId, reason }) => [ruleId, reason]));
  }

  #tell(withheld: Reasons, delayed: Reasons): void {
    this.#withheld = withheld;
    this.#delayed = delayed;
    const [first, ...others] = [...withheld, ...delayed];
    const more = others.length === 0 ? '' : `; ${others.length} more of the rules wait`;
    const told = first === undefined ? undefined : `rule ${first[0]} is not carried out: ${first[1]}${more}`;
    if (told !== this.#told) {
      const advice = 'natward rule list shows which rules wait; they are tried again.';
      this.#options.warn(
        'rules',
        told === undefined ? undefined : new NatwardError('FAILED', told, { advice }),
      );
    }
    this.#told = told;
    if (first !== undefined) void this.#retry();
  }

  async #retry(): Promise<void> {
    if (this.#retrying) return;
    this.#retrying = true;
    try {
      while (this.#withheld.size + this.#delayed.size > 0) {
        await this.#options.clock.sleep(RETRY_MS, this.#over.signal);
        await this.#inTurn(() => this.#carry());
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
      checkIds(after);
      const changes = difference(before, after);
      const touched = new Set([...changes.added, ...changes.changed.map(({ to }) => to)].map(({ id }) => id));
      const isOld = (id: string) => this.#withheld.has(id) && !touched.has(id);
      const findings = await this.#findings(after);
      // What was waiting before this change is not this change's fault.
      const refused = findings.find(({ severity, ruleId }) => severity === 'error' && !isOld(ruleId));
      if (refused !== undefined) throw refusal(refused);
      const affected = this.#options.engine.affected(after);
      const carried = after.filter(({ id }) => !isOld(id));
      if (!options.dryRun) {
        const delayed = await this.#apply(carried, options.conversations);
        this.#tables = tables;
        const left = new Set(idsOf(after));
        this.#tell(new Map([...this.#withheld].filter(([id]) => left.has(id) && isOld(id))), delayed);
        await this.#save();
      } else for (const rule of carried) checkCan(this.#options.engine, rule, formatRule);
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
        rules: this.#statuses(tables),
      };
    });
  }

  async #save(): Promise<void> {
    try {
      await this.#options.memory.save(this.#tables.user);
      this.#options.warn('rules file', undefined);
    } catch (error) {
      if (!isNatwardError(error)) throw error;
      this.#options.warn('rules file', error);
    }
  }

  #newIds(): () => string {
    const taken = new Set(idsOf(this.#table));
    const bytes = new Uint8Array(3);
    return () => {
      for (;;) {
        this.#options.fillRandom(bytes);
        const id = `r${Buffer.from(bytes).toString('hex')}`;
        if (taken.has(id)) continue;
        taken.add(id);
        return id;
      }
    };
  }

  async #findings(table: Table): Promise<readonly Finding[]> {
    return validate(table, {
      ownAddresses: this.#options.ownAddresses(),
      addressesOf: await this.#resolved(table),
      ownPorts: this.#options.ownPorts,
    });
  }

  /** The names that the rules listen at and send to. What nobody resolves in time has no address. */
  async #resolved(table: Table): Promise<(name: string) => readonly IpAddress[]> {
    const known = new Map<string, readonly IpAddress[]>();
    const resolving = [...new Set(table.flatMap(namesOf))].map(async (name) => {
      known.set(name, await this.#options.addressesOf(name).catch(() => []));
    });
    const late = new AbortController();
    await Promise.race([
      Promise.all(resolving),
      this.#options.clock.sleep(RESOLVE_MS, late.signal).catch(() => undefined),
    ]);
    late.abort(OVER);
    return (name) => known.get(name) ?? [];
  }

  rules(): Promise<readonly RuleStatus[]> {
    return Promise.resolve(this.#statuses(this.#tables));
  }

  #statuses(tables: Tables): readonly RuleStatus[] {
    const activity = this.#options.engine.activity();
    const all = OWNERS.flatMap((owner) => tables[owner].map((rule) => ({ rule, owner })));
    return all.map(({ rule, owner }, at) => ({
      id: rule.id,
      position: at + 1,
      owner,
      enabled: rule.enabled,
      text: formatRule(rule),
      description: rule.description,
      engine: this.#options.engine.name,
      waiting: rule.enabled ? (this.#withheld.get(rule.id) ?? this.#delayed.get(rule.id) ?? null) : null,
      activity: activity.get(rule.id) ?? NO_ACTIVITY,
    }));
  }

  async explain(packet: FirstPacket): Promise<ExplainReport> {
    const table = this.#table;
    const now = new Date(this.#options.clock.now());
    const around: Surroundings = {
      addressesOf: await this.#resolved(table),
      ownAddresses: this.#options.ownAddresses(),
      weekday: now.getDay(),
      minuteOfDay: now.getHours() * 60 + now.getMinutes(),
    };
    const { rule, passed } = explain(table, packet, around);
    const status = this.#statuses(this.#tables).find(({ id }) => id === rule?.id) ?? null;
    return {
      rule: status,
      refusal: rule === undefined ? null : await this.#options.engine.refusal(rule, packet),
      passed: passed.map(({ position, rule: { id }, reason }) => ({ position, id, reason })),
    };
  }

  conversations(): Promise<ReturnType<ForwardEngine['conversations']>> {
    return Promise.resolve(this.#options.engine.conversations());
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

function leaseRuleId(key: string): string {
  return `lease-${key.replaceAll('/', '-')}`;
}

function leaseRule(id: string, port: number, { protocols, target, description }: Carriage): Rule {
  const text = `in ${protocols.join('+')} ${port} -> ${formatEndpoint(target)}`;
  return { ...parseRule(text), description: checkDescription(description), id, enabled: true };
}

/** That it listens at, and that it sends to. */
function namesOf(rule: Rule): readonly string[] {
  const patterns = rule.to.addresses.flatMap((one) => (one.kind === 'name' ? [one.name] : []));
  return [...patterns, ...targetNames(rule)];
}

function unlessOver(error: unknown): void {
  if (!isNatwardError(error, 'ABORTED')) throw error;
}

function idsOf(rules: readonly Rule[]): readonly string[] {
  return rules.map(({ id }) => id);
}

function refusal({ field, message, advice }: Finding): NatwardError {
  return new NatwardError('CONFLICT', `${field}: ${message}`, advice === undefined ? {} : { advice });
}
