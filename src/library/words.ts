/**
 * Advice in the library's words. The floors beneath speak to people at a command line, who have `--timeout` and
 * `natward list`; whoever calls a library has options and methods.
 */

import { NatwardError } from '../errors.ts';

const WORDS: readonly (readonly [said: RegExp, instead: string])[] = [
  [/Give it longer: --timeout\./, 'Give it longer: timeoutMs.'],
  [/--gateway ADDR/, 'the option gateway'],
  [
    /Leave out --exact to take another external port, or write \*:PORT/,
    "Leave out choice: 'exact' to take another external port, or ask for externalPort: 0",
  ],
  [/natward list, natward unmap\./, 'mappings() shows them, unmap() removes.'],
  [/look at natward list,/, 'look at mappings(),'],
  [/natward list shows/, 'mappings() shows'],
  [
    /To delete it all the same: natward unmap --force \S+/,
    "To delete it all the same: unmap(mapping, { others: 'force' })",
  ],
  [/natward unmap --force deletes/, "unmap(mapping, { others: 'force' }) deletes"],
  [/natward status shows it by its id; natward drop ID ends and releases it\./, 'Release its lease.'],
  [/Stop that first: natward drop \w+/, 'Release that lease first.'],
  [/natward status shows what is\./, 'The leases of the agent are what is.'],
  [/a later natward unmap cannot/, 'a later process cannot'],
  [/What was kept by natward keep has to be asked for again/, 'What was kept has to be asked for again'],
  [/natward drop ends the lease, and the rule with it\./, 'Releasing the lease ends the rule with it.'],
  [/natward rule edit (\S+) changes it\./, 'Remove $1 first, or give the new one another id.'],
  [/natward rule list shows/, 'rules.list() shows'],
  [/natward rule explain says/, 'rules.explain() says'],
  [/natward rule add\. Or choose --engine relay\./, "connect() does. Or choose engine: 'relay'."],
  [/run natward on that host/, 'ask from that host'],
];

/** The same error, with advice that a caller of the library can follow. */
export function inLibraryWords(error: unknown): unknown {
  if (!(error instanceof NatwardError) || error.advice === undefined) return error;
  const advice = adviceInLibraryWords(error.advice);
  if (advice === error.advice) return error;
  const { code, message, protocolCode, cause, stack } = error;
  const said = new NatwardError(code, message, {
    advice,
    ...(protocolCode === undefined ? {} : { protocolCode }),
    ...(cause === undefined ? {} : { cause }),
  });
  if (stack !== undefined) said.stack = stack;
  return said;
}

export function adviceInLibraryWords(advice: string): string {
  return WORDS.reduce((text, [said, instead]) => text.replace(said, instead), advice);
}
