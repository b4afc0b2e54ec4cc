/** What PCP's and NAT-PMP's campaigns share: the port. */

import { family } from '../../../src/net/address.ts';
import { CLIENTS } from './ground.ts';
import type { Campaign } from './campaign.ts';

export const fire: Campaign['fire'] = async (shots, ground, random) => {
  for (const { bytes, source } of shots) {
    ground.mapping[family(source.address)].receive(bytes, source);
    if (shots.length > 1) await ground.pause(random);
  }
  await ground.settle();
  const sent = [...ground.mapping[4].take(), ...ground.mapping[6].take()];
  return shots.map(({ source }) =>
    sent
      .filter(({ to }) => to.address === source.address && to.port === source.port)
      .map(({ packet }) => packet),
  );
};

/** Reports whether a packet from there is to be answered for sure. */
export function isServed(address: string): boolean {
  return CLIENTS.includes(address);
}

/** Ports that many want, the edges, and any. */
export const INNER_PORTS: readonly number[] = [6881, 6881, 6881, 6882, 6882, 6883, 1, 80, 51_413, 65_535];
export const OUTER_PORTS: readonly number[] = [
  0, 0, 1, 80, 1023, 1024, 20_100, 20_101, 20_102, 20_199, 20_200, 30_000, 65_535,
];
export const LIFETIMES: readonly number[] = [
  0, 0, 1, 119, 120, 600, 7200, 7200, 7200, 86_400, 86_401, 0x7f_ff_ff_ff, 0xff_ff_ff_ff,
];
