/**
 * Who is answered at all. An embedded gateway answers whoever reaches it; one on a network of others answers the
 * hosts of that network, as often as each may ask.
 */

import type { IpAddress } from '../net/address.ts';

export interface Guard {
  /** Reports whether a request from there is to be answered, and counts it. What is not gets no answer at all. */
  admits(source: IpAddress): boolean;
}

export const EVERYBODY: Guard = { admits: () => true };
