/** What is wanted, without an agent: it works in this terminal until Ctrl-C, and its events are shown. */

import { once } from 'node:events';
import type { EngineChoice } from '../control/engines.ts';
import { type ForegroundKeeper, foregroundKeeper } from '../control/local.ts';
import type { AgentClient } from '../control/protocol.ts';
import { NatwardError } from '../errors.ts';
import { EXIT } from './exit.ts';
import { printEvent } from './lease-words.ts';
import { print, printError, printJsonLine } from './output.ts';

/** Ending may take this long, however the gateway does: service managers and people lose patience. */
const END_LIMIT_MS = 2500;

export interface HereOptions {
  /** Else it ends when `begin` is through. */
  readonly stays: boolean;
  /** Says, when all is in place, that it works here. */
  readonly isTold: boolean;
  readonly json: boolean;
  readonly signal: AbortSignal;
  /** What carries the rules out; undefined: whatever is best. */
  readonly engine: EngineChoice | undefined;
}

/** Throws USAGE where an engine is asked for, and an agent has one already. */
export function refuseEngine(engine: EngineChoice | undefined, { agent }: AgentClient): void {
  if (engine === undefined) return;
  throw new NatwardError(
    'USAGE',
    `--engine ${engine}: the agent (pid ${agent.pid}) carries the rules out, by its own`,
    {
      advice: 'It is chosen where the agent starts: natward agent --engine, or engine in its config.toml.',
    },
  );
}

/** `begin` puts in place what is to work here; where it throws, all of it is taken back. */
export async function workHere(
  version: string,
  { stays, isTold, json, signal, engine = 'auto' }: HereOptions,
  begin: (keeper: ForegroundKeeper, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const keeper = await foregroundKeeper(version, engine);
  const over = new AbortController();
  // The terminal is closed: as Ctrl-C.
  const hangUp = new AbortController();
  process.once('SIGHUP', () => hangUp.abort());
  const end = AbortSignal.any([signal, hangUp.signal]);
  const follow = async () => {
    for await (const event of keeper.events(over.signal, 0)) {
      if (json) printJsonLine(event);
      else printEvent(event);
    }
  };
  const following = stays ? follow() : undefined;
  try {
    await begin(keeper, end);
    if (!stays) return;
    if (isTold && !json) print('no agent runs: this works in this terminal, until Ctrl-C');
    if (!end.aborted) await once(end, 'abort');
  } finally {
    const errors = await keeper.close(END_LIMIT_MS);
    over.abort();
    await following;
    for (const error of errors) printError(error);
    process.exitCode = errors.length === 0 ? EXIT.done : EXIT.failed;
  }
}
