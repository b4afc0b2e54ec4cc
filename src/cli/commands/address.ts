/** `natward address`: the external address and nothing else. */

import { localAgent } from '../../control/local.ts';
import { NatwardError } from '../../errors.ts';
import { askOptions, type GatewayFlags } from '../options.ts';
import { print, printJson } from '../output.ts';

export async function run(flags: GatewayFlags, signal: AbortSignal): Promise<void> {
  await using agent = await localAgent();
  const address = await agent.externalAddress(askOptions(flags, signal));
  if (address === undefined) {
    throw new NatwardError(
      'NETWORK_DOWN',
      'the gateway does not tell its external address: it may be offline',
      {
        advice: 'natward gateway shows what it says.',
      },
    );
  }
  if (flags.json) printJson({ externalAddress: address });
  else print(address);
}
