/** `natward agent`: the background lease keeper, in this process. */

import { runDaemon } from '../../control/daemon.ts';
import type { EngineChoice } from '../../control/engines.ts';
import { EXIT } from '../exit.ts';
import { printEvent } from '../lease-words.ts';
import { print, printError, printJsonLine } from '../output.ts';

interface AgentFlags {
  readonly config?: string;
  readonly onExit?: 'release' | 'keep';
  readonly engine?: EngineChoice;
  readonly respondOn?: readonly string[];
  readonly json?: true;
}

export async function run(
  version: string,
  { config, onExit, engine, respondOn = [], json }: AgentFlags,
  signal: AbortSignal,
): Promise<void> {
  const errors = await runDaemon({
    version,
    config,
    onExit,
    engine,
    respondOn,
    signal,
    onEvent: (event) => (json ? printJsonLine(event) : printEvent(event)),
    onReady: (place) => {
      if (!json) print(`natward ${version} runs as pid ${process.pid} and listens on ${place}`);
    },
  });
  for (const error of errors) printError(error);
  process.exitCode = EXIT.done;
}
