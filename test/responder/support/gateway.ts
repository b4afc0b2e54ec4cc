/** Gateways for tests, each with an outer address of its own, so that their mapped ports never meet. */

import { randomInt } from 'node:crypto';
import { onTestFinished } from 'vitest';
import type { IpAddress } from '../../../src/net/address.ts';
import { type EmbeddedGateway, startGateway } from '../../../src/responder/gateway.ts';
import type { GatewaySettings } from '../../../src/responder/settings.ts';
import { type Clock, systemClock } from '../../../src/system/clock.ts';
import { INNER } from './client.ts';

export type TestGateway = EmbeddedGateway & { readonly outer: IpAddress };

/** Starts a gateway that closes with the test. */
export async function gatewayFor(
  settings: Partial<GatewaySettings> = {},
  clock: Clock = systemClock,
): Promise<TestGateway> {
  const outer = settings.outerAddress ?? `127.${randomInt(64, 250)}.${randomInt(250)}.${randomInt(1, 250)}`;
  const gateway = await startGateway({ address: INNER, outerAddress: outer, ...settings }, clock);
  onTestFinished(() => gateway.close());
  // Not spread: the gateway's own properties are read anew at each look.
  return Object.assign(gateway, { outer });
}
