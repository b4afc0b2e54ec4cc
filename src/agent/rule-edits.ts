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
import { formatRule, identify, parseRule } from '../forwarder/text.ts';
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
  const find = finderIn(tables);
  switch (edit.kind) {
    case 'add': {
      const place = edit.before === undefined ? user.length : find(edit.before);
      // A rule that is added is never one that is there already, whatever it says.
      const added = edit.rules
        .map(wantedOf)
        .map(({ id = newId(), enabled, spec }) => identify(spec, id, enabled));
      return [...user.slice(0, place), ...added, ...user.slice(place)];
    }
    case 'replace':
      return identified(edit.rules.map(wantedOf), user, newId);
    case 'edit': {
      const place = find(edit.name);
      const old = user[place] as Rule;
      const text = edit.rule ?? formatRule(old);
      const said = parseRule(text, edit.description);
      const keepsDescription = edit.description === undefined && said.description === '';
      const spec = keepsDescription ? parseRule(text, old.description) : said;
      return replaced(user, place, identify(spec, old.id, old.enabled));
    }
    case 'enable':
    case 'disable': {
      const table = [...user];
      for (const name of edit.names) {
        const place = find(name);
        const rule = table[place] as Rule;
        table[place] = identify(rule, rule.id, edit.kind === 'enable');
      }
      return table;
    }
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

/** For so many the table is searched. */
const FEW = 4;

/** Tells the place among people's rules of one named by its id or by its position in the whole table. */
function finderIn(tables: Tables): (name: string) => number {
  const table = tableOf(tables);
  let places: ReadonlyMap<string, number> | undefined;
  let asked = 0;
  return (name) => {
    if (++asked > FEW) places ??= new Map(table.map(({ id }, place) => [id, place]));
    return placeOfUser(name, places?.get(name) ?? placeOf(table, name), tables);
  };
}

function placeOfUser(name: string, placeInAll: number, { config, user }: Tables): number {
  const place = placeInAll - config.length;
  if (place >= 0 && place < user.length) return place;
  const isConfig = place < 0;
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
  return {
    id: id === undefined ? undefined : parseRuleId(id),
    enabled,
    spec: parseRule(rule, description),
  };
}

/** Throws CONFLICT where two have one id. */
export function checkIds(table: Table): void {
  const seen = new Set<string>();
  for (const { id } of table) {
    if (seen.has(id)) throw idTaken(id);
    seen.add(id);
  }
}

export function idTaken(id: string): NatwardError {
  const advice = `natward rule edit ${id} changes it.`;
  return new NatwardError('CONFLICT', `there is a rule ${id} already`, { advice });
}
