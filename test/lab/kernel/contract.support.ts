/** Engines that load their rules into a kernel, for the contract: in a network namespace of the test file's own. */

import { networkInterfaces } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, onTestFinished } from 'vitest';
import type { EngineEvent, ForwardEngine } from '../../../src/forwarder/engine.ts';
import { KernelEngine } from '../../../src/forwarder/nftables/engine.ts';
import { SharedEngine } from '../../../src/forwarder/shared-engine.ts';
import { interfaceNames } from '../../../src/system/interface-names.ts';
import { interfaceAddresses } from '../../../src/system/routes/addresses.ts';
import { systemSysctls } from '../../../src/system/sysctl.ts';
import { realSystem } from '../../../src/system/system.ts';
import type { EngineUnderTest } from '../../contract/forward-engine.ts';
import { relayOn, STREAMS, TestNames } from '../../forwarder/relay/support.ts';
import { isInOwnNetwork, ownNetworkUnavailable } from '../../support/own-network.ts';
import type { TestClock } from '../../support/test-clock.ts';

/** The tests of `body` are skipped, with the reason, where their rules would be the machine's. */
export function describeInOwnNetwork(name: string, body: () => void): void {
  const reason = ownNetworkUnavailable() ?? (isInOwnNetwork() ? undefined : 'run it by its project: kernel');
  describe.skipIf(reason)(`${name}${reason === undefined ? '' : ` (${reason})`}`, () => {
    body();
  });
}

export function kernelUnderTest(): EngineUnderTest {
  return underTest(kernel());
}

/** The relay's time is the test's, which the kernel's cannot be. */
export function sharedUnderTest(): EngineUnderTest & { readonly relayClock: TestClock } {
  const [[, streams] = []] = STREAMS;
  if (streams === undefined) throw new Error('there are no streams');
  const { relay, clock } = relayOn(streams);
  return { ...underTest(new SharedEngine(kernel(), relay)), relayClock: clock };
}

function kernel(): KernelEngine {
  const { clock, runProgram, followProgram } = realSystem;
  return new KernelEngine({
    clock,
    names: new TestNames(),
    runProgram,
    followProgram,
    sysctls: systemSysctls,
    ownAddresses: () => interfaceAddresses(networkInterfaces(), 'linux').map(({ address }) => address),
    adapters: () => interfaceNames(),
    missing: new Set(),
    owned: { [Symbol.dispose]: () => undefined },
  });
}

function underTest(engine: ForwardEngine): EngineUnderTest {
  const events: EngineEvent[] = [];
  const stop = engine.listen((event) => events.push(event));
  const troubles: string[] = [];
  engine.onTrouble((key, error) => {
    if (error !== undefined) troubles.push(`${key}: ${error.message}`);
  });
  onTestFinished(async () => {
    stop();
    await engine[Symbol.asyncDispose]();
    expect(troubles).toEqual([]);
  });
  return { engine, events, pass: (ms) => pause(ms) };
}
