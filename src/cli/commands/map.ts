/** `natward map`: one shot. */

import { localAgent } from '../../control/local.ts';
import type { MapReport } from '../../control/protocol.ts';
import { isNatwardError } from '../../errors.ts';
import { realSystem } from '../../system/system.ts';
import { EXIT, exitCodeFor } from '../exit.ts';
import { askOptions, type GatewayFlags } from '../options.ts';
import { failureJson, mappingJson, printError, printFailures, printJson, printMappings } from '../output.ts';
import { progressBar } from '../progress.ts';
import { parseSpec, resolveSpec } from '../../control/spec.ts';

interface MapFlags extends GatewayFlags {
  readonly lifetime: number;
  readonly description?: string;
  readonly exact?: true;
}

export async function run(texts: readonly string[], flags: MapFlags, signal: AbortSignal): Promise<void> {
  const specs = texts.map(parseSpec);
  const asks = await Promise.all(specs.map((spec) => resolveSpec(spec, realSystem.resolve)));
  await using agent = await localAgent();
  const bar = progressBar('mapping');
  let report: MapReport;
  try {
    report = await agent.map(asks, {
      ...askOptions(flags, signal),
      lifetimeSeconds: flags.lifetime,
      choice: flags.exact === true ? 'exact' : 'any',
      description: flags.description,
      onProgress: bar.update,
      onWarning: printError,
    });
  } catch (error) {
    if (!isNatwardError(error) || error.code === 'USAGE' || signal.aborted) throw error;
    report = { mappings: [], failures: texts.map((spec) => ({ spec, error })) };
  } finally {
    await bar.stop();
  }
  const { mappings, failures } = report;
  if (flags.json) {
    printJson({ mappings: mappings.map(mappingJson), failures: failures.map(failureJson) });
  } else {
    printMappings(mappings);
    printFailures(failures);
  }
  process.exitCode = signal.aborted ? EXIT.interrupted : exitCodeFor(mappings.length, failures);
}
