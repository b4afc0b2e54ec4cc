/** What a rule's own lists say of a client that the rule is for. Pure. */

import {
  type AccessClient,
  type AccessList,
  type AccessMatcher,
  compileAccess,
  formatAccessList,
  needsNames,
} from './access.ts';
import type { Rule } from './rule.ts';

export const REFUSES = 'its rule refuses';

interface Lists {
  readonly allow: AccessMatcher | undefined;
  readonly deny: AccessMatcher | undefined;
  readonly needsNames: boolean;
}

const LISTS = new WeakMap<Rule, Lists>();

function listsOf(rule: Rule): Lists {
  let lists = LISTS.get(rule);
  if (lists === undefined) {
    const { allow, deny, hosts } = rule.access;
    const all = [rule.from.clients, allow, deny].filter((list) => list !== undefined);
    lists = {
      allow: allow === undefined ? undefined : compileAccess(allow),
      deny: deny === undefined ? undefined : compileAccess(deny),
      needsNames: hosts !== undefined || all.some(needsNames),
    };
    LISTS.set(rule, lists);
  }
  return lists;
}

/** Reports whether the answer may depend on the client's names. */
export function asksForNames(rule: Rule): boolean {
  return listsOf(rule).needsNames;
}

/** In words, or undefined where it may pass. */
export function denialOf(rule: Rule, client: AccessClient): string | undefined {
  const { allow, deny } = listsOf(rule);
  if (deny?.(client)) return `it is one of those denied: ${formatAccessList(rule.access.deny as AccessList)}`;
  if (allow !== undefined && !allow(client)) {
    return `it is none of those allowed: ${formatAccessList(rule.access.allow as AccessList)}`;
  }
  return undefined;
}

export function refuses({ verdict }: Rule): boolean {
  return verdict === 'refuse' || verdict === 'drop';
}
