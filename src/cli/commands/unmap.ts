/** `natward unmap`. */

import { localAgent } from '../../control/local.ts';
import type { MapAsk, UnmapReport } from '../../control/protocol.ts';
import { realSystem } from '../../system/system.ts';
import { EXIT, exitCodeFor } from '../exit.ts';
import { askOptions, type GatewayFlags } from '../options.ts';
import { failureJson, printError, printFailures, printJson, printReleased } from '../output.ts';
import { progressBar } from '../progress.ts';
import { parseSpec, resolveSpec } from '../../control/spec.ts';

export async function run(
  texts: readonly string[],
  flags: GatewayFlags & { readonly force?: true },
  signal: AbortSignal,
): Promise<void> {
  const specs = texts.map(parseSpec);
  const asks = await Promise.all(
    specs.map(async (spec) => withoutCarriage(await resolveSpec(spec, realSystem.resolve))),
  );
  await using agent = await localAgent();
  const bar = progressBar('releasing');
  let report: UnmapReport;
  try {
    report = await agent.unmap(asks, {
      ...askOptions(flags, signal),
      others: flags.force === true ? 'force' : 'refuse',
      onProgress: bar.update,
      onWarning: printError,
    });
  } finally {
    await bar.stop();
  }
  const { released, failures } = report;
  if (flags.json) {
    printJson({ released, failures: failures.map(failureJson) });
  } else {
    printReleased(released);
    printFailures(failures);
  }
  process.exitCode = signal.aborted ? EXIT.interrupted : exitCodeFor(released.length, failures);
}

/** What the agent carries on from this host is mapped to this host: its rule goes, and so does that mapping. */
async function withoutCarriage(ask: MapAsk): Promise<MapAsk> {
  if (ask.host === undefined) return ask;
  const { carryingAgent, takeAway } = await import('../../control/carried.ts');
  const agent = await carryingAgent();
  const isCarried = agent !== undefined && (await takeAway(agent, { ...ask, host: ask.host }));
  return isCarried ? { ...ask, host: undefined } : ask;
}
