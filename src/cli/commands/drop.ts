/** `natward drop`: the running agent stops keeping, and takes the mappings back. */

import type { DropSelector } from '../../control/protocol.ts';
import { NatwardError } from '../../errors.ts';
import { realSystem } from '../../system/system.ts';
import { EXIT } from '../exit.ts';
import { printDropped } from '../lease-words.ts';
import { printError, printJson } from '../output.ts';
import { runningAgent } from '../running-agent.ts';
import { parseSpec, resolveSpec } from '../../control/spec.ts';

/** As `natward status` shows it; a port has five digits at most. */
const ID = /^[0-9a-f]{8}$/;

export async function run(
  texts: readonly string[],
  flags: { readonly json?: true },
  signal: AbortSignal,
): Promise<void> {
  const selectors = await Promise.all(texts.map(selectorOf));
  const agent = await runningAgent();
  const { released, failures } = await agent.drop(selectors, { signal });
  if (flags.json) printJson({ released, failures });
  else {
    printDropped(released);
    for (const { code, message, advice } of failures) {
      printError(new NatwardError(code, message, advice === null ? {} : { advice }));
    }
  }
  const failed =
    failures.length > 0 || released.some(({ error, state }) => state === 'held' && error !== null);
  process.exitCode = failed ? (released.length > 0 ? EXIT.inPart : EXIT.failed) : EXIT.done;
}

async function selectorOf(text: string): Promise<DropSelector> {
  if (ID.test(text)) return { kind: 'id', text, id: text };
  const { protocols, external, internal, host } = await resolveSpec(parseSpec(text), realSystem.resolve);
  return { kind: 'spec', text, ask: { protocols, external, internal, host } };
}
