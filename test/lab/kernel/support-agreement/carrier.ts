/** An engine on its own, `kernel` or `relay`: takes tables as lines of JSON, and says what came for which rule. */

import { networkInterfaces } from 'node:os';
import { createInterface } from 'node:readline';
import { isNatwardError } from '../../../../src/errors.ts';
import type { ForwardEngine } from '../../../../src/forwarder/engine.ts';
import { KernelEngine } from '../../../../src/forwarder/nftables/engine.ts';
import { nodeDatagramSockets } from '../../../../src/forwarder/relay/datagram-sockets.ts';
import { Relay } from '../../../../src/forwarder/relay/engine.ts';
import { nodeSockets } from '../../../../src/forwarder/relay/sockets.ts';
import { parseRule } from '../../../../src/forwarder/text.ts';
import { interfaceNames } from '../../../../src/system/interface-names.ts';
import { systemNames } from '../../../../src/system/names.ts';
import { interfaceAddresses } from '../../../../src/system/routes/addresses.ts';
import { systemSysctls } from '../../../../src/system/sysctl.ts';
import { realSystem } from '../../../../src/system/system.ts';

export type CarrierRequest =
  | { readonly rules: readonly { readonly id: string; readonly line: string; readonly enabled: boolean }[] }
  | { readonly ask: 'activity' };

export interface CarrierAnswer {
  /** What was refused, where it was. */
  readonly error?: string;
  /** By id, conversations that began and that were refused. */
  readonly counts?: Readonly<Record<string, number>>;
}

const ownAddresses = () => interfaceAddresses(networkInterfaces(), process.platform);
const common = { clock: realSystem.clock, names: systemNames };

const engine: ForwardEngine =
  process.argv[2] === 'kernel'
    ? new KernelEngine({
        ...common,
        runProgram: realSystem.runProgram,
        followProgram: realSystem.followProgram,
        sysctls: systemSysctls,
        ownAddresses: () => ownAddresses().map(({ address }) => address),
        adapters: () => interfaceNames(),
        missing: new Set(),
        owned: { [Symbol.dispose]: () => undefined },
      })
    : new Relay({
        ...common,
        streams: nodeSockets,
        datagrams: nodeDatagramSockets,
        ownAddresses,
        readHosts: () => ({ allow: '', deny: '' }),
        fileLimit: 4096,
        kernelCan: 'the kernel can',
      });
engine.onTrouble((key, error) => {
  if (error !== undefined) process.stderr.write(`${key}: ${error.message}\n`);
});

async function answer(request: CarrierRequest): Promise<CarrierAnswer> {
  if ('rules' in request) {
    const table = request.rules.map(({ id, line, enabled }) => ({ ...parseRule(line), id, enabled }));
    try {
      await engine.apply(table, { conversations: 'cut' });
      return {};
    } catch (error) {
      if (isNatwardError(error)) return { error: `${error.code}: ${error.message}` };
      throw error;
    }
  }
  const activity = [...(await engine.activity())];
  return {
    counts: Object.fromEntries(
      activity.map(([id, { conversations, refused }]) => [id, conversations + refused]),
    ),
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line) as CarrierRequest))}\n`);
}
await engine[Symbol.asyncDispose]();
