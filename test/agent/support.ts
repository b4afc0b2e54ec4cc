/** An agent before an embedded gateway, with a memory and a clock of the test's own. */

import 'conf'; // Loaded late by the store: here already, so that its first use is as quick as any.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { OneShot, type ProgressOptions } from '../../src/agent/one-shot.ts';
import type { AskOptions } from '../../src/agent/asking.ts';
import type { MapAsk, MapReport } from '../../src/agent/map.ts';
import type { MapOptions } from '../../src/agent/port.ts';
import type { State } from '../../src/agent/store.ts';
import { FileStore } from '../../src/agent/file-store.ts';
import { parseSpec } from '../../src/agent/spec.ts';
import type { NatwardError } from '../../src/errors.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import type { System } from '../../src/system/system.ts';
import { gatewayFor, systemFor, type TestGateway } from '../support/gateway.ts';

export type Options = Partial<MapOptions & AskOptions & ProgressOptions>;

export interface TestAgent {
  readonly agent: OneShot;
  readonly directory: string;
  readonly warnings: readonly NatwardError[];
  /** What a command hands in, on the gateway's ports. */
  readonly options: MapOptions & AskOptions & ProgressOptions;
  /** Maps what people type, in the clock's time. */
  map(specs: string, options?: Options): Promise<MapReport>;
  remembered(): State;
}

export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'natward-test-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** What `natward map` makes of its words, apart from names. */
export function asksOf(specs: string): MapAsk[] {
  return specs.split(' ').map((spec) => ({ ...parseSpec(spec), spec }));
}

/** An agent of its own memory; `client` is its address towards the gateway. */
export async function agentOf(
  { gateway, clock }: TestGateway,
  { client, system: change }: { client?: string; system?: (system: System) => System } = {},
): Promise<TestAgent> {
  const directory = await temporaryDirectory();
  const real = systemFor(client === undefined ? gateway : { ...gateway, localAddress: client }, clock);
  const system = change?.(real) ?? real;
  const agent = new OneShot(system, new FileStore(directory, clock), directory);
  const warnings: NatwardError[] = [];
  const options = {
    ports: gateway.ports,
    timeoutMs: 5000,
    signal: new AbortController().signal,
    lifetimeSeconds: 7200,
    choice: 'any',
    description: undefined,
    onWarning: (warning: NatwardError) => void warnings.push(warning),
  } as const;
  return {
    agent,
    directory,
    warnings,
    options,
    async map(specs, more = {}) {
      const report = await clock.settle(agent.map(asksOf(specs), { ...options, ...more }));
      await clock.settle(agent[Symbol.asyncDispose]());
      return report;
    },
    remembered: () => new FileStore(directory, clock).read(),
  };
}

export interface Scene extends TestGateway, TestAgent {}

/** A gateway and an agent before it. */
export async function sceneFor(settings: Partial<GatewaySettings> = {}): Promise<Scene> {
  const at = await gatewayFor(settings);
  return { ...at, ...(await agentOf(at)) };
}
