/** `natward gateway`: what answers is shown as it comes. */

import { localAgent } from '../../control/local.ts';
import type { GatewayReport } from '../../control/protocol.ts';
import { askOptions, type GatewayFlags } from '../options.ts';
import { gatewayJson, printGateway, printJson, printOffer } from '../output.ts';

export async function run(flags: GatewayFlags, signal: AbortSignal): Promise<void> {
  await using agent = await localAgent();
  const reports: GatewayReport[] = [];
  try {
    await agent.gateways({
      ...askOptions(flags, signal),
      onOffer: (offer) => {
        if (!flags.json) printOffer(offer);
      },
      onGateway: (report) => {
        reports.push(report);
        if (!flags.json) printGateway(report);
      },
    });
  } finally {
    if (flags.json) printJson({ gateways: reports.map(gatewayJson) });
  }
}
