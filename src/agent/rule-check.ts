/**
 * What is wrong with the table of rules, here and now. Of one rule of a lease more only those rules are looked at that
 * its traffic may meet: there may be tens of thousands of others, in which nothing was wrong before.
 */

import { NatwardError } from '../errors.ts';
import { Neighbours } from '../forwarder/neighbours.ts';
import type { Rule } from '../forwarder/rule.ts';
import { MAX_RULES, type Table } from '../forwarder/table.ts';
import {
  type Finding,
  findingsOf,
  type OwnPort,
  validate,
  type ValidationSurroundings,
} from '../forwarder/validate.ts';
import type { IpAddress } from '../net/address.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import type { LeaseTable } from './lease-table.ts';
import { idTaken, type Tables, tableOf } from './rule-edits.ts';
import type { RuleNames } from './rule-names.ts';

export interface RuleCheckOptions {
  readonly ownAddresses: () => readonly IpAddress[];
  /** That natward itself uses. */
  readonly ownPorts: readonly OwnPort[];
}

/** The table that is carried out. */
export interface CheckedTable {
  readonly tables: Tables;
  /** All of them. */
  readonly table: Table;
  readonly isWaiting: (id: string) => boolean;
}

/** What a rule is checked against; the key is another one where anything of it is. */
interface Around extends ValidationSurroundings {
  readonly key: string;
}

/** The rules above those of leases, in a table with which nothing was wrong but for what waits. */
interface Standing {
  readonly config: Table;
  readonly user: Table;
  readonly key: string;
  readonly rules: Table;
  readonly ids: ReadonlySet<string>;
  readonly neighbours: Neighbours;
}

export class RuleCheck {
  readonly #options: RuleCheckOptions;
  readonly #names: RuleNames;
  /** Another question may be the same. */
  #last: { readonly table: Table; readonly key: string; readonly findings: readonly Finding[] } | undefined;
  #standing: Standing | undefined;

  constructor(options: RuleCheckOptions, names: RuleNames) {
    this.#options = options;
    this.#names = names;
  }

  async findings(table: Table): Promise<readonly Finding[]> {
    const around = await this.#around(table);
    const { key } = around;
    if (this.#last?.table !== table || this.#last.key !== key) {
      this.#last = { table, key, findings: validate(table, around) };
    }
    return this.#last.findings;
  }

  async #around(table: Table): Promise<Around> {
    const addressesOf = await this.#names.resolved(table);
    const ownAddresses = this.#options.ownAddresses();
    const key = [this.#names.version, ...ownAddresses].join(' ');
    return { key, ownAddresses, addressesOf, ownPorts: this.#options.ownPorts };
  }

  /**
   * Throws CONFLICT where the rule, one of a lease, does not go with the table, which has `leases` beneath the others,
   * or where anything is wrong with that already. What is wrong with rules that wait is no matter.
   */
  async checkLease(rule: Rule, now: CheckedTable, leases: LeaseTable): Promise<void> {
    const isOld = ({ ruleId }: Finding) => now.isWaiting(ruleId) && ruleId !== rule.id;
    const { standing, around } = await this.#standingIn(now, rule.id);
    if (standing.ids.has(rule.id)) throw idTaken(rule.id);
    const above = standing.rules.length;
    const positionOf = (one: Rule) => above + leases.rules.indexOf(one) + 1;
    const old = leases.get(rule.id);
    const count = above + leases.size + (old === undefined ? 1 : 0);
    const placed = { rule, position: old === undefined ? count : positionOf(old) };
    const below = (protocol: TransportProtocol, port: number) => {
      const other = leases.at(protocol, port);
      if (other === undefined || other === old) return undefined;
      return { rule: other, position: positionOf(other) };
    };
    const met = findingsOf(standing.neighbours.of(placed, below), around);
    const errors = met.filter((one) => one.severity === 'error' && !isOld(one));
    const own = errors.find(({ ruleId }) => ruleId === rule.id);
    if (own !== undefined) throw refusal(own);
    if (errors.length === 0 && count <= MAX_RULES) return;
    // What others seem to do to each other may be prevented by rules that were left out.
    const lease = [...leases.rules.filter((one) => one !== old), rule];
    await this.#refuse(tableOf({ ...now.tables, lease }), isOld);
  }

  async #standingIn(
    { tables: { config, user }, table, isWaiting }: CheckedTable,
    replaced: string,
  ): Promise<{ readonly standing: Standing; readonly around: Around }> {
    const known = this.#standing;
    const isKnown = known?.config === config && known.user === user;
    // Rules of leases lead to addresses: all names are in those above them.
    const rules = isKnown ? known.rules : [...config, ...user];
    const around = await this.#around(rules);
    if (isKnown && known.key === around.key) return { standing: known, around };
    await this.#refuse(table, ({ ruleId }) => isWaiting(ruleId) || ruleId === replaced);
    const ids = new Set(rules.map(({ id }) => id));
    const neighbours = new Neighbours(rules, around);
    const standing = { config, user, key: around.key, rules, ids, neighbours };
    this.#standing = standing;
    return { standing, around };
  }

  async #refuse(table: Table, isOld: (finding: Finding) => boolean): Promise<void> {
    const refused = (await this.findings(table)).find((one) => one.severity === 'error' && !isOld(one));
    if (refused !== undefined) throw refusal(refused);
  }
}

export function refusal({ field, message, advice }: Finding): NatwardError {
  return new NatwardError('CONFLICT', `${field}: ${message}`, advice === undefined ? {} : { advice });
}
