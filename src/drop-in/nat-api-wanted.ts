/** Which ports a caller of nat-api means: one number, two, or an object that names them. */

import { NatwardError } from '../errors.ts';
import type { TransportProtocol } from '../net/protocol.ts';

export interface NatAPIMapOptions {
  readonly publicPort?: number | undefined;
  readonly privatePort?: number | undefined;
  /** `UDP` or `TCP` in any case; null or left out: both. */
  readonly protocol?: string | null | undefined;
  /** Seconds. */
  readonly ttl?: number | null | undefined;
  readonly description?: string | null | undefined;
}

/** Ports and protocol as a caller names them; undefined where he leaves it open. */
export interface Wanted {
  readonly publicPort: number | undefined;
  readonly privatePort: number | undefined;
  readonly protocols: readonly TransportProtocol[];
  /** One number was given for both. */
  readonly either: boolean;
  readonly ttl: number | undefined;
  readonly description: string | undefined;
}

const PROTOCOLS: readonly TransportProtocol[] = ['udp', 'tcp'];

/** Throws where no port, or no such protocol, is named. */
export function wantedOf(portOrOptions: number | NatAPIMapOptions, privatePort: number | undefined): Wanted {
  if (typeof portOrOptions === 'number') {
    const either = typeof privatePort !== 'number';
    return {
      publicPort: portOrOptions,
      privatePort: either ? portOrOptions : privatePort,
      protocols: PROTOCOLS,
      either,
      ttl: undefined,
      description: undefined,
    };
  }
  if (typeof portOrOptions !== 'object' || portOrOptions === null) {
    throw new NatwardError('USAGE', 'no port is named', {
      advice: 'Give a number, or { publicPort, privatePort }.',
    });
  }
  const { publicPort, privatePort: inside, protocol, ttl, description } = portOrOptions;
  const named = PROTOCOLS.filter((one) => one === String(protocol).toLowerCase());
  if (protocol && named.length === 0) {
    throw new NatwardError('USAGE', `the protocol is “${protocol}”`, {
      advice: 'Give TCP or UDP, or null for both.',
    });
  }
  return {
    publicPort: numberOf(publicPort),
    privatePort: numberOf(inside),
    protocols: protocol ? named : PROTOCOLS,
    either: false,
    ttl: ttl || undefined,
    description: description || undefined,
  };
}

function numberOf(port: number | string | null | undefined): number | undefined {
  return port === undefined || port === null || port === '' ? undefined : Number(port);
}
