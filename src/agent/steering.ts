/**
 * Steers what arrives: holds the table of rules (the configuration's, then people's, then those that leases need),
 * checks each change whole, has the engine carry it out, and remembers it.
 *
 * A person's change is taken or refused as one. What cannot be carried out for a while, such as a rule whose port
 * another program holds when the agent starts, waits alone and is tried again; the others run.
 */

import { isNatwardError, NatwardError } from '../errors.ts';
import { explain, type FirstPacket, type Surroundings } from '../forwarder/decide.ts';
import type { Activity, ApplyOptions, EngineEvent, ForwardEngine } from '../forwarder/engine.ts';
import type { Rule } from '../forwarder/rule.ts';
import {
  difference,
  identified,
  inserted,
  isSame,
  moved,
  parseRuleId,
  placeOf,
  replaced,
  type Table,
  type WantedRule,
} from '../forwarder/table.ts';
import { checkDescription, formatRule, parseRule } from '../forwarder/text.ts';
import { type Finding, type OwnPort, validate } from '../forwarder/validate.ts';
import { type IpAddress, parseAddress } from '../net/address.ts';
import { formatEndpoint } from '../net/endpoint.ts';
import { portRanges } from '../net/port-set.ts';
import { type Clock, OVER } from '../system/clock.ts';
import type { Carriage, Carrier } from './carrier.ts';
import type { RuleMemory } from './rule-memory.ts';
import type {
  EditOptions,
  EditReport,
  ExplainReport,
  RuleDocument,
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
  /** Says what does not go well, until it is called without an error for the same key. */
  readonly warn: (key: string, error: NatwardError | undefined) => void;
}

const OWNERS = ['config', 'user', 'lease'] as const;
type Tables = Readonly<Record<RuleOwner, Table>>;

/** What waits is tried again. */
const RETRY_MS = 5000;
/** Looking for the one rule that stands in the way takes one try a rule. */
const MAX_TRIES = 500;
const RESOLVE_MS = 3000;
/** Ports tried where the one that a lease would like is taken; below those that the system hands out by itself. */
const CARRY_PORTS = { first: 20_000, last: 32_000 } as const;
const CARRY_TRIES = 16;
const FOLLOW_BACKLOG = 10_000;
const NOTHING: Activity = {
  bytesIn: 0,
  bytesOut: 0,
  packetsIn: 0,
  packetsOut: 0,
  open: 0,
  conversations: 0,
  refused: 0,
  lastAtMs: null,
  lastRefusal: null,
};

export class Steering implements RuleKeeping, Carrier, AsyncDisposable {
  readonly #options: SteeringOptions;
  readonly #over = new AbortController();
  #tables: Tables;
  /** Why single rules are not carried out, by id. */
  #waiting = new Map<string, string>();
  #queue: Promise<unknown> = Promise.resolve();
  #retrying = false;

  /** Throws what `memory.load` does. Nothing is carried out before `configure`. */
  constructor(options: SteeringOptions) {
    this.#options = options;
    this.#tables = { config: [], user: options.memory.load(), lease: [] };
    options.engine.onTrouble((key, error) => options.warn(`relay ${key}`, error));
  }

  get #table(): Table {
    return OWNERS.flatMap((owner) => this.#tables[owner]);
  }

  /** The configuration wants these of what it wanted before. What cannot be is told by `warn`. */
  configure(wanted: readonly WantedRule[]): Promise<void> {
    return this.#inTurn(async () => {
      const config = identified(wanted, this.#tables.config, () => this.#newId());
      this.#tables = { ...this.#tables, config };
      await this.#carry();
    });
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
        if (old !== undefined && isSame(old, rule) && !this.#waiting.has(id)) return port;
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
    const table = OWNERS.flatMap((owner) => tables[owner]);
    const refused = (await this.#findings(table)).find(
      ({ ruleId, severity }) => ruleId === id && severity === 'error',
    );
    if (refused !== undefined) throw refusal(refused);
    const reasons = new Map([...this.#waiting].filter(([waiting]) => waiting !== id));
    await this.#apply(
      table.filter((rule) => !reasons.has(rule.id)),
      reasons,
      'drain',
    );
    this.#tables = tables;
    this.#tell(reasons);
  }

  release(key: string): void {
    const id = leaseRuleId(key);
    void this.#inTurn(async () => {
      if (!this.#tables.lease.some((rule) => rule.id === id)) return;
      this.#tables = { ...this.#tables, lease: this.#tables.lease.filter((rule) => rule.id !== id) };
      await this.#carry();
    });
  }

  #freePorts(): readonly number[] {
    const bytes = new Uint16Array(CARRY_TRIES);
    this.#options.fillRandom(new Uint8Array(bytes.buffer));
    return [...bytes].map((one) => CARRY_PORTS.first + (one % (CARRY_PORTS.last - CARRY_PORTS.first + 1)));
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(work);
    this.#queue = turn.catch(() => undefined);
    return await turn;
  }

  /** Carries out as much of the table as can be; what cannot waits. */
  async #carry(): Promise<void> {
    const table = this.#table;
    const reasons = new Map<string, string>();
    for (const { ruleId, message, severity } of await this.#findings(table)) {
      if (severity === 'error') reasons.set(ruleId, message);
    }
    for (const rule of table) {
      const shortcoming = rule.enabled ? this.#options.engine.shortcoming(rule) : undefined;
      if (shortcoming !== undefined) reasons.set(rule.id, `${shortcoming.field}: ${shortcoming.reason}`);
    }
    const carried = table.filter(({ id }) => !reasons.has(id));
    try {
      await this.#apply(carried, reasons, 'drain');
    } catch (error) {
      if (!isNatwardError(error)) throw error;
      await this.#carryEach(carried, reasons);
    }
    this.#tell(reasons);
  }

  /** One more rule at a time, each where the ones before it let it. Of a large table only what runs already. */
  async #carryEach(wanted: Table, reasons: Map<string, string>): Promise<void> {
    if (wanted.length > MAX_TRIES) return;
    let carried: Table = [];
    for (const rule of wanted) {
      try {
        await this.#options.engine.apply([...carried, rule], { conversations: 'drain' });
        carried = [...carried, rule];
      } catch (error) {
        if (!isNatwardError(error)) throw error;
        reasons.set(rule.id, error.message);
      }
    }
  }

  async #apply(
    table: Table,
    reasons: Map<string, string>,
    conversations: ApplyOptions['conversations'],
  ): Promise<void> {
    const { waiting } = await this.#options.engine.apply(table, { conversations });
    for (const { ruleId, reason } of waiting) reasons.set(ruleId, reason);
  }

  #tell(reasons: Map<string, string>): void {
    this.#waiting = reasons;
    const [first] = reasons;
    const more = reasons.size > 1 ? `, and ${reasons.size - 1} more rules wait` : '';
    this.#options.warn(
      'rules',
      first === undefined
        ? undefined
        : new NatwardError('FAILED', `rule ${first[0]} is not carried out: ${first[1]}${more}`, {
            advice: 'natward rule list shows which rules wait; they are tried again.',
          }),
    );
    if (reasons.size > 0) void this.#retry();
  }

  async #retry(): Promise<void> {
    if (this.#retrying) return;
    this.#retrying = true;
    try {
      while (this.#waiting.size > 0) {
        await this.#options.clock.sleep(RETRY_MS, this.#over.signal);
        await this.#inTurn(() => this.#carry());
      }
    } catch (error) {
      if (!isNatwardError(error, 'ABORTED')) throw error;
    } finally {
      this.#retrying = false;
    }
  }

  edit(edit: RuleEdit, options: EditOptions): Promise<EditReport> {
    return this.#inTurn(async () => {
      const before = this.#table;
      const tables = { ...this.#tables, user: this.#edited(edit) };
      const after = OWNERS.flatMap((owner) => tables[owner]);
      const changes = difference(before, after);
      const touched = new Set([...changes.added, ...changes.changed.map(({ to }) => to)].map(({ id }) => id));
      const findings = await this.#findings(after);
      // What was waiting before this change is not this change's fault.
      const refused = findings.find(
        ({ severity, ruleId }) => severity === 'error' && !this.#isOld(ruleId, touched),
      );
      if (refused !== undefined) throw refusal(refused);
      const affected = this.#options.engine.affected(after);
      const carried = after.filter(({ id }) => !this.#isOld(id, touched));
      if (!options.dryRun) {
        const reasons = new Map([...this.#waiting].filter(([id]) => this.#isOld(id, touched)));
        await this.#apply(carried, reasons, options.conversations);
        this.#tables = tables;
        this.#tell(new Map([...reasons].filter(([id]) => after.some((rule) => rule.id === id))));
        await this.#save();
      } else for (const rule of carried) this.#checkCan(rule);
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

  #isOld(id: string, touched: ReadonlySet<string>): boolean {
    return this.#waiting.has(id) && !touched.has(id);
  }

  #checkCan(rule: Rule): void {
    const shortcoming = rule.enabled ? this.#options.engine.shortcoming(rule) : undefined;
    if (shortcoming === undefined) return;
    const { field, reason, advice } = shortcoming;
    throw new NatwardError('UNSUPPORTED', `${formatRule(rule)}: ${field}: ${reason}`, { advice });
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

  /** People's rules after the edit. */
  #edited(edit: RuleEdit): Table {
    const { user } = this.#tables;
    switch (edit.kind) {
      case 'add': {
        const place = edit.before === undefined ? user.length : this.#place(edit.before);
        const added = edit.rules.map((document) => this.#fresh(wantedOf(document)));
        return added.reduce((table, rule, at) => inserted(table, rule, place + at), user);
      }
      case 'replace':
        return identified(edit.rules.map(wantedOf), user, () => this.#newId());
      case 'edit': {
        const place = this.#place(edit.name);
        const old = user[place] as Rule;
        const spec = edit.rule === undefined ? old : parseRule(edit.rule);
        const description =
          edit.description ?? (edit.rule === undefined || spec.description !== '' ? spec : old).description;
        return replaced(user, place, {
          ...spec,
          description: checkDescription(description),
          id: old.id,
          enabled: old.enabled,
        });
      }
      case 'enable':
      case 'disable':
        return edit.names.reduce((table, name) => {
          const place = this.#place(name);
          return replaced(table, place, { ...(table[place] as Rule), enabled: edit.kind === 'enable' });
        }, user);
      case 'remove': {
        const gone = new Set(edit.names.map((name) => (user[this.#place(name)] as Rule).id));
        return user.filter(({ id }) => !gone.has(id));
      }
      case 'move': {
        const place = this.#place(edit.name);
        const before = edit.before === undefined ? user.length : this.#place(edit.before);
        return moved(user, place, before > place ? before - 1 : before);
      }
    }
  }

  /** A rule that is added is never one that is there already, whatever it says. */
  #fresh({ id = this.#newId(), enabled, spec }: WantedRule): Rule {
    if (this.#table.some((rule) => rule.id === id)) {
      throw new NatwardError('CONFLICT', `there is a rule ${id} already`, {
        advice: `natward rule edit ${id} changes it.`,
      });
    }
    return { ...spec, id, enabled };
  }

  /** Among people's rules, of one named by its id or by its position in the whole table. */
  #place(name: string): number {
    const rule = this.#table[placeOf(this.#table, name)] as Rule;
    const place = this.#tables.user.indexOf(rule);
    if (place >= 0) return place;
    const isConfig = this.#tables.config.includes(rule);
    throw new NatwardError(
      'NOT_OWN',
      `rule ${name} is ${isConfig ? 'the configuration file’s' : 'a lease’s'}`,
      {
        advice: isConfig ? 'Change it there.' : 'natward drop ends the lease, and the rule with it.',
      },
    );
  }

  #newId(): string {
    const bytes = new Uint8Array(3);
    for (;;) {
      this.#options.fillRandom(bytes);
      const id = `r${Buffer.from(bytes).toString('hex')}`;
      if (!this.#table.some((rule) => rule.id === id)) return id;
    }
  }

  async #findings(table: Table): Promise<readonly Finding[]> {
    const names = new Set(
      table.flatMap(({ targets }) =>
        targets.flatMap(({ host }) => (host === undefined || parseAddress(host) ? [] : [host])),
      ),
    );
    const known = new Map<string, readonly IpAddress[]>();
    const resolving = [...names].map(async (name) => {
      known.set(name, await this.#options.addressesOf(name).catch(() => []));
    });
    const late = new AbortController();
    // What nobody resolves in time is no loop that could be seen.
    await Promise.race([
      Promise.all(resolving),
      this.#options.clock.sleep(RESOLVE_MS, late.signal).catch(() => undefined),
    ]);
    late.abort(OVER);
    return validate(table, {
      ownAddresses: this.#options.ownAddresses(),
      addressesOf: (name) => known.get(name) ?? [],
      ownPorts: this.#options.ownPorts,
    });
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
      waiting: rule.enabled ? (this.#waiting.get(rule.id) ?? null) : null,
      activity: activity.get(rule.id) ?? NOTHING,
    }));
  }

  async explain(packet: FirstPacket): Promise<ExplainReport> {
    const now = new Date(this.#options.clock.now());
    const around: Surroundings = {
      addressesOf: () => [],
      ownAddresses: this.#options.ownAddresses(),
      weekday: now.getDay(),
      minuteOfDay: now.getHours() * 60 + now.getMinutes(),
    };
    const { rule, passed } = explain(this.#table, packet, around);
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

  async *follow(signal: AbortSignal, ruleId?: string): AsyncGenerator<EngineEvent> {
    const backlog: EngineEvent[] = [];
    let wake: () => void = () => undefined;
    let lost = 0;
    const stop = this.#options.engine.listen((event) => {
      const id = 'conversation' in event ? event.conversation.ruleId : event.ruleId;
      if (ruleId !== undefined && id !== ruleId) return;
      if (backlog.length < FOLLOW_BACKLOG) backlog.push(event);
      else lost++;
      wake();
    });
    const onAbort = () => wake();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      while (!signal.aborted) {
        yield* backlog.splice(0);
        if (lost > 0)
          throw new NatwardError('NO_RESOURCES', `more happens than can be told: ${lost} events were lost`);
        if (backlog.length === 0 && !signal.aborted) await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      stop();
      signal.removeEventListener('abort', onAbort);
    }
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
    await this.#options.engine[Symbol.asyncDispose]();
  }
}

/** Throws USAGE. */
export function wantedOf({ id, rule, enabled = true, description }: RuleDocument): WantedRule {
  const spec = parseRule(rule);
  return {
    id: id === undefined ? undefined : parseRuleId(id),
    enabled,
    spec: description === undefined ? spec : { ...spec, description: checkDescription(description) },
  };
}

function leaseRuleId(key: string): string {
  return `lease-${key.replaceAll('/', '-')}`;
}

function leaseRule(id: string, port: number, { protocols, target, description }: Carriage): Rule {
  const text = `in ${protocols.join('+')} ${port} -> ${formatEndpoint(target)}`;
  return { ...parseRule(text), description: checkDescription(description), id, enabled: true };
}

function idsOf(rules: readonly Rule[]): readonly string[] {
  return rules.map(({ id }) => id);
}

function refusal({ field, message, advice }: Finding): NatwardError {
  return new NatwardError(
    'CONFLICT',
    `${field}: ${message}`,
    advice === undefined ? {} : { advice },
  );
}
