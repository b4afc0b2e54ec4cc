/** `natward export`: what the running agent keeps and steers for this user, as `natward apply` reads it. */

import { formatDesired, writeState } from '../../control/desired-text.ts';
import { NatwardError } from '../../errors.ts';
import { EXIT } from '../exit.ts';
import { printError, printJson, write } from '../output.ts';
import { runningAgent } from '../running-agent.ts';

export async function run(flags: { readonly json?: true }): Promise<void> {
  const agent = await runningAgent();
  const { document, leftOut } = writeState(await agent.rules(), await agent.wanted());
  if (flags.json) printJson(document);
  else write(formatDesired(document));
  for (const { id, spec } of leftOut) {
    printError(
      new NatwardError('UNSUPPORTED', `${spec} (${id}) is for one peer alone, which a file cannot say`, {
        advice: 'It is left out: natward apply of this file would drop it.',
      }),
    );
  }
  process.exitCode = leftOut.length === 0 ? EXIT.done : EXIT.inPart;
}
