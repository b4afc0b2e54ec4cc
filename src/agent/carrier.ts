/**
 * Carries what arrives on a port of this host on to where a lease wants it: another host, where the gateway maps to
 * this one alone, or another port, where it maps only to the same number.
 */

import type { Endpoint } from '../net/endpoint.ts';
import type { TransportProtocol } from '../net/protocol.ts';

/** How keys begin of what the responder's clients have carried. */
export const CLIENT_KEY = 'client/';

export interface Carriage {
  readonly protocols: readonly TransportProtocol[];
  /** Where it would best arrive on this host; undefined: where nobody else expects anything. */
  readonly port: number | undefined;
  /** No other port will do. */
  readonly isFixed: boolean;
  readonly target: Endpoint;
  /** What people call it. */
  readonly description: string;
}

export interface Carrier {
  /**
   * Resolves with the port of this host from which it is carried, from now on and until `release`; the same for the
   * same key as long as it can be. Throws why it cannot.
   */
  carry(key: string, carriage: Carriage): Promise<number>;
  release(key: string): void;
  /** Of what an agent before this one has had carried, nothing is wanted but these. */
  settle(keys: Iterable<string>): void;
}
