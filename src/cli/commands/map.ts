/** `natward map`: one shot. */

import { localAgent } from '../../control/local.ts';
import type { Granted, MapAsk, MapFailure, MapReport } from '../../control/protocol.ts';
import { isNatwardError } from '../../errors.ts';
import { type Endpoint, formatEndpoint } from '../../net/endpoint.ts';
import { realSystem } from '../../system/system.ts';
import { EXIT, exitCodeFor } from '../exit.ts';
import { askOptions, type GatewayFlags } from '../options.ts';
import {
  failureJson,
  mappingJson,
  print,
  printError,
  printFailures,
  printJson,
  printMappings,
} from '../output.ts';
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
  const map = (wanted: readonly MapAsk[]): Promise<MapReport> =>
    agent.map(wanted, {
      ...askOptions(flags, signal),
      lifetimeSeconds: flags.lifetime,
      choice: flags.exact === true ? 'exact' : 'any',
      description: flags.description,
      onProgress: bar.update,
      onWarning: printError,
    });
  let report: MapReport;
  try {
    report = await map(asks);
  } catch (error) {
    if (!isNatwardError(error) || error.code === 'USAGE' || signal.aborted) throw error;
    report = { mappings: [], failures: texts.map((spec) => ({ spec, error })) };
  } finally {
    await bar.stop();
  }
  const targets = new Map<Granted, Endpoint>();
  const isElsewhere = ({ spec }: MapFailure) =>
    asks.some((ask) => ask.spec === spec && ask.host !== undefined);
  if (report.failures.some(isElsewhere)) report = await mapCarried(asks, report, map, targets);
  const { mappings, failures } = report;
  if (flags.json) {
    printJson({
      mappings: mappings.map((one) => mappingJson(one, targets.get(one))),
      failures: failures.map(failureJson),
    });
  } else {
    printMappings(mappings);
    for (const [{ protocol, externalPort }, target] of targets) {
      print(`note: ${protocol} ${externalPort}: the agent carries it on to ${formatEndpoint(target)}`);
    }
    printFailures(failures);
  }
  process.exitCode = signal.aborted ? EXIT.interrupted : exitCodeFor(mappings.length, failures);
}

/** Maps to this host what the gateway will not map elsewhere, and has the running agent carry it on. */
async function mapCarried(
  all: readonly MapAsk[],
  { mappings, failures }: MapReport,
  map: (asks: readonly MapAsk[]) => Promise<MapReport>,
  targets: Map<Granted, Endpoint>,
): Promise<MapReport> {
  // Commands that need none of it start in milliseconds.
  const { carryingAgent, carryOn, refusedElsewhere, takeAway, withCarryAdvice } = await import(
    '../../control/carried.ts'
  );
  const asks = refusedElsewhere(all, failures);
  if (asks.length === 0) return { mappings, failures };
  const specs = new Set(asks.map(({ spec }) => spec));
  const agent = await carryingAgent();
  if (agent === undefined) {
    return { mappings, failures: failures.map((one) => (specs.has(one.spec) ? withCarryAdvice(one) : one)) };
  }
  const done = [...mappings];
  const failed = failures.filter(({ spec }) => !specs.has(spec));
  for (const ask of asks) {
    try {
      const isNew = await carryOn(agent, ask);
      const report = await map([{ ...ask, host: undefined }]);
      for (const one of report.mappings) targets.set(one, { address: ask.host, port: one.internalPort });
      done.push(...report.mappings);
      failed.push(...report.failures);
      if (isNew && report.mappings.length === 0) await takeAway(agent, ask);
    } catch (error) {
      if (!isNatwardError(error)) throw error;
      failed.push({ spec: ask.spec, error });
    }
  }
  return { mappings: done, failures: failed };
}
