/** What is wanted, without an agent: it works in this terminal until Ctrl-C, and its events are shown. */

import { once } from 'node:events';
import { type ForegroundKeeper, foregroundKeeper } from '../control/local.ts';
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
}

/** `begin` puts in place what is to work here; where it throws, all of it is taken back. */
export async function workHere(
  version: string,
  { stays, isTold, json, signal }: HereOptions,
  begin: (keeper: ForegroundKeeper, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const keeper = await foregroundKeeper(version);
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
