/** What an edit makes of the table of rules. Pure: whether the table can be carried out is not asked here. */

import { NatwardError } from '../errors.ts';
import type { Rule } from '../forwarder/rule.ts';
import {
  identified,
  moved,
  parseRuleId,
  placeOf,
  replaced,
  type Table,
  type WantedRule,
} from '../forwarder/table.ts';
import { parseRule } from '../forwarder/text.ts';
import { checkDescription } from '../forwarder/words.ts';
import type { RuleDocument, RuleEdit, RuleOwner } from './rule-keeping.ts';

/** From the top of the table. */
export const OWNERS: readonly RuleOwner[] = ['config', 'user', 'lease'];
export type Tables = Readonly<Record<RuleOwner, Table>>;

export function tableOf(tables: Tables): Table {
  return OWNERS.flatMap((owner) => tables[owner]);
}

/**
 * People's rules after the edit. Throws USAGE for what is no rule, NOT_FOUND for one that is not there, NOT_OWN for one
 * of the configuration or of a lease.
 */
export function editedRules(edit: RuleEdit, tables: Tables, newId: () => string): Table {
  const { user } = tables;
  const find = (name: string) => placeOfUser(name, tables);
  switch (edit.kind) {
    case 'add': {
      const place = edit.before === undefined ? user.length : find(edit.before);
      // A rule that is added is never one that is there already, whatever it says.
      const added = edit.rules
        .map(wantedOf)
        .map(({ id = newId(), enabled, spec }) => ({ ...spec, id, enabled }));
      return [...user.slice(0, place), ...added, ...user.slice(place)];
    }
    case 'replace':
      return identified(edit.rules.map(wantedOf), user, newId);
    case 'edit': {
      const place = find(edit.name);
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
        const place = find(name);
        return replaced(table, place, { ...(table[place] as Rule), enabled: edit.kind === 'enable' });
      }, user);
    case 'remove': {
      const gone = new Set(edit.names.map((name) => (user[find(name)] as Rule).id));
      return user.filter(({ id }) => !gone.has(id));
    }
    case 'move': {
      const place = find(edit.name);
      const before = edit.before === undefined ? user.length : find(edit.before);
      return moved(user, place, before > place ? before - 1 : before);
    }
  }
}

/** Among people's rules, of one named by its id or by its position in the whole table. */
function placeOfUser(name: string, tables: Tables): number {
  const table = tableOf(tables);
  const rule = table[placeOf(table, name)] as Rule;
  const place = tables.user.indexOf(rule);
  if (place >= 0) return place;
  const isConfig = tables.config.includes(rule);
  throw new NatwardError(
    'NOT_OWN',
    `rule ${name} is ${isConfig ? 'the configuration file’s' : 'a lease’s'}`,
    {
      advice: isConfig ? 'Change it there.' : 'natward drop ends the lease, and the rule with it.',
    },
  );
}

/** Throws USAGE. */
function wantedOf({ id, rule, enabled = true, description }: RuleDocument): WantedRule {
  const spec = parseRule(rule);
  return {
    id: id === undefined ? undefined : parseRuleId(id),
    enabled,
    spec: description === undefined ? spec : { ...spec, description: checkDescription(description) },
  };
}

/** Throws CONFLICT where two have one id. */
export function checkIds(table: Table): void {
  const seen = new Set<string>();
  for (const { id } of table) {
    if (seen.has(id)) {
      const advice = `natward rule edit ${id} changes it.`;
      throw new NatwardError('CONFLICT', `there is a rule ${id} already`, { advice });
    }
    seen.add(id);
  }
}
