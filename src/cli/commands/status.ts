/** `natward status`: what the running agent keeps, and how it stands; live with --watch. */

import { EXIT } from '../exit.ts';
import { printEvent, printStatus } from '../lease-words.ts';
import { printJson, printJsonLine } from '../output.ts';
import { runningAgent } from '../running-agent.ts';

interface StatusFlags {
  readonly watch?: true;
  readonly json?: true;
}

export async function run({ watch, json }: StatusFlags, signal: AbortSignal): Promise<void> {
  const agent = await runningAgent();
  const status = await agent.status();
  if (json) {
    if (watch) printJsonLine(status);
    else printJson(status);
  } else printStatus(status);
  if (!watch) return;
  for await (const event of agent.events(signal, status.lastEventId)) {
    if (json) printJsonLine(event);
    else printEvent(event);
  }
  // Ctrl-C is how one ends watching.
  process.exitCode = EXIT.done;
}
