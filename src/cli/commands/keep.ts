/** `natward keep`: hands the specs to the running agent; without one, keeps them in this terminal. */

import { connectAgent } from '../../control/client.ts';
import type { EngineChoice } from '../../control/engines.ts';
import { parseDyndns, parseRun, parseShell, parseSync, parseWebhook } from '../../control/hooks.ts';
import {
  type AgentClient,
  type Hook,
  type KeepRequest,
  type LeaseStatus,
  USER_OWNER,
} from '../../control/protocol.ts';
import { NatwardError } from '../../errors.ts';
import type { Family } from '../../net/address.ts';
import { realSystem } from '../../system/system.ts';
import { EXIT, exitCodeOf } from '../exit.ts';
import { printLeaseErrors, printLeases } from '../lease-words.ts';
import type { GatewayFlags } from '../options.ts';
import { print, printJson } from '../output.ts';
import { parseSpec, resolveSpec } from '../../control/spec.ts';
import { refuseEngine, workHere } from '../working-here.ts';

export interface KeepFlags extends GatewayFlags {
  readonly lifetime: number;
  readonly description?: string;
  readonly exact?: true;
  readonly ipv4?: true;
  readonly ipv6?: true;
  readonly run?: readonly string[];
  readonly shell?: readonly string[];
  readonly webhook?: readonly string[];
  readonly sync?: readonly string[];
  readonly dyndns?: readonly string[];
  readonly engine?: EngineChoice;
}

export async function run(
  version: string,
  texts: readonly string[],
  flags: KeepFlags,
  signal: AbortSignal,
): Promise<void> {
  const requests = await Promise.all(texts.map((text) => requestOf(text, flags)));
  const agent = await connectAgent();
  if (agent === undefined) {
    await keepHere(version, requests, flags, signal);
    return;
  }
  refuseEngine(flags.engine, agent);
  await keepThere(agent, requests, flags, signal);
}

async function requestOf(text: string, flags: KeepFlags): Promise<KeepRequest> {
  const { spec, protocols, external, internal, host } = await resolveSpec(
    parseSpec(text),
    realSystem.resolve,
  );
  return {
    spec,
    protocols,
    external,
    internal,
    host,
    lifetimeSeconds: flags.lifetime,
    choice: flags.exact === true ? 'exact' : 'any',
    description: flags.description,
    via: flags.via,
    gateway: flags.gateway,
    interface: flags.interface,
    family: familyOf(flags),
    hooks: hooksOf(flags),
  };
}

function hooksOf({ run, shell, webhook, sync, dyndns }: KeepFlags): readonly Hook[] {
  return [
    ...(run ?? []).map(parseRun),
    ...(shell ?? []).map(parseShell),
    ...(webhook ?? []).map(parseWebhook),
    ...(sync ?? []).map(parseSync),
    ...(dyndns ?? []).map(parseDyndns),
  ];
}

function familyOf({ ipv4, ipv6 }: KeepFlags): Family | undefined {
  if (ipv4 === ipv6) return undefined;
  return ipv4 === true ? 4 : 6;
}

async function keepThere(
  agent: AgentClient,
  requests: readonly KeepRequest[],
  flags: KeepFlags,
  signal: AbortSignal,
): Promise<void> {
  const leases = await agent.keep(requests, { owner: USER_OWNER, timeoutMs: flags.timeout, signal });
  if (flags.json) printJson({ leases });
  else {
    printLeases(leases);
    printLeaseErrors(leases);
    if (leases.some(({ state }) => state !== 'held')) {
      print(`the agent (pid ${agent.agent.pid}) goes on asking: natward status shows how it stands`);
    }
  }
  process.exitCode = exitCodeOfLeases(leases);
}

async function keepHere(
  version: string,
  requests: readonly KeepRequest[],
  flags: KeepFlags,
  signal: AbortSignal,
): Promise<void> {
  const [json, engine] = [flags.json === true, flags.engine];
  await workHere(version, { stays: true, isTold: false, json, signal, engine }, async (keeper, end) => {
    await keeper.keep(requests, { owner: USER_OWNER, timeoutMs: flags.timeout, signal: end });
  });
}

export function exitCodeOfLeases(leases: readonly LeaseStatus[]): number {
  const missing = leases.filter(({ state }) => state !== 'held');
  const [first] = missing;
  if (first === undefined) return EXIT.done;
  if (missing.length < leases.length) return EXIT.inPart;
  if (first.state === 'no-gateway' || first.error === null) return EXIT.noGateway;
  return exitCodeOf(new NatwardError(first.error.code, first.error.message));
}
