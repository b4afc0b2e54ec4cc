/** A keeper on the embedded gateway, with its clock and its memory in the test's hands. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { AgentEvent } from '../../src/agent/events.ts';
import { Keeper } from '../../src/agent/keeper.ts';
import type { KeepRequest, LeaseStatus } from '../../src/agent/lease.ts';
import { type LedgerState, type Memory, NOTHING } from '../../src/agent/ledger.ts';
import { Store } from '../../src/agent/store.ts';
import { parseSpec } from '../../src/agent/spec.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import type { System } from '../../src/system/system.ts';
import { gatewayFor, type TestGateway } from '../support/gateway.ts';

/** What survives when an agent is killed: the last state that was saved. */
export class TestMemory implements Memory {
  readonly trouble = undefined;
  #state: () => LedgerState;

  constructor(state: LedgerState = NOTHING) {
    this.#state = () => state;
  }

  load(): LedgerState {
    return this.#state();
  }

  save(state: () => LedgerState): void {
    this.#state = state;
  }

  async flush(): Promise<void> {}
}

export interface KeeperScene extends TestGateway {
  readonly keeper: Keeper;
  readonly memory: TestMemory;
  readonly events: AgentEvent[];
  /** Keeps the specs and resolves with their leases. */
  keep(specs: readonly string[], options?: Partial<KeepRequest>): Promise<readonly LeaseStatus[]>;
  /** Lets `ms` pass, with all that happens on the network meanwhile. */
  pass(ms: number): Promise<void>;
  /** Kills the agent, without a word to anybody, and starts another with the same memory. */
  rerun(): Promise<KeeperScene>;
}

export interface Pace {
  readonly checkMs?: number;
  readonly networkLookMs?: number;
}

/** A whole day of looking every few seconds takes minutes, even in virtual time. */
export const RARELY: Pace = { checkMs: 3_600_000, networkLookMs: 3_600_000 };

export async function keeperFor(
  settings: Partial<GatewaySettings> = {},
  { checkMs = 10_000, networkLookMs = 2000 }: Pace = {},
): Promise<KeeperScene> {
  const scene = await gatewayFor(settings);
  return run(scene, { ...scene.system, networkLookMs }, new TestMemory(), checkMs);
}

function run(scene: TestGateway, system: System, memory: TestMemory, checkMs: number): KeeperScene {
  const directory = mkdtempSync(join(tmpdir(), 'natward-keeper-'));
  const { clock } = scene;
  const keeper = new Keeper(system, {
    memory,
    store: new Store(directory, clock),
    ports: scene.gateway.ports,
    checkMs,
  });
  const events: AgentEvent[] = [];
  keeper.log.listen((event) => events.push(event));
  const close = () => clock.settle(keeper[Symbol.asyncDispose]());
  onTestFinished(async () => {
    await close();
    rmSync(directory, { recursive: true, force: true });
  });
  keeper.configure([]);
  return {
    ...scene,
    keeper,
    memory,
    events,
    keep: (specs, options) =>
      clock.settle(
        keeper.keep(
          specs.map((spec) => requestOf(spec, options)),
          { owner: 'user', timeoutMs: 10_000, signal: new AbortController().signal },
        ),
      ),
    pass: (ms) => clock.settle(clock.sleep(ms)),
    async rerun() {
      await close();
      return run(scene, system, new TestMemory(memory.load()), checkMs);
    },
  };
}

export function requestOf(text: string, options: Partial<KeepRequest> = {}): KeepRequest {
  const { spec, protocols, external, internal } = parseSpec(text);
  const asked = { spec, protocols, external, internal, host: undefined };
  return { ...asked, lifetimeSeconds: 7200, choice: 'any', hooks: [], family: 4, ...options };
}
